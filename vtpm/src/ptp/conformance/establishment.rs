//! tpmEstablishment, and the registers of a dynamic launch: the platform's, which launches no guest so.

use super::*;

impl Guest {
    /// The engine says that a dynamic launch has happened.
    fn established() -> Self {
        Self(Interface::new(Echo {
            established: true,
            ..Echo::default()
        }))
    }
}

#[test]
fn an_establishment_is_told_at_every_locality() {
    let mut guest = Guest::established();
    for locality in 0..5 {
        assert_eq!(guest.access(locality), 0x80, "locality {locality}");
    }
    guest.0.reset().unwrap();
    assert_eq!(guest.access(0), 0x80, "it is the engine's");
}

#[test]
fn establishment_is_reset_by_localities_3_and_4_only() {
    let mut guest = Guest::established();
    for (locality, expected) in [(0, 0x80), (1, 0x80), (2, 0x80), (3, 0x81)] {
        guest.set_access(locality, REQUEST_USE);
        guest.write32(locality, offset::STS, RESET_ESTABLISHMENT);
        guest.set_access(locality, ACTIVE);
        assert_eq!(guest.access(0), expected, "locality {locality}");
    }
    // Locality 4 is no guest's.
    let mut guest = Guest::established();
    guest.set_access(4, REQUEST_USE);
    guest.write32(4, offset::STS, RESET_ESTABLISHMENT);
    assert_eq!(guest.access(0), 0x80);
}

#[test]
fn no_guest_launches_anything() {
    for locality in 0..5 {
        let mut guest = Guest::new();
        for (register, data) in [
            (offset::HASH_START, &[0][..]),
            (offset::DATA_FIFO, b"code"),
            (offset::HASH_END, &[0]),
        ] {
            guest.write(locality, register, data);
            assert_eq!(guest.access(locality), 0x81, "nobody has the TPM");
            assert_eq!(guest.read8(locality, register), 0xff);
        }
        assert!(guest.commands().is_empty());
    }
}
