//! The interrupts of the FIFO interface (PTP 1.05, TPM_INT_ENABLE_x, TPM_INT_STATUS_x, TPM_INT_VECTOR_x).

use super::*;

const ON: u32 = 1 << 31;
const DATA: u32 = 1 << 0;
const STS_VALID: u32 = 1 << 1;
const CHANGE: u32 = 1 << 2;
const COMMAND_READY: u32 = 1 << 7;
const ALL: u32 = DATA | STS_VALID | CHANGE | COMMAND_READY;
/// Low level, as after a reset.
const LOW: u32 = 1 << 3;

impl Guest {
    /// Locality 0 active and nothing under way, with these interrupts.
    fn wants(interrupts: u32) -> Self {
        let mut guest = Self::new();
        guest.set_access(0, REQUEST_USE);
        guest.write32(0, offset::INT_ENABLE, ON | LOW | interrupts);
        guest
    }

    /// What has occurred, which is then known; the line follows.
    fn occurred(&mut self) -> u32 {
        let status = self.read32(0, offset::INT_STATUS);
        assert_eq!(self.0.line(), status != 0);
        self.write32(0, offset::INT_STATUS, status);
        assert_eq!(self.read32(0, offset::INT_STATUS), 0);
        assert!(!self.0.line());
        status
    }
}

#[test]
fn the_enables_and_the_vector_are_stored() {
    let mut guest = Guest::ready();
    guest.write32(0, offset::INT_ENABLE, u32::MAX);
    assert_eq!(guest.read32(0, offset::INT_ENABLE), 0x8000_009f);
    guest.write(0, offset::INT_VECTOR, &[0xfb]);
    assert_eq!(guest.read8(0, offset::INT_VECTOR), 0x0b);
    // The rest of the double word is reserved: a write of it alone leaves the vector.
    for byte in 1..4 {
        guest.write(0, offset::INT_VECTOR + byte, &[0xff]);
        assert_eq!(guest.read32(0, offset::INT_VECTOR), 0x0b);
    }
    // Each locality has its own enables; the vector is common.
    assert_eq!(guest.read32(1, offset::INT_ENABLE), 8);
    assert_eq!(guest.read8(1, offset::INT_VECTOR), 0x0b);
    // One byte of a register is that byte.
    guest.write(0, offset::INT_ENABLE + 3, &[0]);
    assert_eq!(guest.read32(0, offset::INT_ENABLE), 0x9f);
}

#[test]
fn every_step_of_a_command_occurs_once() {
    let mut guest = Guest::wants(ALL);
    assert_eq!(guest.occurred(), 0, "what was before it was enabled");
    guest.set_sts(0, READY);
    assert_eq!(guest.occurred(), COMMAND_READY);
    guest.set_sts(0, READY);
    assert_eq!(guest.occurred(), 0, "it was ready already");
    let command = message(&[1, 2]);
    let (most, last) = command.split_at(command.len() - 1);
    guest.send(0, most);
    assert_eq!(guest.occurred(), 0);
    guest.send(0, last);
    assert_eq!(guest.occurred(), STS_VALID, "Expect drops");
    guest.send(0, &[0]);
    assert_eq!(guest.occurred(), 0, "more than the command");
    guest.set_sts(0, GO);
    assert_eq!(guest.occurred(), DATA | STS_VALID);
    guest.receive(0, 22);
    guest.set_sts(0, RETRY);
    assert_eq!(guest.occurred(), 0);
    guest.set_sts(0, READY);
    assert_eq!(guest.occurred(), COMMAND_READY);
    guest.send(0, &command[..3]);
    guest.set_sts(0, READY);
    assert_eq!(guest.occurred(), COMMAND_READY, "given up");
}

#[test]
fn a_locality_that_gets_the_tpm_hears_of_it() {
    let mut guest = Guest::wants(ALL);
    guest.set_access(0, REQUEST_USE);
    assert_eq!(guest.occurred(), 0, "it had it");
    guest.set_access(0, ACTIVE);
    assert!(!guest.0.line());
    guest.set_access(0, REQUEST_USE);
    assert_eq!(guest.occurred(), CHANGE);
    guest.set_access(1, REQUEST_USE);
    guest.write32(1, offset::INT_ENABLE, ON | LOW | ALL);
    assert_eq!(
        guest.read32(1, offset::INT_ENABLE),
        LOW,
        "not its to change"
    );
    guest.set_access(0, ACTIVE);
    assert_eq!(guest.read32(1, offset::INT_STATUS), 0);
    guest.write32(1, offset::INT_ENABLE, ON | LOW | ALL);
    guest.set_access(2, SEIZE);
    guest.set_access(1, REQUEST_USE);
    guest.set_access(2, ACTIVE);
    assert_eq!(guest.read32(1, offset::INT_STATUS), CHANGE);
    assert_eq!(guest.read32(0, offset::INT_STATUS), 0);
    assert!(guest.0.line());
}

