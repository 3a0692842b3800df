//! Hierarchies: their authorizations, enables, seeds, and the objects that are in NV.

use attestation::tpm::{Command, Fields, Public, cc, rh, template};

use super::Expect::Is;
use super::chip::{self, Chip, number};
use super::{KEPT, Row, WORKS, resume_alone, until_reset};

/// TPM_RH_PLATFORM_NV.
const PLATFORM_NV: u32 = 0x4000_000D;
/// TPM_PT_PERMANENT, its bits ownerAuthSet and disableClear; TPM_PT_STARTUP_CLEAR, its bits.
const PT_PERMANENT: u32 = 0x200;
const DISABLE_CLEAR: u64 = 1 << 8;
const PT_STARTUP_CLEAR: u32 = 0x201;
const PH_ENABLE: u64 = 1;
const SH_ENABLE: u64 = 1 << 1;
const EH_ENABLE: u64 = 1 << 2;
const PH_ENABLE_NV: u64 = 1 << 3;

const PERSISTENT: u32 = 0x8100_0010;

/// The name of the primary key that a hierarchy has now, as a number.
fn primary(chip: &mut Chip, hierarchy: u32) -> u64 {
    let command = chip::create_primary(hierarchy, &template::ek_p256());
    let (handle, parameters) = chip.made(&command);
    chip.ok(&chip::flush_context(handle));
    let public = Fields::new(&parameters).sized().unwrap().to_vec();
    name(&public)
}

fn name(public: &[u8]) -> u64 {
    number(&Public::parse(public).unwrap().name().as_bytes()[2..])
}

/// The name of a persistent object, or why there is none.
fn persistent(chip: &mut Chip) -> u64 {
    let response = chip.execute(&chip::read_public(PERSISTENT));
    match chip::code(&response) {
        0 => name(Fields::new(&response[10..]).sized().unwrap()),
        refused => refused.into(),
    }
}

fn evict(chip: &mut Chip) -> u64 {
    let command = chip::create_primary(rh::OWNER, &template::ek_p256());
    let (handle, _) = chip.made(&command);
    chip.ok(&chip::evict_control(handle, PERSISTENT));
    persistent(chip)
}

fn change_auth(chip: &mut Chip, hierarchy: u32) -> u64 {
    chip.ok(&chip::hierarchy_change_auth(hierarchy, b"new"));
    use_auth(chip, hierarchy)
}

/// Uses the hierarchy's authorization, which is "new".
fn use_auth(chip: &mut Chip, hierarchy: u32) -> u64 {
    let by = (hierarchy, b"new".as_slice());
    let command = chip::hierarchy_change_auth(by, b"new");
    chip.code(&command)
}

/// TPM2_HierarchyControl by the platform: disables.
fn disable(chip: &mut Chip, enable: u32) {
    let command = Command::new(cc::HIERARCHY_CONTROL)
        .authorized(rh::PLATFORM, &[])
        .u32(enable)
        .u8(0);
    chip.ok(&command.to_bytes());
}

fn enables(chip: &mut Chip, bit: u64) -> u64 {
    u64::from(chip.property(PT_STARTUP_CLEAR) & bit != 0)
}

/// TPM2_SetPrimaryPolicy of a policy that nothing fulfils but no assertion at all: zero.
fn set_policy(chip: &mut Chip, hierarchy: u32) {
    let command = Command::new(cc::SET_PRIMARY_POLICY)
        .authorized(hierarchy, &[])
        .sized(&[0; 32])
        .u16(0x000B);
    chip.ok(&command.to_bytes());
}

/// Whether the hierarchy can be used by its policy: a session without assertions.
fn by_policy(chip: &mut Chip, hierarchy: u32) -> u64 {
    let session = chip.policy_session();
    let by = (hierarchy, attestation::tpm::Authorization::policy(session));
    let command = Command::new(cc::HIERARCHY_CHANGE_AUTH)
        .entity(by)
        .sized(&[]);
    u64::from(chip.code(&command.to_bytes()) == 0)
}

fn change_seed(chip: &mut Chip, command: u32, hierarchy: u32) -> u64 {
    let before = primary(chip, hierarchy);
    let command = Command::new(command).authorized(rh::PLATFORM, &[]);
    chip.ok(&command.to_bytes());
    let after = primary(chip, hierarchy);
    assert_ne!(after, before);
    after
}

