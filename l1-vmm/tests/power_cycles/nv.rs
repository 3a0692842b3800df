//! NV indices: their contents, locks and policies.

use attestation::digest::{Algorithm, Digest};
use attestation::tpm::{Command, Fields, NvPublic, cc, rc, rh};

use super::Expect::{Fits, Is, Same};
use super::chip::{self, Chip, by_owner, code, number};
use super::{KEPT, Row, WORKS, resume_alone, until_reset};

/// TPMA_NV: OWNERWRITE, OWNERREAD, NO_DA (part 2, "TPMA_NV").
const PLAIN: u32 = 0x0202_0002;
/// TPM_NT in TPMA_NV: counter, bit field, extend, PIN fail, PIN pass.
const COUNTER: u32 = 1 << 4;
const BITS: u32 = 2 << 4;
const EXTEND: u32 = 4 << 4;
const PIN_FAIL: u32 = 8 << 4;
const PIN_PASS: u32 = 9 << 4;
const WRITEDEFINE: u32 = 1 << 13;
const WRITE_STCLEAR: u32 = 1 << 14;
const GLOBALLOCK: u32 = 1 << 15;
const AUTHREAD: u32 = 1 << 18;
pub const ORDERLY: u32 = 1 << 26;
const CLEAR_STCLEAR: u32 = 1 << 27;
const READ_STCLEAR: u32 = 1 << 31;

/// TPM_RC_NV_UNINITIALIZED.
const UNINITIALIZED: u64 = 0x14A;
/// TPM_RC_NV_LOCKED.
const LOCKED: u64 = rc::NV_LOCKED as u64;

const INDEX: u32 = 0x0150_0001;
const OTHER: u32 = 0x0150_0002;

/// TPM2_PolicyNV, TPM2_PolicyAuthorizeNV.
const POLICY_NV: u32 = 0x149;
const POLICY_AUTHORIZE_NV: u32 = 0x192;
/// TPM_EO_EQ.
const EQUAL: u16 = 0;

/// An index of 8 bytes, with these attributes beside [`PLAIN`]'s.
pub fn define(chip: &mut Chip, attributes: u32) {
    define_of(chip, attributes, 8);
}

fn define_of(chip: &mut Chip, attributes: u32, size: u16) {
    let public = NvPublic::new(INDEX, PLAIN | attributes, size);
    chip.ok(&chip::nv_define_space(rh::OWNER, b"pin", &public));
}

pub fn write(value: u64) -> Vec<u8> {
    chip::nv_write(rh::OWNER, INDEX, 0, &value.to_be_bytes())
}

/// The first 8 bytes, or the response code where there are none.
pub fn read(chip: &mut Chip) -> u64 {
    let response = chip.execute(&chip::nv_read(rh::OWNER, INDEX, 0, 8));
    match code(&response) {
        0 => number(&response[16..]),
        refused => refused.into(),
    }
}

fn on_index(command: u32) -> Command {
    by_owner(command).handle(INDEX)
}

fn increment(chip: &mut Chip) {
    chip.ok(&on_index(cc::NV_INCREMENT).to_bytes());
}

fn with_value(chip: &mut Chip, attributes: u32) -> u64 {
    define_of(chip, attributes, 8);
    chip.ok(&write(0x0123_4567_89AB_CDEF));
    read(chip)
}

fn with_counter(chip: &mut Chip, attributes: u32) -> u64 {
    define_of(chip, COUNTER | attributes, 8);
    for _ in 0..3 {
        increment(chip);
    }
    read(chip)
}

/// Reads with the index's own authorization.
fn pin(chip: &mut Chip, pin: &[u8]) -> u64 {
    chip.code(&chip::nv_read((INDEX, pin), INDEX, 0, 8))
}

fn with_pin(chip: &mut Chip, kind: u32) {
    define_of(chip, kind | AUTHREAD, 8);
    // TPMS_NV_PIN_COUNTER_PARAMETERS: pinCount 0, pinLimit 5.
    chip.ok(&write(5));
}

