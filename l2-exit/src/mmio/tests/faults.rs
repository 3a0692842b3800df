//! What faults, what is refused, and that neither touches a device.

use super::*;
use x86_defs::{cr0, cr4, rflags};

/// MOV EAX, [RBX] with RBX at the device, and an exit that gives no linear address.
fn load() -> (Machine, EptViolation) {
    let mut machine = Machine::long();
    machine.set(Gpr::Rbx, MMIO);
    let code = assemble(64, CODE, |a| a.mov(eax, dword_ptr(rbx)));
    machine.load(CODE_GPA, &code);
    let violation = EptViolation {
        linear: None,
        final_access: false,
        ..machine.violation(MMIO, false)
    };
    (machine, violation)
}

fn refused(machine: &mut Machine, violation: EptViolation) -> EmulationError {
    let before = machine.vcpu.clone();
    let error = machine.emulate(violation).unwrap_err();
    assert!(machine.device.seen.is_empty());
    assert_eq!(machine.vcpu.gprs, before.gprs);
    assert_eq!(machine.vcpu.rip, before.rip);
    error
}

#[test]
fn without_a_linear_address_the_walk_must_lead_to_the_exits_page() {
    let (mut machine, violation) = load();
    assert_eq!(machine.emulate(violation), Ok(Outcome::Completed));
    let (mut machine, violation) = load();
    let elsewhere = EptViolation {
        gpa: DEVICE + 0x1000,
        ..violation
    };
    assert!(matches!(
        refused(&mut machine, elsewhere),
        EmulationError::Elsewhere { .. }
    ));
}

#[test]
fn the_processors_translation_of_the_exit_counts() {
    // L2 changed the entry after the processor had used it.
    let (mut machine, _) = load();
    machine.memory.map(MMIO, RAM_GPA, 0b011);
    let violation = machine.violation(MMIO, false);
    assert_eq!(machine.emulate(violation), Ok(Outcome::Completed));
    assert_eq!(machine.device.seen, [Seen::Read(0, 4)]);
}

#[test]
fn the_exits_translation_is_of_data_not_of_code() {
    // Code and operand on one linear page; L2 has given it a page of memory since the processor
    // translated the operand.
    let mut machine = Machine::long();
    machine.set(Gpr::Rbx, CODE + 0x800);
    let code = assemble(64, CODE, |a| a.mov(eax, dword_ptr(rbx)));
    machine.load(CODE_GPA, &code);
    let violation = EptViolation {
        gpa: DEVICE + 0x800,
        ..machine.violation(CODE + 0x800, false)
    };
    assert_eq!(machine.emulate(violation), Ok(Outcome::Completed));
    assert_eq!(machine.device.seen, [Seen::Read(0x800, 4)]);
}

#[test]
fn a_page_that_was_fetched_from_is_checked_again_for_data() {
    // A user page: supervisor code may be fetched from it without SMEP, but not read with SMAP.
    let mut machine = Machine::long();
    machine.memory.map(CODE, CODE_GPA, 0b101);
    machine.vcpu.cr4 |= cr4::SMAP;
    machine.set(Gpr::Rsi, CODE + 0x800);
    machine.set(Gpr::Rdi, MMIO);
    let outcome = machine.run(MMIO, true, |a| a.movsd());
    assert_eq!(outcome, Ok(Outcome::Fault(Event::fault(14, 0b0001))));
    assert_eq!(machine.vcpu.cr2, CODE + 0x800);
    assert!(machine.device.seen.is_empty());
}

#[test]
fn a_walk_for_more_rights_does_not_move_the_exits_page() {
    // The exit reports the read of a read-modify-write; L2 has changed the entry since.
    let mut machine = Machine::long();
    machine.memory.map(MMIO, RAM_GPA, 0b011);
    machine.set(Gpr::Rbx, MMIO);
    let outcome = machine.run(MMIO, false, |a| a.or(dword_ptr(rbx), 1));
    assert_eq!(outcome, Ok(Outcome::Completed));
    assert_eq!(machine.device.seen.len(), 2);
}

