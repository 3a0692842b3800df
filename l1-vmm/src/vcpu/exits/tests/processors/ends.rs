//! Halts, and the end of the run.

use super::*;

#[test]
fn the_end_on_one_stops_the_others() {
    let mut two = Processors::started(2);
    assert!(two.mailbox(1).depart());
    // Nobody stops: the host holds the other back.
    assert_eq!(two.conclude(0, End::PowerOff), Some(End::PowerOff));
    assert!(two.host_msrs().contains(&kick(1)));
    two.mailbox(1).arrive();
    let stopped = two.step(1);
    assert_eq!(stopped, Err(End::Stopped));
    assert_eq!(two.conclude(1, End::Stopped), None);
    // Two ends at once: the first counts.
    assert_eq!(two.conclude(1, End::Reset), None);
}

/// One that kicked another and stopped does not kick it again: who ends the run does.
#[test]
fn the_end_reaches_one_that_another_had_undertaken_to_kick() {
    let mut three = Processors::started(3);
    assert!(three.mailbox(2).depart());
    three.command(1, 2 << 32 | 0x41);
    assert_eq!(three.host_msrs(), [kick(2)], "and the host loses it");
    assert_eq!(three.conclude(0, End::PowerOff), Some(End::PowerOff));
    assert!(three.host_msrs().contains(&kick(2)));
}

/// What the host has held back until the TPM was reset finds no TPM any more.
#[test]
fn nobody_reaches_the_tpm_once_the_run_has_ended() {
    let mut two = Processors::started(2);
    assert_eq!(two.conclude(1, End::Reset), Some(End::Reset));
    two.surroundings.machine.reset();
    assert_eq!(two.seen[0].borrow().tpm_resets, 1);
    assert!(two.mailbox(0).take().unwrap().stop, "as if it came later");
    let registers = [
        (Register::Rip, two.code(0, LOAD)),
        (Register::Rbx, TPM + 0xF00),
    ];
    let fault = HardwareExit::NestedPageFault {
        gpa: TPM + 0xF00,
        write: false,
        fetch: false,
        page_walk: false,
    };
    two.run(0, &registers, fault).unwrap();
    assert_eq!(two.seen[0].borrow().tpm, []);
}

const OFF: u64 = 2;

#[test]
fn all_of_them_halted_without_interrupts_is_the_end() {
    let mut two = Processors::started(2);
    // The second sleeps in the host until the first has halted too.
    let first = Rc::new(RefCell::new(None));
    let into = Rc::clone(&first);
    let machine = Arc::clone(&two.surroundings.machine);
    two.when_halted(1, move || {
        *into.borrow_mut() = Some(machine.ending.falls_asleep(&machine.peers));
        machine.ending.wakes();
        let _ = machine.peers.mailbox(1).unwrap().post_stop();
    });
    assert_eq!(two.halt(1, OFF), Err(End::Stopped));
    assert_eq!(first.take(), Some(true));
    // It has woken up, so the first sleeps on.
    let machine = Arc::clone(&two.surroundings.machine);
    two.when_halted(0, move || {
        let _ = machine.peers.mailbox(0).unwrap().post_nmi();
    });
    assert_eq!(two.halt(0, OFF), Ok(()));
    assert_eq!(two.seen[0].borrow().halts, 1);
}

#[test]
fn one_halted_without_interrupts_is_parked_and_an_nmi_wakes_it() {
    let mut two = Processors::started(2);
    let machine = Arc::clone(&two.surroundings.machine);
    // A vector does not.
    let first = Arc::clone(&machine);
    two.when_halted(1, move || {
        let _ = first.peers.mailbox(1).unwrap().post_vector(0x41, false);
    });
    two.when_halted(1, move || {
        let _ = machine.peers.mailbox(1).unwrap().post_nmi();
    });
    assert_eq!(two.halt(1, OFF), Ok(()));
    assert_eq!(two.seen[1].borrow().halts, 2);
    assert!(two.l2[1].vcpu.apic.nmi_pending());
    assert_eq!(two.l2[1].vcpu.apic.status().rvi, 0x41);
}

/// In the handler of an NMI, the next one waits for IRET, and does not end a HLT.
#[test]
fn an_nmi_that_is_blocked_ends_no_halt() {
    let mut two = Processors::started(2);
    let machine = Arc::clone(&two.surroundings.machine);
    let first = Arc::clone(&machine);
    two.when_halted(1, move || {
        let _ = first.peers.mailbox(1).unwrap().post_nmi();
    });
    two.when_halted(1, move || {
        let _ = machine.peers.mailbox(1).unwrap().post_init();
    });
    two.at(1).vcpu.vmcs.block_nmi().unwrap();
    assert_eq!(two.halt(1, OFF), Ok(()));
    assert_eq!(two.seen[1].borrow().halts, 2);
    assert!(matches!(
        two.l2[1].vcpu.activity,
        Activity::WaitsForStartUp { .. }
    ));
}
