use super::*;
use crate::platform::{CpuidResult, SegmentName};
use crate::test_platform::{ModelTdcall, TestPlatform};
use crate::{Module, TdParams, VpEnterInput};

/// Where the tests put L1's instructions.
const CODE: u64 = 0x1000;
const FRAME: u64 = 0x20_0000;

/// L1 at `code`, having just exited for `exit`.
struct Bench(ModelTdcall);

impl Bench {
    fn new() -> Bench {
        Bench::with_params(&TdParams::default())
    }

    fn with_params(params: &TdParams) -> Bench {
        Bench(ModelTdcall::new(params, FRAME))
    }

    fn set(&self, register: Register, value: u64) {
        self.0
            .with(|_, platform| platform.set_register(Vm::L1, register, value));
    }

    fn get(&self, register: Register) -> u64 {
        self.0
            .with(|_, platform| platform.register(Vm::L1, register))
    }

    fn exit(&self, code: &[u8], exit: HardwareExit) -> Action {
        self.0.write(CODE, code);
        self.set(Register::Rip, CODE);
        self.0
            .with(|module, platform| module.handle_exit(platform, exit.into()))
    }

    /// What L1 gets at the instruction: an event, or nothing and RIP after it.
    fn run(&self, code: &[u8], exit: HardwareExit) -> Option<Event> {
        assert_eq!(self.exit(code, exit), Action::Run(Vm::L1));
        let event = self.0.with(|_, platform| platform.injected.remove(&Vm::L1));
        if event.is_none() {
            assert_eq!(self.get(Register::Rip), CODE + code.len() as u64);
        }
        event
    }

    fn ve_info(&self) -> Option<VeInfo> {
        self.0.with(|module, _| module.vcpu.l1.ve_info.take())
    }

    fn act<T>(&self, act: impl FnOnce(&mut Module, &mut TestPlatform) -> T) -> T {
        self.0.with(act)
    }
}

const GP: Option<Event> = Some(Event::GENERAL_PROTECTION);
const VE: Option<Event> = Some(Event::VIRTUALIZATION);

fn io(port: u16, width: u8, input: bool) -> HardwareExit {
    HardwareExit::Io(IoExit {
        port,
        width,
        input,
        string: false,
        repeat: false,
    })
}

#[test]
fn what_only_the_host_can_do_is_a_ve_with_its_information() {
    let bench = Bench::new();
    for (code, exit, reason, qualification) in [
        (&[0xf4][..], HardwareExit::Hlt, 12, 0),
        (&[0x0f, 0x08], HardwareExit::CacheFlush, 13, 0),
        (&[0x0f, 0x09], HardwareExit::CacheFlush, 54, 0),
        (&[0xf3, 0x0f, 0x09], HardwareExit::CacheFlush, 54, 1),
        (&[0x0f, 0x01, 0xc8], HardwareExit::Monitor, 39, 0),
        (&[0x0f, 0x01, 0xc9], HardwareExit::Mwait, 36, 0),
        (&[0x0f, 0x01, 0xc1], HardwareExit::Vmcall, 18, 0),
        (&[0xee], io(0x3f8, 1, false), 30, 0x03f8_0000),
        (&[0xe4, 0x64], io(0x64, 1, true), 30, 0x0064_0048),
        (&[0xed], io(0xcfc, 4, true), 30, 0x0cfc_000b),
    ] {
        assert_eq!(bench.run(code, exit), VE, "{exit:?}");
        let expected = VeInfo::instruction(reason, qualification, code.len());
        assert_eq!(bench.ve_info(), Some(expected));
        assert_eq!(bench.get(Register::Rip), CODE);
    }
}

#[test]
fn a_second_ve_before_the_first_is_asked_about_is_a_double_fault() {
    let bench = Bench::new();
    assert_eq!(bench.run(&[0xf4], HardwareExit::Hlt), VE);
    assert_eq!(
        bench.run(&[0xf4], HardwareExit::Hlt),
        Some(Event::DOUBLE_FAULT)
    );
    assert!(bench.ve_info().is_some());
    assert_eq!(bench.run(&[0xf4], HardwareExit::Hlt), VE);
}

