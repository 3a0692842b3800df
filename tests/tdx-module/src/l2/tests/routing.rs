//! Exits that L1 shares with the module and the host.

use super::{CODE, L1, TSC_DEADLINE_MSR};
use crate::Module;
use crate::platform::{Event, HardwareExit, Platform, Register};
use crate::test_platform::TestPlatform;

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

#[test]
fn the_host_routes_an_exit_to_l1() {
    let l1 = L1::with_l2(&[]);
    l1.model.set_host(|_, _, _| crate::VpEnterInput {
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

#[test]
fn a_posted_interrupt_for_l1_ends_the_run_of_l2() {
    let l1 = L1::with_l2(&[]);
    l1.model
        .set_host(|module: &mut Module, _: &mut TestPlatform, _| {
            module.post_interrupt(0xe1);
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
