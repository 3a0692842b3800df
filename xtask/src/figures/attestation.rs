//! What measurement and attestation cost: an extend by policy, the boot, and the evidence.

use super::Figure;
use super::guests::on_simulator;
use super::samples::{self, Cost, Spread};
use crate::images;
use anyhow::{Context, Result, ensure};
use attestation::journal::PcrMirror;
use boots::{RoundTrip, Setup, mirror_option};
use serde_json::Value;
use simulator::Run;
use std::path::Path;

/// Most that making keys and certificates may add to a boot, in percent.
const BOOT_SHARE_GOAL: f64 = 10.0;
/// Milliseconds for the verifier, from its start to its end.
const VERIFY_GOAL: f64 = 50.0;
/// How many runs of the verifier its time is the median of.
const VERIFIER_RUNS: usize = 21;
/// The mark of PCR_Extend in the guest's timing program.
const EXTEND_MARK: u64 = 2;
/// What L1's records `time` are of, and what that is in words: of the launch what it measures.
const MEASURING: [(&str, &str); 2] = [
    ("hash", "hashes"),
    ("start", "registers, PCRs and the rest of its start"),
];
/// The last record `time` of the vTPM's identity.
const CERTIFICATES: &str = "certificates";

/// All of them; the initrd has the guest's timing program.
pub(crate) fn figures(setup: &Setup, timing_initrd: &Path) -> Result<Vec<Figure>> {
    let timed = |mirror: PcrMirror| {
        let name = format!("timing-{}", mirror.name());
        let words = "quiet tdp.mode=timing-extend";
        let options = [mirror_option(mirror)];
        on_simulator(setup, timing_initrd, words, &name, &options)
    };
    let [off, summary, full] = [PcrMirror::Off, PcrMirror::Summary, PcrMirror::Full].map(timed);
    let (off, summary, full) = (off?, summary?, full?);
    let mut figures = vec![
        extend_figure("summary", &off, &summary)?,
        extend_figure("full", &off, &full)?,
    ];
    figures.extend(boot_figures(&summary)?);
    figures.extend(evidence_figures(setup)?);
    Ok(figures)
}

/// Medians of one PCR_Extend: TDCALLs, and microseconds of L1 and the TDX module.
fn extend_cost(run: &Run) -> Result<(f64, f64)> {
    let costs = samples::costs(&run.transcript, EXTEND_MARK);
    let median =
        |of: fn(&Cost) -> f64| Spread::of(costs.iter().map(of)).map(|spread| spread.median);
    let tdcalls = median(|cost| cost.tdcalls);
    let time = median(|cost| cost.l1 + cost.exits);
    let (tdcalls, time) = tdcalls.zip(time).context("PCR_Extend was not timed")?;
    Ok((tdcalls, time / 1000.0))
}

fn extend_figure(mirror: &str, off: &Run, with: &Run) -> Result<Figure> {
    let (tdcalls, time) = extend_cost(off)?;
    let (with_tdcalls, with_time) = extend_cost(with)?;
    Ok(Figure::without_goal(
        format!("PCR_Extend, PCR mirror {mirror} against off"),
        format!(
            "{:+} TDCALLs, {:+.1} µs to {time:.1}",
            with_tdcalls - tdcalls,
            with_time - time
        ),
    ))
}

/// When L1 told what something took, and that, both in milliseconds; `None` if it was not done.
fn told(run: &Run, of: &str) -> Option<(f64, f64)> {
    let times = run.transcript.l1_records.iter();
    let mut times = times.filter(|record| record.name == "time");
    let time = times.find(|time| time.text("of") == Some(of))?;
    let milliseconds = |nanoseconds: u64| nanoseconds as f64 / 1e6;
    Some((
        milliseconds(time.nanoseconds),
        milliseconds(time.number("ns")?),
    ))
}

