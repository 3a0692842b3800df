//! Timers, HLT, and interrupts on their way into L2.

use super::*;
use crate::vcpu::processor::Deadline;
use x86_defs::apic::Register as Apic;

#[test]
fn a_halt_sleeps_until_the_timer() {
    let mut fixture = Fixture::new(&[0xF4]);
    let apic = &mut fixture.platform.vcpu.apic;
    apic.write_msr(Apic::SVR, 0x1FF, 0).unwrap();
    apic.write_msr(Apic::LVT_TIMER, 0x400EC, 0).unwrap();
    apic.set_deadline(5_000_000);
    let on = [(Register::Rflags, 0x202), (Register::InterruptShadow, 1)];
    assert_eq!(fixture.exit_with(&on, HardwareExit::Hlt), Ok(()));
    assert_eq!(fixture.rip(), 1);
    assert_eq!(fixture.seen.borrow().halts, 1);
    assert_eq!(fixture.seen.borrow().msrs, [(0x6E0, 5_000_000)]);
    assert_eq!(
        fixture.vmcs(VmcsField::GUEST_INTERRUPTIBILITY),
        0,
        "the STI shadow is over"
    );
    fixture.exit(HardwareExit::Interrupt).unwrap();
    assert_eq!(
        fixture.platform.vcpu.apic.status().svi,
        0xEC,
        "delivered at the entry"
    );
}

/// Pieces of a quarter of a millisecond, and none beyond what is due; another processor's want of the TPM comes first.
#[test]
fn a_halted_processor_works_for_the_tpm_until_it_is_due() {
    for (wanted, pieces) in [(false, 3), (true, 0)] {
        let mut fixture = Fixture::new(&[0xF4]);
        let apic = &mut fixture.platform.vcpu.apic;
        apic.write_msr(Apic::SVR, 0x1FF, 0).unwrap();
        apic.write_msr(Apic::LVT_TIMER, 0x400EC, 0).unwrap();
        let quarter = fixture.platform.machine.millisecond() / 4;
        let due = quarter / 2;
        fixture.platform.vcpu.apic.set_deadline(due);
        fixture.platform.vcpu.tpm_share = u64::MAX;
        fixture.seen.borrow_mut().tpm_pieces = 3;
        drop(fixture.platform.machine.try_tpm());
        if wanted {
            fixture.platform.machine.notices.tpm_was_busy();
        }
        let on = [(Register::Rflags, 0x202)];
        assert_eq!(fixture.exit_with(&on, HardwareExit::Hlt), Ok(()));
        let seen = fixture.seen.borrow();
        assert_eq!(seen.tpm_worked, [due; 3][..pieces]);
        assert_eq!(seen.halts, 1, "and it halts when there is no more");
    }
}

/// Half a millisecond, then nine times that for L2, whose run ends for the next one.
#[test]
fn a_processor_that_is_never_idle_shares_its_time_with_the_tpm() {
    let mut fixture = Fixture::new(&[]);
    let piece = fixture.platform.machine.millisecond() / 2;
    fixture.seen.borrow_mut().tpm_pieces = 2;
    drop(fixture.platform.machine.try_tpm());
    fixture.model.with(|_, platform| platform.tsc = 1000);
    fixture.exit(HardwareExit::Interrupt).unwrap();
    assert_eq!(fixture.seen.borrow().tpm_worked, [1000 + piece], "at once");
    let next = 1000 + 10 * piece;
    assert_eq!(fixture.platform.vcpu.deadline, Deadline::Set(Some(next)));

    fixture
        .model
        .with(|_, platform| platform.tsc = next - piece);
    fixture.exit(HardwareExit::Interrupt).unwrap();
    assert_eq!(fixture.seen.borrow().tpm_worked.len(), 1, "not yet");
    fixture.model.with(|_, platform| platform.tsc = next);
    fixture.exit(HardwareExit::Interrupt).unwrap();
    assert_eq!(fixture.seen.borrow().tpm_worked[1..], [next + piece]);
    assert_eq!(
        fixture.platform.vcpu.deadline,
        Deadline::Set(None),
        "nothing is left"
    );
}