#[test]
fn cpuid_leaves_are_the_modules_or_the_hosts() {
    let bench = Bench::new();
    let everything = CpuidResult {
        eax: !0,
        ebx: !0,
        ecx: !0,
        edx: !0,
    };
    bench.act(|_, platform| {
        for leaf in [0, 1, 7, 0xa, 0xd, 0x12, 0x15, 0x8000_0001, 0x8000_0008] {
            platform.cpuid.insert((leaf, 0), everything);
        }
    });
    let cpuid = |leaf: u32, subleaf: u32| {
        bench.set(Register::Rax, leaf.into());
        bench.set(Register::Rcx, subleaf.into());
        let event = bench.run(&[0x0f, 0xa2], HardwareExit::Cpuid);
        bench.ve_info();
        event.is_none().then(|| {
            [Register::Rax, Register::Rbx, Register::Rcx, Register::Rdx]
                .map(|register| bench.get(register) as u32)
        })
    };
    for (leaf, subleaf) in [
        (2, 0),
        (5, 0),
        (6, 0),
        (0xb, 0),
        (0x16, 0),
        (0x1f, 0),
        (0x21, 1),
        (0x8000_0002, 0),
        (0x4000_0000, 0),
        (0x4fff_ffff, 0),
    ] {
        assert_eq!(cpuid(leaf, subleaf), None, "{leaf:#x}");
    }
    let genuine_intel = [0x23, 0x756e_6547, 0x6c65_746e, 0x4965_6e69];
    assert_eq!(cpuid(0, 0), Some(genuine_intel));
    assert_eq!(
        cpuid(0x21, 0),
        Some([0, 0x6574_6e49, 0x2020_2020, 0x5844_546c])
    );
    assert_eq!(cpuid(0x15, 0), Some([1, 40, 25_000_000, 0]));
    assert_eq!(cpuid(0xa, 0), Some([0; 4]));
    assert_eq!(cpuid(0x12, 0), Some([0; 4]));
    let [_, ebx, ecx, _] = cpuid(1, 0).unwrap();
    const MONITOR_VMX_SMX_OSXSAVE: u32 = 1 << 3 | 1 << 5 | 1 << 6 | 1 << 27;
    const X2APIC_HYPERVISOR: u32 = 1 << 21 | 1 << 31;
    assert_eq!(ecx & MONITOR_VMX_SMX_OSXSAVE, 0);
    assert_eq!(ecx & X2APIC_HYPERVISOR, X2APIC_HYPERVISOR);
    assert_eq!(ebx >> 24, 0);
    // XFAM has x87, SSE and AVX.
    let [_, ebx, _, _] = cpuid(7, 0).unwrap();
    assert_eq!((ebx & 1 << 5, ebx & 1 << 16, ebx & 1 << 2), (1 << 5, 0, 0));
    assert_eq!(cpuid(0xd, 0).unwrap()[0], 7);
    // SVM is in leaf 80000001 of the machine.
    assert_eq!(cpuid(0x8000_0001, 0).unwrap()[2] & 1 << 2, 0);
    // OSXSAVE follows CR4.
    bench.set(Register::Cr4, 0x4_0660);
    assert_ne!(cpuid(1, 0).unwrap()[2] & 1 << 27, 0);
    // Above the range: as its end.
    assert_eq!(cpuid(0x24, 0), cpuid(0x23, 0));
    assert_eq!(cpuid(0x8000_0009, 0), cpuid(0x23, 0));
    // TDG.VP.CPUIDVE.SET and CPUID_CONTROL.
    bench.act(|module, _| module.vcpu.l1.cpuid_user_ve = true);
    assert!(cpuid(0, 0).is_some());
    bench.set(Register::Cpl, 3);
    assert_eq!(cpuid(0, 0), None);
    bench.set(Register::Cpl, 0);
    bench.act(|module, _| module.vcpu.l1.cpuid_control[0] = 1);
    assert_eq!(cpuid(0, 0), None);
    assert!(cpuid(1, 0).is_some());
}

