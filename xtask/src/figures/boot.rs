//! Boot time against plain QEMU's.

use super::Figure;
use super::guests::{on_simulator, plain};
use super::samples::Spread;
use crate::progress;
use anyhow::{Context, Result};
use boots::Setup;
use serde_json::{Value, json};

/// Most times as long as plain QEMU's.
const QUIET_BOOT_GOAL: f64 = 1.3;
const VERBOSE_BOOT_GOAL: f64 = 2.0;

/// Each of them, and the same for programs; `boots` is how many boots each is the median of.
pub(crate) fn figures(setup: &Setup, boots: usize) -> Result<Vec<(Figure, Value)>> {
    [
        (
            "boot to user space, quiet",
            "quiet tdp.mode=boot",
            QUIET_BOOT_GOAL,
        ),
        (
            "boot to user space, verbose",
            "tdp.mode=boot",
            VERBOSE_BOOT_GOAL,
        ),
    ]
    .into_iter()
    .map(|(name, words, goal)| figure(setup, name, words, goal, boots))
    .collect()
}

fn figure(
    setup: &Setup,
    name: &str,
    words: &str,
    goal: f64,
    boots: usize,
) -> Result<(Figure, Value)> {
    let step = progress::step(format!(
        "{name}: {boots} times, alternating with plain QEMU"
    ));
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..boots {
        let run = on_simulator(setup, &setup.initrd, words, "boot", &[])?;
        ours.extend(run.to_user_space.map(|time| time.as_secs_f64()));
        let run = plain(setup, &setup.initrd, words)?;
        theirs.extend(run.to_user_space.map(|time| time.as_secs_f64()));
    }
    step.done();
    let ours = Spread::of(ours).context("no boot came to user space")?;
    let theirs = Spread::of(theirs).context("no boot of plain QEMU came to user space")?;
    let ratio = ours.median / theirs.median;
    let figure = Figure {
        name: format!("{name}, against plain QEMU"),
        value: format!(
            "{ratio:.2} × ({:.2} s / {:.2} s)",
            ours.median, theirs.median
        ),
        goal: format!("≤ {goal} ×"),
        holds: ratio <= goal,
    };
    Ok((
        figure,
        json!({"name": name, "ratio": ratio, "seconds": ours, "plain_qemu_seconds": theirs}),
    ))
}
