//! The path without TDCALLs, and what drops an entry from it.

use super::*;
use x86_defs::rflags;

/// MOV EAX, [RBX + 0x18] at [`CODE`].
fn polling() -> Machine {
    let mut machine = Machine::long();
    machine.set(Gpr::Rbx, MMIO);
    let code = assemble(64, CODE, |a| a.mov(eax, dword_ptr(rbx + 0x18)));
    machine.load(CODE_GPA, &code);
    machine
}

fn again(machine: &mut Machine, violation: EptViolation) -> Result<Outcome, EmulationError> {
    machine.vcpu.rip = CODE;
    machine.vcpu.tdcalls.set(0);
    machine.emulate(violation)
}

#[test]
fn the_second_access_costs_no_tdcall() {
    let mut machine = polling();
    let violation = machine.violation(MMIO + 0x18, false);
    assert_eq!(again(&mut machine, violation), Ok(Outcome::Completed));
    assert_ne!(machine.vcpu.tdcalls.get(), 0);
    machine.device.bytes[0x18] = 0x77;
    assert_eq!(again(&mut machine, violation), Ok(Outcome::Completed));
    assert_eq!(machine.vcpu.tdcalls.get(), 0);
    assert_eq!(machine.get(Gpr::Rax) & 0xFF, 0x77);
    assert_eq!(machine.vcpu.rip, CODE + 3);
    let statistics = machine.cache.statistics();
    assert_eq!(
        (statistics.hits, statistics.misses, statistics.stale),
        (1, 1, 0)
    );
}

#[test]
fn both_paths_do_the_same() {
    type Assemble = fn(&mut CodeAssembler) -> Result<(), IcedError>;
    let cases: &[(Assemble, bool)] = &[
        (|a| a.mov(al, byte_ptr(rbx)), false),
        (|a| a.mov(ch, byte_ptr(rbx)), false),
        (|a| a.movzx(edx, word_ptr(rbx)), false),
        (|a| a.movsx(rdx, byte_ptr(rbx)), false),
        (|a| a.mov(byte_ptr(rbx), ah), true),
        (|a| a.mov(qword_ptr(rbx), -5), true),
        (|a| a.test(byte_ptr(rbx), 0x20), false),
        (|a| a.add(r9d, dword_ptr(rbx)), false),
        (|a| a.lock().or(dword_ptr(rbx), 0x20), true),
        (|a| a.xchg(word_ptr(rbx), r8w), true),
        (|a| a.inc(byte_ptr(rbx)), true),
    ];
    for (assemble, write) in cases {
        let mut machine = Machine::long();
        machine.set(Gpr::Rbx, MMIO + 0xA4);
        let fresh = machine.vcpu.clone();
        let device = machine.device.clone();
        assert_eq!(
            machine.run(MMIO + 0xA4, *write, assemble),
            Ok(Outcome::Completed)
        );
        let slow = core::mem::replace(&mut machine.vcpu, fresh);
        let slow_device = core::mem::replace(&mut machine.device, device);
        machine.vcpu.tdcalls.set(0);
        assert_eq!(
            machine.run(MMIO + 0xA4, *write, assemble),
            Ok(Outcome::Completed)
        );
        assert_eq!(machine.vcpu.tdcalls.get(), 0);
        machine.vcpu.tdcalls.set(slow.tdcalls.get());
        assert_eq!(machine.vcpu, slow);
        assert_eq!(machine.device.bytes, slow_device.bytes);
        assert_eq!(machine.device.seen, slow_device.seen);
        assert_eq!(machine.cache.statistics().hits, 1);
    }
}

#[test]
fn patched_code_is_decoded_anew() {
    let mut machine = polling();
    let violation = machine.violation(MMIO + 0x18, false);
    assert_eq!(again(&mut machine, violation), Ok(Outcome::Completed));
    let code = assemble(64, CODE, |a| a.mov(ecx, dword_ptr(rbx + 0x18)));
    machine.load(CODE_GPA, &code);
    machine.set(Gpr::Rcx, 0);
    assert_eq!(again(&mut machine, violation), Ok(Outcome::Completed));
    assert_eq!(machine.get(Gpr::Rcx), 0x1B1A_1918);
    assert_eq!(machine.cache.statistics().stale, 1);
}

