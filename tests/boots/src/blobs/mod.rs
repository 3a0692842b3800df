//! Blob guests: L2 kernels of a few dozen instructions under the real L1 image, for what no stock
//! kernel does.
//!
//! * `kernel`: the bzImage around a program; `program`, `runtime`: writing one.
//! * `guest`: what a run must show; `l1_image`: where L1 is.
//! * `script`: a guest that is a list of TPM commands, for other tests' boots.
//! * The other files are the programs, by what they try: each has a table of `Guest`s.
//!
//! A program prints one line for each check, `@check NAME ok` or `@check NAME fail VALUE`. What
//! ends a run is compared with what L1 and the host say of it.

mod debugging;
mod ends;
mod guest;
mod kernel;
mod l1_image;
mod l1_memory;
mod modes;
mod msr;
mod pending_interrupts;
mod program;
mod runtime;
pub(crate) mod script;
mod state;
mod tdcalls;
mod tpm_commands;
mod tpm_window;
mod virtio;

use crate::{Setup, Suite};
use anyhow::{Result, ensure};
use guest::Guest;
use l1_image::L1Image;
use std::sync::Arc;

fn guests() -> impl Iterator<Item = Guest> {
    tpm_window::guests()
        .into_iter()
        .chain(tpm_commands::guests())
        .chain(tdcalls::guests())
        .chain(state::guests())
        .chain(msr::guests())
        .chain(pending_interrupts::guests())
        .chain(modes::guests())
        .chain(l1_memory::guests())
        .chain(virtio::guests())
        .chain(debugging::guests())
        .chain(ends::guests())
}

/// Every guest whose name contains `filter`. Boots one that does nothing, to ask L1 where it is.
pub fn suite<'a>(setup: &'a Setup, filter: &str) -> Result<Suite<'a>> {
    let image = Arc::new(L1Image::new(setup)?);
    let mut suite = Suite::new();
    for guest in guests().filter(|guest| guest.name.contains(filter)) {
        let image = Arc::clone(&image);
        suite.add(move |place| guest.check(setup, &image, place));
    }
    ensure!(!suite.is_empty(), "none is named {filter:?}");
    Ok(suite)
}
