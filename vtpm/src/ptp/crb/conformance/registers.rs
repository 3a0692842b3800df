//! Identity and probing: what can be read by anyone at any time (PTP 1.05, TPM_CRB_INTF_ID_x, TPM_CRB_CTRL_CMD_SIZE_x and the next).

use super::*;

#[test]
fn presence_is_valid_and_no_localitys_at_every_width() {
    let mut guest = Guest::new();
    for locality in 0..5 {
        assert_eq!(guest.read8(locality, offset::LOC_STATE), 0x81);
        assert_eq!(guest.read32(locality, offset::LOC_STATE), 0x81);
        // As SeaBIOS asks, at any time: valid, and bit 4 clear.
        assert_eq!(guest.read32(locality, offset::LOC_STATE) & 0x90, 0x80);
    }
}

#[test]
fn interface_type_is_crb_version_1() {
    let id = Guest::new().read32(0, offset::INTF_ID);
    assert_eq!(id, 0x0002_5911);
    assert_eq!((id & 0xf, id >> 4 & 0xf, id >> 14 & 1), (1, 1, 1));
    assert_eq!(id >> 9 & 3, 0, "no idle bypass, no chunks");
    assert_eq!(crate::ptp::crb::NAME, "PTP CRB", "as a policy names it");
    assert_eq!(Guest::new().0.name(), "PTP CRB");
}

#[test]
fn identity_is_consistent_at_every_width() {
    let mut guest = Guest::new();
    for locality in 0..5 {
        assert_eq!(
            guest.read64(locality, offset::INTF_ID),
            0x0001_1014_0002_5911
        );
        assert_eq!(guest.read(locality, offset::INTF_ID_VENDOR), [0x14, 0x10]);
        assert_eq!(
            guest.read(locality, offset::INTF_ID_VENDOR + 2),
            [0x01, 0x00]
        );
    }
}

#[test]
fn interface_lock_latches_until_reset_and_selects_nothing() {
    let mut guest = Guest::new();
    guest.write32(0, offset::INTF_ID, 0);
    assert_eq!(guest.read32(0, offset::INTF_ID), 0x0002_5911);
    guest.write32(0, offset::INTF_ID, 1 << 19);
    assert_eq!(guest.read32(3, offset::INTF_ID), 0x000A_5911);
    guest.0.reset().unwrap();
    assert_eq!(guest.read32(0, offset::INTF_ID), 0x0002_5911);
}

#[test]
fn the_buffer_is_behind_the_registers_where_it_has_no_address() {
    let mut guest = Guest::new();
    for (locality, page) in (0..5).zip([0xFED4_0000_u64, 0xFED4_1000, 0xFED4_2000]) {
        assert_eq!(guest.read32(locality, offset::CTRL_CMD_SIZE), 0xF80);
        assert_eq!(guest.read32(locality, offset::CTRL_RSP_SIZE), 0xF80);
        let command = guest.read64(locality, offset::CTRL_CMD_LADDR);
        assert_eq!(command, page + 0x80);
        assert_eq!(guest.read64(locality, offset::CTRL_RSP_LADDR), page + 0x80);
    }
}

#[test]
fn the_buffer_is_where_the_guest_reaches_it_where_it_has_an_address() {
    let (mut guest, _) = Guest::with_pages();
    for locality in 0..5 {
        assert_eq!(guest.read32(locality, offset::CTRL_CMD_LADDR), 0x2345_6000);
        assert_eq!(guest.read32(locality, offset::CTRL_CMD_HADDR), 1);
        assert_eq!(guest.read64(locality, offset::CTRL_RSP_LADDR), ADDRESS);
    }
}

