//! Exits that L1 shares with the module and the host.

use alloc::boxed::Box;

use super::{CODE, INTERRUPTS_ON, L1, TSC_DEADLINE_MSR, VM};
use crate::Module;
use crate::platform::{Action, Event, Exited, HardwareExit, Platform, Register, Vm};
use crate::test_platform::TestPlatform;
use crate::{Route, VpEnterInput};
use tdx_defs::field::{FieldId, L2Ctls};
use tdx_defs::status::{Operand, Status};
use tdx_defs::vmcs::VmcsField;

#[test]
fn an_msr_is_l1s_until_its_bit_is_clear() {
    let l1 = L1::with_l2(&[0x0f, 0x32]);
    l1.set_state(0x08, 0x808);
    l1.set_vapic(0x80, 0x30);
    l1.model.push_exit(HardwareExit::ReadMsr);
    assert_eq!(l1.enter().rax, 31);
    l1.open_msr(0x808);
    l1.model.push_exit(HardwareExit::ReadMsr);
    l1.model.push_run(|platform, vm| {
        assert_eq!(platform.register(vm, Register::Rax), 0x30);
        assert_eq!(platform.register(vm, Register::Rip), CODE + 2);
        HardwareExit::Hlt.into()
    });
    assert_eq!(l1.enter().rax, 12);
    l1.open_msr(TSC_DEADLINE_MSR);
    l1.set_state(0x88, CODE);
    l1.set_state(0x08, TSC_DEADLINE_MSR);
    l1.model.push_exit(HardwareExit::ReadMsr);
    assert_eq!(l1.enter().rax, 31, "the module's own bit is set");
}

#[test]
fn the_host_gets_interrupts_and_l2_goes_on() {
    let l1 = L1::with_l2(&[0xf4]);
    l1.model.set_host(|_, _, exit| {
        assert_eq!(exit.registers.rax, 1);
        assert_eq!(exit.registers.rcx >> 32, 1, "VM 1");
        Default::default()
    });
    l1.model.push_exit(HardwareExit::Interrupt);
    l1.model.push_exit(HardwareExit::Hlt);
    assert_eq!(l1.enter().rax, 12);
}

/// Exits of L2 that the host gets: RAX, the VM and the qualification in RCX, the interruption
/// information in R9.
#[test]
fn the_hosts_exits_have_their_reason_and_information() {
    let routed = |reason| {
        move |l1: &L1| {
            l1.model
                .with(move |module, _| module.faults().route_to_host(reason))
        }
    };
    type Prepare = Box<dyn Fn(&L1)>;
    let exits: [(HardwareExit, Prepare, u64, u64, u64); 4] = [
        (
            HardwareExit::Interrupt,
            Box::new(|_: &L1| ()),
            1,
            0,
            0x8000_0000,
        ),
        (HardwareExit::Nmi, Box::new(|_: &L1| ()), 0, 0, 0x8000_0202),
        (HardwareExit::Invlpg, Box::new(routed(14)), 14, 0x1234, 0),
        (HardwareExit::Hlt, Box::new(routed(12)), 12, 0, 0),
    ];
    for (exit, prepare, reason, qualification, information) in exits {
        // invlpg [eax]
        let l1 = L1::with_l2(&[0x0f, 0x01, 0x38]);
        l1.set_state(0, 0x1234);
        prepare(&l1);
        l1.start_l2();
        let Action::TdExit(td_exit) = l1.exit(exit.into()) else {
            panic!("{exit:?}");
        };
        let registers = td_exit.registers;
        assert_eq!(registers.rax, reason);
        assert_eq!(registers.rcx, 1 << 32 | qualification, "{exit:?}");
        assert_eq!(registers.r9, information, "{exit:?}");
    }
}

#[test]
fn a_software_exception_reports_its_length() {
    // INT3 as one byte and as two; the event is the exit's own, and R11 has the length.
    for (code, length) in [(&[0xcc][..], 1), (&[0xcd, 3], 2)] {
        let l1 = L1::with_l2(code);
        let own = l1.get(VmcsField::EXCEPTION_BITMAP);
        l1.set(VmcsField::EXCEPTION_BITMAP, own | 1 << 3);
        l1.model.push_exit(HardwareExit::Exception {
            vector: 3,
            error_code: None,
            cr2: 0,
        });
        let out = l1.enter();
        assert_eq!((out.rax, out.r9), (0, 0x8000_0603));
        assert_eq!(out.r11 >> 32, length);
    }
}

