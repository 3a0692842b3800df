//! Who owns the TPM, and what the others see (PTP 1.05, "Locality", TPM_ACCESS_x).

use super::*;

#[test]
fn request_of_an_idle_tpm_is_granted_in_the_same_write() {
    for locality in 0..4 {
        let mut guest = Guest::new();
        guest.set_access(locality, REQUEST_USE);
        assert_eq!(guest.access(locality), 0xa1);
    }
}

#[test]
fn request_by_the_owner_changes_nothing() {
    let mut guest = Guest::ready();
    guest.set_access(0, REQUEST_USE);
    assert_eq!(guest.access(0), 0xa1);
    assert_eq!(guest.sts(0), READY);
}

#[test]
fn relinquish_leaves_no_owner() {
    // As Linux writes it, and FreeBSD, which writes back what it read.
    for value in [ACTIVE, 0xa1] {
        let mut guest = Guest::ready();
        guest.set_access(0, value);
        assert_eq!(guest.access(0), 0x81);
        assert_eq!(guest.read32(0, offset::STS), u32::MAX);
    }
}

#[test]
fn relinquish_by_others_than_the_owner_breaks_nothing() {
    let mut guest = Guest::new();
    for locality in (0..5).rev() {
        guest.set_access(locality, ACTIVE);
    }
    guest.set_access(0, REQUEST_USE);
    assert_eq!(guest.access(0), 0xa1);
    for locality in (1..5).rev() {
        guest.set_access(locality, ACTIVE);
    }
    assert_eq!(guest.access(0), 0xa1);
}

#[test]
fn request_of_an_owned_tpm_waits_and_the_owner_sees_it() {
    let mut guest = Guest::ready();
    guest.set_access(1, REQUEST_USE);
    assert_eq!(guest.access(0), 0xa5);
    assert_eq!(guest.access(1), 0x83);
    assert_eq!(guest.access(2), 0x85);
    guest.set_access(0, ACTIVE);
    assert_eq!(guest.access(1), 0xa1);
    assert_eq!(guest.access(0), 0x81);
}

#[test]
fn a_request_can_be_withdrawn() {
    let mut guest = Guest::ready();
    guest.set_access(1, REQUEST_USE);
    guest.set_access(1, ACTIVE);
    assert_eq!(guest.access(0), 0xa1);
    guest.set_access(0, ACTIVE);
    assert_eq!(guest.access(1), 0x81);
}

#[test]
fn the_highest_waiting_locality_is_next() {
    let mut guest = Guest::ready();
    for locality in [1, 3, 2] {
        guest.set_access(locality, REQUEST_USE);
    }
    for (owner, next) in [(0, 3), (3, 2), (2, 1)] {
        guest.set_access(owner, ACTIVE);
        assert_eq!(guest.access(next) & 0x22, ACTIVE);
    }
}

/// Active locality, seizing locality, whether it succeeds.
const SEIZURES: [(u32, u32, bool); 10] = [
    (0, 1, true),
    (0, 2, true),
    (0, 3, true),
    (1, 2, true),
    (2, 3, true),
    (0, 0, false),
    (1, 0, false),
    (2, 0, false),
    (3, 2, false),
    (2, 2, false),
];

#[test]
fn only_a_higher_locality_seizes() {
    for (owner, other, succeeds) in SEIZURES {
        let mut guest = Guest::new();
        guest.set_access(owner, REQUEST_USE);
        guest.set_sts(owner, READY);
        guest.set_access(other, SEIZE);
        assert_eq!(guest.access(other) & SEIZE, 0, "bit 3 never reads 1");
        if succeeds {
            assert_eq!(guest.access(other), 0xa1, "{other} from {owner}");
            assert_eq!(guest.access(owner), 0x81 | BEEN_SEIZED);
            assert_eq!(guest.sts(other), 0, "idle: commandReady is needed");
            assert_eq!(guest.sts(owner), 0xff);
            guest.set_access(owner, BEEN_SEIZED);
            assert_eq!(guest.access(owner), 0x81);
        } else {
            assert_eq!(guest.access(owner), 0xa1, "{other} from {owner}");
            assert_eq!(guest.sts(owner), READY);
        }
    }
}

#[test]
fn seizing_an_unowned_tpm_is_a_grant() {
    let mut guest = Guest::new();
    guest.set_access(1, SEIZE);
    assert_eq!(guest.access(1), 0xa1);
    for locality in [0, 2, 3] {
        assert_eq!(guest.access(locality), 0x81);
    }
}

#[test]
fn a_seizure_masks_request_and_release_of_its_write() {
    let mut guest = Guest::new();
    guest.set_access(2, REQUEST_USE);
    guest.set_access(1, SEIZE | REQUEST_USE);
    assert_eq!(guest.access(1), 0x81, "neither seized nor requested");
    guest.set_access(2, SEIZE | ACTIVE);
    assert_eq!(guest.access(2), 0xa1, "not given up");
    guest.set_access(3, SEIZE | REQUEST_USE | ACTIVE);
    assert_eq!(guest.access(3), 0xa1);
    assert_eq!(guest.access(2), 0x81 | BEEN_SEIZED);
}

#[test]
fn a_locality_that_was_seized_can_wait_for_its_turn() {
    let mut guest = Guest::ready();
    guest.set_access(2, SEIZE);
    guest.set_access(0, BEEN_SEIZED | REQUEST_USE);
    assert_eq!(guest.access(0), 0x83);
    assert_eq!(guest.access(2), 0xa5);
    guest.set_access(2, ACTIVE);
    assert_eq!(guest.access(0), 0xa1);
}

