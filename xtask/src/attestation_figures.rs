//! What measurement and attestation cost: an extend by policy, the boot, and the evidence.

use crate::commands::bench::{Figure, on_platform};
use crate::commands::run::Prepared;
use crate::figures::{self, Cost, Spread};
use crate::images;
use crate::machine::Outcome;
use crate::round_trip::{RoundTrip, mirror_option};
use anyhow::{Context, Result, ensure};
use attestation::journal::PcrMirror;
use std::path::Path;

/// Most of a boot that measurement and identity may take.
const BOOT_SHARE_GOAL: f64 = 10.0;
/// Milliseconds for the verifier, from its start to its end.
const VERIFY_GOAL: f64 = 50.0;
/// How many runs of the verifier its time is the median of.
const VERIFIER_RUNS: usize = 21;
/// The mark of PCR_Extend in the guest's timing program.
const EXTEND_MARK: u64 = 2;
/// L1's log lines of the launch: what hashing took, and the start of the TPM with its measurements
/// and keys.
const HASHING: &str = "time to hash it, of that: ";
const STARTING: &str = "time to start the TPM: ";

/// All of them; `timing` is a guest's run of the timing program with the usual policy.
pub(crate) fn figures(
    prepared: &Prepared,
    timing: &Outcome,
    timing_initrd: &Path,
) -> Result<Vec<Figure>> {
    let mut figures = extend_figures(prepared, timing_initrd)?;
    figures.push(boot_figure(timing)?);
    figures.extend(evidence_figures(prepared)?);
    Ok(figures)
}

/// Medians of one PCR_Extend: TDCALLs, and microseconds of L1 and the TDX module.
fn extend_cost(outcome: &Outcome) -> Result<(f64, f64)> {
    let costs = figures::costs(&outcome.transcript, EXTEND_MARK);
    let median =
        |of: fn(&Cost) -> f64| Spread::of(costs.iter().map(of)).map(|spread| spread.median);
    let tdcalls = median(|cost| cost.tdcalls);
    let time = median(|cost| cost.l1 + cost.engine + cost.exits);
    let (tdcalls, time) = tdcalls.zip(time).context("PCR_Extend was not timed")?;
    Ok((tdcalls, time / 1000.0))
}

fn extend_figures(prepared: &Prepared, initrd: &Path) -> Result<Vec<Figure>> {
    let cost = |mirror: PcrMirror| {
        let name = format!("timing-{}", mirror.name());
        let words = "quiet tdp.mode=timing-extend";
        let options = [mirror_option(mirror)];
        extend_cost(&on_platform(prepared, initrd, words, &name, &options)?)
    };
    let (tdcalls, time) = cost(PcrMirror::Off)?;
    [PcrMirror::Summary, PcrMirror::Full]
        .into_iter()
        .map(|mirror| {
            let (with_tdcalls, with_time) = cost(mirror)?;
            Ok(Figure::without_goal(
                format!("PCR_Extend, PCR mirror {} against off", mirror.name()),
                format!(
                    "+{} TDCALLs, {:+.1} µs of {time:.1}",
                    with_tdcalls - tdcalls,
                    with_time - time
                ),
            ))
        })
        .collect()
}

/// Milliseconds that L1 logged.
fn logged(outcome: &Outcome, what: &str) -> Result<f64> {
    let nanoseconds = outcome.transcript.log.iter().find_map(|line| {
        let (_, rest) = line.split_once(what)?;
        rest.split_whitespace().next()?.parse::<f64>().ok()
    });
    let nanoseconds = nanoseconds.with_context(|| format!("L1 did not log its {what:?}"))?;
    Ok(nanoseconds / 1e6)
}

fn boot_figure(outcome: &Outcome) -> Result<Figure> {
    let hashing = logged(outcome, HASHING)?;
    let starting = logged(outcome, STARTING)?;
    let phases = outcome.transcript.phases();
    let whole = phases.last().context("the run has no phases")?.microseconds as f64 / 1000.0;
    let share = (hashing + starting) / (whole - hashing - starting) * 100.0;
    Ok(Figure {
        name: "boot time added by measurement and identity".to_owned(),
        value: format!(
            "{share:.1} % (hashes {hashing:.0} ms, TPM's start with keys {starting:.0} ms, to user space {whole:.0} ms)"
        ),
        goal: format!("≤ {BOOT_SHARE_GOAL} %"),
        holds: share <= BOOT_SHARE_GOAL,
    })
}

fn evidence_figures(prepared: &Prepared) -> Result<Vec<Figure>> {
    let trip = RoundTrip::new(prepared, "attest");
    let verifier = images::build_verifier()?;
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