#[test]
fn the_host_routes_an_exit_to_l1() {
    let l1 = L1::with_l2(&[]);
    l1.model.set_host(|_, _, _| VpEnterInput {
        resume_l1: true,
        ..Default::default()
    });
    l1.model.push_exit(HardwareExit::NestedPageFault {
        gpa: 0xfed4_0000,
        write: false,
        fetch: false,
        page_walk: false,
    });
    let out = l1.enter();
    assert_eq!(out.rax, 0x0000_1100_0000_0030);
    assert_eq!(out.r8, 0xfed4_0000);
    assert_eq!(out.r13, 0);
}

/// A pending page is L1's exit, with the type of extended qualification that says so; the exit that
/// the host routes has none.
#[test]
fn a_routed_exit_has_no_extended_qualification() {
    const PENDING: u64 = 4 << 20;
    for (by_host, rax, extended) in [(false, 48, 6), (true, 0x0000_1100_0000_0030, 0)] {
        let l1 = L1::with_l2(&[]);
        l1.model.augment(PENDING, tdx_defs::PageLevel::Page4K);
        if by_host {
            l1.model.with(|module, _| module.faults().route_to_host(48));
        }
        l1.model.set_host(|_, _, _| VpEnterInput {
            resume_l1: true,
            ..Default::default()
        });
        l1.model.push_exit(HardwareExit::NestedPageFault {
            gpa: PENDING,
            write: true,
            fetch: false,
            page_walk: false,
        });
        let out = l1.enter();
        assert_eq!((out.rax, out.r8, out.r13), (rax, PENDING, extended));
    }
}

#[test]
fn a_posted_interrupt_for_l1_ends_the_run_of_l2() {
    let l1 = L1::with_l2(&[]);
    l1.model
        .set_host(|module: &mut Module, _: &mut TestPlatform, _| {
            module.post_interrupt(0, 0xe1);
            Default::default()
        });
    l1.model.push_exit(HardwareExit::Interrupt);
    let status = l1.model.call(L1::entering());
    // The interrupt itself is L1's next, if it takes interrupts.
    match status {
        Ok(out) => assert_eq!(out.rax, 0x0000_1102_0000_0001),
        Err(event) => assert_eq!(event, Event::interrupt(0xe1)),
    }
    assert_eq!(l1.l1_register(Register::Rax), 0x0000_1102_0000_0001);
}

/// The interrupt that ends L2's run is the posted one: L1 gets it at once, without the host. Any
/// other exit comes first.
#[test]
fn a_posted_interrupt_ends_l2_at_an_interrupt_and_at_nothing_else() {
    for (exit, rax) in [
        (HardwareExit::Interrupt, 0x0000_1102_0000_0001),
        (HardwareExit::Hlt, 12),
    ] {
        let l1 = L1::with_l2(&[0xf4]);
        l1.start_l2();
        l1.model.with(|module, _| module.post_interrupt(0, 0xe1));
        assert_eq!(l1.exit(exit.into()), Action::Run(Vm::L1));
        assert_eq!(l1.l1_register(Register::Rax), rax);
    }
}

/// Hardware with one kind of shadow: it is STI's where RFLAGS.IF is set, else MOV SS's.
#[test]
fn an_interrupt_shadow_is_reported_as_the_kind_it_can_be() {
    for (shadow, flags, interruptibility) in [
        (0, INTERRUPTS_ON, 0),
        (1, INTERRUPTS_ON, 1),
        (1, 2, 2),
        (2, INTERRUPTS_ON, 2),
        (2, 2, 2),
    ] {
        let l1 = L1::with_l2(&[0xf4]);
        l1.model.push_run(move |platform, vm| {
            platform.set_register(vm, Register::InterruptShadow, shadow);
            platform.set_register(vm, Register::Rflags, flags);
            HardwareExit::Hlt.into()
        });
        assert_eq!(l1.enter().rax, 12);
        let reported = l1.get(VmcsField::GUEST_INTERRUPTIBILITY);
        assert_eq!(reported, interruptibility, "{shadow} {flags:#x}");
    }
}

