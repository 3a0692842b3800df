//! PCRs, their banks, and audit.

use attestation::digest::{Algorithm, Digest};
use attestation::tpm::{Command, Fields, PcrSelect, PcrSelection, cc, rh};

use super::Expect::Is;
use super::chip::{self, Chip, by_owner, number};
use super::{KEPT, Row, resume_alone, until_reset};

/// TPM2_SetCommandCodeAuditStatus, TPM2_GetCommandAuditDigest, TPM2_PP_Commands, TPM2_SetAlgorithmSet.
const SET_AUDIT_STATUS: u32 = 0x140;
const GET_AUDIT_DIGEST: u32 = 0x133;
const PP_COMMANDS: u32 = 0x12D;
const SET_ALGORITHM_SET: u32 = 0x13F;
/// TPM_PT_ALGORITHM_SET, TPM_PT_AUDIT_COUNTER_1.
const PT_ALGORITHM_SET: u32 = 0x20C;
const PT_AUDIT_COUNTER: u32 = 0x214;

pub fn extend(pcr: u32) -> Vec<u8> {
    let digest = Digest::new(Algorithm::Sha256, &[0x11; 32]).unwrap();
    chip::pcr_extend(pcr, &[digest])
}

/// The PCR's value, after pcrUpdateCounter.
fn pcr_read(chip: &mut Chip, pcr: u8) -> (u32, Vec<u8>) {
    let parameters = chip.ok(&chip::pcr_read(PcrSelect::of(Algorithm::Sha256, [pcr])));
    let mut fields = Fields::new(&parameters);
    let counter = fields.u32().unwrap();
    PcrSelection::read(&mut fields).unwrap();
    assert_eq!(fields.u32().unwrap(), 1);
    (counter, fields.sized().unwrap().to_vec())
}

fn value(chip: &mut Chip, pcr: u8) -> u64 {
    number(&pcr_read(chip, pcr).1)
}

fn extended(chip: &mut Chip, pcr: u8) -> u64 {
    chip.ok(&extend(pcr.into()));
    value(chip, pcr)
}

/// A policy session that has PolicyPCR of PCR 10: the digest, as of values of now.
fn policy_pcr(chip: &mut Chip) -> u64 {
    let session = chip.policy_session();
    chip.ok(&chip::policy_pcr(
        session,
        PcrSelect::of(Algorithm::Sha256, [10]),
    ));
    number(&chip.ok(&chip::policy_get_digest(session))[2..])
}

/// Which banks there are, a bit each.
fn banks(chip: &mut Chip) -> u64 {
    const CAP_PCRS: u32 = 5;
    let parameters = chip.ok(&chip::get_capability(CAP_PCRS, 0, 1));
    let mut fields = Fields::new(&parameters);
    fields.u8().unwrap();
    fields.u32().unwrap();
    let mut banks = 0;
    for _ in 0..fields.u32().unwrap() {
        let algorithm = fields.u16().unwrap();
        let size = fields.u8().unwrap();
        let selected = fields.bytes(size.into()).unwrap();
        if selected.iter().any(|bits| *bits != 0) {
            banks |= 1_u64 << algorithm;
        }
    }
    banks
}

/// This bank alone.
fn allocate(chip: &mut Chip, bank: Algorithm) {
    let mut selection = Vec::new();
    selection.extend(4_u32.to_be_bytes());
    for algorithm in Algorithm::ALL {
        let bits = match bank == algorithm {
            true => 0xFF,
            false => 0,
        };
        selection.extend(algorithm.id().to_be_bytes());
        selection.extend([3, bits, bits, bits]);
    }
    let command = Command::new(cc::PCR_ALLOCATE)
        .authorized(rh::PLATFORM, &[])
        .bytes(&selection);
    chip.ok(&command.to_bytes());
}

/// Whether the TPM audits TPM2_GetRandom: whether the audit counter moves on with the first one after the digest was read.
fn audit(chip: &mut Chip, code: u32) {
    let command = by_owner(SET_AUDIT_STATUS)
        // auditAlg is not changed; one command is set, none cleared.
        .u16(0x0010)
        .u32(1)
        .u32(code)
        .u32(0);
    chip.ok(&command.to_bytes());
}

/// TPM_CAP_AUDIT_COMMANDS: how many commands are audited.
fn audited(chip: &mut Chip) -> u64 {
    const CAP_AUDIT_COMMANDS: u32 = 4;
    let parameters = chip.ok(&chip::get_capability(CAP_AUDIT_COMMANDS, 0, 100));
    let mut fields = Fields::new(&parameters);
    fields.u8().unwrap();
    fields.u32().unwrap();
    fields.u32().unwrap().into()
}

