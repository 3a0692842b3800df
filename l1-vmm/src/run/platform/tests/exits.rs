use super::*;
use tdx_module::platform::{Event, Exited, IoExit};

const GENERAL_PROTECTION: u32 = 0x8000_0B0D;
const INVALID_OPCODE: u32 = 0x8000_0306;

#[test]
fn l2_starts_where_the_boot_protocol_says() {
    let mut fixture = Fixture::new(&[]);
    let registers = [
        Register::Rip,
        Register::Rsi,
        Register::Rflags,
        Register::Cr3,
    ];
    let seen =
        fixture.look(move |platform, vm| registers.map(|register| platform.register(vm, register)));
    assert_eq!(seen, [UPPER + CODE, EntryState::new(0).rsi, 2, PAGE_TABLES]);
    assert_eq!(
        fixture.seen.borrow().flushes,
        [TlbFlush::Invept],
        "a first entry flushes"
    );
    assert_eq!(fixture.platform.vcpu.cr4(), 1 << 5, "no VMXE, no MCE");
    assert_eq!(fixture.platform.vcpu.cr0(), 0x8000_0031);
}

#[test]
fn cpuid_is_answered_from_the_table() {
    let mut fixture = Fixture::new(&[0x0F, 0xA2]);
    let leaf = [(Register::Rax, 0x4000_0000), (Register::Rcx, 0)];
    assert_eq!(fixture.exit_with(&leaf, HardwareExit::Cpuid), Ok(()));
    assert_eq!(fixture.rip(), 2);
    let ebx = fixture.register(Register::Rbx);
    assert_eq!(ebx, u64::from(u32::from_le_bytes(*b"KVMK")));
}

#[test]
fn unknown_msrs_fault_and_known_ones_do_not() {
    for (msr, value) in [
        (0x1B, Some(0xFEE0_0D00)),
        (0x2FF, Some(0xC06)),
        (0x1AD, None),
    ] {
        let mut fixture = Fixture::new(&[0x0F, 0x32]);
        let result = fixture.exit_with(&[(Register::Rcx, msr)], HardwareExit::ReadMsr);
        assert_eq!(result, Ok(()));
        match value {
            Some(value) => {
                assert_eq!(fixture.rip(), 2);
                assert_eq!(fixture.register(Register::Rax), value, "{msr:#x}");
            }
            None => {
                assert_eq!(fixture.rip(), 0);
                assert_eq!(fixture.injected(), Some(GENERAL_PROTECTION));
            }
        }
    }
}

#[test]
fn reserved_msr_values_fault() {
    for (msr, value, fault) in [
        (0x2FF, 0x2, true),
        (0x1A0, 0x1801, false),
        (0x1A0, 1 << 22, true),
        (0xC000_0080, 0x500, false),
        (0xC000_0080, 0xD01, false),
        (0xC000_0080, 0x1D01, true),
        (0xC000_0080, 0, true),
        (0x8B, 0, false),
        (0x17A, 1, true),
        (0xDA0, 0x100, true),
        (0x6E0, 7, false),
        (0x4B56_4D00, 0, true),
    ] {
        let mut fixture = Fixture::new(&[0x0F, 0x30]);
        let registers = [
            (Register::Rcx, msr),
            (Register::Rax, value),
            (Register::Rdx, 0),
        ];
        assert_eq!(
            fixture.exit_with(&registers, HardwareExit::WriteMsr),
            Ok(())
        );
        let expected = fault.then_some(GENERAL_PROTECTION);
        assert_eq!(fixture.injected(), expected, "{msr:#x} {value:#x}");
    }
}

#[test]
fn instructions_l2_is_not_offered_are_undefined() {
    for (code, exit) in [
        (&[0x0F, 0x01, 0xC1][..], HardwareExit::Vmcall),
        (&[0x0F, 0x01, 0xC8], HardwareExit::Monitor),
        (&[0x0F, 0x01, 0xC9], HardwareExit::Mwait),
    ] {
        let mut fixture = Fixture::new(code);
        assert_eq!(fixture.exit(exit), Ok(()));
        assert_eq!(fixture.injected(), Some(INVALID_OPCODE), "{exit:?}");
    }
    let mut fixture = Fixture::new(&[0x0F, 0x33]);
    assert_eq!(fixture.exit(HardwareExit::Rdpmc), Ok(()));
    assert_eq!(fixture.injected(), Some(GENERAL_PROTECTION));
}

#[test]
fn cache_flushes_have_no_effect() {
    for code in [[0x0F, 0x09], [0x0F, 0x08]] {
        let mut fixture = Fixture::new(&code);
        assert_eq!(fixture.exit(HardwareExit::CacheFlush), Ok(()));
        assert_eq!(fixture.rip(), 2);
    }
}

