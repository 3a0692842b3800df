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
    assert_eq!(fixture.platform.vcpu.vmcs.cr4(), 1 << 5, "no VMXE, no MCE");
    assert_eq!(fixture.platform.vcpu.vmcs.cr0(), 0x8000_0031);
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
        let table = crate::machine::cpuid::CpuidTable::new(
            |leaf, subleaf| fixture.platform.vcpu.processor.cpuid(leaf, subleaf),
            &crate::machine::cpuid::Described {
                tsc_ratio: 40,
                xfam: 7,
                processors: 1,
            },
        );
        Arc::get_mut(&mut fixture.platform.machine).unwrap().cpuid = table;
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
    fixture.platform.vcpu.vmcs.set_rflags(0);
    let end = fixture.platform.step().unwrap_err();
    assert_eq!(
        end,
        End::GuestError {
            rip: UPPER + CODE,
            error: GuestError::InvalidState { qualification: 0 }
        }
    );
    let debug = TdAttributes::new().with_debug(true);
    let report = alloc::format!("{}", fixture.platform.snapshot(debug).unwrap());
    assert!(
        report.contains("cr3 0x10000") && report.contains("rflags 0x0"),
        "{report}"
    );
}

#[test]
fn registers_are_for_the_host_of_a_debug_td_only() {
    let fixture = Fixture::new(&[]);
    let production = TdAttributes::from_bits(!TdAttributes::new().with_debug(true).into_bits());
    assert_eq!(fixture.platform.snapshot(production), None);
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
        fixture.prepare_exit(&registers, HardwareExit::Io(io));
        assert_eq!(fixture.platform.run(), Some(end.clone()));
        let resets = fixture.seen.borrow().tpm_resets;
        assert_eq!(resets, u32::from(end == End::Reset), "{port:#x}");
    }
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
fn a_single_step_ends_a_halt() {
    let mut fixture = Fixture::new(&[0xF4]);
    // No interrupt can.
    let registers = [(Register::Rflags, 0x102)];
    fixture.exit_with(&registers, HardwareExit::Hlt).unwrap();
    assert_eq!(
        fixture.vmcs(VmcsField::GUEST_PENDING_DEBUG_EXCEPTIONS),
        1 << 14
    );
}
