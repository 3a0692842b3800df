//! Transient objects, sessions, and what was saved of them.

use attestation::digest::Algorithm;
use attestation::tpm::{
    Command, Curve, Fields, Key, ObjectAttributes, Public, Scheme, Symmetric, rh,
};

use super::Expect::{Fits, Is};
use super::chip::{self, Chip};
use super::{Row, until_reset};

/// TPM2_ContextSave, TPM2_ContextLoad.
const SAVE: u32 = 0x162;
const LOAD: u32 = 0x161;
/// TPMA_OBJECT, stClear.
const ST_CLEAR: ObjectAttributes = ObjectAttributes(1 << 2);
/// TPM_RC_REFERENCE_H0: the handle's object is not loaded.
const NOT_LOADED: u64 = 0x910;

fn signing_key(attributes: ObjectAttributes) -> Public {
    Public {
        name_algorithm: Algorithm::Sha256,
        attributes: ObjectAttributes::FIXED_TPM
            | ObjectAttributes::FIXED_PARENT
            | ObjectAttributes::SENSITIVE_DATA_ORIGIN
            | ObjectAttributes::USER_WITH_AUTH
            | ObjectAttributes::SIGN
            | attributes,
        auth_policy: Vec::new(),
        symmetric: Symmetric::Null,
        scheme: Scheme::Ecdsa(Algorithm::Sha256),
        key: Key::Ecc {
            curve: Curve::P256,
            x: Vec::new(),
            y: Vec::new(),
        },
    }
}

/// A transient object, its handle noted.
fn object(chip: &mut Chip, attributes: ObjectAttributes) -> u32 {
    chip.made(&chip::create_primary(rh::OWNER, &signing_key(attributes)))
        .0
}

/// Saves a context into the note; 1: it can be loaded.
fn save(chip: &mut Chip, handle: u32) -> u64 {
    chip.note = chip.ok(&Command::new(SAVE).handle(handle).to_bytes());
    1
}

/// Whether the noted context can be loaded.
fn load(chip: &mut Chip) -> u64 {
    let command = Command::new(LOAD).bytes(&chip.note).to_bytes();
    u64::from(chip.code(&command) == 0)
}

/// Handles of a type that are loaded.
fn loaded(chip: &mut Chip, first: u32) -> u64 {
    const CAP_HANDLES: u32 = 1;
    let parameters = chip.ok(&chip::get_capability(CAP_HANDLES, first, 100));
    let mut fields = Fields::new(&parameters);
    fields.u8().unwrap();
    fields.u32().unwrap();
    fields.u32().unwrap().into()
}

/// TPM_HT_LOADED_SESSION, TPM_HT_SAVED_SESSION, TPM_HT_TRANSIENT.
const LOADED_SESSIONS: u32 = 0x0200_0000;
const SAVED_SESSIONS: u32 = 0x0300_0000;
const TRANSIENT: u32 = 0x8000_0000;

pub const ROWS: &[Row] = &[
    Row {
        what: "a transient object",
        source: "part 1, TPM Operational States; Object Contexts",
        set: |chip| {
            let handle = object(chip, ObjectAttributes::NO_DA);
            chip.code(&chip::read_public(handle))
        },
        see: |chip| chip.code(&chip::read_public(TRANSIENT)),
        expect: [Is(NOT_LOADED); 5],
    },
    Row {
        what: "a saved object",
        source: "part 1, Context Management, Object Contexts",
        set: |chip| {
            let handle = object(chip, ObjectAttributes::NO_DA);
            save(chip, handle)
        },
        see: load,
        expect: until_reset(Is(0)),
    },
    Row {
        what: "a saved object with stClear",
        source: "part 2, TPMA_OBJECT; part 1, Context Management",
        set: |chip| {
            let handle = object(chip, ObjectAttributes::NO_DA | ST_CLEAR);
            save(chip, handle)
        },
        see: load,
        expect: super::resume_alone(Is(0)),
    },
    Row {
        what: "a session that was not saved",
        source: "part 1, Context Management, Session Contexts",
        set: |chip| {
            chip.policy_session();
            loaded(chip, LOADED_SESSIONS)
        },
        see: |chip| loaded(chip, LOADED_SESSIONS),
        expect: [Is(0); 5],
    },
    Row {
        what: "a saved session",
        source: "part 1, Context Management, Session Contexts",
        set: |chip| {
            let session = chip.policy_session();
            save(chip, session)
        },
        see: load,
        expect: until_reset(Is(0)),
    },
    Row {
        what: "that a session was saved",
        source: "part 1, Context Management, Session Contexts",
        set: |chip| {
            let session = chip.policy_session();
            save(chip, session);
            loaded(chip, SAVED_SESSIONS)
        },
        see: |chip| loaded(chip, SAVED_SESSIONS),
        expect: until_reset(Is(0)),
    },
    Row {
        what: "a saved session is loaded once",
        source: "part 3, TPM2_ContextLoad",
        set: |chip| {
            let session = chip.policy_session();
            save(chip, session)
        },
        see: |chip| load(chip) + load(chip),
        expect: [Fits(|_, after| after <= 1); 5],
    },
];
