//! Dynamic launches: the platform at locality 4.

use super::*;

impl Guest {
    fn platform(&mut self, register: u32, bytes: &[u8]) {
        self.0.write_as_platform(4 * PAGE + register, bytes);
    }
}

#[test]
fn platform_launches_by_start_data_end() {
    let mut guest = Guest::new();
    guest.platform(offset::HASH_START, &[0]);
    assert_eq!(guest.access(4), 0xa0, "active, and established");
    assert_eq!(guest.access(0), 0x80);
    guest.platform(offset::DATA_FIFO, b"laun");
    guest.platform(offset::DATA_FIFO, b"c");
    guest.platform(offset::DATA_FIFO, b"h");
    guest.platform(offset::HASH_END, &[0]);
    assert_eq!(guest.access(4), 0x80, "given up");
    assert_eq!(guest.0.engine().launch, Some((b"launch".to_vec(), true)));
}

#[test]
fn a_launch_needs_the_tpm_free() {
    let mut guest = Guest::ready();
    guest.platform(offset::HASH_START, &[0]);
    guest.platform(offset::DATA_FIFO, b"code");
    guest.platform(offset::HASH_END, &[0]);
    assert!(guest.0.engine().launch.is_none());
    assert_eq!(guest.access(0), 0xa1);
}

#[test]
fn data_and_end_without_start_are_ignored() {
    let mut guest = Guest::new();
    guest.platform(offset::DATA_FIFO, b"code");
    guest.platform(offset::HASH_END, &[0]);
    assert!(guest.0.engine().launch.is_none());
    assert_eq!(guest.access(4), 0x81);
}

/// TPM_HASH_START is the platform's at locality 4: neither a guest's, nor at another locality.
#[test]
fn a_launch_starts_at_locality_4_of_the_platform_only() {
    let mut guest = Guest::new();
    for locality in 0..5 {
        guest.write(locality, offset::HASH_START, &[0]);
        guest
            .0
            .write_as_platform((locality % 4) * PAGE + offset::HASH_START, &[0]);
        guest.platform(offset::DATA_FIFO, b"code");
        guest.platform(offset::HASH_END, &[0]);
        assert!(guest.0.engine().launch.is_none());
        assert_eq!(guest.access(locality), 0x81);
    }
}

#[test]
fn a_guest_cannot_take_part_in_a_launch() {
    let mut guest = Guest::new();
    guest.platform(offset::HASH_START, &[0]);
    guest.write(4, offset::DATA_FIFO, b"evil");
    guest.write(4, offset::HASH_END, &[0]);
    guest.set_access(3, SEIZE);
    guest.set_access(4, ACTIVE);
    assert_eq!(guest.access(4), 0xa0);
    guest.platform(offset::DATA_FIFO, b"code");
    guest.platform(offset::HASH_END, &[0]);
    assert_eq!(guest.0.engine().launch, Some((b"code".to_vec(), true)));
}

#[test]
fn a_launch_that_fails_gives_the_tpm_back() {
    let mut guest = Guest::new();
    guest.0.engine_mut().broken_hash = true;
    guest.platform(offset::HASH_START, &[0]);
    guest.platform(offset::DATA_FIFO, b"code");
    assert_eq!(guest.access(4) & ACTIVE, 0);
    guest.set_access(0, REQUEST_USE);
    assert_eq!(guest.access(0) & ACTIVE, ACTIVE);
}

#[test]
fn establishment_is_reset_by_localities_3_and_4_only() {
    let mut guest = Guest::new();
    guest.platform(offset::HASH_START, &[0]);
    guest.platform(offset::HASH_END, &[0]);
    for (locality, expected) in [(0, 0x80), (1, 0x80), (2, 0x80), (3, 0x81)] {
        guest.set_access(locality, REQUEST_USE);
        guest.write32(locality, offset::STS, RESET_ESTABLISHMENT);
        guest.set_access(locality, ACTIVE);
        assert_eq!(guest.access(0), expected, "locality {locality}");
    }
}

#[test]
fn platform_may_use_locality_4_for_commands() {
    let mut guest = Guest::new();
    guest.platform(offset::ACCESS, &[REQUEST_USE]);
    guest.platform(offset::STS, &[READY]);
    guest.platform(offset::XDATA_FIFO, &message(&[]));
    guest.platform(offset::STS, &[GO]);
    assert_eq!(guest.commands(), [(Locality::Four, message(&[]))]);
    // The guest may look at the page, but its writes still do nothing.
    guest.set_sts(4, READY);
    assert_eq!(guest.sts(4), VALID | DATA_AVAIL);
}
