//! Protection against dictionary attacks.

use attestation::tpm::{Command, NvPublic, cc, rh};

use super::Expect::{Is, Plus, Same};
use super::chip::{self, Chip, wait};
use super::{KEPT, Row};

/// TPM_PT_LOCKOUT_COUNTER, TPM_PT_MAX_AUTH_FAIL, TPM_PT_LOCKOUT_INTERVAL, TPM_PT_LOCKOUT_RECOVERY.
const FAILED_TRIES: u32 = 0x20E;
const MAX_TRIES: u32 = 0x20F;
const RECOVERY_TIME: u32 = 0x210;
const LOCKOUT_RECOVERY: u32 = 0x211;
/// TPMA_NV: AUTHREAD, AUTHWRITE, under the protection.
const PROTECTED: u32 = 0x0004_0004;
const INDEX: u32 = 0x0150_0003;

fn parameters(chip: &mut Chip, tries: u32, recovery: u32, lockout: u32) {
    let command = Command::new(cc::DICTIONARY_ATTACK_PARAMETERS)
        .authorized(rh::LOCKOUT, &[])
        .u32(tries)
        .u32(recovery)
        .u32(lockout);
    chip.ok(&command.to_bytes());
}

/// An index under the protection, and room for ten tries that heal in 1,000 s each.
pub fn protected(chip: &mut Chip) {
    parameters(chip, 10, 1_000, 1_000);
    let public = NvPublic::new(INDEX, PROTECTED, 8);
    chip.ok(&chip::nv_define_space(rh::OWNER, b"password", &public));
}

fn write_with(chip: &mut Chip, password: &[u8]) -> u64 {
    chip.code(&chip::nv_write((INDEX, password), INDEX, 0, &[0; 8]))
}

pub fn guess(chip: &mut Chip) {
    // TPM_RC_AUTH_FAIL, of session 1.
    assert_eq!(write_with(chip, b"guess"), 0x98E);
}

fn failed_tries(chip: &mut Chip) -> u64 {
    chip.property(FAILED_TRIES)
}

/// Uses lockoutAuth, which is "lockout".
fn use_lockout(chip: &mut Chip, password: &[u8]) -> u64 {
    let command = Command::new(cc::DICTIONARY_ATTACK_LOCK_RESET).authorized(rh::LOCKOUT, password);
    chip.code(&command.to_bytes())
}

/// A wrong lockoutAuth, whose use is then refused for `recovery` seconds; for 0 until the next start.
fn locked_out(chip: &mut Chip, recovery: u32) -> u64 {
    parameters(chip, 10, 1_000, recovery);
    chip.ok(&chip::hierarchy_change_auth(rh::LOCKOUT, b"lockout"));
    assert_ne!(use_lockout(chip, b"guess"), 0);
    let refused = use_lockout(chip, b"lockout");
    assert_eq!(refused, 0x921);
    refused
}

pub const ROWS: &[Row] = &[
    Row {
        what: "failed tries; one more when the power went after a protected thing was used",
        source: "part 1, Dictionary Attack Protection; part 3, TPM2_Startup",
        set: |chip| {
            protected(chip);
            guess(chip);
            guess(chip);
            failed_tries(chip)
        },
        see: failed_tries,
        expect: [Same, Same, Same, Plus(1), Plus(1)],
    },
    Row {
        what: "failed tries, of a protected thing that was used rightly",
        source: "part 1, Dictionary Attack Protection",
        set: |chip| {
            protected(chip);
            assert_eq!(write_with(chip, b"password"), 0);
            failed_tries(chip)
        },
        see: failed_tries,
        expect: [Is(0), Is(0), Is(0), Is(1), Is(1)],
    },
    Row {
        what: "failed tries, where nothing that is protected was used",
        source: "part 1, Dictionary Attack Protection",
        set: |chip| {
            protected(chip);
            failed_tries(chip)
        },
        see: failed_tries,
        expect: [Is(0); 5],
    },
    Row {
        what: "the lockout, however often the power goes",
        source: "part 1, Dictionary Attack Protection",
        set: |chip| {
            protected(chip);
            parameters(chip, 2, 1_000, 1_000);
            guess(chip);
            guess(chip);
            write_with(chip, b"password")
        },
        see: |chip| write_with(chip, b"password"),
        // TPM_RC_LOCKOUT.
        expect: [Is(0x921); 5],
    },
    Row {
        what: "failed tries heal with the time after the start",
        source: "part 1, Dictionary Attack Protection, recoveryTime",
        set: |chip| {
            protected(chip);
            guess(chip);
            guess(chip);
            failed_tries(chip)
        },
        see: |chip| {
            let before = failed_tries(chip);
            wait(999_000);
            assert_eq!(failed_tries(chip), before);
            wait(2_000);
            chip.ok(&chip::get_random(1));
            before - failed_tries(chip)
        },
        expect: [Is(1); 5],
    },
    Row {
        what: "maxTries",
        source: "part 3, TPM2_DictionaryAttackParameters",
        set: |chip| {
            parameters(chip, 7, 8, 9);
            chip.property(MAX_TRIES)
        },
        see: |chip| chip.property(MAX_TRIES),
        expect: [Is(7); 5],
    },
    Row {
        what: "recoveryTime",
        source: "part 3, TPM2_DictionaryAttackParameters",
        set: |chip| {
            parameters(chip, 7, 8, 9);
            chip.property(RECOVERY_TIME)
        },
        see: |chip| chip.property(RECOVERY_TIME),
        expect: [Is(8); 5],
    },
    Row {
        what: "lockoutRecovery",
        source: "part 3, TPM2_DictionaryAttackParameters",
        set: |chip| {
            parameters(chip, 7, 8, 9);
            chip.property(LOCKOUT_RECOVERY)
        },
        see: |chip| chip.property(LOCKOUT_RECOVERY),
        expect: [Is(9); 5],
    },
    Row {
        what: "lockoutAuth",
        source: "part 1, Lockout Hierarchy",
        set: |chip| {
            chip.ok(&chip::hierarchy_change_auth(rh::LOCKOUT, b"lockout"));
            use_lockout(chip, b"lockout")
        },
        see: |chip| use_lockout(chip, b"lockout"),
        expect: [Is(0); 5],
    },
    Row {
        what: "a wrong lockoutAuth, with lockoutRecovery 0: \"a reboot is required\", whichever",
        source: "part 3, TPM2_DictionaryAttackParameters",
        set: |chip| locked_out(chip, 0),
        see: |chip| use_lockout(chip, b"lockout"),
        expect: [Is(0); 5],
    },
    Row {
        what: "a wrong lockoutAuth, with lockoutRecovery 1,000 s",
        source: "part 3, TPM2_DictionaryAttackParameters",
        set: |chip| locked_out(chip, 1_000),
        see: |chip| use_lockout(chip, b"lockout"),
        expect: KEPT,
    },
    Row {
        what: "a wrong lockoutAuth, when lockoutRecovery is over",
        source: "part 3, TPM2_DictionaryAttackParameters",
        set: |chip| locked_out(chip, 1_000),
        see: |chip| {
            wait(1_001_000);
            use_lockout(chip, b"lockout")
        },
        expect: [Is(0); 5],
    },
];
