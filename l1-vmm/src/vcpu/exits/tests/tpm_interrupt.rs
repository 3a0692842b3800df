//! The TPM's interrupt on its way into L2.

use super::devices::{STORE, fault};
use super::*;
use crate::machine::map::{self, TPM_LINE};
use l2_exit::run_ahead::RunAhead;
use x86_defs::apic::Register as Apic;

const VECTOR: u8 = 0x65;
const LEVEL: u32 = 1 << 15;

/// Points the TPM's pin at processor `destination`.
fn connect(l2: &mut L2<'_, Modelled>, destination: u32) {
    let L2 { machine, vcpu } = l2;
    let (mut devices, mut router) = (machine.devices(), vcpu.router(machine));
    let entry = 0x10 + 2 * u32::from(TPM_LINE.pin);
    for (index, value) in [
        (entry + 1, destination << 24),
        (entry, LEVEL | u32::from(VECTOR)),
    ] {
        devices.ioapic.write(0, index, &mut router);
        devices.ioapic.write(0x10, value, &mut router);
    }
}

fn connected(code: &[u8]) -> Fixture {
    let mut fixture = Fixture::new(code);
    let apic = &mut fixture.platform.vcpu.apic;
    apic.write_msr(Apic::SVR, 0x1FF, 0).unwrap();
    connect(&mut fixture.platform, 0);
    fixture
}

/// L2 writes to the TPM, whose line is at `level` then.
fn write(fixture: &mut Fixture, level: bool) {
    fixture.seen.borrow_mut().tpm_line = level;
    let registers = [(Register::Rbx, TPM + 0x18), (Register::Rip, UPPER + CODE)];
    fixture
        .exit_with(&registers, fault(TPM + 0x18, true))
        .unwrap();
}

fn requested(fixture: &Fixture) -> bool {
    fixture.platform.vcpu.apic.status().rvi == VECTOR
}

/// Whether the I/O APIC waits for the interrupt's end.
fn in_service(l2: &L2<'_, Modelled>) -> bool {
    l2.machine.devices().ioapic.read(0x10) & 1 << 14 != 0
}

#[test]
fn its_pin_is_where_acpi_says_and_level_triggered() {
    let row = map::memory(TPM).unwrap();
    assert_eq!(row.line, Some(TPM_LINE));
    assert!(TPM_LINE.level_triggered && (1..16).contains(&TPM_LINE.pin));
    assert_eq!(TPM_LINE.pin, TPM_LINE.isa);
}

#[test]
fn a_write_that_raises_the_line_interrupts_until_one_lowers_it() {
    let mut fixture = connected(&STORE);
    write(&mut fixture, false);
    assert!(!requested(&fixture));
    write(&mut fixture, true);
    assert!(requested(&fixture) && in_service(&fixture.platform));
    let end = |fixture: &mut Fixture| {
        let L2 { machine, vcpu } = &mut fixture.platform;
        let mut router = vcpu.router(machine);
        machine
            .devices()
            .ioapic
            .end_of_interrupt(VECTOR, &mut router);
        in_service(&fixture.platform)
    };
    assert!(end(&mut fixture), "still asserted: again");
    write(&mut fixture, false);
    assert!(!end(&mut fixture));
}

#[test]
fn an_interrupt_ends_running_ahead_before_the_next_instruction() {
    // MOV [RBX], AL, twice; HLT.
    let mut fixture = connected(&[0x88, 0x03, 0x88, 0x03, 0xF4]);
    for (level, rip) in [(false, 4), (true, 2)] {
        fixture.platform.vcpu.ahead = Some(RunAhead::new(0));
        fixture.platform.vcpu.vmcs.set_rflags(0x202);
        let registers = [
            (Register::Rflags, 0x202),
            (Register::Rbx, TPM + 0x18),
            (Register::Rip, UPPER + CODE),
        ];
        fixture.seen.borrow_mut().tpm_line = level;
        fixture
            .exit_with(&registers, fault(TPM + 0x18, true))
            .unwrap();
        assert_eq!(fixture.rip(), rip);
        assert_eq!(requested(&fixture), level);
    }
}

#[test]
fn what_the_tpm_does_by_itself_interrupts() {
    let mut fixture = connected(&STORE);
    {
        let mut seen = fixture.seen.borrow_mut();
        seen.tpm_due = Some(0);
        seen.tpm_line = true;
    }
    drop(fixture.platform.machine.tpm());
    fixture.exit(HardwareExit::Interrupt).unwrap();
    assert_eq!(fixture.seen.borrow().tpm_did.len(), 1);
    assert!(in_service(&fixture.platform));
}

#[test]
fn another_processor_may_be_the_one_that_is_interrupted() {
    let mut two = processors::Processors::started(2);
    connect(two.at(0), 1);
    two.seen[0].borrow_mut().tpm_line = true;
    let machine = Arc::clone(&two.surroundings.machine);
    let mut router = two.l2[0].vcpu.router(&machine);
    machine.update_tpm_line(&machine.tpm(), &mut router);
    assert!(two.mailbox(1).is_pending());
    assert!(in_service(&two.l2[0]));
}

#[test]
fn a_reset_lowers_the_line() {
    let mut fixture = connected(&STORE);
    write(&mut fixture, true);
    fixture.seen.borrow_mut().tpm_line = false;
    fixture.platform.machine.reset();
    connect(&mut fixture.platform, 0);
    assert!(!in_service(&fixture.platform));
    write(&mut fixture, true);
    assert!(in_service(&fixture.platform), "it rises again");
}
