//! What a TPM has to know after its power was off, for each way in which it went off: TPM 2.0 Library, part 1,
//! "TPM Operational States", and part 3, "TPM2_Startup".
//!
//! The engine is the real one, its states go through the real keeper and store to a disk in memory. A row is a thing that
//! a TPM keeps or loses, a column a power cycle. [`startup_state_needs_its_shutdown`] has what is no cycle, and [`vtpm`]
//! what L1 makes of it, which starts its TPM with TPM2_Startup(CLEAR) always.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what tests share, which clippy.toml does not take for tests"
)]

mod chip;
mod contexts;
mod disk;
mod hierarchies;
mod lockout;
mod nv;
mod registers;
#[path = "../../../vtpm/tests/support/mod.rs"]
mod support;
mod time;
mod vtpm;

use attestation::tpm::rc;
use chip::{CLEAR, Chip, STATE, code};

/// TPM_RC_VALUE, without the number of what it is about.
const VALUE: u32 = 0x084;

/// How the power goes off and comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cycle {
    /// Shutdown(CLEAR), power off, Startup(CLEAR): TPM Reset.
    Reset,
    /// Shutdown(STATE), power off, Startup(CLEAR): TPM Restart.
    Restart,
    /// Shutdown(STATE), power off, Startup(STATE): TPM Resume.
    Resume,
    /// Power off, Startup(CLEAR): TPM Reset after an unclean end.
    Cut,
    /// _TPM_Init within one life, Startup(CLEAR): the same.
    Init,
}

impl Cycle {
    const ALL: [Self; 5] = [
        Self::Reset,
        Self::Restart,
        Self::Resume,
        Self::Cut,
        Self::Init,
    ];

    fn run(self, chip: &mut Chip) {
        let (shutdown, startup) = match self {
            Self::Reset => (Some(CLEAR), CLEAR),
            Self::Restart => (Some(STATE), CLEAR),
            Self::Resume => (Some(STATE), STATE),
            Self::Cut | Self::Init => (None, CLEAR),
        };
        if let Some(kind) = shutdown {
            chip.ok(&chip::shutdown(kind));
        }
        match self {
            Self::Init => chip.init(),
            _ => chip.power_cycle(),
        }
        chip.ok(&chip::startup(startup));
    }
}

/// What is seen after a power cycle.
#[derive(Clone, Copy)]
pub enum Expect {
    /// What was there before.
    Same,
    /// This.
    Is(u64),
    /// So much more than before.
    Plus(u64),
    /// Something that fits what was before: `fits(before, after)`.
    Fits(fn(u64, u64) -> bool),
}

use Expect::{Is, Same};

impl Expect {
    fn holds(self, before: u64, after: u64) -> bool {
        match self {
            Self::Same => after == before,
            Self::Is(value) => after == value,
            Self::Plus(more) => after == before + more,
            Self::Fits(fits) => fits(before, after),
        }
    }
}

/// One thing that a TPM keeps or loses.
pub struct Row {
    /// What.
    pub what: &'static str,
    /// Where the specification says it.
    pub source: &'static str,
    /// Puts it there, and returns what `see` would.
    pub set: fn(&mut Chip) -> u64,
    /// Looks at it.
    pub see: fn(&mut Chip) -> u64,
    /// What is seen after TPM Reset, TPM Restart, TPM Resume, and after the two unclean ends.
    pub expect: [Expect; 5],
}

/// It is part of what never goes.
pub const KEPT: [Expect; 5] = [Same; 5];
/// A command that had worked works.
pub const WORKS: [Expect; 5] = [Is(0); 5];

/// TPM Resume alone keeps it: "state-clear" data.
pub const fn resume_alone(otherwise: Expect) -> [Expect; 5] {
    [otherwise, otherwise, Same, otherwise, otherwise]
}

/// TPM Restart and TPM Resume keep it: "state-reset" data.
pub const fn until_reset(otherwise: Expect) -> [Expect; 5] {
    [otherwise, Same, Same, otherwise, otherwise]
}

fn check(rows: &[Row]) {
    let mut wrong = Vec::new();
    for row in rows {
        for (cycle, expect) in Cycle::ALL.into_iter().zip(row.expect) {
            let mut chip = Chip::new();
            let before = (row.set)(&mut chip);
            cycle.run(&mut chip);
            let after = (row.see)(&mut chip);
            if !expect.holds(before, after) {
                wrong.push(format!(
                    "{} ({}), {cycle:?}: {before:#x} before, {after:#x} after",
                    row.what, row.source
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn nv_indices() {
    check(nv::ROWS);
}

#[test]
fn registers_banks_and_audit() {
    check(registers::ROWS);
}

#[test]
fn clocks_and_counts() {
    check(time::ROWS);
}

#[test]
fn dictionary_attacks() {
    check(lockout::ROWS);
}

#[test]
fn hierarchies_and_their_keys() {
    check(hierarchies::ROWS);
}

#[test]
fn objects_and_sessions() {
    check(contexts::ROWS);
}

/// Part 3, "TPM2_Startup": TPM_RC_VALUE without a preceding Shutdown(STATE); TPM_RC_INITIALIZE when it was started.
#[test]
fn startup_state_needs_its_shutdown() {
    type End = fn(&mut Chip);
    let ends: [(&str, End); 5] = [
        ("none", |_| {}),
        ("Shutdown(CLEAR)", |chip| {
            chip.ok(&chip::shutdown(CLEAR));
        }),
        ("a PCR that is extended after Shutdown(STATE)", |chip| {
            chip.ok(&chip::shutdown(STATE));
            chip.ok(&registers::extend(10));
        }),
        ("an orderly NV index that is written after it", |chip| {
            nv::define(chip, nv::ORDERLY);
            chip.ok(&chip::shutdown(STATE));
            chip.ok(&nv::write(7));
        }),
        ("a wrong password after it", |chip| {
            lockout::protected(chip);
            chip.ok(&chip::shutdown(STATE));
            lockout::guess(chip);
        }),
    ];
    for (what, end) in ends {
        let mut chip = Chip::new();
        end(&mut chip);
        chip.power_cycle();
        let refused = chip.execute(&chip::startup(STATE));
        assert_eq!(code(&refused) & 0x0BF, VALUE, "{what}");
        chip.ok(&chip::startup(CLEAR));
        let again = chip.execute(&chip::startup(CLEAR));
        assert_eq!(code(&again), rc::INITIALIZE, "{what}");
        assert_eq!(
            time::is_safe(&mut chip),
            u64::from(what == "Shutdown(CLEAR)")
        );
    }
}

/// Part 1, "TPM Operational States": what Shutdown(STATE) saved has no part of an NV index that is not orderly.
#[test]
fn an_nv_index_that_is_written_after_shutdown_state_leaves_it() {
    let mut chip = Chip::new();
    nv::define(&mut chip, 0);
    chip.ok(&registers::extend(10));
    chip.ok(&chip::shutdown(STATE));
    chip.ok(&nv::write(7));
    chip.power_cycle();
    chip.ok(&chip::startup(STATE));
    assert_eq!(nv::read(&mut chip), 7);
}

/// The state of a Shutdown(STATE) is used once.
#[test]
fn a_saved_state_is_resumed_once() {
    let mut chip = Chip::new();
    chip.ok(&registers::extend(10));
    Cycle::Resume.run(&mut chip);
    chip.power_cycle();
    let refused = chip.execute(&chip::startup(STATE));
    assert_eq!(code(&refused) & 0x0BF, VALUE);
}