#[test]
fn another_mapping_of_the_code_is_noticed_by_its_access() {
    let mut machine = polling();
    let read = machine.violation(MMIO + 0x18, false);
    assert_eq!(again(&mut machine, read), Ok(Outcome::Completed));
    // The old bytes stay; the linear address gets another page with another instruction.
    let code = assemble(64, CODE, |a| a.mov(dword_ptr(rbx + 0x18), eax));
    machine.memory.poke(0x50_0000, &code);
    machine.memory.poke(0x50_0000 + 64, &[0]);
    machine.memory.map(CODE, 0x50_0000, 0b001);
    let write = machine.violation(MMIO + 0x18, true);
    assert_eq!(again(&mut machine, write), Ok(Outcome::Completed));
    assert!(matches!(
        machine.device.seen.last(),
        Some(Seen::Write(0x18, _))
    ));
    let code = assemble(64, CODE, |a| a.mov(dword_ptr(rbx + 0x24), eax));
    machine.memory.poke(0x50_0000, &code);
    let elsewhere = machine.violation(MMIO + 0x24, true);
    assert_eq!(again(&mut machine, elsewhere), Ok(Outcome::Completed));
    assert!(matches!(
        machine.device.seen.last(),
        Some(Seen::Write(0x24, _))
    ));
}

#[test]
fn an_address_that_is_not_the_exits_is_not_served_from_the_cache() {
    let mut machine = polling();
    let violation = machine.violation(MMIO + 0x18, false);
    assert_eq!(again(&mut machine, violation), Ok(Outcome::Completed));
    let elsewhere = EptViolation {
        linear: Some(MMIO + 0x1018),
        gpa: DEVICE + 0x1018,
        ..violation
    };
    assert!(matches!(
        again(&mut machine, elsewhere),
        Err(EmulationError::Elsewhere { .. })
    ));
    assert_eq!(machine.device.seen.len(), 1);
}

/// The page behind the device's linear address is another one now: the instruction is known, but
/// only the long way knows what is not a device.
#[test]
fn a_known_instruction_reaches_no_device_where_none_is() {
    const NOBODY: u64 = 0x8000_FED4_5000;
    for (gpa, expected) in [
        (RAM_GPA, Ok(Outcome::Completed)),
        (
            NOBODY,
            Err(EmulationError::Unclaimed {
                gpa: NOBODY + 0x18,
                write: false,
            }),
        ),
    ] {
        let mut machine = polling();
        let violation = machine.violation(MMIO + 0x18, false);
        assert_eq!(again(&mut machine, violation), Ok(Outcome::Completed));
        machine.device.seen.clear();
        machine
            .memory
            .poke(RAM_GPA + 0x18, &[0x78, 0x56, 0x34, 0x12]);
        let moved = EptViolation {
            gpa: gpa + 0x18,
            ..violation
        };
        assert_eq!(again(&mut machine, moved), expected);
        assert!(machine.device.seen.is_empty());
        assert_eq!(machine.cache.statistics().hits, 0);
        if expected.is_ok() {
            assert_eq!(machine.get(Gpr::Rax), 0x1234_5678);
        }
    }
}

#[test]
fn an_operand_is_served_from_the_cache_up_to_the_end_of_its_page() {
    type Assemble = fn(&mut CodeAssembler) -> Result<(), IcedError>;
    let cases: &[(Assemble, u64)] = &[
        (|a| a.mov(al, byte_ptr(rbx)), 1),
        (|a| a.mov(ax, word_ptr(rbx)), 2),
        (|a| a.mov(eax, dword_ptr(rbx)), 4),
        (|a| a.mov(rax, qword_ptr(rbx)), 8),
    ];
    for (assemble, size) in cases {
        // To the page's last byte, and one byte further.
        for offset in [0x1000 - size, 0x1001 - size] {
            let mut machine = Machine::long();
            let mut values = [0; 2];
            for value in &mut values {
                machine.vcpu.rip = CODE;
                machine.set(Gpr::Rax, 0);
                machine.set(Gpr::Rbx, MMIO + offset);
                let outcome = machine.run(MMIO + offset, false, assemble);
                assert_eq!(outcome, Ok(Outcome::Completed));
                *value = machine.get(Gpr::Rax);
            }
            let here = offset as usize..(offset + size) as usize;
            let mut expected = [0; 8];
            expected[..*size as usize].copy_from_slice(&machine.device.bytes[here]);
            assert_eq!(values, [u64::from_le_bytes(expected); 2], "{offset:#x}");
            let in_one_page = offset % 0x1000 + size <= 0x1000;
            let hits = machine.cache.statistics().hits;
            assert_eq!(hits, u64::from(in_one_page), "{offset:#x}");
        }
    }
}