#[test]
fn nothing_occurs_that_is_not_enabled() {
    for enable in [0, ALL, ON, ON | DATA] {
        let mut guest = Guest::ready();
        guest.write32(0, offset::INT_ENABLE, LOW | enable);
        guest.send(0, &message(&[]));
        assert_eq!(guest.occurred(), 0, "{enable:#x}");
        guest.set_sts(0, GO);
        // All of an event's bits, where one of them is enabled.
        let expected = match enable == ON | DATA {
            true => DATA | STS_VALID,
            false => 0,
        };
        assert_eq!(guest.occurred(), expected, "{enable:#x}");
        // Not later either.
        guest.write32(0, offset::INT_ENABLE, ON | LOW | ALL);
        assert_eq!(guest.occurred(), 0, "{enable:#x}");
    }
}

#[test]
fn the_line_is_asserted_until_all_is_known() {
    let mut guest = Guest::wants(ALL);
    guest.set_sts(0, READY);
    guest.send(0, &message(&[]));
    guest.set_sts(0, GO);
    assert_eq!(
        guest.read32(0, offset::INT_STATUS),
        COMMAND_READY | STS_VALID | DATA
    );
    for (byte, register, left) in [
        (DATA as u8, offset::INT_STATUS, COMMAND_READY | STS_VALID),
        (0xff, offset::INT_STATUS + 1, COMMAND_READY | STS_VALID),
        (COMMAND_READY as u8, offset::INT_STATUS, STS_VALID),
    ] {
        guest.write(0, register, &[byte]);
        assert_eq!(guest.read32(0, offset::INT_STATUS), left);
        assert!(guest.0.line());
    }
    guest.write(0, offset::INT_STATUS, &[STS_VALID as u8]);
    assert!(!guest.0.line());
    assert_eq!(guest.sts(0), VALID | DATA_AVAIL, "nothing else is changed");
}

#[test]
fn the_line_is_not_asserted_while_interrupts_are_off() {
    let mut guest = Guest::wants(ALL);
    guest.set_sts(0, READY);
    assert!(guest.0.line());
    guest.write32(0, offset::INT_ENABLE, LOW | ALL);
    assert!(!guest.0.line());
    guest.write32(0, offset::INT_ENABLE, ON | LOW | ALL);
    assert!(guest.0.line(), "it is not known yet");
}

#[test]
fn only_the_owner_says_what_is_known() {
    let mut guest = Guest::wants(ALL);
    guest.set_sts(0, READY);
    for locality in 1..5 {
        guest.write32(locality, offset::INT_STATUS, u32::MAX);
        assert_eq!(guest.read32(locality, offset::INT_STATUS), 0, "its own");
    }
    guest.set_access(0, ACTIVE);
    guest.write32(0, offset::INT_STATUS, u32::MAX);
    assert_eq!(guest.read32(0, offset::INT_STATUS), COMMAND_READY);
    assert!(guest.0.line());
    guest.set_access(0, REQUEST_USE);
    assert_eq!(guest.occurred(), COMMAND_READY | CHANGE);
}

#[test]
fn reset_lowers_the_line() {
    let mut guest = Guest::wants(ALL);
    guest.set_sts(0, READY);
    assert!(guest.0.line());
    guest.0.reset().unwrap();
    assert!(!guest.0.line());
    assert_eq!(guest.read32(0, offset::INT_STATUS), 0);
    guest.set_access(0, REQUEST_USE);
    assert_eq!(guest.read32(0, offset::INT_STATUS), 0);
}

/// The handler of Linux 6.12's driver: it asks for the TPM to be able to say what it knows, for which it hears of that.
#[test]
fn a_handler_that_asks_for_the_tpm_comes_to_an_end() {
    let mut guest = Guest::wants(ALL);
    guest.set_sts(0, READY);
    guest.set_access(0, ACTIVE);
    let mut handled = 0;
    while guest.0.line() {
        let status = guest.read32(0, offset::INT_STATUS);
        assert_ne!(status, 0);
        guest.set_access(0, REQUEST_USE);
        guest.write32(0, offset::INT_STATUS, status);
        guest.set_access(0, ACTIVE);
        handled += 1;
        assert!(handled <= 2);
    }
    assert_eq!(guest.read32(0, offset::INT_STATUS), 0);
}

/// Nothing occurs while a command is executed; its end does, whoever has it go on.
#[test]
fn the_end_of_a_command_that_lasts_occurs_when_it_comes() {
    for polled in [false, true] {
        let mut guest = Guest::wants(ALL);
        guest.0.engine_mut().slices = 1;
        guest.set_sts(0, READY);
        guest.send(0, &message(&[]));
        assert_eq!(guest.occurred(), COMMAND_READY | STS_VALID);
        guest.set_sts(0, GO);
        assert_eq!(guest.occurred(), 0);
        match polled {
            false => guest.0.go_on(1),
            true => {
                guest.sts(0);
            }
        }
        assert_eq!(guest.occurred(), DATA | STS_VALID);
    }
}

#[test]
fn a_command_that_is_given_up_has_no_end() {
    let mut guest = Guest::wants(ALL);
    guest.0.engine_mut().slices = 1;
    guest.set_sts(0, READY);
    guest.send(0, &message(&[]));
    guest.set_sts(0, GO);
    guest.occurred();
    guest.set_sts(0, READY);
    assert_eq!(guest.occurred(), COMMAND_READY);
    guest.0.go_on(1);
    guest.sts(0);
    assert_eq!(guest.occurred(), 0);
}
