//! What several processors cost: exits and TDCALLs for an IPI, a wake-up, a switch, a tick; TPM commands from all of them;
//! boots and a build's load against plain QEMU.

use super::Figure;
use super::guests::{on_simulator, plain_with};
use super::samples::Spread;
use crate::report;
use anyhow::{Context, Result, ensure};
use boots::Setup;
use serde_json::{Value, json};
use simulator::{Clock, Run, Transcript};
use std::path::Path;

/// Numbers of processors that are measured.
const CPUS: [u32; 3] = [1, 2, 4];

/// Of one case on so many processors, for each round.
#[derive(Debug)]
pub(crate) struct Row {
    cpus: u32,
    case: String,
    /// Interrupts of the kind that the case counts.
    interrupts: f64,
    exits: f64,
    tdcalls: f64,
    tdvmcalls: f64,
    /// By the guest's clock.
    microseconds: f64,
}

impl Row {
    pub(crate) fn json(&self) -> Value {
        json!({
            "cpus": self.cpus, "case": self.case, "interrupts": self.interrupts, "exits": self.exits,
            "tdcalls": self.tdcalls, "tdvmcalls": self.tdvmcalls, "microseconds": self.microseconds,
        })
    }
}

/// Prints them as a table.
pub(crate) fn print(rows: &[Row]) {
    let cells = rows.iter().map(|row| {
        vec![
            row.cpus.to_string(),
            row.case.clone(),
            format!("{:.2}", row.interrupts),
            format!("{:.2}", row.exits),
            format!("{:.2}", row.tdcalls),
            format!("{:.2}", row.tdvmcalls),
            format!("{:.1}", row.microseconds),
        ]
    });
    let heading = [
        "processors",
        "a round of",
        "interrupts",
        "exits",
        "TDCALLs",
        "TDVMCALLs",
        "µs",
    ];
    println!("{}", report::table(&heading, cells));
}

/// Counts of each case, by the marks around it.
pub(crate) fn rows(setup: &Setup, initrd: &Path) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for cpus in CPUS {
        let words = format!("quiet tdp.mode=processors tdp.what=measure tdp.cpus={cpus}");
        let run = on_simulator(setup, initrd, &words, "processors", &options(cpus))?;
        rows.extend(rows_of(cpus, &run.transcript)?);
    }
    Ok(rows)
}

fn options(cpus: u32) -> Vec<String> {
    vec![format!("vcpus={cpus}")]
}

fn rows_of(cpus: u32, transcript: &Transcript) -> Result<Vec<Row>> {
    let told: Vec<Value> = transcript
        .console
        .iter()
        .filter_map(|line| serde_json::from_str(line.strip_prefix("@measured ")?).ok())
        .collect();
    ensure!(!told.is_empty(), "the guest measured nothing");
    told.iter()
        .map(|told| row(cpus, told, transcript))
        .collect()
}

fn row(cpus: u32, told: &Value, transcript: &Transcript) -> Result<Row> {
    let number = |record: &Value, key: &str| {
        let number = record.get(key).and_then(Value::as_f64);
        number.with_context(|| format!("{record} has no {key}"))
    };
    let rounds = number(told, "rounds")?;
    let mark = number(told, "mark")?;
    let at = |value: f64| {
        let mut records = transcript.records.iter();
        let record =
            records.find(|record| record.get("mark").and_then(Value::as_f64) == Some(value));
        record.with_context(|| format!("the simulator shows no mark {value}"))
    };
    let (before, after) = (at(mark)?, at(mark + 128.0)?);
    let each = |key: &str| anyhow::Ok((number(after, key)? - number(before, key)?) / rounds);
    Ok(Row {
        cpus,
        case: told
            .get("case")
            .and_then(Value::as_str)
            .context("a case without a name")?
            .to_owned(),
        interrupts: number(told, "interrupts")? / rounds,
        exits: each("l2_exits")?,
        tdcalls: each("tdcalls")?,
        tdvmcalls: each("tdvmcalls")?,
        microseconds: number(told, "ns")? / rounds / 1e3,
    })
}

/// TPM commands a second, of the rows; boots and loads, so many times each, against plain QEMU with as many processors.
pub(crate) fn figures(
    setup: &Setup,
    initrd: &Path,
    rows: &[Row],
    boots: usize,
) -> Result<Vec<Figure>> {
    let mut figures: Vec<Figure> = rows
        .iter()
        .filter(|row| row.case.starts_with("GetRandom"))
        .map(|row| {
            let cpus = row.cpus;
            Figure::without_goal(
                format!("TPM commands a second, from {cpus} of {cpus} processors"),
                format!("{:.0}", 1e6 / row.microseconds),
            )
        })
        .collect();
    for cpus in CPUS {
        for (name, words, seconds) in [
            (
                "boot to user space",
                "quiet tdp.mode=boot",
                to_user_space as fn(&Run) -> _,
            ),
            (
                "a build's load",
                "quiet tdp.mode=processors tdp.what=load",
                load,
            ),
        ] {
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            for _ in 0..boots {
                let run = on_simulator(setup, initrd, words, "processors", &options(cpus))?;
                ours.push(seconds(&run)?);
                let run = plain_with(setup, initrd, words, (cpus, Clock::Host))?;
                theirs.push(seconds(&run)?);
            }
            let ours = Spread::of(ours).context("no boot")?.median;
            let theirs = Spread::of(theirs).context("no boot of plain QEMU")?.median;
            figures.push(Figure::without_goal(
                format!("{name}, {cpus} processors, against plain QEMU"),
                format!("{:.2} × ({ours:.2} s / {theirs:.2} s)", ours / theirs),
            ));
        }
    }
    Ok(figures)
}

fn to_user_space(run: &Run) -> Result<f64> {
    Ok(run.to_user_space.context("no user space")?.as_secs_f64())
}

/// From the guest's first program to the machine's end.
fn load(run: &Run) -> Result<f64> {
    Ok(run.wall.as_secs_f64() - to_user_space(run)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_is_what_is_between_its_marks() {
        let console = [
            "@measured {\"mark\":1,\"case\":\"IPI\",\"rounds\":10,\"ns\":50000,\"interrupts\":10}",
        ];
        let log = "@{\"mark\":1,\"l2_exits\":5,\"tdcalls\":50,\"tdvmcalls\":0}\n\
                   @{\"mark\":129,\"l2_exits\":25,\"tdcalls\":90,\"tdvmcalls\":10}\n";
        let transcript = Transcript::new(console.map(str::to_owned).to_vec(), log);
        let [row] = &rows_of(2, &transcript).unwrap()[..] else {
            panic!("not one row");
        };
        assert_eq!((row.exits, row.tdcalls, row.tdvmcalls), (2.0, 4.0, 1.0));
        assert_eq!((row.interrupts, row.microseconds), (1.0, 5.0));
    }
}