pub const ROWS: &[Row] = &[
    Row {
        what: "the owner's primary key, so its seed",
        source: "part 1, Primary Seeds",
        set: |chip| primary(chip, rh::OWNER),
        see: |chip| primary(chip, rh::OWNER),
        expect: KEPT,
    },
    Row {
        what: "the owner's seed after TPM2_Clear",
        source: "part 3, TPM2_Clear",
        set: |chip| {
            let before = primary(chip, rh::OWNER);
            chip.ok(&chip::clear());
            let after = primary(chip, rh::OWNER);
            assert_ne!(after, before);
            after
        },
        see: |chip| primary(chip, rh::OWNER),
        expect: KEPT,
    },
    Row {
        what: "the endorsement seed",
        source: "part 1, Primary Seeds",
        set: |chip| primary(chip, rh::ENDORSEMENT),
        see: |chip| primary(chip, rh::ENDORSEMENT),
        expect: KEPT,
    },
    Row {
        what: "the endorsement seed after TPM2_ChangeEPS",
        source: "part 3, TPM2_ChangeEPS",
        set: |chip| change_seed(chip, cc::CHANGE_EPS, rh::ENDORSEMENT),
        see: |chip| primary(chip, rh::ENDORSEMENT),
        expect: KEPT,
    },
    Row {
        what: "the platform's seed after TPM2_ChangePPS",
        source: "part 3, TPM2_ChangePPS",
        set: |chip| change_seed(chip, cc::CHANGE_PPS, rh::PLATFORM),
        see: |chip| primary(chip, rh::PLATFORM),
        expect: KEPT,
    },
    Row {
        what: "the null hierarchy's seed",
        source: "part 1, Primary Seeds, Null Seed",
        set: |chip| {
            let key = primary(chip, rh::NULL);
            chip.note = key.to_be_bytes().to_vec();
            1
        },
        see: |chip| u64::from(primary(chip, rh::NULL) == number(&chip.note)),
        expect: until_reset(Is(0)),
    },
    Row {
        what: "a persistent object",
        source: "part 3, TPM2_EvictControl",
        set: evict,
        see: persistent,
        expect: KEPT,
    },
    Row {
        what: "that a persistent object was evicted",
        source: "part 3, TPM2_EvictControl",
        set: |chip| {
            evict(chip);
            chip.ok(&chip::evict_control(PERSISTENT, PERSISTENT));
            persistent(chip)
        },
        see: persistent,
        // TPM_RC_HANDLE of handle 1.
        expect: [Is(0x18B); 5],
    },
    Row {
        what: "ownerAuth",
        source: "part 1, Hierarchies; part 3, TPM2_HierarchyChangeAuth",
        set: |chip| change_auth(chip, rh::OWNER),
        see: |chip| use_auth(chip, rh::OWNER),
        expect: WORKS,
    },
    Row {
        what: "endorsementAuth",
        source: "part 1, Hierarchies; part 3, TPM2_HierarchyChangeAuth",
        set: |chip| change_auth(chip, rh::ENDORSEMENT),
        see: |chip| use_auth(chip, rh::ENDORSEMENT),
        expect: WORKS,
    },
    Row {
        what: "platformAuth",
        source: "part 3, TPM2_Startup",
        set: |chip| change_auth(chip, rh::PLATFORM),
        see: |chip| use_auth(chip, rh::PLATFORM),
        // TPM_RC_BAD_AUTH of session 1: it is empty.
        expect: resume_alone(Is(0x9A2)),
    },
    Row {
        what: "ownerPolicy",
        source: "part 3, TPM2_SetPrimaryPolicy",
        set: |chip| {
            set_policy(chip, rh::OWNER);
            by_policy(chip, rh::OWNER)
        },
        see: |chip| by_policy(chip, rh::OWNER),
        expect: [Is(1); 5],
    },
    Row {
        what: "platformPolicy",
        source: "part 3, TPM2_Startup",
        set: |chip| {
            set_policy(chip, rh::PLATFORM);
            by_policy(chip, rh::PLATFORM)
        },
        see: |chip| by_policy(chip, rh::PLATFORM),
        expect: resume_alone(Is(0)),
    },
    Row {
        what: "shEnable",
        source: "part 2, TPMA_STARTUP_CLEAR",
        set: |chip| {
            disable(chip, rh::OWNER);
            enables(chip, SH_ENABLE)
        },
        see: |chip| enables(chip, SH_ENABLE),
        expect: resume_alone(Is(1)),
    },
    Row {
        what: "ehEnable",
        source: "part 2, TPMA_STARTUP_CLEAR",
        set: |chip| {
            disable(chip, rh::ENDORSEMENT);
            enables(chip, EH_ENABLE)
        },
        see: |chip| enables(chip, EH_ENABLE),
        expect: resume_alone(Is(1)),
    },
    Row {
        what: "phEnableNV",
        source: "part 2, TPMA_STARTUP_CLEAR",
        set: |chip| {
            disable(chip, PLATFORM_NV);
            enables(chip, PH_ENABLE_NV)
        },
        see: |chip| enables(chip, PH_ENABLE_NV),
        expect: resume_alone(Is(1)),
    },
    Row {
        what: "phEnable: set by each start",
        source: "part 2, TPMA_STARTUP_CLEAR; part 3, TPM2_HierarchyControl",
        set: |chip| {
            disable(chip, rh::PLATFORM);
            enables(chip, PH_ENABLE)
        },
        see: |chip| enables(chip, PH_ENABLE),
        expect: [Is(1); 5],
    },
    Row {
        what: "disableClear",
        source: "part 3, TPM2_ClearControl",
        set: |chip| {
            let command = Command::new(cc::CLEAR_CONTROL)
                .authorized(rh::LOCKOUT, &[])
                .u8(1);
            chip.ok(&command.to_bytes());
            chip.property(PT_PERMANENT) & DISABLE_CLEAR
        },
        see: |chip| chip.property(PT_PERMANENT) & DISABLE_CLEAR,
        expect: [Is(DISABLE_CLEAR); 5],
    },
];