/// Half of the time is a command's as it is, by its slices.
#[test]
fn a_command_that_runs_has_no_share_beside_its_slices() {
    let mut fixture = Fixture::new(&[]);
    fixture.seen.borrow_mut().tpm_pieces = 1;
    make_due(&mut fixture, 9_000_000);
    fixture.exit(HardwareExit::Interrupt).unwrap();
    assert!(fixture.seen.borrow().tpm_worked.is_empty());
    assert_eq!(
        fixture.platform.vcpu.deadline,
        Deadline::Set(Some(9_000_000))
    );
}

#[test]
fn a_halt_without_interrupts_is_for_good() {
    let mut fixture = Fixture::new(&[0xF4]);
    let off = [(Register::Rflags, 2)];
    let end = fixture.exit_with(&off, HardwareExit::Hlt).unwrap_err();
    assert_eq!(end, End::Halted { rip: UPPER + CODE });
}

#[test]
fn the_deadline_is_the_modules_and_is_told_when_it_passed() {
    let mut fixture = Fixture::new(&[0x0F, 0x30, 0x90]);
    let apic = &mut fixture.platform.vcpu.apic;
    apic.write_msr(Apic::SVR, 0x1FF, 0).unwrap();
    apic.write_msr(Apic::LVT_TIMER, 0x400EC, 0).unwrap();
    let registers = [
        (Register::Rcx, 0x6E0),
        (Register::Rax, 90_000),
        (Register::Rdx, 0),
    ];
    assert_eq!(
        fixture.exit_with(&registers, HardwareExit::WriteMsr),
        Ok(())
    );
    let armed = fixture.look(|platform, _| platform.timer);
    assert_eq!(armed, Some(90_000));
    fixture.model.push_run(|platform, _| {
        platform.tsc = 100_000;
        HardwareExit::Interrupt.into()
    });
    assert_eq!(fixture.platform.step(), Ok(()));
    assert_eq!(fixture.platform.statistics().exits(52), 1);
    assert_eq!(fixture.platform.vcpu.apic.status().rvi, 0xEC);
    let armed = fixture.look(|platform, _| platform.timer);
    assert_eq!(armed, None);
}

/// The module takes none that is more than 2^63 ticks away: it gets a near one, and is asked again
/// when that has passed, as often as it takes.
#[test]
fn a_deadline_too_far_for_the_module_is_approached() {
    const FAR: u64 = 0xC000_0000_0000_0000;
    const NEAR: u64 = 1 << 31;
    let mut fixture = Fixture::new(&[0x0F, 0x30, 0x90]);
    let apic = &mut fixture.platform.vcpu.apic;
    apic.write_msr(Apic::SVR, 0x1FF, 0).unwrap();
    apic.write_msr(Apic::LVT_TIMER, 0x400EC, 0).unwrap();
    let registers = [
        (Register::Rcx, 0x6E0),
        (Register::Rax, 0),
        (Register::Rdx, FAR >> 32),
    ];
    let wrmsr = fixture.exit_with(&registers, HardwareExit::WriteMsr);
    assert_eq!(wrmsr, Ok(()));
    for passed in 0..3 {
        let armed = fixture.look(|platform, _| platform.timer);
        let near = armed.expect("a deadline");
        assert!(near > passed * NEAR && near < FAR, "{near:#x}");
        fixture.model.push_run(move |platform, _| {
            platform.tsc = near;
            HardwareExit::Interrupt.into()
        });
        assert_eq!(fixture.platform.step(), Ok(()));
        assert_eq!(fixture.platform.vcpu.apic.status().rvi, 0, "not yet");
    }
    // Within the module's reach it is the real one.
    fixture.model.push_run(|platform, _| {
        platform.tsc = FAR - 5_000;
        HardwareExit::Interrupt.into()
    });
    assert_eq!(fixture.platform.step(), Ok(()));
    let armed = fixture.look(|platform, _| platform.timer);
    assert_eq!(armed, Some(FAR));
    fixture.model.push_run(|platform, _| {
        platform.tsc = FAR;
        HardwareExit::Interrupt.into()
    });
    assert_eq!(fixture.platform.step(), Ok(()));
    assert_eq!(fixture.platform.vcpu.apic.status().rvi, 0xEC);
}