/// PolicyNV: the index has 8 bytes of this value.
fn policy_nv(chip: &mut Chip) -> u64 {
    let session = chip.policy_session();
    let command = by_owner(POLICY_NV)
        .handle(INDEX)
        .handle(session)
        .sized(&7_u64.to_be_bytes())
        .u16(0)
        .u16(EQUAL);
    chip.code(&command.to_bytes())
}

/// PolicyAuthorizeNV: the index has the digest of a policy without any assertion.
fn policy_authorize_nv(chip: &mut Chip) -> u64 {
    let session = chip.policy_session();
    let command = by_owner(POLICY_AUTHORIZE_NV).handle(INDEX).handle(session);
    chip.code(&command.to_bytes())
}

/// The counter of an index that is defined now: counts on behind every one there ever was.
fn new_counter(chip: &mut Chip) -> u64 {
    let public = NvPublic::new(OTHER, PLAIN | COUNTER, 8);
    chip.ok(&chip::nv_define_space(rh::OWNER, &[], &public));
    chip.ok(&by_owner(cc::NV_INCREMENT).handle(OTHER).to_bytes());
    let parameters = chip.ok(&chip::nv_read(rh::OWNER, OTHER, 0, 8));
    number(Fields::new(&parameters).sized().unwrap())
}

