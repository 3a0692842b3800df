//! Who owns the TPM, and what the others see (PTP 1.05, TPM_LOC_STATE_x, TPM_LOC_CTRL_x, TPM_LOC_STS_x).

use super::*;

fn status(guest: &mut Guest, locality: u32) -> u32 {
    guest.read32(locality, offset::LOC_STS)
}

/// SeaBIOS writes a byte, EDK2 looks at LOC_STS, Linux and FreeBSD at LOC_STATE.
#[test]
fn a_request_is_granted_in_the_same_write_of_any_width() {
    for locality in 0..4 {
        for bytes in [&[1][..], &[1, 0, 0, 0], &[1, 0, 0, 0, 0, 0, 0, 0]] {
            let mut guest = Guest::new();
            guest.write(locality, offset::LOC_CTRL, bytes);
            for page in 0..5 {
                let state = guest.read32(page, offset::LOC_STATE);
                assert_eq!(state, 0x83 | locality << 2);
                let granted = u32::from(page == locality);
                assert_eq!(status(&mut guest, page), granted);
            }
        }
    }
}

#[test]
fn a_second_request_changes_nothing() {
    let mut guest = Guest::ready();
    guest.control_locality(0, REQUEST);
    assert_eq!(status(&mut guest, 0), GRANTED);
    assert_eq!(guest.read32(0, offset::CTRL_STS) & IDLE, 0);
}

#[test]
fn relinquish_leaves_no_owner() {
    let mut guest = Guest::ready();
    guest.control_locality(0, RELINQUISH);
    assert_eq!(guest.read32(0, offset::LOC_STATE), 0x81);
    assert_eq!(status(&mut guest, 0), 0);
}

#[test]
fn reset_leaves_no_owner_and_an_idle_tpm() {
    let mut guest = Guest::ready();
    guest.write32(0, offset::CTRL_CANCEL, 1);
    guest.0.reset().unwrap();
    assert_eq!(guest.read32(0, offset::LOC_STATE), 0x81);
    assert_eq!(guest.read32(0, offset::CTRL_STS), IDLE);
    assert_eq!(guest.read32(0, offset::CTRL_CANCEL), 0);
    assert_eq!(guest.0.engine().resets, 1);
}

#[test]
fn a_request_of_an_owned_tpm_waits() {
    let mut guest = Guest::ready();
    guest.control_locality(1, REQUEST);
    assert_eq!(status(&mut guest, 1), 0);
    guest.control_locality(0, RELINQUISH);
    assert_eq!(status(&mut guest, 1), GRANTED);
    assert_eq!(guest.read32(0, offset::LOC_STATE), 0x87);
    // And can be withdrawn.
    guest.control_locality(0, REQUEST);
    guest.control_locality(0, RELINQUISH);
    guest.control_locality(1, RELINQUISH);
    assert_eq!(guest.read32(0, offset::LOC_STATE), 0x81);
}

#[test]
fn only_a_higher_locality_seizes() {
    for (owner, other, succeeds) in [
        (0, 1, true),
        (0, 3, true),
        (2, 3, true),
        (0, 0, false),
        (2, 1, false),
        (3, 3, false),
    ] {
        let mut guest = Guest::new();
        guest.control_locality(owner, REQUEST);
        guest.control_locality(other, SEIZE);
        if succeeds {
            assert_eq!(status(&mut guest, other), GRANTED, "{other} from {owner}");
            assert_eq!(status(&mut guest, owner), BEEN_SEIZED);
            // Until it asks again.
            guest.control_locality(owner, REQUEST);
            assert_eq!(status(&mut guest, owner), 0);
        } else {
            assert_eq!(status(&mut guest, owner), GRANTED, "{other} from {owner}");
        }
    }
}

#[test]
fn a_failed_seizure_gives_nothing_up() {
    let mut guest = Guest::ready();
    guest.control_locality(0, SEIZE | RELINQUISH);
    assert_eq!(status(&mut guest, 0), GRANTED);
}

#[test]
fn locality_4_is_read_only() {
    let mut guest = Guest::new();
    guest.control_locality(4, REQUEST);
    guest.control_locality(4, SEIZE);
    guest.write32(4, offset::INT_ENABLE, u32::MAX);
    assert_eq!(guest.read32(4, offset::LOC_STATE), 0x81);
    assert_eq!(guest.read32(4, offset::INT_ENABLE), 0);
}

#[test]
fn who_has_not_the_tpm_changes_nothing() {
    let mut guest = Guest::ready();
    guest.put(0, &message(&[7]));
    guest.put(1, &[0xAA; 20]);
    guest.write32(1, offset::CTRL_REQ, GO_IDLE);
    guest.write32(1, offset::CTRL_CANCEL, 1);
    guest.write32(1, offset::INT_ENABLE, u32::MAX);
    guest.start(1);
    assert!(guest.commands().is_empty());
    assert_eq!(guest.read32(0, offset::CTRL_STS), 0);
    assert_eq!(guest.read32(0, offset::CTRL_CANCEL), 0);
    assert_eq!(guest.read32(1, offset::INT_ENABLE), 0);
    assert_eq!(guest.take(0, 11), message(&[7]));
}

#[test]
fn who_has_not_the_tpm_reads_nothing_of_the_buffer() {
    let mut guest = Guest::ready();
    guest.put(0, &message(&[7]));
    guest.start(0);
    for locality in 1..5 {
        assert_eq!(guest.take(locality, SIZE), [0xFF; SIZE]);
    }
}

/// Neither a response, nor a command that was written and not started.
#[test]
fn another_locality_finds_nothing_of_the_one_before() {
    for starts in [false, true] {
        for seizes in [false, true] {
            let mut guest = Guest::ready();
            guest.put(0, &message(&[0x5A; 200]));
            guest.write(0, 0xFFF, &[0x5A]);
            if starts {
                guest.start(0);
            }
            if !seizes {
                guest.control_locality(0, RELINQUISH);
            }
            guest.control_locality(1, SEIZE);
            assert_eq!(guest.take(1, SIZE), [0; SIZE]);
        }
    }
}

/// A command that one locality wrote is not run for another.
#[test]
fn a_command_is_its_localitys() {
    let mut guest = Guest::ready();
    guest.put(0, &message(&[1]));
    guest.control_locality(2, SEIZE);
    guest.start(2);
    let [(locality, command)] = guest.commands() else {
        panic!("{:?}", guest.commands());
    };
    assert_eq!(
        (*locality, command.as_slice()),
        (Locality::Two, &[0; 10][..])
    );
}

#[test]
fn only_localities_3_and_4_reset_establishment() {
    for (locality, is_reset) in [(0, false), (2, false), (3, true), (4, false)] {
        let mut guest = Guest::new();
        guest.0.engine_mut().established = true;
        guest.0.reset().unwrap();
        assert_eq!(guest.read32(0, offset::LOC_STATE) & 1, 0);
        guest.control_locality(locality, 1 << 3);
        let bit = guest.read32(0, offset::LOC_STATE) & 1;
        assert_eq!(bit, u32::from(is_reset), "locality {locality}");
    }
}