#[test]
fn a_deadline_that_passes_in_l1_costs_no_entry() {
    let mut fixture = Fixture::new(&[]);
    let apic = &mut fixture.platform.vcpu.apic;
    apic.write_msr(Apic::SVR, 0x1FF, 0).unwrap();
    apic.write_msr(Apic::LVT_TIMER, 0x400EC, 0).unwrap();
    apic.set_deadline(90_000);
    fixture.exit(HardwareExit::Interrupt).unwrap();
    fixture.model.with(|_, platform| platform.tsc = 100_000);
    fixture.exit(HardwareExit::Interrupt).unwrap();
    assert_eq!(fixture.platform.statistics().exits(52), 0);
    assert_eq!(fixture.platform.vcpu.apic.status().rvi, 0xEC);
}

/// A command to the TPM leaves it with something to do.
fn make_due(fixture: &mut Fixture, tsc: u64) {
    fixture.seen.borrow_mut().tpm_due = Some(tsc);
    fixture.platform.with_tpm(|_| ());
}

/// The ledger's acknowledgement is looked for whatever L2 does meanwhile.
#[test]
fn the_tpm_does_what_is_due_while_l2_computes_and_while_it_sleeps() {
    let mut fixture = Fixture::new(&[0xF4]);
    make_due(&mut fixture, 90_000);
    fixture.model.push_run(|platform, _| {
        platform.tsc = 100_000;
        HardwareExit::Interrupt.into()
    });
    assert_eq!(fixture.platform.step(), Ok(()));
    assert_eq!(fixture.platform.statistics().exits(52), 1);
    assert_eq!(fixture.seen.borrow().tpm_did.len(), 1);
    assert!(fixture.seen.borrow().tpm_did[0] >= 90_000);

    // Long past: before L2 is entered.
    make_due(&mut fixture, 0);
    fixture.exit(HardwareExit::Interrupt).unwrap();
    assert_eq!(fixture.platform.statistics().exits(52), 1);
    assert_eq!(fixture.seen.borrow().tpm_did.len(), 2);

    // L2 sleeps until its own timer: L1 is woken before it.
    let apic = &mut fixture.platform.vcpu.apic;
    apic.write_msr(Apic::SVR, 0x1FF, 0).unwrap();
    apic.write_msr(Apic::LVT_TIMER, 0x400EC, 0).unwrap();
    apic.set_deadline(9_000_000);
    make_due(&mut fixture, 5_000_000);
    let on = [(Register::Rflags, 0x202), (Register::InterruptShadow, 1)];
    assert_eq!(fixture.exit_with(&on, HardwareExit::Hlt), Ok(()));
    assert_eq!(
        fixture.seen.borrow().msrs,
        [(0x6E0, 5_000_000), (0x6E0, 9_000_000)]
    );
    assert_eq!(fixture.seen.borrow().tpm_did.len(), 3);
}

#[test]
fn a_pending_interrupt_of_l1_changes_nothing_for_l2() {
    let mut fixture = Fixture::new(&[0x0F, 0x32]);
    let result = fixture.exit_with(&[(Register::Rcx, 0x1AD)], HardwareExit::ReadMsr);
    assert_eq!(result, Ok(()));
    fixture
        .model
        .with(|module, _| module.post_interrupt(0, 0xE0));
    assert_eq!(fixture.platform.step(), Ok(()), "not entered");
    assert_eq!(fixture.platform.statistics().interrupted, 1);
    let injected = fixture.vmcs(VmcsField::ENTRY_INTERRUPTION_INFO);
    assert_eq!(injected, 0x8000_0B0D, "still prepared");
    fixture.exit(HardwareExit::Interrupt).unwrap();
    assert_eq!(fixture.vmcs(VmcsField::ENTRY_INTERRUPTION_INFO) >> 31, 0);
}

/// Initializes the 8259A pair for vectors 30H to 3FH, unmasked, and raises the interval timer's interrupt.
fn raise_irq_0(fixture: &mut Fixture) {
    let L2 { machine, vcpu } = &mut fixture.platform;
    for (port, value) in [
        (0x20, 0x11),
        (0x21, 0x30),
        (0x21, 0x04),
        (0x21, 0x01),
        (0x21, 0xFE),
        (0x43, 0x34),
    ] {
        let router = &mut vcpu.router(machine);
        let width = l2_exit::Width::Byte;
        machine.devices().write_port(port, width, value, 0, router);
    }
    assert!(machine.devices().interrupt_output());
}

