//! A command that takes longer than the access that set START (PTP 1.05, the CRB's state transitions, Execution).

use super::*;
use crate::Work;

const STARTED: u32 = 1;

/// A guest whose command has so many slices left.
fn executing(slices: usize) -> Guest {
    let mut guest = Guest::ready();
    guest.0.engine_mut().slices = slices;
    guest.put(0, &message(&[1, 2]));
    guest.start(0);
    guest
}

#[test]
fn start_stays_until_the_response_is_there() {
    let mut guest = executing(3);
    for _ in 0..2 {
        assert_eq!(guest.read32(0, offset::CTRL_START), STARTED);
        assert_eq!(guest.read32(0, offset::CTRL_STS), 0);
    }
    assert_eq!(guest.read32(0, offset::CTRL_START), 0);
    assert_eq!(guest.take(0, 22), message(&message(&[1, 2])));
}

#[test]
fn a_second_start_is_none_and_the_buffer_is_not_the_command() {
    let mut guest = executing(2);
    guest.put(0, &message(&[9; 40]));
    guest.start(0);
    guest.0.go_on(1);
    guest.0.go_on(1);
    assert_eq!(guest.commands(), [(Locality::Zero, message(&[1, 2]))]);
    assert_eq!(guest.take(0, 22), message(&message(&[1, 2])));
}

#[test]
fn cancel_reaches_it_and_its_response_comes() {
    let mut guest = executing(2);
    guest.write32(0, offset::CTRL_CANCEL, 1);
    assert_eq!(guest.0.engine().cancels, 1);
    guest.write32(0, offset::CTRL_CANCEL, 0);
    assert_eq!(guest.0.engine().cancels, 1);
    guest.0.go_on(1);
    guest.0.go_on(1);
    assert_eq!(guest.read32(0, offset::CTRL_START), 0);
    assert_eq!(guest.take(0, 22), message(&message(&[1, 2])));
}

#[test]
fn what_ends_it_leaves_nothing() {
    for end in [
        |guest: &mut Guest| guest.write32(0, offset::CTRL_REQ, GO_IDLE),
        |guest: &mut Guest| guest.write32(0, offset::CTRL_REQ, COMMAND_READY),
        |guest: &mut Guest| guest.control_locality(0, RELINQUISH),
        |guest: &mut Guest| guest.control_locality(1, SEIZE),
        |guest: &mut Guest| guest.0.reset().unwrap(),
    ] {
        let mut guest = executing(4);
        end(&mut guest);
        assert_eq!(guest.0.engine().abandons, 1);
        assert_eq!(guest.0.has_work(), Work::None);
        for locality in 0..2 {
            assert_eq!(guest.read32(locality, offset::CTRL_START), 0);
        }
        guest.control_locality(1, RELINQUISH);
        guest.control_locality(0, REQUEST);
        assert_eq!(guest.take(0, 22), [0; 22]);
        assert!(guest.commands().is_empty());
        guest.0.engine_mut().slices = 0;
        guest.put(0, &message(&[]));
        guest.start(0);
        assert_eq!(guest.take(0, 20), message(&message(&[])));
    }
}