#[test]
fn page_faults_have_the_code_and_address_of_the_access() {
    let (mut machine, violation) = load();
    machine.memory.map(MMIO, 0, 0);
    assert_eq!(
        machine.emulate(violation),
        Ok(Outcome::Fault(Event::fault(14, 0)))
    );
    assert_eq!(machine.vcpu.cr2, MMIO);

    let (mut machine, violation) = load();
    machine.cpl = 3;
    machine.memory.map(CODE, CODE_GPA, 0b101);
    assert_eq!(
        machine.emulate(violation),
        Ok(Outcome::Fault(Event::fault(14, 0b0101)))
    );

    let (mut machine, violation) = load();
    machine.memory.map(MMIO, DEVICE, 0b111);
    machine.vcpu.cr4 |= cr4::SMAP;
    assert_eq!(
        machine.emulate(violation),
        Ok(Outcome::Fault(Event::fault(14, 0b0001)))
    );
    machine.vcpu.rflags |= rflags::AC;
    assert_eq!(machine.emulate(violation), Ok(Outcome::Completed));
}

#[test]
fn a_fetch_that_faults_is_a_page_fault_of_the_instruction() {
    let (mut machine, violation) = load();
    machine.memory.map(CODE, CODE_GPA, 1 << 63 | 1);
    assert_eq!(
        machine.emulate(violation),
        Ok(Outcome::Fault(Event::fault(14, 0b1_0001)))
    );
    assert_eq!(machine.vcpu.cr2, CODE);
}

#[test]
fn the_second_page_of_an_operand_faults_with_its_own_address() {
    let mut machine = Machine::long();
    machine.set(Gpr::Rbx, MMIO + 0x1FFE);
    let outcome = machine.run(MMIO + 0x1FFE, false, |a| a.mov(eax, dword_ptr(rbx)));
    assert_eq!(outcome, Ok(Outcome::Fault(Event::fault(14, 0))));
    assert_eq!(machine.vcpu.cr2, MMIO + 0x2000);
    assert!(machine.device.seen.is_empty());
}

#[test]
fn addresses_that_are_not_canonical_fault_by_their_segment() {
    for (gpr, vector) in [(Gpr::Rbx, 13), (Gpr::Rbp, 12), (Gpr::Rsp, 12)] {
        for address in [0x0000_8000_0000_0000, 0x0000_7FFF_FFFF_FFFE, 1 << 63] {
            let mut machine = Machine::long();
            machine.set(gpr, address);
            let code = assemble(64, CODE, |a| match gpr {
                Gpr::Rbx => a.mov(eax, dword_ptr(rbx)),
                Gpr::Rbp => a.mov(eax, dword_ptr(rbp)),
                _ => a.mov(eax, dword_ptr(rsp)),
            });
            machine.load(CODE_GPA, &code);
            let (_, violation) = load();
            assert_eq!(
                machine.emulate(violation),
                Ok(Outcome::Fault(Event::fault(vector, 0)))
            );
        }
    }
}

#[test]
fn five_level_paging_widens_the_canonical_form() {
    let (mut machine, violation) = load();
    machine.vcpu.cr4 |= cr4::LA57;
    machine.vcpu.cr3 = 0x90_0000;
    machine.memory.poke_u64(0x90_0000, 0x1000 | 0b111);
    machine.memory.poke_u64(0x90_0FF8, 0x1000 | 0b111);
    // MMIO's bits 47:0 below PML5 entry 0: not canonical with 48 bits.
    machine.set(Gpr::Rbx, MMIO & 0xFFFF_FFFF_FFFF);
    assert_eq!(machine.emulate(violation), Ok(Outcome::Completed));
    machine.vcpu.rip = CODE;
    machine.set(Gpr::Rbx, 1 << 57);
    assert_eq!(
        machine.emulate(violation),
        Ok(Outcome::Fault(Event::general_protection()))
    );
}