/// What L1 executed to measure the launch.
pub(crate) fn launch_instructions(run: &Run) -> Result<f64> {
    let times = MEASURING.map(|(of, _)| told(run, of));
    let times: Option<f64> = times.iter().map(|time| time.map(|(_, time)| time)).sum();
    let milliseconds = times.context("L1 did not tell what measuring took")?;
    Ok(milliseconds * 1e6)
}

/// What L1 did for the vTPM's identity while nobody waited for it, in milliseconds.
fn own_work(run: &Run) -> Result<f64> {
    let slices = run.transcript.l1("slices");
    let own = slices.and_then(|slices| slices.number("own"));
    Ok(own.context("L1 did not tell what it made early")? as f64 / 1e6)
}

/// When the guest made its first mark of a command, in milliseconds: its first program runs.
fn user_space(run: &Run) -> Result<f64> {
    let mut records = run.transcript.records.iter();
    let mark = |record: &Value| record.get("mark").and_then(Value::as_u64);
    let first = records.find(|record| mark(record) == Some(EXTEND_MARK));
    let tsc = first.and_then(|first| first.get("tsc")?.as_f64());
    Ok(tsc.context("the guest made no mark")? / 1e6)
}

/// What measurement and identity add to a boot that has neither.
fn boot_figures(run: &Run) -> Result<Vec<Figure>> {
    let whole = user_space(run)?;
    let times = MEASURING.map(|(of, word)| told(run, of).map(|(_, time)| (time, word)));
    let times: Option<Vec<_>> = times.into_iter().collect();
    let times = times.context("L1 did not tell what measuring took")?;
    let measuring: f64 = times.iter().map(|(time, _)| time).sum();
    let words = times
        .iter()
        .map(|(time, word)| format!("{word} {time:.0} ms"));
    let words = words.collect::<Vec<_>>().join(", ");
    let identity = own_work(run)?;
    let made = told(run, CERTIFICATES).is_some_and(|(moment, _)| moment <= whole);
    let without = whole - measuring - identity;
    let share = |time: f64| time / without * 100.0;
    let done = if made { "all of it" } else { "not all of it" };
    Ok(vec![
        Figure::without_goal(
            format!("boot time added by measurement, to {without:.0} ms"),
            format!("{:.1} % ({words})", share(measuring)),
        ),
        Figure {
            name: format!("boot time added by identity, to {without:.0} ms"),
            value: format!("{:.1} % ({identity:.0} ms, {done})", share(identity)),
            goal: format!("≤ {BOOT_SHARE_GOAL} %"),
            holds: share(identity) <= BOOT_SHARE_GOAL,
        },
    ])
}

fn evidence_figures(setup: &Setup) -> Result<Vec<Figure>> {
    let trip = RoundTrip::new(setup, "attest");
    let verifier = images::build_verifier(images::VerifierBuild::Optimized)?;
    let collected = trip.collect(&mut |_| {})?;
    let policy = trip.policy(&trip.predict()?, true)?;
    let failure = collected.first_failure(&verifier, &policy)?;
    ensure!(
        failure.is_none(),
        "the evidence is not trusted: {failure:?}"
    );
    let times = collected.time_to_verify(&verifier, &policy, VERIFIER_RUNS)?;
    let times = times.iter().map(|time| time.as_secs_f64() * 1000.0);
    let milliseconds = Spread::of(times).context("no runs")?.median;
    let size = std::fs::metadata(&collected.evidence)?.len();
    let quote = collected
        .bundle()?
        .td_quote
        .map_or(0, |quote| quote.0.len());
    Ok(vec![
        Figure::without_goal(
            "identity, made before it was needed".to_owned(),
            format!("{:.0} ms", own_work(&collected.run)?),
        ),
        Figure::without_goal(
            "evidence".to_owned(),
            format!("{} KiB (TD quote {quote} bytes)", size.div_ceil(1024)),
        ),
        Figure {
            name: "verifier, from start to end (median)".to_owned(),
            value: format!("{milliseconds:.1} ms"),
            goal: format!("< {VERIFY_GOAL} ms"),
            holds: milliseconds < VERIFY_GOAL,
        },
    ])
}
