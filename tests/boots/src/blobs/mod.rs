//! Blob guests: L2 kernels of a few dozen instructions under the real L1 image, for what no stock
//! kernel does.
//!
//! * `kernel`: the bzImage around a program; `program`, `runtime`: writing one.
//! * `guest`: what a run must show; `l1_image`: where L1 is.
//! * `processors`: guests with several processors, which race.
//! * `script`: a guest that is a list of TPM commands, for other tests' boots.
//! * The other files are the programs, by what they try: each has a table of `Guest`s.
//!
//! A program prints one line for each check, `@check NAME ok` or `@check NAME fail VALUE`. What
//! ends a run is compared with what L1 and the host say of it.

mod crb;
mod debugging;
mod ends;
mod guest;
mod kernel;
mod l1_image;
mod l1_memory;
mod modes;
mod msr;
mod pending_interrupts;
mod processors;
mod program;
mod resets;
mod runtime;
pub(crate) mod script;
mod services;
mod state;
mod tdcalls;
mod tpm_commands;
mod tpm_window;
mod virtio;

use crate::{Setup, Suite};
use anyhow::{Result, ensure};
use guest::{Guest, Schedule};
use l1_image::L1Image;
use std::ops::RangeInclusive;
use std::sync::Arc;

fn guests() -> impl Iterator<Item = Guest> {
    tpm_window::guests()
        .into_iter()
        .chain(tpm_commands::guests())
        .chain(crb::guests())
        .chain(tdcalls::guests())
        .chain(services::guests())
        .chain(state::guests())
        .chain(msr::guests())
        .chain(pending_interrupts::guests())
        .chain(modes::guests())
        .chain(l1_memory::guests())
        .chain(virtio::guests())
        .chain(debugging::guests())
        .chain(ends::guests())
        .chain(resets::guests())
        .chain(processors::guests())
}

/// How many schedules each race is tried with in every run of all tests.
const SCHEDULES: u32 = 1;
/// The longest turns of those, in virtual ns: a few instructions, a part of an exit, several exits.
const LONGEST: [u32; 3] = [1_500, 8_000, 60_000];

/// Every guest whose name contains `filter`, which may end with `, schedule=SEED:MOST`: the races by that schedule alone.
/// Boots one that does nothing, to ask L1 where it is.
pub fn suite<'a>(setup: &'a Setup, filter: &str) -> Result<Suite<'a>> {
    let Some((name, schedule)) = filter.split_once(", schedule=") else {
        let all = guests().chain(scheduled(1..=SCHEDULES));
        return of(setup, all.filter(|guest| guest.name.contains(filter)));
    };
    let schedule: Schedule = format!("schedule={schedule}").parse()?;
    let races = processors::races().into_iter().map(|guest| Guest {
        schedule: Some(schedule),
        ..guest
    });
    of(setup, races.filter(|guest| guest.name.contains(name)))
}

/// Every race with each of so many schedules.
pub fn races(setup: &Setup, schedules: u32) -> Result<Suite<'_>> {
    of(setup, scheduled(1..=schedules))
}

fn scheduled(seeds: RangeInclusive<u32>) -> impl Iterator<Item = Guest> {
    seeds.flat_map(|seed| {
        let lengths = LONGEST.into_iter().cycle().skip(seed as usize);
        let races = processors::races().into_iter().zip(lengths);
        races.map(move |(guest, most)| Guest {
            schedule: Some(Schedule { seed, most }),
            ..guest
        })
    })
}

fn of(setup: &Setup, guests: impl Iterator<Item = Guest>) -> Result<Suite<'_>> {
    let image = Arc::new(L1Image::new(setup)?);
    let mut suite = Suite::new();
    for guest in guests {
        let image = Arc::clone(&image);
        suite.add(move |place| guest.check(setup, &image, place));
    }
    ensure!(!suite.is_empty(), "none has that name");
    Ok(suite)
}