/// #AC takes all four: CPL 3, CR0.AM, RFLAGS.AC and an address that is not a multiple of the size
/// (SDM Vol. 3A, "Interrupt 17").
#[test]
fn alignment_is_checked_for_users_who_ask_for_it() {
    for cpl in 0..=3 {
        for (am, ac, offset) in (0..12).map(|row| (row & 1 != 0, row & 2 != 0, row >> 2)) {
            let (mut machine, violation) = load();
            machine.memory.map(CODE, CODE_GPA, 0b101);
            machine.memory.map(MMIO, DEVICE, 0b111);
            machine.cpl = cpl;
            machine.set(Gpr::Rbx, MMIO + 2 * offset);
            machine.vcpu.cr0 |= if am { cr0::AM } else { 0 };
            machine.vcpu.rflags |= if ac { rflags::AC } else { 0 };
            let expected = if cpl == 3 && am && ac && offset == 1 {
                Outcome::Fault(Event::fault(17, 0))
            } else {
                Outcome::Completed
            };
            assert_eq!(
                machine.emulate(violation),
                Ok(expected),
                "CPL {cpl}, AM {am}, AC {ac}, offset {offset}"
            );
        }
    }
}

#[test]
fn an_instruction_longer_than_15_bytes_is_a_general_protection_fault() {
    let (mut machine, violation) = load();
    let mut code = [0x66; 16];
    code[15] = 0x90;
    machine.load(CODE_GPA, &code);
    let outcome = machine.emulate(violation);
    assert!(
        matches!(
            outcome,
            Ok(Outcome::Fault(Event {
                vector: 13,
                error_code: Some(0),
                ..
            })) | Err(EmulationError::Unsupported { .. })
        ),
        "{outcome:?}"
    );
}

#[test]
fn exits_that_no_instruction_operand_made_are_refused() {
    let (mut machine, _) = load();
    let violation = machine.violation(MMIO, false);
    assert_eq!(
        refused(
            &mut machine,
            EptViolation {
                fetch: true,
                read: false,
                ..violation
            }
        ),
        EmulationError::Fetch { gpa: DEVICE }
    );
    assert_eq!(
        refused(
            &mut machine,
            EptViolation {
                final_access: false,
                ..violation
            }
        ),
        EmulationError::PagingStructure { gpa: DEVICE }
    );
    let event = Event::fault(14, 2);
    let exit = Exit {
        idt_vectoring: Some(event),
        ..machine.vcpu.exit(Reason::EptViolation(violation), 0)
    };
    let result = emulate(
        &exit,
        &violation,
        &mut machine.vcpu,
        &machine.memory,
        &mut machine.device,
        &mut machine.cache,
    );
    assert_eq!(result, Err(EmulationError::Delivery { event, gpa: DEVICE }));
}

#[test]
fn what_is_neither_memory_nor_a_device_is_refused() {
    let mut machine = Machine::long();
    machine.memory.map(MMIO, 0x8000_FED4_5000, 0b011);
    machine.set(Gpr::Rbx, MMIO + 8);
    let code = assemble(64, CODE, |a| a.mov(dword_ptr(rbx), eax));
    machine.load(CODE_GPA, &code);
    let violation = EptViolation {
        gpa: 0x8000_FED4_5008,
        ..machine.violation(MMIO + 8, true)
    };
    assert_eq!(
        refused(&mut machine, violation),
        EmulationError::Unclaimed {
            gpa: 0x8000_FED4_5008,
            write: true
        }
    );
}

#[test]
fn code_and_tables_must_be_memory() {
    let (mut machine, _) = load();
    machine.memory.map(CODE, DEVICE, 0b001);
    let violation = machine.violation(MMIO, false);
    assert_eq!(
        refused(&mut machine, violation),
        EmulationError::Fetch { gpa: DEVICE }
    );
    machine.vcpu.cr3 = DEVICE;
    assert!(matches!(
        refused(&mut machine, violation),
        EmulationError::PagingStructure { .. }
    ));
}