pub const ROWS: &[Row] = &[
    Row {
        what: "an NV index's data",
        source: "part 1, NV Memory",
        set: |chip| with_value(chip, 0),
        see: read,
        expect: KEPT,
    },
    Row {
        what: "an NV counter",
        source: "part 1, NV Indexes, TPM_NT_COUNTER",
        set: |chip| with_counter(chip, 0),
        see: read,
        expect: KEPT,
    },
    Row {
        what: "an orderly NV counter: never less, and after an unclean end beyond what it can have been",
        source: "part 1, NV Indexes, Orderly; part 2, TPMA_NV_ORDERLY",
        set: |chip| with_counter(chip, ORDERLY),
        see: read,
        expect: [
            Same,
            Same,
            Same,
            // MAX_ORDERLY_COUNT (part 2, "Implementation-Dependent": TPM_PT_ORDERLY_COUNT) is 255.
            Fits(|before, after| after == before | 0xFF),
            Fits(|before, after| after == before | 0xFF),
        ],
    },
    Row {
        what: "an orderly NV index's data",
        source: "part 1, NV Indexes, Orderly; part 3, TPM2_Startup",
        set: |chip| with_value(chip, ORDERLY),
        see: read,
        // TPM Reset clears TPMA_NV_WRITTEN of an orderly index that is no counter.
        expect: until_reset(Is(UNINITIALIZED)),
    },
    Row {
        what: "a counter that is defined later begins behind all that were",
        source: "part 3, TPM2_NV_Increment",
        set: |chip| {
            let value = with_counter(chip, 0);
            chip.ok(&chip::nv_undefine_space(rh::OWNER, INDEX));
            value
        },
        see: new_counter,
        expect: [Fits(|before, after| after == before + 1); 5],
    },
    Row {
        what: "TPMA_NV_CLEAR_STCLEAR",
        source: "part 2, TPMA_NV",
        set: |chip| with_value(chip, CLEAR_STCLEAR),
        see: read,
        expect: resume_alone(Is(UNINITIALIZED)),
    },
    Row {
        what: "TPMA_NV_CLEAR_STCLEAR of an orderly index",
        source: "part 2, TPMA_NV",
        set: |chip| with_value(chip, CLEAR_STCLEAR | ORDERLY),
        see: read,
        expect: resume_alone(Is(UNINITIALIZED)),
    },
    Row {
        what: "a read lock",
        source: "part 3, TPM2_NV_ReadLock",
        set: |chip| {
            let value = with_value(chip, READ_STCLEAR);
            chip.note = value.to_be_bytes().to_vec();
            chip.ok(&on_index(cc::NV_READ_LOCK).to_bytes());
            read(chip)
        },
        see: |chip| match read(chip) {
            value if value == number(&chip.note) => 0,
            refused => refused,
        },
        expect: resume_alone(Is(0)),
    },
    Row {
        what: "a write lock until the next start",
        source: "part 3, TPM2_NV_WriteLock",
        set: |chip| {
            with_value(chip, WRITE_STCLEAR);
            chip.ok(&on_index(cc::NV_WRITE_LOCK).to_bytes());
            chip.code(&write(1))
        },
        see: |chip| chip.code(&write(1)),
        expect: resume_alone(Is(0)),
    },
    Row {
        what: "a write lock for good",
        source: "part 3, TPM2_NV_WriteLock",
        set: |chip| {
            with_value(chip, WRITEDEFINE);
            chip.ok(&on_index(cc::NV_WRITE_LOCK).to_bytes());
            chip.code(&write(1))
        },
        see: |chip| chip.code(&write(1)),
        expect: [Is(LOCKED); 5],
    },
    Row {
        what: "a write lock for good, which an index that was not written loses",
        source: "part 2, TPMA_NV_WRITEDEFINE",
        set: |chip| {
            define_of(chip, WRITEDEFINE, 8);
            chip.ok(&on_index(cc::NV_WRITE_LOCK).to_bytes());
            chip.code(&write(1))
        },
        see: |chip| chip.code(&write(1)),
        expect: resume_alone(Is(0)),
    },
    Row {
        what: "a global write lock",
        source: "part 3, TPM2_NV_GlobalWriteLock",
        set: |chip| {
            with_value(chip, GLOBALLOCK);
            chip.ok(&by_owner(cc::NV_GLOBAL_WRITE_LOCK).to_bytes());
            chip.code(&write(1))
        },
        see: |chip| chip.code(&write(1)),
        expect: resume_alone(Is(0)),
    },
    Row {
        what: "a bit field",
        source: "part 3, TPM2_NV_SetBits",
        set: |chip| {
            define_of(chip, BITS, 8);
            for bit in [1_u64 << 3, 1 << 60] {
                let command = on_index(cc::NV_SET_BITS).bytes(&bit.to_be_bytes());
                chip.ok(&command.to_bytes());
            }
            read(chip)
        },
        see: read,
        expect: [Is((1 << 60) | (1 << 3)); 5],
    },
    Row {
        what: "an extend index",
        source: "part 3, TPM2_NV_Extend",
        set: |chip| {
            define_of(chip, EXTEND, 32);
            chip.ok(&on_index(cc::NV_EXTEND).sized(b"event").to_bytes());
            read(chip)
        },
        see: read,
        expect: KEPT,
    },
    Row {
        what: "a PIN fail index's count of wrong PINs",
        source: "part 1, NV Indexes, TPM_NT_PIN_FAIL",
        set: |chip| {
            with_pin(chip, PIN_FAIL);
            for _ in 0..2 {
                assert_ne!(pin(chip, b"guess"), 0);
            }
            read(chip)
        },
        see: read,
        expect: [Is((2 << 32) | 5); 5],
    },
    Row {
        what: "a PIN pass index's count of right PINs",
        source: "part 1, NV Indexes, TPM_NT_PIN_PASS",
        set: |chip| {
            with_pin(chip, PIN_PASS);
            for _ in 0..2 {
                assert_eq!(pin(chip, b"pin"), 0);
            }
            read(chip)
        },
        see: read,
        expect: [Is((2 << 32) | 5); 5],
    },
    Row {
        what: "PolicyNV on an index",
        source: "part 3, TPM2_PolicyNV",
        set: |chip| {
            define_of(chip, 0, 8);
            chip.ok(&write(7));
            policy_nv(chip)
        },
        see: policy_nv,
        expect: WORKS,
    },
    Row {
        what: "PolicyAuthorizeNV on an index",
        source: "part 3, TPM2_PolicyAuthorizeNV",
        set: |chip| {
            define_of(chip, 0, 34);
            // TPMT_HA.
            let mut policy = Algorithm::Sha256.id().to_be_bytes().to_vec();
            policy.extend(Digest::zero(Algorithm::Sha256).bytes());
            chip.ok(&chip::nv_write(rh::OWNER, INDEX, 0, &policy));
            policy_authorize_nv(chip)
        },
        see: policy_authorize_nv,
        expect: WORKS,
    },
];
