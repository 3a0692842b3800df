//! What accesses to the TPM cost: exits of L2, TDCALLs, instructions of L1.

use super::Figure;
use super::samples;
use anyhow::{Context, Result};
use serde_json::Value;
use simulator::Run;

/// Most exits that the Linux driver may cause, by command. L1 runs ahead from one byte's access to the next.
const EXIT_GOALS: &[(&str, f64)] = &[
    ("GetRandom(32)", 10.0),
    ("PCR_Extend(SHA-256)", 10.0),
    ("Quote(ECC P-256)", 20.0),
    ("CreatePrimary(ECC P-256)", 20.0),
];
/// L1 instructions for a TIS register read.
const L1_INSTRUCTIONS_GOAL: f64 = 1500.0;

/// L2's exits for a command, of the run with the timing program.
pub(crate) fn exit_figures(ours: &Run) -> Vec<Figure> {
    let timings = samples::timings(&ours.transcript);
    EXIT_GOALS
        .iter()
        .map(|&(command, goal)| {
            let mark = timings
                .iter()
                .find(|timing| timing.command == command)
                .map_or(0, |timing| timing.mark);
            let exits = samples::median(&samples::costs(&ours.transcript, mark), |cost| {
                cost.tpm_exits
            });
            Figure {
                name: format!("L2 exits, {command}"),
                value: format!("{exits}"),
                goal: format!("≤ {goal}"),
                holds: exits <= goal,
            }
        })
        .collect()
}

/// What an exit costs in L1, of a run where each access is one.
pub(crate) fn l1_figures(ours: &Run) -> Result<Vec<Figure>> {
    let profile = ours
        .transcript
        .last("profile")
        .context("the simulator gave no profile")?;
    let number = |path: &str| {
        profile
            .pointer(path)
            .and_then(Value::as_f64)
            .unwrap_or(f64::NAN)
    };
    let tdcalls = number("/tdcalls_per_tpm_exit/median");
    let instructions = number("/l1_per_tpm_exit/median");
    Ok(vec![
        Figure {
            name: "TDCALLs per L2 exit on the TPM window (median)".to_owned(),
            value: format!("{tdcalls}"),
            goal: "1".to_owned(),
            holds: tdcalls == 1.0,
        },
        Figure {
            name: "L1 instructions per TPM register access (median)".to_owned(),
            value: format!("{instructions}"),
            goal: format!("≤ {L1_INSTRUCTIONS_GOAL}"),
            holds: instructions <= L1_INSTRUCTIONS_GOAL,
        },
    ])
}
