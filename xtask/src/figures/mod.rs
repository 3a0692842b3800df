//! The figures that the project promises.
//!
//! * `samples`: medians of what runs told; `guests`: the runs;
//! * `device`, `boot`, `size`, `attestation`: figures with their goals;
//! * `throughput`: L2's disk and network beside plain QEMU's;
//! * `processors`: what several processors cost;
//! * `state`: what a TPM that is kept costs;
//! * `opponent`: TPM commands, beside swtpm in a guest of KVM's.

pub(crate) mod attestation;
pub(crate) mod boot;
pub(crate) mod device;
pub(crate) mod guests;
pub(crate) mod opponent;
pub(crate) mod processors;
mod samples;
pub(crate) mod size;
pub(crate) mod state;
pub(crate) mod throughput;

use crate::report;

/// A figure and whether it holds.
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) value: String,
    pub(crate) goal: String,
    pub(crate) holds: bool,
}

impl Figure {
    /// One that nothing was promised of.
    pub(crate) fn without_goal(name: String, value: String) -> Self {
        Self {
            name,
            value,
            goal: String::new(),
            holds: true,
        }
    }
}

/// Prints them as a table.
pub(crate) fn print(figures: &[Figure]) {
    let rows = figures.iter().map(|figure| {
        let verdict = match (figure.goal.is_empty(), figure.holds) {
            (true, _) => "",
            (false, true) => "holds",
            (false, false) => "MISSED",
        };
        vec![
            figure.name.clone(),
            figure.value.clone(),
            figure.goal.clone(),
            verdict.to_owned(),
        ]
    });
    println!(
        "{}",
        report::table(&["figure", "measured", "goal", ""], rows)
    );
}
