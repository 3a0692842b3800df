//! The interrupts of the CRB interface (PTP 1.05, TPM_CRB_INT_ENABLE_x, TPM_CRB_INT_STS_x).

use super::*;

const ON: u32 = 1 << 31;
const START: u32 = 1 << 0;
const READY: u32 = 1 << 1;
const ESTABLISHMENT_CLEAR: u32 = 1 << 2;
const CHANGE: u32 = 1 << 3;
const ALL: u32 = START | READY | ESTABLISHMENT_CLEAR | CHANGE;
const RESET_ESTABLISHMENT: u32 = 1 << 3;

impl Guest {
    /// Locality 0 has the TPM, which is idle, and wants these interrupts.
    fn wants(interrupts: u32) -> Self {
        let mut guest = Self::granted();
        guest.write32(0, offset::INT_ENABLE, ON | interrupts);
        guest
    }

    /// What has occurred, which is then known; the line follows.
    fn occurred(&mut self) -> u32 {
        let status = self.read32(0, offset::INT_STS);
        assert_eq!(self.0.line(), status != 0);
        self.write32(0, offset::INT_STS, status);
        assert_eq!(self.read32(0, offset::INT_STS), 0);
        assert!(!self.0.line());
        status
    }

    fn request(&mut self, what: u32) {
        self.write32(0, offset::CTRL_REQ, what);
    }
}

#[test]
fn every_event_of_a_command_occurs() {
    let mut guest = Guest::wants(ALL);
    assert_eq!(guest.occurred(), 0, "what was before it was enabled");
    guest.request(COMMAND_READY);
    assert_eq!(guest.occurred(), READY);
    guest.request(COMMAND_READY);
    assert_eq!(guest.occurred(), READY, "asked for and done");
    guest.put(0, &message(&[1, 2]));
    assert_eq!(guest.occurred(), 0);
    guest.start(0);
    assert_eq!(guest.occurred(), START);
    guest.request(COMMAND_READY | GO_IDLE);
    assert_eq!(guest.occurred(), 0, "neither");
    guest.request(GO_IDLE);
    assert_eq!(guest.occurred(), 0);
    // SeaBIOS's first command comes without cmdReady.
    guest.put(0, &message(&[]));
    guest.start(0);
    guest.request(COMMAND_READY);
    assert_eq!(guest.occurred(), START | READY);
}

/// The response comes later, or never.
#[test]
fn a_command_that_takes_longer_occurs_when_it_is_over() {
    let mut guest = Guest::wants(ALL);
    guest.0.engine_mut().slices = 2;
    guest.put(0, &message(&[1]));
    guest.start(0);
    assert_eq!(guest.occurred(), 0);
    guest.0.go_on(u64::MAX);
    guest.0.go_on(u64::MAX);
    assert_eq!(guest.read32(0, offset::CTRL_START), 0);
    assert_eq!(guest.occurred(), START);
    guest.0.engine_mut().slices = 2;
    guest.start(0);
    guest.request(GO_IDLE);
    guest.0.go_on(u64::MAX);
    assert_eq!(guest.occurred(), 0, "nobody wanted it");
}

#[test]
fn a_locality_that_gets_the_tpm_hears_of_it() {
    let mut guest = Guest::wants(ALL);
    guest.control_locality(0, REQUEST);
    assert_eq!(guest.occurred(), 0, "it had it");
    guest.control_locality(0, RELINQUISH);
    guest.control_locality(0, REQUEST);
    assert_eq!(guest.occurred(), CHANGE);
    guest.control_locality(1, REQUEST);
    guest.write32(1, offset::INT_ENABLE, ON | ALL);
    assert_eq!(guest.read32(1, offset::INT_ENABLE), 0, "not its to change");
    guest.control_locality(2, SEIZE);
    guest.write32(2, offset::INT_ENABLE, ON | ALL);
    assert_eq!(guest.read32(2, offset::INT_STS), 0, "before it was enabled");
    guest.write32(0, offset::INT_STS, ALL);
    assert_eq!(guest.read32(0, offset::INT_STS), 0);
    guest.control_locality(2, RELINQUISH);
    guest.control_locality(1, RELINQUISH);
    guest.control_locality(0, REQUEST);
    assert_eq!(guest.occurred(), CHANGE);
}

#[test]
fn nothing_occurs_that_is_not_enabled() {
    for enable in [0, ALL, ON, ON | ALL & !START] {
        let mut guest = Guest::granted();
        guest.write32(0, offset::INT_ENABLE, enable);
        guest.put(0, &message(&[]));
        guest.start(0);
        assert_eq!(guest.occurred(), 0, "{enable:#x}");
        // Not later either.
        guest.write32(0, offset::INT_ENABLE, ON | ALL);
        assert_eq!(guest.occurred(), 0, "{enable:#x}");
    }
}

/// By the owner and the global enable; a reset forgets all.
#[test]
fn the_line_is_asserted_until_all_is_known() {
    let mut guest = Guest::wants(ALL);
    guest.request(COMMAND_READY);
    guest.put(0, &message(&[]));
    guest.start(0);
    guest.write32(0, offset::INT_STS, READY);
    assert!(guest.0.line());
    guest.write32(0, offset::INT_ENABLE, ALL);
    assert!(!guest.0.line(), "the status stays");
    guest.write32(0, offset::INT_ENABLE, ON);
    assert!(guest.0.line());
    guest.control_locality(0, RELINQUISH);
    guest.write32(0, offset::INT_STS, START);
    assert!(guest.0.line(), "not its owner");
    guest.0.reset().unwrap();
    assert!(!guest.0.line());
    assert_eq!(guest.read32(0, offset::INT_STS), 0);
    assert_eq!(guest.read32(0, offset::INT_ENABLE), 0);
}

#[test]
fn the_end_of_a_dynamic_launch_occurs_to_who_says_so() {
    let mut guest = Guest::new();
    guest.0.engine_mut().established = true;
    guest.0.reset().unwrap();
    guest.control_locality(3, REQUEST);
    guest.write32(3, offset::INT_ENABLE, ON | ALL);
    for expected in [ESTABLISHMENT_CLEAR, 0] {
        guest.control_locality(3, RESET_ESTABLISHMENT);
        assert_eq!(guest.read32(3, offset::INT_STS), expected);
        guest.write32(3, offset::INT_STS, expected);
    }
}