/// A #DB that L1 left pending comes before L2's first instruction, with its causes in DR6, unless
/// MOV SS holds it back (SDM volume 3, "Pending Debug Exceptions").
#[test]
fn a_pending_debug_exception_is_delivered_with_its_causes() {
    const BREAKPOINT: u64 = 1 << 12;
    const STEP: u64 = 1 << 14;
    const MOV_SS: u64 = 2;
    const INITIAL: u64 = 0xffff_0ff0;
    for (pending, blocking, dr6, delivered) in [
        (0, 0, INITIAL, false),
        (0xf, 0, INITIAL, false),
        (BREAKPOINT | 0x5, 0, INITIAL | 0x5, true),
        (STEP, 0, INITIAL | STEP, true),
        (STEP | BREAKPOINT | 0x8, 0, INITIAL | STEP | 0x8, true),
        (BREAKPOINT | 0x5, MOV_SS, INITIAL, false),
    ] {
        for already in [INITIAL, INITIAL | STEP | 0xf] {
            let l1 = L1::with_l2(&[0xf4]);
            l1.set(VmcsField::GUEST_PENDING_DEBUG_EXCEPTIONS, pending);
            l1.set(VmcsField::GUEST_INTERRUPTIBILITY, blocking);
            l1.model.with(|_, platform| {
                platform.set_register(Vm::L1, Register::Dr6, already);
            });
            l1.start_l2();
            let event = delivered.then(|| Event::exception(1, None));
            assert_eq!(l1.injected(), event, "{pending:#x} {blocking}");
            assert_eq!(l1.l2_register(Register::Dr6), dr6 | already);
            let left = l1.model.with(|module, _| {
                let l2 = module.vcpu.l2(VM);
                l2.cell(VmcsField::GUEST_PENDING_DEBUG_EXCEPTIONS)
            });
            assert_eq!(left, if delivered { 0 } else { pending });
        }
    }
}

/// A #DB that L1 intercepts is an exit with its causes and nothing else of DR6, which stays as it is
/// (SDM volume 3, "Basic VM-Exit Information", exit qualification of debug exceptions).
#[test]
fn a_pending_debug_exception_that_l1_intercepts_leaves_dr6() {
    const INITIAL: u64 = 0xffff_0ff0;
    let l1 = L1::with_l2(&[0xf4]);
    let own = l1.get(VmcsField::EXCEPTION_BITMAP);
    l1.set(VmcsField::EXCEPTION_BITMAP, own | 1 << 1);
    l1.set(VmcsField::GUEST_PENDING_DEBUG_EXCEPTIONS, 1 << 12 | 0x5);
    l1.model.with(|_, platform| {
        platform.set_register(Vm::L1, Register::Dr6, INITIAL);
    });
    let out = l1.enter();
    assert_eq!((out.rax, out.rcx, out.r9), (0, 0x5, 0x8000_0301));
    assert_eq!(l1.l2_register(Register::Dr6), INITIAL);
}

/// #UD always, which stands for the instructions that TDX and VMX make exit; what L1 selected; and
/// #PF if its error code selects.
#[test]
fn the_hardware_stops_at_the_exceptions_that_somebody_asked_for() {
    const UD: u32 = 1 << 6;
    const PF: u32 = 1 << 14;
    for (bitmap, mask, matching, exceptions) in [
        (0, 0, 0, UD),
        (1 << 13, 0, 0, UD | 1 << 13),
        (u64::from(UD), 0, 0, UD),
        (0, 1, 0, UD | PF),
        (0, 0, 1, UD | PF),
        (u64::from(PF), 2, 2, UD | PF),
        (1 << 3 | 1 << 13, 1, 1, UD | PF | 1 << 3 | 1 << 13),
    ] {
        let l1 = L1::with_l2(&[0xf4]);
        // #MC, bit 18, is the module's own.
        let own = l1.get(VmcsField::EXCEPTION_BITMAP);
        l1.set(VmcsField::EXCEPTION_BITMAP, own | bitmap);
        l1.set(VmcsField::PAGE_FAULT_ERROR_CODE_MASK, mask);
        l1.set(VmcsField::PAGE_FAULT_ERROR_CODE_MATCH, matching);
        l1.start_l2();
        let stops = l1
            .model
            .with(|_, platform| platform.intercepts[&Vm::L2(VM)].exceptions());
        assert_eq!(
            stops,
            exceptions | own as u32,
            "{bitmap:#x} {mask} {matching}"
        );
    }
}