#[test]
fn code_that_left_memory_is_not_executed() {
    let mut machine = polling();
    let violation = machine.violation(MMIO + 0x18, false);
    assert_eq!(again(&mut machine, violation), Ok(Outcome::Completed));
    let old = core::mem::take(&mut machine.memory);
    assert!(again(&mut machine, violation).is_err());
    assert_eq!(machine.cache.statistics().stale, 1);
    machine.memory = old;
    assert_eq!(again(&mut machine, violation), Ok(Outcome::Completed));
}

#[test]
fn user_mode_low_addresses_and_single_steps_take_the_long_way() {
    let mut machine = polling();
    let violation = machine.violation(MMIO + 0x18, false);
    assert_eq!(again(&mut machine, violation), Ok(Outcome::Completed));
    machine.vcpu.rflags |= rflags::TF;
    assert_eq!(again(&mut machine, violation), Ok(Outcome::Completed));
    assert_ne!(machine.vcpu.tdcalls.get(), 0);
    assert_eq!(machine.vcpu.single_steps, 1);

    for low in [0, 0x40_0000, 0x7FFF_FFFF_F000] {
        let mut machine = Machine::long();
        machine.memory.map(low, CODE_GPA, 0b001);
        machine.set(Gpr::Rbx, MMIO);
        let code = assemble(64, low, |a| a.mov(eax, dword_ptr(rbx + 0x18)));
        machine.load(CODE_GPA, &code);
        for _ in 0..2 {
            machine.vcpu.rip = low;
            machine.vcpu.tdcalls.set(0);
            assert_eq!(machine.emulate(violation), Ok(Outcome::Completed));
            assert_ne!(machine.vcpu.tdcalls.get(), 0);
        }
        assert_eq!(machine.cache.statistics().hits, 0);
    }
}

#[test]
fn segments_with_a_base_and_strings_are_not_kept() {
    type Assemble = fn(&mut CodeAssembler) -> Result<(), IcedError>;
    let cases: &[Assemble] = &[|a| a.mov(eax, dword_ptr(rsi).gs()), |a| a.lodsd()];
    for assemble in cases {
        let mut machine = Machine::long();
        for _ in 0..2 {
            machine.vcpu.rip = CODE;
            machine.set(Gpr::Rsi, MMIO);
            let outcome = machine.run(MMIO, false, assemble);
            assert_eq!(outcome, Ok(Outcome::Completed));
        }
        assert_eq!(machine.cache.statistics().hits, 0);
    }
}

#[test]
fn an_instruction_across_two_pages_is_kept_with_both() {
    let mut machine = Machine::long();
    machine.set(Gpr::Rbx, MMIO);
    let violation = machine.violation(MMIO + 0x18, false);
    let code = assemble(64, CODE, |a| a.mov(eax, dword_ptr(rbx + 0x18)));
    machine.load(CODE_GPA + 0xFFE, &code);
    for _ in 0..2 {
        machine.vcpu.rip = CODE + 0xFFE;
        assert_eq!(machine.emulate(violation), Ok(Outcome::Completed));
    }
    assert_eq!(machine.cache.statistics().hits, 1);
    // MOV EAX becomes MOV EAX, [RBX + 0x1C] by its last byte, in the second page.
    machine.load(CODE_GPA + 0x1000, &[0x1C]);
    machine.vcpu.rip = CODE + 0xFFE;
    let violation = machine.violation(MMIO + 0x1C, false);
    assert_eq!(machine.emulate(violation), Ok(Outcome::Completed));
    assert_eq!(machine.device.seen.last(), Some(&Seen::Read(0x1C, 4)));
}

#[test]
fn instructions_that_share_a_slot_replace_each_other() {
    let mut machine = Machine::long();
    machine.set(Gpr::Rbx, MMIO);
    let mut code = Vec::new();
    for register in 0..128_u8 {
        // TEST BYTE PTR [RBX + register], 0xFF
        code.extend([0xF6, 0x43, register & 0x7F, 0xFF]);
    }
    machine.load(CODE_GPA, &code);
    for round in 0..3 {
        for register in 0..128 {
            machine.vcpu.rip = CODE + register * 4;
            let violation = machine.violation(MMIO + register, false);
            assert_eq!(machine.emulate(violation), Ok(Outcome::Completed));
            let zero = machine.vcpu.rflags & rflags::ZF != 0;
            assert_eq!(zero, register == 0, "round {round}");
        }
    }
    machine.cache.clear();
    machine.vcpu.rip = CODE;
    machine.vcpu.tdcalls.set(0);
    let violation = machine.violation(MMIO, false);
    assert_eq!(machine.emulate(violation), Ok(Outcome::Completed));
    assert_ne!(machine.vcpu.tdcalls.get(), 0);
}
