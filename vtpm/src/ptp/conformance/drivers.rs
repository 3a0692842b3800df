//! What drivers do, access by access (PTP 1.05, "FIFO Interface"): those of firmware and FreeBSD's. Linux's is in
//! [`driver`](crate::ptp::driver).

use super::*;

/// SeaBIOS sends all of a command, then looks at stsValid alone, and reads until dataAvail drops.
#[test]
fn seabios_runs_a_command() {
    let mut guest = Guest::new();
    assert_eq!(guest.read32(0, offset::ACCESS) & 0x80, 0x80);
    guest.write32(0, offset::INT_ENABLE, 0);
    for locality in (0..5).rev() {
        guest.set_access(locality, ACTIVE);
    }
    guest.set_access(0, REQUEST_USE);
    assert_eq!(guest.access(0) & ACTIVE, ACTIVE);
    guest.set_sts(0, READY);
    assert_eq!(guest.sts(0) & READY, READY);
    let command = message(&[1, 2, 3]);
    guest.send(0, &command);
    assert_eq!(guest.sts(0) & VALID, VALID);
    guest.set_sts(0, GO);
    let mut response = Vec::new();
    while guest.sts(0) & DATA_AVAIL != 0 {
        response.push(guest.read8(0, offset::DATA_FIFO));
    }
    assert_eq!(response, message(&command));
}

/// EDK2 moves as many bytes as the burst count says and takes one more than is left of it.
#[test]
fn edk2_runs_a_command() {
    let mut guest = Guest::new();
    assert_ne!(guest.access(0), 0xff);
    guest.set_access(0, REQUEST_USE);
    assert_eq!(guest.access(0) & 0xa0, 0xa0);
    guest.set_sts(0, READY);
    assert_eq!(guest.sts(0) & READY, READY);
    let command = message(&[7; 500]);
    let burst = |guest: &mut Guest| {
        usize::from(guest.read8(0, offset::STS + 1))
            | usize::from(guest.read8(0, offset::STS + 2)) << 8
    };
    let mut sent = 0;
    while sent < command.len() {
        let count = burst(&mut guest);
        assert_ne!(count, 0);
        let end = command.len().min(sent + count);
        guest.send(0, &command[sent..end]);
        sent = end;
    }
    assert_eq!(guest.sts(0) & (VALID | EXPECT), VALID);
    guest.set_sts(0, GO);
    assert_eq!(guest.sts(0) & (VALID | DATA_AVAIL), VALID | DATA_AVAIL);
    let mut response = Vec::new();
    while response.len() < command.len() + 10 {
        let count = burst(&mut guest);
        assert_ne!(count, 0);
        for _ in 0..count.min(command.len() + 10 - response.len()) {
            response.push(guest.read8(0, offset::DATA_FIFO));
        }
    }
    assert_eq!(response, message(&command));
    guest.set_sts(0, READY);
    assert_eq!(guest.sts(0), READY);
}

impl Guest {
    /// FreeBSD's way to set bits of a register: it writes back what it read.
    fn or8(&mut self, register: u32, bits: u8) {
        let value = self.read8(0, register);
        self.write(0, register, &[value | bits]);
    }

    /// FreeBSD's tpmtis: 32-bit accesses of STS, the count before each burst, relinquish by [`Guest::or8`].
    fn freebsd_transmits(&mut self, command: &[u8]) -> Vec<u8> {
        self.set_access(0, REQUEST_USE);
        assert_eq!(self.access(0) & 0xa0, 0xa0);
        self.write32(0, offset::STS, READY.into());
        assert_ne!(self.read32(0, offset::STS) & u32::from(READY), 0);
        let mut rest = command;
        while !rest.is_empty() {
            let (burst, after) = rest.split_at(rest.len().min(self.burst_count(0).into()));
            assert!(!burst.is_empty(), "it would wait");
            self.send(0, burst);
            rest = after;
        }
        let status = self.read32(0, offset::STS) as u8;
        assert_eq!(status & (VALID | EXPECT), VALID);
        self.write32(0, offset::STS, GO.into());
        let done = u32::from(VALID | DATA_AVAIL);
        while self.read32(0, offset::STS) & done != done {}
        let mut response = Vec::new();
        let mut size = 10;
        while response.len() < size {
            let burst = usize::from(self.burst_count(0)).min(size - response.len());
            assert_ne!(burst, 0, "it would wait");
            response.extend(self.receive(0, burst));
            if response.len() == 10 {
                size = u32::from_be_bytes(response[2..6].try_into().unwrap()) as usize;
            }
        }
        self.or8(offset::ACCESS, ACTIVE);
        assert_eq!(self.access(0), 0x81);
        response
    }
}

#[test]
fn freebsd_runs_a_command() {
    let mut guest = Guest::new();
    for data in [&[7; 500][..], &[], &[1, 2]] {
        let command = message(data);
        assert_eq!(guest.freebsd_transmits(&command), message(&command));
    }
    guest.0.engine_mut().slices = 5;
    let command = message(&[9]);
    assert_eq!(guest.freebsd_transmits(&command), message(&command));
}

/// It sets its interrupts up with locality 0, gives it up, and finds out by a command whether they come.
#[test]
fn freebsd_sets_interrupts_up() {
    const ALL: u32 = 0x8000_0087;
    let mut guest = Guest::new();
    guest.set_access(0, REQUEST_USE);
    guest.write(0, offset::INT_VECTOR, &[5]);
    let status = guest.read32(0, offset::INT_STATUS);
    guest.write32(0, offset::INT_STATUS, status);
    let enable = guest.read32(0, offset::INT_ENABLE);
    guest.write32(0, offset::INT_ENABLE, enable | ALL);
    guest.or8(offset::ACCESS, ACTIVE);
    assert!(!guest.0.line());
    let command = message(&[3]);
    assert_eq!(guest.freebsd_transmits(&command), message(&command));
    // Its handler clears what it reads; the registers are not its own any more, so that waits.
    let status = guest.read32(0, offset::INT_STATUS);
    assert_eq!(status, 0x87);
    assert!(guest.0.line());
    guest.set_access(0, REQUEST_USE);
    guest.write32(0, offset::INT_STATUS, status);
    assert!(!guest.0.line());
}

/// After a time-out it says commandReady and looks for a response, which does not come: the next command works.
#[test]
fn freebsd_gives_a_command_up() {
    let mut guest = Guest::ready();
    guest.0.engine_mut().slices = 100;
    guest.send(0, &message(&[1]));
    guest.write32(0, offset::STS, GO.into());
    guest.write32(0, offset::STS, READY.into());
    assert_eq!(guest.sts(0), READY);
    assert_eq!(guest.0.engine().abandons, 1);
    guest.0.engine_mut().slices = 0;
    let command = message(&[2]);
    assert_eq!(guest.freebsd_transmits(&command), message(&command));
}