/// TPM2_GetCommandAuditDigest, not signed: the digest of the commands since the last one.
fn audit_digest(chip: &mut Chip) -> u64 {
    let command = Command::new(GET_AUDIT_DIGEST)
        .authorized(rh::ENDORSEMENT, &[])
        .authorized(rh::NULL, &[])
        .sized(&[])
        .u16(0x0010);
    let parameters = chip.ok(&command.to_bytes());
    let attest = Fields::new(&parameters).sized().unwrap().to_vec();
    // TPMS_ATTEST: magic, type, qualifiedSigner, extraData, clockInfo (17), firmwareVersion (8), TPMS_COMMAND_AUDIT_INFO.
    let mut fields = Fields::new(&attest);
    fields.bytes(6).unwrap();
    fields.sized().unwrap();
    fields.sized().unwrap();
    fields.bytes(17 + 8).unwrap();
    // auditCounter, digestAlg, auditDigest.
    fields.bytes(8 + 2).unwrap();
    number(fields.sized().unwrap())
}

/// TPM_CAP_PP_COMMANDS: how many commands need physical presence.
fn physical(chip: &mut Chip) -> u64 {
    const CAP_PP_COMMANDS: u32 = 3;
    let parameters = chip.ok(&chip::get_capability(CAP_PP_COMMANDS, 0, 100));
    let mut fields = Fields::new(&parameters);
    fields.u8().unwrap();
    fields.u32().unwrap();
    fields.u32().unwrap().into()
}

pub const ROWS: &[Row] = &[
    Row {
        what: "PCR 10, whose state is saved",
        source: "part 1, PCR Operations; PC Client Platform TPM Profile, PCR Attributes",
        set: |chip| extended(chip, 10),
        see: |chip| value(chip, 10),
        expect: resume_alone(Is(0)),
    },
    Row {
        what: "PCR 16, whose state is not",
        source: "PC Client Platform TPM Profile, PCR Attributes",
        set: |chip| extended(chip, 16),
        see: |chip| value(chip, 16),
        expect: [Is(0); 5],
    },
    Row {
        what: "PCR 17, of a dynamic launch",
        source: "PC Client Platform TPM Profile, PCR Attributes",
        set: |chip| value(chip, 17),
        see: |chip| value(chip, 17),
        expect: [Is(u64::MAX); 5],
    },
    Row {
        what: "PolicyPCR over a boot",
        source: "part 3, TPM2_PolicyPCR",
        set: |chip| {
            let reset = policy_pcr(chip);
            chip.note = reset.to_be_bytes().to_vec();
            extended(chip, 10);
            assert_ne!(policy_pcr(chip), reset);
            1
        },
        // Whether the policy is not that of a PCR that was reset.
        see: |chip| u64::from(policy_pcr(chip) != number(&chip.note)),
        expect: resume_alone(Is(0)),
    },
    Row {
        what: "the banks that were allocated",
        source: "part 3, TPM2_PCR_Allocate",
        set: |chip| {
            allocate(chip, Algorithm::Sha256);
            // They come with the next _TPM_Init.
            let before = banks(chip);
            chip.power_cycle();
            chip.ok(&chip::startup(chip::CLEAR));
            assert_ne!(banks(chip), before);
            banks(chip)
        },
        see: banks,
        expect: [Is(1 << 0x0B); 5],
    },
    Row {
        what: "the commands that are audited",
        source: "part 3, TPM2_SetCommandCodeAuditStatus",
        set: |chip| {
            audit(chip, cc::GET_RANDOM);
            audited(chip)
        },
        see: audited,
        // And TPM2_SetCommandCodeAuditStatus, which is always.
        expect: [Is(2); 5],
    },
    Row {
        what: "the command audit digest",
        source: "part 1, Command Audit",
        set: |chip| {
            audit(chip, cc::GET_RANDOM);
            chip.ok(&chip::get_random(8));
            audit_digest(chip);
            // That one reset it; this one is not in what is read after the power cycle, unless the digest is kept.
            chip.ok(&chip::get_random(8));
            1
        },
        see: |chip| u64::from(audit_digest(chip) != 0),
        expect: until_reset(Is(0)),
    },
    Row {
        what: "the audit counter",
        source: "part 1, Command Audit",
        set: |chip| {
            audit(chip, cc::GET_RANDOM);
            chip.ok(&chip::get_random(8));
            chip.property(PT_AUDIT_COUNTER)
        },
        see: |chip| chip.property(PT_AUDIT_COUNTER),
        expect: KEPT,
    },
    Row {
        what: "the algorithm set",
        source: "part 3, TPM2_SetAlgorithmSet",
        set: |chip| {
            let command = Command::new(SET_ALGORITHM_SET)
                .authorized(rh::PLATFORM, &[])
                .u32(1);
            chip.ok(&command.to_bytes());
            chip.property(PT_ALGORITHM_SET)
        },
        see: |chip| chip.property(PT_ALGORITHM_SET),
        expect: [Is(1); 5],
    },
    Row {
        what: "the commands that need physical presence",
        source: "part 3, TPM2_PP_Commands",
        set: |chip| {
            chip.note = physical(chip).to_be_bytes().to_vec();
            let command = Command::new(PP_COMMANDS)
                .authorized(rh::PLATFORM, &[])
                .u32(1)
                .u32(cc::CLEAR)
                .u32(0);
            // The platform asserts no physical presence, so that the list cannot be changed.
            chip.code(&command.to_bytes())
        },
        see: |chip| u64::from(physical(chip) == number(&chip.note)),
        expect: [Is(1); 5],
    },
];
