//! What drivers do, access by access (PTP 1.05, "CRB Interface").

use super::*;

/// One command as EDK2 sends it: Idle first, then bytes behind the registers, addresses and sizes that it writes each time, and goIdle
/// at the end, for which it does not wait.
#[test]
fn edk2_runs_commands() {
    let mut guest = Guest::new();
    assert_ne!(guest.read8(0, offset::LOC_STATE), 0xFF);
    guest.control_locality(0, REQUEST);
    assert_eq!(guest.read32(0, offset::LOC_STS) & GRANTED, GRANTED);
    for round in 0..3 {
        assert_eq!(guest.read32(0, offset::CTRL_STS) & IDLE, IDLE);
        guest.write32(0, offset::CTRL_REQ, COMMAND_READY);
        assert_eq!(guest.read32(0, offset::CTRL_REQ) & COMMAND_READY, 0);
        assert_eq!(guest.read32(0, offset::CTRL_STS) & IDLE, 0);
        let command = message(&[round; 5]);
        guest.put(0, &command);
        guest.write32(0, offset::CTRL_CMD_HADDR, 0);
        guest.write32(0, offset::CTRL_CMD_LADDR, 0xFED4_0080);
        guest.write32(0, offset::CTRL_CMD_SIZE, 0xF80);
        guest.write(0, offset::CTRL_RSP_LADDR, &0xFED4_0080_u64.to_le_bytes());
        guest.write32(0, offset::CTRL_RSP_SIZE, 0xF80);
        guest.start(0);
        assert_eq!(guest.read32(0, offset::CTRL_START) & 1, 0);
        assert_eq!(guest.take(0, 25), message(&command));
        guest.write32(0, offset::CTRL_REQ, GO_IDLE);
    }
    // Linux finds the locality taken.
    guest.control_locality(0, REQUEST);
    assert_eq!(guest.read32(0, offset::LOC_STATE) & 0x82, 0x82);
}

/// SeaBIOS writes the selector, uses the addresses that the registers give, asks for the TPM by a byte before each command, and says
/// cmdReady after it.
#[test]
fn seabios_runs_commands() {
    let (mut guest, pages) = Guest::with_pages();
    guest.0.reset().unwrap();
    assert_eq!(guest.read32(0, offset::LOC_STATE) & 0x90, 0x80);
    guest.write32(0, offset::INTF_ID, 1 << 17);
    guest.write32(0, offset::INTF_ID, 1 << 19);
    assert_eq!(guest.read32(0, offset::INTF_ID) & 0xF, 1);
    for round in 0..3 {
        guest.write(0, offset::LOC_CTRL, &[1]);
        assert_eq!(guest.read32(0, offset::LOC_STS) & GRANTED, GRANTED);
        let command = message(&[round; 7]);
        pages.set(0, &command);
        guest.start(0);
        assert_eq!(guest.read32(0, offset::CTRL_START) & 1, 0);
        assert_eq!(guest.read32(0, offset::CTRL_STS) & 1, 0);
        assert_eq!(pages.get(27), message(&command));
        guest.write32(0, offset::CTRL_REQ, COMMAND_READY);
        assert_eq!(guest.read32(0, offset::CTRL_REQ), 0);
    }
}

/// FreeBSD sets bits in what it reads, wants Idle before each command, and compares all of START with 0.
#[test]
fn freebsd_runs_commands() {
    let mut guest = Guest::new();
    let or = |guest: &mut Guest, register, bits| {
        let value = guest.read32(0, register);
        guest.write32(0, register, value | bits);
    };
    let enable = guest.read32(0, offset::INT_ENABLE);
    guest.write32(0, offset::INT_ENABLE, enable & !(1 << 31));
    assert_eq!(guest.read64(0, offset::CTRL_RSP_LADDR), 0xFED4_0080);
    for round in 0..3 {
        or(&mut guest, offset::LOC_CTRL, REQUEST);
        assert_eq!(guest.read32(0, offset::LOC_STATE) & 0x82, 0x82);
        or(&mut guest, offset::CTRL_REQ, GO_IDLE);
        assert_eq!(guest.read32(0, offset::CTRL_STS), IDLE);
        or(&mut guest, offset::CTRL_REQ, COMMAND_READY);
        assert_eq!(guest.read32(0, offset::CTRL_STS), 0);
        guest.write32(0, offset::CTRL_CANCEL, 0);
        let command = message(&[round; 9]);
        guest.put(0, &command);
        guest.start(0);
        assert_eq!(guest.read32(0, offset::CTRL_START), 0);
        assert_eq!(guest.take(0, 29), message(&command));
        or(&mut guest, offset::CTRL_REQ, GO_IDLE);
        or(&mut guest, offset::LOC_CTRL, RELINQUISH);
        assert_eq!(guest.read32(0, offset::LOC_STATE) & 0x82, 0x80);
    }
}

/// Linux probes with the locality and the TPM ready, and then holds both over a sequence of commands: request, cmdReady, for each
/// command CANCEL = 0 and START, goIdle, relinquish.
#[test]
fn linux_runs_commands() {
    let (mut guest, pages) = Guest::with_pages();
    guest.0.reset().unwrap();
    let begin = |guest: &mut Guest| {
        guest.control_locality(0, REQUEST);
        assert_eq!(guest.read32(0, offset::LOC_STATE) & 0x82, 0x82);
        guest.write32(0, offset::CTRL_REQ, COMMAND_READY);
        assert_eq!(guest.read32(0, offset::CTRL_REQ) & COMMAND_READY, 0);
    };
    let end = |guest: &mut Guest| {
        guest.write32(0, offset::CTRL_REQ, GO_IDLE);
        assert_eq!(guest.read32(0, offset::CTRL_REQ) & GO_IDLE, 0);
        guest.control_locality(0, RELINQUISH);
        assert_eq!(guest.read32(0, offset::LOC_STATE) & 0x82, 0x80);
    };
    begin(&mut guest);
    let sizes = [offset::CTRL_CMD_SIZE, offset::CTRL_RSP_SIZE].map(|size| guest.read32(0, size));
    assert_eq!(sizes, [0xF80; 2], "one buffer, so one size");
    assert_eq!(guest.read64(0, offset::CTRL_CMD_LADDR), ADDRESS);
    end(&mut guest);
    for slices in [0, 3] {
        guest.0.engine_mut().slices = slices;
        begin(&mut guest);
        for round in 0..4 {
            guest.write32(0, offset::CTRL_CANCEL, 0);
            let command = message(&[round; 6]);
            pages.set(0, &command);
            guest.start(0);
            while guest.read32(0, offset::CTRL_START) & 1 != 0 {
                assert_eq!(guest.read32(0, offset::CTRL_CANCEL) & 1, 0, "not canceled");
            }
            assert_eq!(guest.read32(0, offset::CTRL_STS) & 1, 0, "no fatal error");
            assert_eq!(pages.get(26), message(&command));
        }
        end(&mut guest);
    }
}

/// After its time-out EDK2 cancels, waits for START, and reads what is there; FreeBSD waits for all 32 bits.
#[test]
fn a_driver_that_gives_a_command_up_finds_a_response() {
    let mut guest = Guest::ready();
    guest.0.engine_mut().slices = 2;
    let command = message(&[1]);
    guest.put(0, &command);
    guest.start(0);
    guest.write32(0, offset::CTRL_CANCEL, 1);
    while guest.read32(0, offset::CTRL_START) != 0 {}
    guest.write32(0, offset::CTRL_CANCEL, 0);
    assert_eq!(guest.take(0, 21), message(&command));
    assert_eq!(guest.0.engine().cancels, 1);
}