#[test]
fn msrs_are_native_emulated_refused_or_the_hosts() {
    let bench = Bench::new();
    let read = |msr: u32| {
        bench.set(Register::Rcx, msr.into());
        let event = bench.run(&[0x0f, 0x32], HardwareExit::ReadMsr);
        bench.ve_info();
        match event {
            None => Ok(bench.get(Register::Rdx) << 32 | bench.get(Register::Rax)),
            Some(event) => Err(event),
        }
    };
    let write = |msr: u32, value: u64| {
        bench.set(Register::Rcx, msr.into());
        bench.set(Register::Rax, value & 0xffff_ffff);
        bench.set(Register::Rdx, value >> 32);
        let event = bench.run(&[0x0f, 0x30], HardwareExit::WriteMsr);
        bench.ve_info();
        event
    };
    let gp = Err(Event::GENERAL_PROTECTION);
    let ve = Err(Event::VIRTUALIZATION);
    // APIC_BASE, an MTRR, TSC_DEADLINE, the x2APIC's LVT timer, one outside both ranges.
    for msr in [0x1b, 0x200, 0x6e0, 0x832, 0x4b56_4d00] {
        assert_eq!(read(msr), ve, "{msr:#x}");
        assert_eq!(write(msr, 0), VE, "{msr:#x}");
    }
    for msr in [0x9b, 0x122, 0x6e1, 0x80e, 0x83f, 0x6a2, 0xc1] {
        assert_eq!(read(msr), gp, "{msr:#x}");
    }
    for msr in [0x480, 0x492, 0x802 - 1, 0x810, 0x820, 0x345] {
        assert_eq!(write(msr, 0), GP, "{msr:#x}");
    }
    assert_eq!(read(0x481), ve);
    assert_eq!(read(0x345), Ok(0));
    for msr in [0x48, 0x277, 0xc000_0082, 0xc000_0100, 0xc000_0102] {
        assert_eq!(write(msr, 0x1234_5678_0000), None, "{msr:#x}");
        assert_eq!(read(msr), Ok(0x1234_5678_0000), "{msr:#x}");
    }
    // EFER: SCE is free, NXE is fixed, LME cannot change under paging.
    assert_eq!(read(0xc000_0080), Ok(0xd01));
    assert_eq!(write(0xc000_0080, 0xd00), None);
    assert_eq!(write(0xc000_0080, 0x501), VE);
    assert_eq!(write(0xc000_0080, 0xc01), GP);
    assert_eq!(write(0xc000_0080, 0x1d01), GP);
    // XSS: nothing that XFAM does not have.
    assert_eq!(write(0xda0, 0), None);
    assert_eq!(write(0xda0, 0x1800), GP);
    // The x2APIC registers of the virtual APIC.
    assert_eq!(write(0x808, 0x100), GP);
    assert_eq!(write(0x808, 0x20), None);
    assert_eq!((read(0x808), read(0x80a)), (Ok(0x20), Ok(0x20)));
    assert_eq!(write(0x83f, 0x31), None);
    assert_eq!(read(0x821), Ok(1 << 17));
    assert_eq!(write(0x80b, 1), GP);
    assert_eq!(write(0x80b, 0), None);
}

#[test]
fn native_msrs_do_not_exit() {
    let bench = Bench::new();
    bench.act(|_, platform| {
        for msr in [
            0x48,
            0x49,
            0x174,
            0x277,
            0xc000_0081,
            0xc000_0101,
            0xc000_0103,
        ] {
            assert_eq!(
                platform.msr_intercepts[&(Vm::L1, msr)],
                (false, false),
                "{msr:#x}"
            );
        }
        assert_eq!(platform.msr_intercepts[&(Vm::L1, 0x10)], (false, true));
        for msr in [0x1b, 0x6e0, 0x808, 0x80b, 0xc000_0080] {
            assert!(
                !platform.msr_intercepts.contains_key(&(Vm::L1, msr)),
                "{msr:#x}"
            );
        }
    });
}

#[test]
fn control_registers_keep_what_is_the_modules() {
    let bench = Bench::new();
    const CR0: u64 = 0x8001_0033;
    let mov_cr0_rax = [0x0f, 0x22, 0xc0];
    let mov_cr4_rbx = [0x0f, 0x22, 0xe3];
    for (value, event) in [
        (CR0 | 8, None),
        (CR0 & !0x20, GP),
        (CR0 | 1 << 32, GP),
        (CR0 & !1, GP),
        (CR0 | 1 << 29, GP),
        (CR0 | 1 << 30, VE),
        (CR0 & !(1 << 31), GP),
    ] {
        bench.set(Register::Cr0, CR0);
        bench.set(Register::Rax, value);
        let got = bench.run(&mov_cr0_rax, HardwareExit::CrAccess);
        assert_eq!(got, event, "{value:#x}");
        let kept = if event.is_none() { value } else { CR0 };
        assert_eq!(bench.get(Register::Cr0), kept);
        bench.ve_info();
    }
    for (value, event) in [
        (0x6e0, None),
        (0x620, VE),
        (0x2660, VE),
        (0x640, GP),
        (0x1660, GP),
        (0x40_0660, GP),
        (1 << 60, GP),
    ] {
        bench.set(Register::Cr4, 0x660);
        bench.set(Register::Rbx, value);
        let got = bench.run(&mov_cr4_rbx, HardwareExit::CrAccess);
        assert_eq!(got, event, "{value:#x}");
        if got == VE {
            let info = bench.ve_info().unwrap();
            assert_eq!((info.exit_reason, info.qualification), (28, 0x304));
        }
    }
    bench.set(Register::Cr0, CR0 | 8);
    assert_eq!(bench.run(&[0x0f, 0x06], HardwareExit::CrAccess), None);
    assert_eq!(bench.get(Register::Cr0), CR0);
}