/// Linux under TDX reads the response's address a byte at a time, SeaBIOS in two halves, FreeBSD at once.
#[test]
fn the_responses_address_is_the_same_at_every_width() {
    let (mut guest, _) = Guest::with_pages();
    let at_once: [u8; 8] = guest.read(0, offset::CTRL_RSP_LADDR);
    let bytes: Vec<_> = (0..8)
        .map(|byte| guest.read8(0, offset::CTRL_RSP_LADDR + byte))
        .collect();
    assert_eq!(bytes, at_once);
    let halves = [
        guest.read::<4>(0, offset::CTRL_RSP_LADDR),
        guest.read::<4>(0, offset::CTRL_RSP_HADDR),
    ];
    assert_eq!(halves.concat(), at_once);
}

/// FreeBSD writes back what it read, with a bit set.
#[test]
fn what_was_written_to_a_control_register_is_over_by_its_read() {
    let mut guest = Guest::granted();
    for register in [offset::LOC_CTRL, offset::CTRL_REQ, offset::CTRL_START] {
        assert_eq!(guest.read32(0, register), 0, "{register:#x}");
    }
    guest.write32(0, offset::CTRL_REQ, COMMAND_READY);
    assert_eq!(guest.read32(0, offset::CTRL_REQ), 0);
    guest.write32(0, offset::CTRL_REQ, GO_IDLE);
    assert_eq!(guest.read32(0, offset::CTRL_REQ), 0);
    guest.control_locality(0, RELINQUISH);
    assert_eq!(guest.read32(0, offset::LOC_CTRL), 0);
}

/// EDK2 writes addresses and sizes with each command, as two and four and eight bytes.
#[test]
fn addresses_and_sizes_swallow_writes() {
    let mut guest = Guest::ready();
    let before: [u8; 0x20] = guest.read(0, offset::CTRL_CMD_SIZE);
    for register in [
        offset::CTRL_CMD_SIZE,
        offset::CTRL_CMD_LADDR,
        offset::CTRL_CMD_HADDR,
        offset::CTRL_RSP_SIZE,
        offset::CTRL_RSP_LADDR,
    ] {
        guest.write(0, register, &[0xAA; 4]);
        guest.write(0, register, &[0xAA; 8]);
        assert_eq!(guest.read::<0x20>(0, offset::CTRL_CMD_SIZE), before);
    }
}

#[test]
fn the_room_for_a_response_is_no_responses_length() {
    let mut guest = Guest::ready();
    guest.put(0, &message(&[1]));
    guest.start(0);
    assert_eq!(guest.read32(0, offset::CTRL_RSP_SIZE), 0xF80);
}

#[test]
fn each_locality_has_its_own_enables() {
    let mut guest = Guest::ready();
    guest.write32(0, offset::INT_ENABLE, u32::MAX);
    assert_eq!(guest.read32(0, offset::INT_ENABLE), 0x8000_000F);
    // FreeBSD reads, clears the global bit, and writes.
    guest.write32(0, offset::INT_ENABLE, 0x0000_000F);
    assert_eq!(guest.read32(0, offset::INT_ENABLE), 0x0000_000F);
    assert_eq!(
        guest.read32(1, offset::INT_ENABLE),
        0,
        "each locality's own"
    );
    guest.0.reset().unwrap();
    assert_eq!(guest.read32(0, offset::INT_ENABLE), 0);
}

#[test]
fn reserved_offsets_read_zero_and_ignore_writes() {
    let mut guest = Guest::ready();
    for register in [
        0x04, 0x10, 0x14, 0x18, 0x1C, 0x20, 0x2C, 0x38, 0x3C, 0x70, 0x7C,
    ] {
        guest.write32(0, register, u32::MAX);
        assert_eq!(guest.read32(0, register), 0, "{register:#x}");
    }
    assert_eq!(guest.read32(0, offset::CTRL_STS), 0);
}

#[test]
fn outside_the_five_pages_is_nothing() {
    let mut guest = Guest::ready();
    for offset in [5 * PAGE, 5 * PAGE + 0x80, u32::MAX] {
        let mut bytes = [0; 4];
        guest.0.read(offset, &mut bytes);
        assert_eq!(bytes, [0xff; 4]);
        guest.0.write(offset, &[1; 4]);
    }
    assert!(guest.commands().is_empty());
}