const WINDOW: u64 = 1 << 2;

#[test]
fn an_external_interrupt_is_injected_once() {
    let mut fixture = Fixture::new(&[]);
    let lint0 = fixture.platform.write_msr(0x835, 0x700);
    assert_eq!(lint0, Ok(()));
    raise_irq_0(&mut fixture);
    fixture.platform.vcpu.vmcs.set_rflags(0x202);
    fixture.exit(HardwareExit::Interrupt).unwrap();
    let information = fixture.vmcs(VmcsField::ENTRY_INTERRUPTION_INFO);
    assert_eq!(information, 0x30, "external interrupt, delivered");
    assert_eq!(fixture.vmcs(VmcsField::PRIMARY_CONTROLS) & WINDOW, 0);
    fixture.platform.vcpu.vmcs.set_rflags(0x202);
    assert_eq!(fixture.injected(), None, "it is in service");
}

#[test]
fn an_external_interrupt_waits_for_its_window() {
    let mut fixture = Fixture::new(&[]);
    fixture.platform.write_msr(0x835, 0x700).unwrap();
    raise_irq_0(&mut fixture);
    fixture.platform.vcpu.vmcs.set_rflags(0x2);
    fixture.exit(HardwareExit::Interrupt).unwrap();
    assert_ne!(fixture.vmcs(VmcsField::PRIMARY_CONTROLS) & WINDOW, 0);
    assert!(fixture.platform.machine.devices().interrupt_output());
    fixture
        .exit_with(&[(Register::Rflags, 0x202)], HardwareExit::InterruptWindow)
        .unwrap();
    assert!(fixture.platform.machine.devices().interrupt_output());
    fixture.exit(HardwareExit::Interrupt).unwrap();
    assert_eq!(fixture.vmcs(VmcsField::PRIMARY_CONTROLS) & WINDOW, 0);
    assert_eq!(fixture.vmcs(VmcsField::ENTRY_INTERRUPTION_INFO), 0x30);
    assert!(!fixture.platform.machine.devices().interrupt_output());
}

/// The module did not enter L2, because an interrupt of L1's was pending: the event is injected at the entry that
/// succeeds, and acknowledged once.
#[test]
fn an_external_interrupt_outlasts_entries_that_do_not_come_about() {
    let mut fixture = Fixture::new(&[]);
    fixture.platform.write_msr(0x835, 0x700).unwrap();
    raise_irq_0(&mut fixture);
    fixture.platform.vcpu.vmcs.set_rflags(0x202);
    for interrupted in 1..4 {
        fixture
            .model
            .with(|module, _| module.post_interrupt(0, 0xE0));
        assert_eq!(fixture.platform.step(), Ok(()), "not entered");
        assert_eq!(fixture.platform.statistics().interrupted, interrupted);
        let information = fixture.vmcs(VmcsField::ENTRY_INTERRUPTION_INFO);
        assert_eq!(information, 0x8000_0030, "still prepared");
    }
    fixture.exit(HardwareExit::Interrupt).unwrap();
    assert_eq!(fixture.vmcs(VmcsField::ENTRY_INTERRUPTION_INFO), 0x30);
}

#[test]
fn an_external_interrupt_that_lint0_holds_back_stays_in_the_8259() {
    let mut fixture = Fixture::new(&[]);
    fixture.platform.write_msr(0x835, 0x1_0700).unwrap();
    raise_irq_0(&mut fixture);
    fixture.platform.vcpu.vmcs.set_rflags(0x202);
    assert_eq!(fixture.injected(), None);
    assert!(fixture.platform.machine.devices().interrupt_output());
    assert_eq!(fixture.vmcs(VmcsField::PRIMARY_CONTROLS) & WINDOW, 0);
}