#[test]
fn xsetbv_takes_what_the_td_has() {
    for (index, value, taken) in [
        (0, 7, true),
        (0, 0x207, false),
        (1, 1, false),
        (0, 0, false),
    ] {
        let mut fixture = Fixture::new(&[0x0F, 0x01, 0xD1]);
        fixture.model.with(|_, platform| {
            let one = tdx_module::platform::CpuidResult {
                ecx: 1 << 26,
                ..Default::default()
            };
            platform.cpuid.insert((1, 0), one);
        });
        fixture.platform.cpuid = CpuidTable::new(
            |leaf, subleaf| fixture.platform.processor.cpuid(leaf, subleaf),
            &Machine {
                tsc_ratio: 40,
                xfam: 7,
            },
        );
        let registers = [
            (Register::Rcx, index),
            (Register::Rax, value),
            (Register::Rdx, 0),
        ];
        assert_eq!(fixture.exit_with(&registers, HardwareExit::Xsetbv), Ok(()));
        let xcr0 = fixture.seen.borrow().xcr0;
        assert_eq!(
            (xcr0, fixture.rip()),
            if taken { (value, 3) } else { (1, 0) }
        );
    }
}

#[test]
fn an_event_that_an_exit_cut_short_is_injected_again() {
    let mut fixture = Fixture::new(&[]);
    let event = Event::exception(14, Some(2));
    fixture.model.push_run(move |_, _| Exited {
        exit: HardwareExit::Interrupt,
        vectoring: Some(event),
    });
    // The host takes the interrupt and asks for L1.
    fixture.model.set_host(|_, _, _| VpEnterInput {
        resume_l1: true,
        ..Default::default()
    });
    assert_eq!(fixture.platform.step(), Ok(()));
    assert_eq!(fixture.platform.statistics().reinjected, 1);
    assert_eq!(fixture.injected(), Some(0x8000_0B0E));
}

#[test]
fn a_triple_fault_is_the_end() {
    let mut fixture = Fixture::new(&[]);
    let end = fixture.exit(HardwareExit::TripleFault).unwrap_err();
    assert_eq!(
        end,
        End::TripleFault {
            rip: UPPER + CODE,
            event: None
        }
    );
}

#[test]
fn a_task_switch_is_the_end() {
    let mut fixture = Fixture::new(&[0xCF]);
    let end = fixture.exit(HardwareExit::TaskSwitch).unwrap_err();
    assert!(
        matches!(
            end,
            End::GuestError {
                error: GuestError::TaskSwitch { .. },
                ..
            }
        ),
        "{end}"
    );
}

#[test]
fn state_that_the_processor_refuses_is_reported_with_the_registers() {
    let mut fixture = Fixture::new(&[]);
    fixture.platform.vcpu.set_rflags(0);
    let end = fixture.platform.step().unwrap_err();
    assert_eq!(
        end,
        End::GuestError {
            rip: UPPER + CODE,
            error: GuestError::InvalidState { qualification: 0 }
        }
    );
    let report = alloc::format!("{}", fixture.platform.snapshot());
    assert!(
        report.contains("cr3 0x10000") && report.contains("rflags 0x0"),
        "{report}"
    );
}

#[test]
fn power_ports_end_the_run() {
    for (port, width, value, end) in [
        (0x604, 2, 0x2001, End::PowerOff),
        (0xCF9, 1, 6, End::Reset),
        (0x64, 1, 0xFE, End::Reset),
    ] {
        let code: &[u8] = if width == 2 { &[0x66, 0xEF] } else { &[0xEE] };
        let mut fixture = Fixture::new(code);
        let io = IoExit {
            port,
            width,
            input: false,
            string: false,
            repeat: false,
        };
        let registers = [(Register::Rax, value), (Register::Rdx, u64::from(port))];
        assert_eq!(
            fixture.exit_with(&registers, HardwareExit::Io(io)),
            Err(end)
        );
    }
}

#[test]
fn a_halt_sleeps_until_the_timer() {
    let mut fixture = Fixture::new(&[0xF4]);
    let apic = &mut fixture.platform.devices.apic;
    apic.write_msr(crate::run::devices::apic::bits::Register::SVR, 0x1FF, 0)
        .unwrap();
    apic.write_msr(
        crate::run::devices::apic::bits::Register::LVT_TIMER,
        0x400EC,
        0,
    )
    .unwrap();
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
        fixture.platform.devices.apic.status().svi,
        0xEC,
        "delivered at the entry"
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
    let apic = &mut fixture.platform.devices.apic;
    apic.write_msr(crate::run::devices::apic::bits::Register::SVR, 0x1FF, 0)
        .unwrap();
    apic.write_msr(
        crate::run::devices::apic::bits::Register::LVT_TIMER,
        0x400EC,
        0,
    )
    .unwrap();
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
    fixture.model.with(|_, platform| platform.tsc = 100_000);
    assert_eq!(
        fixture.platform.step(),
        Ok(()),
        "L2 does not run before its timer"
    );
    assert_eq!(fixture.platform.statistics().exits(52), 1);
    assert_eq!(fixture.platform.devices.apic.status().rvi, 0xEC);
    let armed = fixture.look(|platform, _| platform.timer);
    assert_eq!(armed, None);
}