#[test]
fn paging_in_long_mode_begins_with_cr0() {
    let bench = Bench::new();
    bench.act(|_, platform| {
        let mut code = platform.segment(Vm::L1, SegmentName::Cs);
        code.access_rights = 0xc09b;
        platform.set_segment(Vm::L1, SegmentName::Cs, code);
    });
    bench.set(Register::Cr0, 0x23);
    bench.set(Register::Efer, 0x901);
    bench.set(Register::Rax, 0x8000_0023);
    assert_eq!(bench.run(&[0x0f, 0x22, 0xc0], HardwareExit::CrAccess), None);
    assert_eq!(bench.get(Register::Efer), 0xd01);
}

#[test]
fn xcr0_is_within_xfam() {
    let bench = Bench::new();
    let xsetbv = |ecx: u64, value: u64| {
        bench.set(Register::Rcx, ecx);
        bench.set(Register::Rax, value);
        bench.set(Register::Rdx, 0);
        bench.run(&[0x0f, 0x01, 0xd1], HardwareExit::Xsetbv)
    };
    assert_eq!(xsetbv(0, 7), Some(Event::INVALID_OPCODE));
    bench.set(Register::Cr4, 0x4_0660);
    assert_eq!(xsetbv(0, 7), None);
    assert_eq!(bench.get(Register::Xcr0), 7);
    for (ecx, value) in [(1, 7), (0, 6), (0, 0xe7)] {
        assert_eq!(xsetbv(ecx, value), GP);
    }
}

#[test]
fn a_pending_page_is_a_ve_or_the_hosts_as_configured() {
    for (attributes, ve) in [(0, true), (1 << 28, false)] {
        let params = TdParams {
            attributes,
            ..TdParams::default()
        };
        let bench = Bench::with_params(&params);
        bench.0.augment(FRAME, tdcall::PageLevel::Page4K);
        let fault = HardwareExit::NestedPageFault {
            gpa: FRAME + 0x123,
            write: true,
            fetch: false,
            page_walk: false,
        };
        match bench.exit(&[0x90], fault) {
            Action::Run(Vm::L1) => {
                assert!(ve);
                let info = bench.ve_info().unwrap();
                let expected = (48, 2, FRAME + 0x123);
                assert_eq!((info.exit_reason, info.qualification, info.gpa), expected);
            }
            Action::TdExit(exit) => {
                assert!(!ve);
                let registers = exit.registers;
                assert_eq!((registers.rax, registers.rcx), (48, 2));
                assert_eq!((registers.rdx, registers.r8), (6, FRAME));
            }
            action => panic!("{action:?}"),
        }
    }
}

#[test]
fn an_event_cut_short_by_an_exit_comes_first_afterwards() {
    let bench = Bench::new();
    bench.set(Register::Rip, CODE);
    let interrupt = Event::interrupt(0x40);
    bench.act(|module, platform| {
        let exit = HardwareExit::NestedPageFault {
            gpa: FRAME,
            write: true,
            fetch: false,
            page_walk: false,
        };
        let exited = Exited {
            exit,
            vectoring: Some(interrupt),
        };
        let Action::TdExit(_) = module.handle_exit(platform, exited) else {
            panic!("the host has to map the page");
        };
        module.tdh_vp_enter(platform, VpEnterInput::default());
        assert_eq!(platform.injected[&Vm::L1], interrupt);
    });
}

#[test]
fn an_interrupt_waits_for_rflags_and_shadow() {
    let bench = Bench::new();
    let enter = || {
        bench.act(|module, platform| {
            module.tdh_vp_enter(platform, VpEnterInput::default());
            let window = platform.intercepts[&Vm::L1].interrupt_window;
            (platform.injected.get(&Vm::L1).copied(), window)
        })
    };
    bench.act(|module, _| {
        module.post_interrupt(0xe0);
        assert!(module.interrupt_pending());
    });
    assert_eq!(enter(), (None, true));
    bench.set(Register::Rflags, 0x202);
    bench.set(Register::InterruptShadow, 1);
    assert_eq!(enter(), (None, true));
    bench.set(Register::InterruptShadow, 0);
    assert_eq!(enter(), (Some(Event::interrupt(0xe0)), false));
    bench.act(|module, _| assert!(!module.interrupt_pending()));
}

#[test]
fn a_triple_fault_ends_the_virtual_processor() {
    let bench = Bench::new();
    let Action::TdExit(exit) = bench.exit(&[0x90], HardwareExit::TripleFault) else {
        panic!("a triple fault is the host's");
    };
    assert_eq!(exit.registers.rax, 0x4000_0001_0000_0002);
    bench.act(|module, platform| {
        let Action::TdExit(exit) = module.tdh_vp_enter(platform, VpEnterInput::default()) else {
            panic!("it is disabled");
        };
        assert_eq!(exit.registers.rax, 0xc000_0700_0000_0000);
    });
}