#[test]
fn an_nmi_to_self_waits_for_its_window() {
    const NMI: u32 = 0x8000_0202;
    let send = |fixture: &mut Fixture| {
        fixture.platform.write_msr(0x830, 0x0004_0400).unwrap();
    };
    let mut fixture = Fixture::new(&[]);
    send(&mut fixture);
    fixture.exit(HardwareExit::Interrupt).unwrap();
    let information = fixture.vmcs(VmcsField::ENTRY_INTERRUPTION_INFO) as u32;
    assert_eq!(
        information & 0x7FFF_FFFF,
        NMI & 0x7FFF_FFFF,
        "injected at once"
    );

    let mut fixture = Fixture::new(&[]);
    fixture.platform.vcpu.vmcs.block_nmi().unwrap();
    send(&mut fixture);
    fixture.exit(HardwareExit::Interrupt).unwrap();
    assert!(fixture.platform.vcpu.apic.nmi_pending());
    assert_ne!(
        fixture.vmcs(VmcsField::PRIMARY_CONTROLS) & 1 << 22,
        0,
        "window asked for"
    );
    let behind = [(Register::Rip, UPPER + CODE + 2)];
    fixture.prepare_exit(&[], HardwareExit::Iret);
    fixture.exit_with(&behind, HardwareExit::Interrupt).unwrap();
    fixture.exit(HardwareExit::Interrupt).unwrap();
    assert!(!fixture.platform.vcpu.apic.nmi_pending());
    assert_eq!(fixture.vmcs(VmcsField::PRIMARY_CONTROLS) & 1 << 22, 0);
}

/// L2 handles a level-triggered interrupt and ends it. Whether the module tells L1 of that exit
/// itself or only once the host wakes L1, the pin, still asserted, interrupts again.
#[test]
fn virtualized_eois_of_level_interrupts_reach_the_io_apic() {
    for host_routed in [false, true] {
        let mut fixture = Fixture::new(&[0x0F, 0x30]);
        let L2 { machine, vcpu } = &mut fixture.platform;
        let row = crate::machine::map::memory(0xFEC0_0000).unwrap();
        vcpu.apic.write_msr(Apic::SVR, 0x1FF, 0).unwrap();
        let (mut devices, mut router) = (machine.devices(), vcpu.router(machine));
        for (offset, value) in [(0x00u64, 0x22u32), (0x10, 0x8049)] {
            let value = value.to_le_bytes();
            devices.write_memory(row, 0xFEC0_0000 + offset, &value, &mut router);
        }
        devices.ioapic.set_line(9, true, &mut router);
        drop(devices);
        assert_eq!(vcpu.apic.status().rvi, 0x49);
        fixture.platform.vcpu.vmcs.set_rflags(0x202);
        fixture.exit(HardwareExit::Interrupt).unwrap();
        assert_eq!(fixture.vmcs(VmcsField::EOI_EXIT_BITMAP_1), 1 << 9);
        assert_eq!(fixture.platform.vcpu.apic.status().svi, 0x49, "in service");
        if host_routed {
            fixture
                .model
                .with(|module, _| module.faults().route_to_host(45));
        }
        let eoi = [
            (Register::Rcx, 0x80B),
            (Register::Rax, 0),
            (Register::Rdx, 0),
        ];
        fixture.exit_with(&eoi, HardwareExit::WriteMsr).unwrap();
        let statistics = fixture.platform.statistics();
        assert_eq!(statistics.exits(45), 1);
        // The external interrupt before is the host's to route in any case.
        assert_eq!(statistics.host_routed, 1 + u64::from(host_routed));
        assert_eq!(
            fixture.platform.vcpu.apic.status().rvi,
            0x49,
            "still asserted: again"
        );
    }
}

#[test]
fn a_self_ipi_of_an_illegal_vector_is_an_apic_error() {
    // WRMSR.
    let mut fixture = Fixture::new(&[0x0F, 0x30]);
    let registers = [
        (Register::Rcx, 0x83F),
        (Register::Rax, 5),
        (Register::Rdx, 0),
    ];
    assert_eq!(
        fixture.exit_with(&registers, HardwareExit::WriteMsr),
        Ok(())
    );
    assert_eq!(fixture.rip(), 2);
    let apic = &mut fixture.platform.vcpu.apic;
    apic.write_msr(Apic::ESR, 0, 0).unwrap();
    assert_eq!(apic.read_msr(Apic::ESR, 0), Ok(1 << 5 | 1 << 6));
}