#[test]
fn locality_4_belongs_to_the_platform() {
    let mut guest = Guest::new();
    for register in (0..PAGE).step_by(4) {
        guest.write32(4, register, u32::MAX);
        guest.write(4, register, &[REQUEST_USE]);
    }
    for locality in 0..5 {
        assert_eq!(guest.access(locality), 0x81);
    }
    assert_eq!(guest.read32(0, offset::INTERFACE_ID), 0x2100);
    assert_eq!(guest.read8(0, offset::INT_VECTOR), 0);
    assert!(guest.commands().is_empty());
    guest.set_access(4, SEIZE);
    assert_eq!(guest.access(4), 0x81);
}

#[test]
fn others_than_the_owner_neither_read_nor_change_anything() {
    let (mut guest, response) = Guest::answered();
    for locality in 1..5 {
        assert_eq!(guest.read32(locality, offset::STS), u32::MAX);
        assert_eq!(guest.read32(locality, offset::DATA_FIFO), u32::MAX);
        assert_eq!(guest.read8(locality, offset::XDATA_FIFO), 0xff);
        guest.set_sts(locality, READY);
        guest.set_sts(locality, RETRY);
        guest.send(locality, &[1, 2, 3]);
        guest.write32(locality, offset::INT_ENABLE, u32::MAX);
        assert_eq!(guest.read32(locality, offset::INT_ENABLE), 8);
        guest.write(locality, offset::INT_VECTOR, &[7]);
        assert_eq!(guest.read8(locality, offset::INT_VECTOR), 0);
    }
    assert_eq!(guest.receive(0, response.len()), response);
}

#[test]
fn others_than_the_owner_add_nothing_to_its_command() {
    let mut guest = Guest::ready();
    let command = message(&[1, 2, 3]);
    let (begin, end) = command.split_at(5);
    guest.send(0, begin);
    for locality in 1..5 {
        guest.send(locality, &[0xff; 20]);
        guest.write(locality, offset::XDATA_FIFO, &[0xff; 4]);
    }
    guest.send(0, end);
    guest.set_sts(0, GO);
    assert_eq!(guest.commands(), [(Locality::Zero, command)]);
}

#[test]
fn reset_leaves_no_owner_no_request_and_no_response() {
    let (mut guest, _) = Guest::answered();
    guest.set_access(1, REQUEST_USE);
    guest.write32(0, offset::INT_ENABLE, u32::MAX);
    guest.0.reset().unwrap();
    assert_eq!(guest.0.engine().resets, 1);
    for locality in 0..5 {
        assert_eq!(guest.access(locality), 0x81);
        assert_eq!(guest.read32(locality, offset::INT_ENABLE), 8);
    }
    guest.set_access(0, REQUEST_USE);
    assert_eq!(guest.sts(0), 0);
    guest.set_sts(0, RETRY);
    assert_eq!(guest.read8(0, offset::DATA_FIFO), 0xff);
}

/// EDK2 never gives locality 0 up; Linux takes it as its own.
#[test]
fn an_owner_before_is_the_owner_after() {
    let (mut guest, _) = Guest::answered();
    guest.set_sts(0, READY);
    assert_eq!(guest.access(0) & 0xa2, 0xa0);
    assert_eq!(guest.sts(0) & READY, READY);
}

#[test]
fn readiness_survives_giving_the_tpm_up() {
    let mut guest = Guest::ready();
    guest.set_access(0, ACTIVE);
    guest.set_access(0, REQUEST_USE);
    assert_eq!(guest.sts(0), READY);
    // Also in one write.
    guest.set_access(0, ACTIVE | REQUEST_USE);
    assert_eq!((guest.access(0), guest.sts(0)), (0xa1, READY));
    // But not another locality's turn at it.
    guest.set_access(0, ACTIVE);
    guest.set_access(1, REQUEST_USE);
    assert_eq!(guest.sts(1), 0);
}

#[test]
fn a_command_under_way_does_not_survive_it() {
    let mut guest = Guest::ready();
    guest.send(0, &message(&[])[..9]);
    guest.set_access(0, ACTIVE);
    guest.set_access(0, REQUEST_USE);
    assert_eq!(guest.sts(0), 0);
    guest.send(0, &[0]);
    guest.set_sts(0, GO);
    assert!(guest.commands().is_empty());
}

#[test]
fn a_response_is_gone_with_its_locality() {
    type Leave = fn(&mut Guest);
    let ways: [Leave; 3] = [
        |guest| guest.set_access(0, ACTIVE),
        |guest| {
            guest.set_access(1, REQUEST_USE);
            guest.set_access(0, ACTIVE);
            guest.set_sts(1, READY);
            guest.send(1, &message(&[9; 40]));
            guest.set_sts(1, GO);
            guest.set_access(1, ACTIVE);
        },
        |guest| {
            guest.set_access(2, SEIZE);
            guest.set_access(2, ACTIVE);
        },
    ];
    for leave in ways {
        let (mut guest, _) = Guest::answered();
        guest.receive(0, 3);
        leave(&mut guest);
        guest.set_access(0, REQUEST_USE);
        guest.set_sts(0, RETRY);
        assert_eq!(guest.sts(0) & DATA_AVAIL, 0);
        assert_eq!(guest.read32(0, offset::DATA_FIFO), u32::MAX);
    }
}

#[test]
fn a_new_owner_cannot_reread_the_former_ones_response() {
    for take in [SEIZE, REQUEST_USE] {
        let (mut guest, _) = Guest::answered();
        guest.set_access(1, take);
        guest.set_access(0, ACTIVE);
        assert_eq!(guest.access(1) & ACTIVE, ACTIVE);
        guest.set_sts(1, RETRY);
        assert_eq!(guest.sts(1), 0);
        assert_eq!(guest.receive(1, 30), [0xff; 30]);
    }
}
