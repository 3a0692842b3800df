//! Requests and what is done, resets between them, and ends.

use super::*;

#[test]
fn a_request_is_copied_out_and_its_answer_in() {
    for features in [0, EVENT_IDX | INDIRECT | FEATURE] {
        let mut machine = Machine::running(features);
        assert_eq!(machine.behind.0.borrow().starts, [features & FEATURE]);
        machine.request(1, 3);
        assert!(machine.submitted().is_empty());
        machine.notify(1);
        let requests = machine.behind.0.borrow().requests.clone();
        let ticket = Ticket { queue: 1, head: 6 };
        assert_eq!(requests, [(ticket, vec![3; 16], 32)]);
        assert_eq!(
            (machine.vectors(), machine.queues[1].done()),
            (vec![], None)
        );
        machine.answer(1, 6, b"all that was asked for");
        machine.serve();
        assert_eq!(machine.queues[1].done(), Some((6, 22)));
        assert_eq!(machine.guest.get(0x4_0380, 23), b"all that was asked for\0");
        assert_eq!(machine.vectors(), [0x42]);
        assert_eq!(machine.read(0x1000, 1), 1, "interrupt status");
        assert_eq!(machine.read(0x1000, 1), 0, "which reading clears");
        assert_eq!(machine.function.device().traffic().requests, 1);
    }
}

#[test]
fn what_is_done_at_once_is_told_in_the_same_exit() {
    let mut machine = Machine::running(0);
    machine.behind.0.borrow_mut().at_once = Some(vec![7; 5]);
    machine.request(0, 0);
    machine.request(0, 1);
    machine.notify(0);
    assert_eq!(machine.behind.0.borrow().flushes, 1, "one for both");
    for head in [0, 2] {
        assert_eq!(machine.queues[0].done(), Some((head, 5)));
    }
    assert_eq!(machine.vectors(), [0x41], "one interrupt for both");
}

#[test]
fn requests_that_are_there_before_the_driver_is_ready_are_taken() {
    let mut machine = Machine::new();
    machine.request(0, 0);
    machine.set_up(0);
    assert_eq!(machine.submitted(), [0]);
}

#[test]
fn without_room_nothing_more_is_taken_until_something_is_done() {
    let mut machine = Machine::running(EVENT_IDX);
    machine.behind.0.borrow_mut().room = 2;
    for number in 0..6 {
        machine.request(0, number);
    }
    machine.notify(0);
    assert_eq!(machine.submitted(), [0, 2]);
    let event = machine.queues[0].available_event();
    assert_eq!(
        event, 2,
        "far from being passed: the third is taken and waits"
    );
    for (head, room, submitted) in [(2, 1, 3), (0, 2, 5), (8, 9, 6)] {
        machine.behind.0.borrow_mut().room = room;
        machine.answer(0, head, b"");
        machine.serve();
        assert_eq!(machine.submitted().len(), submitted);
    }
    assert_eq!(
        machine.submitted(),
        [0, 2, 4, 6, 8, 10],
        "in order, none lost, none twice"
    );
    assert_eq!(
        machine.queues[0].available_event(),
        6,
        "notifications are asked for again"
    );
    assert_eq!(machine.status(), 15);
}

#[test]
fn a_reset_forgets_everything_at_once() {
    let mut machine = Machine::running(0);
    for number in 0..3 {
        machine.request(0, number);
    }
    machine.behind.0.borrow_mut().room = 2;
    machine.notify(0);
    machine.guest.writes.borrow_mut().clear();
    machine.write(0x14, &[0]);
    assert_eq!((machine.status(), machine.behind.0.borrow().resets), (0, 1));
    machine.behind.0.borrow_mut().room = 9;
    // A backend that tells of it all the same.
    machine.answer(0, 0, b"late");
    machine.serve();
    machine.notify(0);
    assert!(
        machine.guest.writes.borrow().is_empty(),
        "nothing is written any more"
    );
    machine.behind.0.borrow_mut().done.clear();
    for (offset, width, value) in [
        (0x10, 2, 0xFFFF),
        (0x1A, 2, 0xFFFF),
        (0x1C, 2, 0),
        (0xC, 4, 0),
        (0x20, 8, 0),
    ] {
        assert_eq!(machine.read(offset, width), value, "{offset:#x}");
    }
    machine.clear();
    machine.set_up(0);
    machine.request(0, 1);
    machine.notify(0);
    assert_eq!(
        machine.submitted(),
        [2],
        "the next life begins with its own"
    );
}

#[test]
fn a_broken_queue_needs_a_reset_and_writes_nothing_more() {
    let mut machine = Machine::running(0);
    machine.request(1, 0);
    machine.notify(1);
    let driver = &mut machine.queues[0];
    driver.describe(0, L1_START, 16, 0, 0);
    driver.offer(0);
    machine.guest.writes.borrow_mut().clear();
    machine.notify(0);
    assert_eq!(machine.status(), 15 | NEEDS_RESET);
    assert_eq!(
        machine.vectors(),
        [0x40],
        "told by the configuration's interrupt"
    );
    assert_eq!(machine.behind.0.borrow().resets, 1);
    machine.answer(1, 0, b"late");
    machine.request(1, 1);
    machine.notify(1);
    assert_eq!(machine.submitted(), [0]);
    let written: Vec<_> = machine.guest.writes.borrow().clone();
    assert!(written.is_empty(), "{written:x?}");
    machine.write(0x14, &[15]);
    assert_eq!(
        machine.status(),
        15 | NEEDS_RESET,
        "it stays until the reset"
    );
    machine.clear();
    machine.set_up(0);
    assert_eq!(machine.status() & NEEDS_RESET, 0);
}

#[test]
fn a_queue_in_l1s_memory_is_found_when_it_is_used_first() {
    let mut machine = Machine::new();
    machine.queues[1].places.used = L1_START;
    machine.set_up(0);
    assert_eq!(machine.status(), 15 | NEEDS_RESET);
    assert!(
        machine
            .guest
            .writes
            .borrow()
            .iter()
            .all(|(gpa, _)| *gpa < 0x2_0000)
    );
}

#[test]
fn a_backend_that_is_lost_or_lies_needs_a_reset() {
    let lies: [fn(&mut Machine); 3] = [
        |machine| machine.behind.0.borrow_mut().lost = true,
        |machine| machine.answer(0, 2, b"of none"),
        |machine| machine.answer(9, 0, b"of no queue"),
    ];
    for lie in lies {
        let mut machine = Machine::running(0);
        machine.request(0, 0);
        machine.notify(0);
        lie(&mut machine);
        machine.serve();
        assert_eq!(machine.status(), 15 | NEEDS_RESET);
        assert_eq!(machine.queues[0].done(), None);
    }
    let mut machine = Machine::running(0);
    machine.request(0, 0);
    machine.notify(0);
    machine.answer(0, 0, b"once");
    machine.answer(0, 0, b"twice");
    machine.serve();
    assert_eq!(machine.status(), 15 | NEEDS_RESET);
}

#[test]
fn l2_gets_no_more_bytes_than_it_has_room_for() {
    let mut machine = Machine::running(0);
    machine.request(0, 0);
    machine.notify(0);
    machine.behind.0.borrow_mut().says = Some(u32::MAX);
    machine.answer(0, 0, &[0xEE; 100]);
    machine.serve();
    assert_eq!(machine.queues[0].done(), Some((0, 32)));
    assert_eq!(machine.guest.get(0x4_0080, 32), [0xEE; 32]);
    assert_eq!(machine.guest.get(0x4_00A0, 68), [0; 68]);
}
