//! A command's way through the buffer (PTP 1.05, TPM_CRB_CTRL_REQ_x to TPM_CRB_CTRL_START_x, state transitions).

use super::*;

#[test]
fn ready_and_idle_are_there_in_the_same_write() {
    let mut guest = Guest::granted();
    assert_eq!(guest.read32(0, offset::CTRL_STS), IDLE);
    guest.write32(0, offset::CTRL_REQ, COMMAND_READY);
    assert_eq!(guest.read32(0, offset::CTRL_STS), 0);
    guest.write32(0, offset::CTRL_REQ, COMMAND_READY);
    assert_eq!(guest.read32(0, offset::CTRL_STS), 0);
    guest.write32(0, offset::CTRL_REQ, GO_IDLE | COMMAND_READY);
    assert_eq!(guest.read32(0, offset::CTRL_STS), 0, "both: neither");
    guest.write32(0, offset::CTRL_REQ, GO_IDLE);
    assert_eq!(guest.read32(0, offset::CTRL_STS), IDLE);
}

#[test]
fn a_command_behind_the_registers_is_answered_there() {
    let mut guest = Guest::ready();
    let command = message(&[1, 2, 3]);
    guest.put(0, &command);
    guest.start(0);
    assert_eq!(guest.read32(0, offset::CTRL_START), 0, "all 32 bits");
    assert_eq!(guest.commands(), [(Locality::Zero, command.clone())]);
    assert_eq!(guest.take(0, 23), message(&command));
}

#[test]
fn a_command_in_the_guests_pages_is_answered_there() {
    let (mut guest, pages) = Guest::with_pages();
    let command = message(&[4, 5]);
    pages.set(0, &command);
    guest.start(0);
    assert_eq!(guest.commands(), [(Locality::Zero, command.clone())]);
    assert_eq!(pages.get(22), message(&command));
    // EDK2 does not look at the address.
    assert_eq!(guest.take(0, 22), message(&command));
}

/// EDK2 again: what is written behind the registers is in the pages, too.
#[test]
fn pages_and_registers_show_one_buffer() {
    let (mut guest, pages) = Guest::with_pages();
    guest.put(0, &message(&[9]));
    assert_eq!(pages.get(11), message(&[9]));
    pages.set(10, &[8]);
    assert_eq!(guest.take(0, 11), message(&[8]));
}

/// SeaBIOS's first command.
#[test]
fn an_idle_tpm_takes_a_command() {
    let mut guest = Guest::granted();
    guest.put(0, &message(&[]));
    guest.start(0);
    assert_eq!(guest.commands().len(), 1);
}

/// Linux holds the TPM over many commands.
#[test]
fn the_next_command_needs_no_request() {
    let mut guest = Guest::ready();
    for round in 0..3 {
        let command = message(&[round]);
        guest.put(0, &command);
        guest.start(0);
        assert_eq!(guest.take(0, 21), message(&command));
    }
    assert_eq!(guest.commands().len(), 3);
}

#[test]
fn nothing_is_executed_without_a_locality() {
    let mut guest = Guest::new();
    guest.put(0, &message(&[]));
    guest.start(0);
    assert_eq!(guest.read32(0, offset::CTRL_START), 0);
    assert!(guest.commands().is_empty());
}

#[test]
fn start_is_one_bit() {
    let mut guest = Guest::ready();
    guest.put(0, &message(&[]));
    for value in [0, 2, 0xFFFF_FFFE] {
        guest.write32(0, offset::CTRL_START, value);
    }
    guest.write(0, offset::CTRL_START + 1, &[1]);
    assert!(guest.commands().is_empty());
    guest.write32(0, offset::CTRL_START, u32::MAX);
    assert_eq!(guest.commands().len(), 1);
}

#[test]
fn cancel_outside_a_command_cancels_nothing() {
    let mut guest = Guest::ready();
    guest.write32(0, offset::CTRL_CANCEL, 1);
    assert_eq!(guest.read32(0, offset::CTRL_CANCEL), 1);
    guest.write32(0, offset::CTRL_CANCEL, 0);
    assert_eq!(guest.read32(0, offset::CTRL_CANCEL), 0);
    let command = message(&[1]);
    guest.put(0, &command);
    guest.start(0);
    assert_eq!(guest.take(0, 21), message(&command));
}

/// The bytes after a command are not the engine's, which would take them for a part of it.
#[test]
fn what_is_behind_a_command_is_not_passed_on() {
    let (mut guest, pages) = Guest::with_pages();
    pages.set(0, &[0xEE; SIZE]);
    let command = message(&[1]);
    pages.set(0, &command);
    guest.start(0);
    assert_eq!(guest.commands(), [(Locality::Zero, command)]);
}

#[test]
fn nothing_of_a_longer_message_is_behind_a_response() {
    let mut guest = Guest::ready();
    let long = message(&[0x5A; 300]);
    guest.put(0, &long);
    guest.start(0);
    guest.0.engine_mut().answer = Some(Ok((message(&[]), 10)));
    guest.put(0, &message(&[0xA5; 40]));
    guest.start(0);
    assert_eq!(guest.take(0, 10), message(&[]));
    assert_eq!(guest.take(0, SIZE)[10..], [0; SIZE - 10]);
}

#[test]
fn an_idle_tpm_has_nothing_of_the_response() {
    let mut guest = Guest::ready();
    guest.put(0, &message(&[0x5A; 300]));
    guest.start(0);
    guest.write32(0, offset::CTRL_REQ, GO_IDLE);
    assert_eq!(guest.take(0, SIZE), [0; SIZE]);
    assert_eq!(guest.read32(0, offset::CTRL_START), 0);
}

#[test]
fn a_response_is_whole_when_its_locality_comes_back_for_more() {
    let mut guest = Guest::ready();
    guest.put(0, &message(&[0x5A]));
    guest.start(0);
    guest.control_locality(0, RELINQUISH);
    guest.control_locality(0, REQUEST);
    assert_eq!(guest.take(0, 30), [0; 30], "it was given up");
}
