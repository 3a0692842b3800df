//! A command that takes longer than the access that set tpmGo (PTP 1.05, the FIFO's state transitions, Execution).

use super::*;
use crate::Work;

/// A guest whose command of 12 bytes has so many slices left.
fn executing(slices: usize) -> Guest {
    let mut guest = Guest::ready();
    guest.0.engine_mut().slices = slices;
    guest.send(0, &message(&[1, 2]));
    guest.set_sts(0, GO);
    guest
}

#[test]
fn status_is_clear_until_the_response_is_there() {
    let mut guest = executing(3);
    assert_eq!(guest.0.has_work(), Work::Command);
    for _ in 0..2 {
        // As a Winbond's driver has it, 0x80 and 0xC0 are a command that was canceled; as the others', 0x40.
        assert_eq!(guest.sts(0), 0);
    }
    assert_eq!(guest.sts(0), VALID | DATA_AVAIL);
    assert_eq!(guest.0.has_work(), Work::None);
    assert_eq!(guest.receive(0, 22), message(&message(&[1, 2])));
}

#[test]
fn it_goes_on_without_a_poll() {
    let mut guest = executing(2);
    guest.0.go_on(1);
    guest.0.go_on(1);
    assert_eq!(guest.0.engine().commands.len(), 1);
    guest.0.go_on(1);
    assert_eq!(guest.sts(0), VALID | DATA_AVAIL);
}

/// Other registers and localities ask nothing.
#[test]
fn only_the_status_of_who_has_the_tpm_is_a_poll() {
    let mut guest = executing(2);
    for locality in 0..5 {
        guest.access(locality);
        guest.read32(locality, offset::INT_STATUS);
        guest.read8(locality, offset::DATA_FIFO);
    }
    for locality in 1..5 {
        guest.sts(locality);
    }
    let running = guest.0.engine().running.as_ref();
    assert_eq!(running.map(|(_, _, left)| *left), Some(2));
}

#[test]
fn what_is_written_meanwhile_is_dropped() {
    let mut guest = executing(4);
    guest.send(0, &[0xEE; 20]);
    guest.set_sts(0, GO);
    guest.set_sts(0, RETRY);
    assert_eq!(guest.read8(0, offset::DATA_FIFO), 0xff);
    while guest.sts(0) == 0 {}
    assert_eq!(guest.receive(0, 22), message(&message(&[1, 2])));
}

#[test]
fn command_ready_abandons_it() {
    let mut guest = executing(4);
    guest.set_sts(0, READY);
    assert_eq!(guest.sts(0), READY);
    assert_eq!(guest.0.engine().abandons, 1);
    guest.0.engine_mut().slices = 0;
    guest.send(0, &message(&[]));
    guest.set_sts(0, GO);
    assert_eq!(guest.receive(0, 20), message(&message(&[])));
}

#[test]
fn cancel_reaches_it_and_its_response_comes() {
    let mut guest = executing(2);
    guest.write32(0, offset::STS, CANCEL);
    assert_eq!(guest.0.engine().cancels, 1);
    assert_eq!(guest.0.engine().abandons, 0);
    guest.0.go_on(1);
    guest.0.go_on(1);
    assert_eq!(guest.sts(0), VALID | DATA_AVAIL);
    guest.write32(0, offset::STS, CANCEL);
    assert_eq!(guest.0.engine().cancels, 1);
}

#[test]
fn who_loses_or_gives_up_the_tpm_loses_it() {
    for take in [
        |guest: &mut Guest| guest.set_access(1, SEIZE),
        |guest: &mut Guest| guest.set_access(0, ACTIVE),
    ] {
        let mut guest = executing(4);
        take(&mut guest);
        assert_eq!(guest.0.engine().abandons, 1);
        guest.set_access(0, ACTIVE);
        guest.set_access(1, ACTIVE);
        guest.set_access(0, REQUEST_USE);
        assert_eq!(guest.sts(0) & (DATA_AVAIL | VALID), 0);
        assert!(guest.0.engine().commands.is_empty());
    }
}

#[test]
fn a_reset_lets_nothing_through() {
    let mut guest = executing(4);
    guest.0.reset().unwrap();
    assert_eq!(guest.0.engine().abandons, 1);
    assert_eq!(guest.0.has_work(), Work::None);
    guest.set_access(0, REQUEST_USE);
    assert_eq!(guest.sts(0), 0);
}
