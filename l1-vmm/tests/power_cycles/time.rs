//! Clock, Time, the counts of starts, and how the last life ended.

use attestation::tpm::{Command, Fields, cc, rh};

use super::Expect::{Fits, Is, Plus, Same};
use super::chip::{self, Chip, wait};
use super::{Row, until_reset};

/// TPM2_PolicyCounterTimer.
const POLICY_COUNTER_TIMER: u32 = 0x16D;
/// TPM_PT_STARTUP_CLEAR; its bit `orderly`.
const PT_STARTUP_CLEAR: u32 = 0x201;
const ORDERLY: u64 = 1 << 31;
/// Milliseconds between two writes of Clock to NV (part 1, "Clock": at most 2^22; TPM_PT_CLOCK_UPDATE is 4,096).
const UPDATE: u64 = 4_096;

/// TPMS_TIME_INFO.
struct TimeInfo {
    time: u64,
    clock: u64,
    resets: u32,
    restarts: u32,
    safe: u8,
}

fn info(chip: &mut Chip) -> TimeInfo {
    let parameters = chip.ok(&chip::read_clock());
    let mut fields = Fields::new(&parameters);
    TimeInfo {
        time: fields.u64().unwrap(),
        clock: fields.u64().unwrap(),
        resets: fields.u32().unwrap(),
        restarts: fields.u32().unwrap(),
        safe: fields.u8().unwrap(),
    }
}

fn resets(chip: &mut Chip) -> u64 {
    info(chip).resets.into()
}

fn restarts(chip: &mut Chip) -> u64 {
    info(chip).restarts.into()
}

fn clock(chip: &mut Chip) -> u64 {
    info(chip).clock
}

pub fn is_safe(chip: &mut Chip) -> u64 {
    info(chip).safe.into()
}

/// Some time, with commands in between: Clock is stored when a command runs.
fn pass(chip: &mut Chip, milliseconds: u64) {
    for _ in 0..milliseconds / 100 {
        wait(100);
        chip.ok(&chip::get_random(1));
    }
}

/// PolicyCounterTimer: resetCount is what was noted.
fn policy_counter_timer(chip: &mut Chip) -> u64 {
    let session = chip.policy_session();
    let command = Command::new(POLICY_COUNTER_TIMER)
        .handle(session)
        .sized(&chip.note)
        // resetCount in TPMS_TIME_INFO; TPM_EO_EQ.
        .u16(16)
        .u16(0);
    chip.code(&command.to_bytes())
}

pub const ROWS: &[Row] = &[
    Row {
        what: "resetCount",
        source: "part 1, Timing Components, resetCount",
        set: resets,
        see: resets,
        expect: [Plus(1), Same, Same, Plus(1), Plus(1)],
    },
    Row {
        what: "restartCount",
        source: "part 1, Timing Components, restartCount",
        set: |chip| {
            chip.ok(&chip::shutdown(chip::STATE));
            chip.power_cycle();
            chip.ok(&chip::startup(chip::CLEAR));
            restarts(chip)
        },
        see: restarts,
        expect: [Is(0), Plus(1), Plus(1), Is(0), Is(0)],
    },
    Row {
        what: "Clock: does not go back after an orderly end, and to what was stored after another",
        source: "part 1, Timing Components, Clock",
        set: |chip| {
            pass(chip, 3 * UPDATE + 1_000);
            clock(chip)
        },
        see: clock,
        expect: [
            Fits(|before, after| after >= before && after < before + 1_000),
            Fits(|before, after| after >= before && after < before + 1_000),
            Fits(|before, after| after >= before && after < before + 1_000),
            Fits(|before, after| after + UPDATE >= before && after < before + UPDATE),
            Fits(|before, after| after + UPDATE >= before && after < before + UPDATE),
        ],
    },
    Row {
        what: "Clock, when an update's time is over: beyond everything that was read before",
        source: "part 1, Timing Components, Clock",
        set: |chip| {
            pass(chip, 3 * UPDATE + 1_000);
            clock(chip)
        },
        see: |chip| {
            pass(chip, 2 * UPDATE);
            assert_eq!(is_safe(chip), 1);
            clock(chip)
        },
        expect: [Fits(|before, after| after > before); 5],
    },
    Row {
        what: "that Clock was set forward",
        source: "part 3, TPM2_ClockSet",
        set: |chip| {
            let command = Command::new(cc::CLOCK_SET)
                .authorized(rh::OWNER, &[])
                .bytes(&1_000_000_000_u64.to_be_bytes());
            chip.ok(&command.to_bytes());
            0
        },
        see: |chip| clock(chip) / 1_000_000_000,
        expect: [Is(1); 5],
    },
    Row {
        what: "safe",
        source: "part 1, Timing Components, Safe; part 2, TPMS_CLOCK_INFO",
        set: |chip| {
            pass(chip, 2 * UPDATE);
            is_safe(chip)
        },
        see: is_safe,
        expect: [Is(1), Is(1), Is(1), Is(0), Is(0)],
    },
    Row {
        what: "Time: from the last _TPM_Init",
        source: "part 1, Timing Components, Time",
        set: |chip| {
            pass(chip, 10_000);
            let time = info(chip).time;
            assert!(time >= 10_000);
            time
        },
        see: |chip| info(chip).time,
        expect: [Fits(|_, after| after < 1_000); 5],
    },
    Row {
        what: "PolicyCounterTimer on resetCount",
        source: "part 3, TPM2_PolicyCounterTimer",
        set: |chip| {
            chip.note = info(chip).resets.to_be_bytes().to_vec();
            policy_counter_timer(chip)
        },
        see: policy_counter_timer,
        // TPM_RC_POLICY.
        expect: until_reset(Is(0x126)),
    },
    Row {
        what: "TPMA_STARTUP_CLEAR, orderly",
        source: "part 2, TPMA_STARTUP_CLEAR",
        set: |_| ORDERLY,
        see: |chip| chip.property(PT_STARTUP_CLEAR) & ORDERLY,
        expect: [Same, Same, Same, Is(0), Is(0)],
    },
];