#[test]
fn a_test_can_send_an_exit_to_the_host_first() {
    let l1 = L1::with_l2(&[0x0f, 0xa2]);
    l1.model.set_host(|_, _, exit| {
        assert_eq!(exit.registers.rax, 10);
        VpEnterInput {
            resume_l1: true,
            ..Default::default()
        }
    });
    l1.model.with(|module, _| module.faults().route_to_host(10));
    l1.model.push_exit(HardwareExit::Cpuid);
    assert_eq!(l1.enter().rax, 0x0000_1100_0000_000a);
    l1.model.push_exit(HardwareExit::Cpuid);
    assert_eq!(l1.enter().rax, 10);
    let count = |route| {
        l1.model
            .with(|module, _| module.statistics().l2_exits()[&(10, route)])
    };
    assert_eq!((count(Route::Host), count(Route::L1)), (1, 1));
}

/// L2 in 64-bit mode at a TDCALL that L1 lets go to the host.
fn with_tdvmcall() -> L1 {
    let l1 = L1::with_l2(&[0x66, 0x0f, 0x01, 0xcc]);
    let controls = L2Ctls::new().with_enable_tdvmcall(true).into_bits();
    assert_eq!(l1.write(FieldId::l2_ctls(VM), controls, u64::MAX).rax, 0);
    l1.set(VmcsField::GUEST_CR4, 0x2060);
    l1.set(VmcsField::GUEST_CR0, 0x8000_0031);
    l1.set(VmcsField::GUEST_EFER, 0xd01);
    l1.set(VmcsField::ENTRY_CONTROLS, 0x003e_c204);
    l1.set(VmcsField::GUEST_CS_ACCESS_RIGHTS, 0xa09b);
    // Identity-maps the first gigabyte.
    const TABLES: u64 = 0x3_0000;
    l1.set(VmcsField::GUEST_CR3, TABLES);
    l1.model.write(TABLES, &(TABLES + 0x1003).to_le_bytes());
    l1.model.write(TABLES + 0x1000, &0x83u64.to_le_bytes());
    l1
}

const TDCALL: HardwareExit = HardwareExit::Exception {
    vector: 6,
    error_code: None,
    cr2: 0,
};

#[test]
fn a_tdvmcall_of_l2_reaches_the_host_and_returns_to_l2() {
    let l1 = with_tdvmcall();
    const MASK: u64 = 0x1c00;
    l1.set_state(0x08, MASK);
    l1.set_state(0x58, 0x10000);
    l1.model.set_host(|_, _, exit| {
        assert_eq!(exit.registers.rax, 77);
        assert_eq!(exit.registers.rcx, MASK | 1 << 32);
        assert_eq!(exit.registers.r11, 0x10000);
        VpEnterInput {
            registers: tdx_defs::Registers {
                r11: 0x77,
                ..Default::default()
            },
            ..Default::default()
        }
    });
    l1.model.push_exit(TDCALL);
    l1.model.push_run(|platform, vm| {
        assert_eq!(platform.register(vm, Register::R11), 0x77);
        assert_eq!(platform.register(vm, Register::Rip), CODE + 4);
        HardwareExit::Hlt.into()
    });
    assert_eq!(l1.enter().rax, 12);
}

#[test]
fn the_host_can_tell_l1_of_the_tdvmcall() {
    let l1 = with_tdvmcall();
    l1.model.set_host(|_, _, _| VpEnterInput {
        resume_l1: true,
        ..Default::default()
    });
    l1.set_state(0x08, 0x1c00);
    l1.model.push_exit(TDCALL);
    let out = l1.enter();
    assert_eq!(out.rax, 0x0000_1101_0000_004d);
    assert_eq!(out.r11 >> 32, 4);
    assert_eq!(l1.state(0x88), CODE + 4, "already past it");
}