#[test]
fn a_pending_interrupt_of_l1_changes_nothing_for_l2() {
    let mut fixture = Fixture::new(&[0x0F, 0x32]);
    let result = fixture.exit_with(&[(Register::Rcx, 0x1AD)], HardwareExit::ReadMsr);
    assert_eq!(result, Ok(()));
    fixture.model.with(|module, _| module.post_interrupt(0xE0));
    assert_eq!(fixture.platform.step(), Ok(()), "not entered");
    assert_eq!(fixture.platform.statistics().interrupted, 1);
    let injected = fixture.vmcs(VmcsField::ENTRY_INTERRUPTION_INFO);
    assert_eq!(injected, u64::from(GENERAL_PROTECTION), "still prepared");
    fixture.exit(HardwareExit::Interrupt).unwrap();
    assert_eq!(fixture.vmcs(VmcsField::ENTRY_INTERRUPTION_INFO) >> 31, 0);
}

#[test]
fn an_nmi_to_self_waits_for_its_window() {
    use crate::run::devices::apic::bits::Register as Apic;
    const NMI: u32 = 0x8000_0202;
    let send = |fixture: &mut Fixture| {
        let apic = &mut fixture.platform.devices.apic;
        apic.write_msr(Apic::ICR, 0x0004_0400, 0).unwrap();
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
    fixture.platform.vcpu.block_nmi().unwrap();
    send(&mut fixture);
    fixture.exit(HardwareExit::Interrupt).unwrap();
    assert!(fixture.platform.devices.apic.nmi_pending());
    assert_ne!(
        fixture.vmcs(VmcsField::PRIMARY_CONTROLS) & 1 << 22,
        0,
        "window asked for"
    );
    fixture.exit(HardwareExit::NmiWindow).unwrap();
    fixture.exit(HardwareExit::Interrupt).unwrap();
    assert!(!fixture.platform.devices.apic.nmi_pending());
    assert_eq!(fixture.vmcs(VmcsField::PRIMARY_CONTROLS) & 1 << 22, 0);
}

#[test]
fn single_stepping_goes_on_over_an_emulated_instruction() {
    let mut fixture = Fixture::new(&[0x0F, 0xA2]);
    let registers = [(Register::Rflags, 0x102), (Register::Rax, 0)];
    fixture.exit_with(&registers, HardwareExit::Cpuid).unwrap();
    assert_eq!(
        fixture.vmcs(VmcsField::GUEST_PENDING_DEBUG_EXCEPTIONS),
        1 << 14
    );
}

#[test]
fn virtualized_eois_of_level_interrupts_reach_the_io_apic() {
    use crate::run::devices::apic::bits::Register as Apic;
    let mut fixture = Fixture::new(&[0x0F, 0x30]);
    let devices = &mut fixture.platform.devices;
    devices.apic.write_msr(Apic::SVR, 0x1FF, 0).unwrap();
    for (offset, value) in [(0x00u64, 0x22u32), (0x10, 0x8049)] {
        devices.write_memory(0xFEC0_0000 + offset, || 0, &value.to_le_bytes());
    }
    devices.ioapic.set_line(9, true, &mut devices.apic);
    assert_eq!(devices.apic.status().rvi, 0x49);
    fixture.platform.vcpu.set_rflags(0x202);
    fixture.exit(HardwareExit::Interrupt).unwrap();
    assert_eq!(fixture.vmcs(VmcsField::EOI_EXIT_BITMAP_1), 1 << 9);
    assert_eq!(
        fixture.platform.devices.apic.status().svi,
        0x49,
        "in service"
    );
    let eoi = [
        (Register::Rcx, 0x80B),
        (Register::Rax, 0),
        (Register::Rdx, 0),
    ];
    fixture.exit_with(&eoi, HardwareExit::WriteMsr).unwrap();
    assert_eq!(fixture.platform.statistics().exits(45), 1);
    assert_eq!(
        fixture.platform.devices.apic.status().rvi,
        0x49,
        "still asserted: again"
    );
}
