//! Identity and probing: what can be read by anyone at any time (PTP 1.05, tables 12 to 15).

use super::*;

#[test]
fn access_after_reset_is_valid_and_not_established_at_every_width() {
    let mut guest = Guest::new();
    for locality in 0..5 {
        assert_eq!(guest.access(locality), 0x81);
        assert_eq!(guest.read32(locality, offset::ACCESS), 0x81);
        assert_eq!(
            guest.read::<8>(locality, offset::ACCESS),
            [0x81, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]
        );
    }
}

/// Offset, width, value, for all localities and without holding one.
const IDENTITY: [(u32, usize, u64); 16] = [
    (offset::DID_VID, 4, 0x0001_1014),
    (offset::DID_VID, 2, 0x1014),
    (offset::DID_VID + 2, 2, 0x0001),
    (offset::DID_VID, 1, 0x14),
    (offset::DID_VID, 8, 0x0000_0001_0001_1014),
    (offset::RID, 1, 1),
    (offset::RID, 4, 1),
    (offset::INTERFACE_ID, 4, 0x2100),
    (offset::INTERFACE_ID, 1, 0x00),
    (offset::INTERFACE_ID + 1, 1, 0x21),
    (offset::INTF_CAPABILITY, 4, 0x3000_0697),
    (offset::INT_ENABLE, 4, 8),
    (offset::INT_STATUS, 4, 0),
    (offset::INT_VECTOR, 1, 0),
    (offset::INT_VECTOR, 4, 0),
    (offset::INT_STATUS, 8, 0x3000_0697_0000_0000),
];

#[test]
fn identity_is_the_same_in_every_locality_at_every_width() {
    let mut guest = Guest::new();
    for locality in 0..5 {
        for (register, width, expected) in IDENTITY {
            let bytes = guest.read::<8>(locality, register);
            let mut value = [0; 8];
            value[..width].copy_from_slice(&bytes[..width]);
            assert_eq!(
                u64::from_le_bytes(value),
                expected,
                "{width} bytes at {register:#x}"
            );
            let mut exact = vec![0; width];
            guest.0.read(locality * PAGE + register, &mut exact);
            assert_eq!(exact, bytes[..width]);
        }
    }
}

#[test]
fn vendor_is_none_that_drivers_have_quirks_for() {
    let vendor = Guest::new().read16(0, offset::DID_VID);
    for quirky in [0x8086, 0x1050, 0x104a, 0x1114, 0x15d1, 0, 0xffff] {
        assert_ne!(vendor, quirky);
    }
}

#[test]
fn interface_type_is_fifo_of_ptp() {
    let id = Guest::new().read32(0, offset::INTERFACE_ID);
    assert_eq!(id & 0xf, 0);
    assert_eq!((id >> 4) & 0xf, 0);
    assert_eq!(crate::ptp::fifo::NAME, "PTP FIFO", "as a policy names it");
    assert_ne!(id & (1 << 13), 0);
}

#[test]
fn mandatory_interrupts_are_capabilities_of_interface_version_3() {
    let capability = Guest::new().read32(0, offset::INTF_CAPABILITY);
    assert_eq!((capability >> 28) & 7, 3);
    assert_eq!(capability & 0b1_0101, 0b1_0101);
}

#[test]
fn interface_lock_latches_until_reset_and_selects_nothing() {
    let mut guest = Guest::new();
    guest.write32(0, offset::INTERFACE_ID, 0);
    assert_eq!(guest.read32(0, offset::INTERFACE_ID), 0x2100);
    guest.write32(0, offset::INTERFACE_ID, 1 << 17);
    assert_eq!(guest.read32(0, offset::INTERFACE_ID), 0x2100);
    guest.write32(0, offset::INTERFACE_ID, 1 << 19);
    assert_eq!(guest.read32(0, offset::INTERFACE_ID), 0x0008_2100);
    guest.write32(0, offset::INTERFACE_ID, 0);
    assert_eq!(guest.read32(3, offset::INTERFACE_ID), 0x0008_2100);
    guest.0.reset().unwrap();
    assert_eq!(guest.read32(0, offset::INTERFACE_ID), 0x2100);
}

#[test]
fn status_extension_says_family_2_0() {
    let mut guest = Guest::ready();
    assert_eq!(guest.read8(0, offset::STS + 3), 0x04);
}

#[test]
fn undefined_offsets_read_ones_and_ignore_writes() {
    let mut guest = Guest::ready();
    for register in [
        0x004, 0x01c, 0x020, 0x028, 0x02c, 0x034, 0x07c, 0x0c0, 0x100, 0x800, 0xf08, 0xf80, 0xf8c,
        0xf90, 0xffc,
    ] {
        assert_eq!(guest.read32(0, register), u32::MAX, "{register:#x}");
        guest.write32(0, register, 0);
        assert_eq!(guest.read32(0, register), u32::MAX, "{register:#x}");
    }
    assert_eq!(guest.sts(0), READY);
}

#[test]
fn outside_the_five_pages_is_nothing() {
    let mut guest = Guest::new();
    for offset in [0x5000, 0x5018, 0xffff_fffc, u32::MAX] {
        let mut bytes = [0; 8];
        guest.0.read(offset, &mut bytes);
        assert_eq!(bytes, [0xff; 8], "{offset:#x}");
        guest.0.write(offset, &[REQUEST_USE; 8]);
    }
    assert_eq!(guest.access(0), 0x81);
}

#[test]
fn an_access_across_two_pages_is_two_accesses() {
    let mut guest = Guest::new();
    // The last bytes of locality 0's page are nothing, the first of locality 1's is ACCESS.
    let mut bytes = [0; 4];
    guest.0.read(PAGE - 2, &mut bytes);
    assert_eq!(bytes, [0xff, 0xff, 0x81, 0]);
    guest.0.write(PAGE - 1, &[REQUEST_USE, REQUEST_USE]);
    assert_eq!(guest.access(1), 0xa1);
    guest.0.read(5 * PAGE - 4, &mut bytes);
    assert_eq!(bytes, [0xff; 4]);
}

#[test]
fn an_unaligned_read_shows_the_bytes_of_the_registers_it_covers() {
    let mut guest = Guest::ready();
    // INTF_CAPABILITY's last two bytes, STS's first two.
    let bytes = guest.read::<4>(0, offset::INTF_CAPABILITY + 2);
    assert_eq!(bytes, [0x00, 0x30, READY, 0x00]);
    assert_eq!(
        guest.read::<8>(0, offset::INTF_CAPABILITY),
        [0x97, 0x06, 0x00, 0x30, READY, 0x00, 0x03, 0x04]
    );
}