/// TDG.VP.VMCALL past L1 is checked as L1's own: RAX first, which is version and reserved bits
/// beside the leaf, then the mask. The XMM registers in bits 31:16 may be named.
#[test]
fn a_tdvmcall_of_l2_is_checked_before_it_leaves() {
    const MASK: u64 = 0x1c00;
    let rax_invalid = Some(Status::operand_invalid(Operand::RAX));
    let rcx_invalid = Some(Status::operand_invalid(Operand::RCX));
    for (rax, rcx, expected) in [
        (0, MASK, None),
        (0, MASK | 0xffff_0000, None),
        (0, MASK | 1, rcx_invalid),
        (0, MASK | 1 << 4, rcx_invalid),
        (0, MASK | 1 << 32, rcx_invalid),
        (1 << 16, MASK, rax_invalid),
        (1 << 24, MASK, rax_invalid),
        (1 << 63, MASK, rax_invalid),
        (1 << 16, MASK | 1, rax_invalid),
    ] {
        let l1 = with_tdvmcall();
        l1.set_state(0x00, rax);
        l1.set_state(0x08, rcx);
        l1.set_state(0x58, 0x10000);
        l1.model.set_host(move |_, _, exit| {
            assert_eq!(expected, None, "RAX {rax:#x} RCX {rcx:#x} left the TD");
            assert_eq!(exit.registers.rcx, rcx | 1 << 32);
            VpEnterInput::default()
        });
        l1.model.push_exit(TDCALL);
        l1.model.push_run(move |platform, vm| {
            let status = Status(platform.register(vm, Register::Rax));
            let expected = expected.unwrap_or(Status::SUCCESS);
            assert_eq!(status, expected, "RAX {rax:#x} RCX {rcx:#x}");
            assert_eq!(platform.register(vm, Register::Rip), CODE + 4);
            HardwareExit::Hlt.into()
        });
        assert_eq!(l1.enter().rax, 12);
        let route = if expected.is_some() {
            Route::Module
        } else {
            Route::Host
        };
        l1.model.with(|module, _| {
            assert_eq!(module.statistics().l2_exits().get(&(77, route)), Some(&1));
        });
    }
}

#[test]
fn an_access_through_page_tables_reports_its_linear_address() {
    // mov [rax], cl
    let l1 = with_tdvmcall();
    l1.model.write(CODE, &[0x88, 0x08]);
    // The second gigabyte leads to the window.
    const WINDOW: u64 = 0x30_0000;
    const DIRECTORY: u64 = 0x3_2000;
    const TABLE: u64 = 0x3_3000;
    l1.model.write(0x3_1008, &(DIRECTORY | 3).to_le_bytes());
    l1.model.write(DIRECTORY, &(TABLE | 3).to_le_bytes());
    l1.model.write(TABLE + 8 * 5, &(WINDOW | 3).to_le_bytes());
    const LINEAR: u64 = (1 << 30) + 0x5024;
    l1.set_state(0, LINEAR);
    let fault = |gpa, page_walk| HardwareExit::NestedPageFault {
        gpa,
        write: true,
        fetch: false,
        page_walk,
    };
    l1.model.push_exit(fault(WINDOW + 0x24, false));
    let out = l1.enter();
    assert_eq!((out.rax, out.rcx), (48, 0x182));
    assert_eq!((out.rdx, out.r8), (LINEAR, WINDOW + 0x24));
    l1.model.push_exit(fault(TABLE + 8 * 5, true));
    let out = l1.enter();
    assert_eq!((out.rax, out.rcx), (48, 0x081), "a read by the walk");
    assert_eq!(out.rdx, LINEAR);
    l1.model.push_exit(fault(WINDOW + 0x2000, false));
    assert_eq!(l1.enter().rcx, 0x002, "no operand of the instruction");
}

#[test]
fn an_exception_that_l1_injected_and_intercepts_comes_back_to_it() {
    let l1 = L1::with_l2(&[]);
    l1.set(VmcsField::EXCEPTION_BITMAP, 1 << 18 | 1 << 13);
    l1.set(VmcsField::ENTRY_INTERRUPTION_INFO, 0x8000_0b0d);
    l1.start_l2();
    let vectoring = Some(Event::exception(13, Some(0x10)));
    let interrupted = Exited {
        exit: HardwareExit::Interrupt,
        vectoring,
    };
    assert!(matches!(l1.exit(interrupted), Action::TdExit(_)));
    let action = l1
        .model
        .with(|module, platform| module.tdh_vp_enter(platform, Default::default()));
    assert_eq!(action, Action::Run(Vm::L1));
    assert_eq!(l1.l1_register(Register::Rax), 0x0000_1100_0000_0000);
    assert_eq!(l1.l1_register(Register::Rcx), 0);
    assert_eq!(l1.l1_register(Register::R9), 0x0000_0010_8000_0b0d);
}

#[test]
fn the_monitor_trap_flag_ends_the_td() {
    let l1 = L1::with_l2(&[]);
    l1.set(VmcsField::PRIMARY_CONTROLS, 0xb922_0c88);
    let Action::TdExit(exit) = l1.begin() else {
        panic!();
    };
    assert_eq!(exit.registers.rax, 0x6000_0002_0000_0025);
}
