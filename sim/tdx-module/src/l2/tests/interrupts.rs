//! Events and virtual interrupts of L2.

use super::{CODE, INTERRUPTS_ON, L1, VM};
use crate::platform::{Action, Event, Exited, HardwareExit, Platform, Register, Vm};
use tdx_defs::vmcs::VmcsField;

#[test]
fn an_event_of_l1_is_injected_once() {
    let l1 = L1::with_l2(&[]);
    l1.set(VmcsField::ENTRY_INTERRUPTION_INFO, 0x8000_0b0d);
    l1.set(VmcsField::ENTRY_EXCEPTION_ERROR_CODE, 0x18);
    l1.start_l2();
    assert_eq!(l1.injected(), Some(Event::exception(13, Some(0x18))));
    l1.exit(HardwareExit::Hlt.into());
    assert_eq!(l1.get(VmcsField::ENTRY_INTERRUPTION_INFO), 0x0000_0b0d);
    assert_eq!(l1.get(VmcsField::ENTRY_EXCEPTION_ERROR_CODE), 0x18);
}

#[test]
fn a_software_interrupt_that_is_cut_short_keeps_its_length() {
    let l1 = L1::with_l2(&[0xcd, 0x80]);
    l1.set(VmcsField::ENTRY_INTERRUPTION_INFO, 0x8000_0480);
    l1.set(VmcsField::ENTRY_INSTRUCTION_LENGTH, 2);
    l1.start_l2();
    let vectoring = l1.injected();
    let action = l1.exit(Exited {
        exit: HardwareExit::NestedPageFault {
            gpa: 0x3_0000,
            write: false,
            fetch: false,
            page_walk: false,
        },
        vectoring,
    });
    assert_eq!(action, Action::Run(Vm::L1));
    assert_eq!(l1.l1_register(Register::R10), 0x8000_0480);
    assert_eq!(l1.l1_register(Register::R11) >> 32, 2);
}

#[test]
fn a_malformed_event_ends_the_td() {
    let l1 = L1::with_l2(&[]);
    l1.set(VmcsField::ENTRY_INTERRUPTION_INFO, 0x8000_0b06);
    let action = l1.begin();
    let Action::TdExit(exit) = action else {
        panic!("{action:?}");
    };
    assert_eq!(exit.registers.rax >> 32, 0x6000_0002);
}

#[test]
fn a_requested_interrupt_is_delivered_when_l2_takes_interrupts() {
    let l1 = L1::with_l2(&[]);
    l1.request_interrupt(0x41);
    l1.start_l2();
    assert_eq!(l1.injected(), None);
    assert!(
        l1.model
            .with(|_, platform| platform.intercepts[&Vm::L2(VM)].interrupt_window())
    );
    l1.model
        .with(|_, platform| platform.set_register(Vm::L2(VM), Register::Rflags, INTERRUPTS_ON));
    let action = l1.exit(HardwareExit::InterruptWindow.into());
    assert_eq!(action, Action::Run(Vm::L2(VM)));
    assert_eq!(l1.injected(), Some(Event::interrupt(0x41)));
    assert_eq!(l1.vapic(0x220), 0);
    assert_eq!(l1.vapic(0x120), 1 << 1);
    assert_eq!(l1.vapic(0xa0), 0x40);
    l1.exit(HardwareExit::Hlt.into());
    assert_eq!(l1.state(0x98) & 0xffff, 0x4100);
}

#[test]
fn the_task_priority_holds_an_interrupt_back() {
    let l1 = L1::with_l2(&[]);
    l1.request_interrupt(0x41);
    l1.set_vapic(0x80, 0x40);
    l1.set_state(0x80, INTERRUPTS_ON);
    l1.start_l2();
    assert_eq!(l1.injected(), None);
    assert!(
        !l1.model
            .with(|_, platform| platform.intercepts[&Vm::L2(VM)].interrupt_window())
    );
}

#[test]
fn l2_ends_an_interrupt_without_l1_unless_it_asked_for_that_vector() {
    for (bitmap, reason) in [(0, None), (1u64 << 1, Some(45))] {
        let l1 = L1::with_l2(&[0x0f, 0x30]);
        l1.open_msr(0x80b);
        l1.set(VmcsField::EOI_EXIT_BITMAP_1, bitmap);
        l1.set_state(0x80, INTERRUPTS_ON);
        l1.set_state(0x08, 0x80b);
        l1.request_interrupt(0x41);
        l1.start_l2();
        assert_eq!(l1.injected(), Some(Event::interrupt(0x41)));
        let action = l1.exit(HardwareExit::WriteMsr.into());
        assert_eq!(l1.vapic(0x120), 0);
        assert_eq!(l1.vapic(0xa0), 0);
        match reason {
            None => {
                assert_eq!(action, Action::Run(Vm::L2(VM)));
                assert_eq!(l1.l2_register(Register::Rip), CODE + 2);
            }
            Some(reason) => {
                assert_eq!(action, Action::Run(Vm::L1));
                assert_eq!(l1.l1_register(Register::Rax), reason);
                assert_eq!(l1.l1_register(Register::Rcx), 0x41);
                assert_eq!(l1.state(0x88), CODE + 2, "a trap");
            }
        }
    }
}

#[test]
fn an_interrupt_window_is_an_exit_as_soon_as_it_is_open() {
    let l1 = L1::with_l2(&[]);
    l1.set(VmcsField::PRIMARY_CONTROLS, 0xb122_0c8c);
    l1.start_l2();
    l1.model
        .with(|_, platform| platform.set_register(Vm::L2(VM), Register::Rflags, INTERRUPTS_ON));
    l1.exit(HardwareExit::InterruptWindow.into());
    assert_eq!(l1.l1_register(Register::Rax), 7);
    l1.set_state(0x80, INTERRUPTS_ON);
    assert_eq!(l1.enter().rax, 7, "open from the start");
}

#[test]
fn an_event_cut_short_by_the_hosts_exit_is_delivered_again() {
    let l1 = L1::with_l2(&[]);
    l1.start_l2();
    let vectoring = Some(Event::interrupt(0x41));
    let action = l1.exit(Exited {
        exit: HardwareExit::NestedPageFault {
            gpa: 1 << 47,
            write: false,
            fetch: false,
            page_walk: false,
        },
        vectoring,
    });
    assert!(matches!(action, Action::TdExit(_)));
    let action = l1
        .model
        .with(|module, platform| module.tdh_vp_enter(platform, Default::default()));
    assert_eq!(action, Action::Run(Vm::L2(VM)));
    assert_eq!(l1.injected(), vectoring);
}

#[test]
fn l1_has_to_deliver_again_what_it_is_told() {
    let l1 = L1::with_l2(&[0xf4]);
    l1.start_l2();
    l1.exit(Exited {
        exit: HardwareExit::Hlt,
        vectoring: Some(Event::exception(14, Some(6))),
    });
    assert_eq!(l1.l1_register(Register::R10), 0x0000_0006_8000_0b0e);
    l1.start_l2();
    assert_eq!(l1.injected(), None);
}
