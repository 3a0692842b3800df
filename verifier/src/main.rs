//! `verifier evidence.json --nonce HEX --policy policy.toml`: checks a bundle of evidence, offline.
//!
//! Exits with 0 if every link holds and was checked, 1 if one is broken, 2 if the input could not be read, 3 if none is
//! broken but the policy accepted something unseen.
#![forbid(unsafe_code)]

mod table;

use anyhow::{Context, Result, bail};
use clap::Parser;
use std::{
    io::{Write, stdout},
    path::PathBuf,
    process::ExitCode,
};
use verifier::{BUNDLE_LIMIT, Bundle, Collateral, Policy, Verdict, files::read_bounded, printable};

/// Checks the evidence of a vTPM in a partitioned TD, offline.
///
/// Exits with 0 if every link holds and was checked; with 1 if one is broken; with 2 if the input could not be read; with 3
/// if none is broken, but the policy accepted something unseen (`any`): the last lines name what.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// The bundle that `vtpm-evidence` made in the guest.
    evidence: PathBuf,
    /// The nonce that was given to the guest, in hexadecimal, 1 to 64 bytes.
    #[arg(long, value_name = "HEX")]
    nonce: String,
    /// What is accepted; see the verifier's README.
    #[arg(long, value_name = "FILE")]
    policy: PathBuf,
    /// Directory with the trusted root and its collateral; Intel's root alone without it.
    #[arg(long, value_name = "DIR")]
    roots: Option<PathBuf>,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
    /// Print every measured event of both logs as well, with what it is.
    #[arg(long)]
    explain: bool,
    /// Verify as of this time (RFC 3339) instead of now.
    #[arg(long, value_name = "TIME")]
    time: Option<jiff::Timestamp>,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(Verdict::Checked) => ExitCode::SUCCESS,
        Ok(Verdict::Refused) => ExitCode::from(1),
        Ok(Verdict::Accepted) => ExitCode::from(3),
        Err(error) => {
            // Line by line: a policy's error has several, and quotes it.
            let error = format!("verifier: {error:#}");
            for line in error.lines() {
                eprintln!("{}", printable(line));
            }
            ExitCode::from(2)
        }
    }
}

/// What the checks come to.
fn run(arguments: &Arguments) -> Result<Verdict> {
    let nonce = hex::decode(&arguments.nonce).context("--nonce is not hexadecimal")?;
    if !(1..=64).contains(&nonce.len()) {
        bail!("--nonce has {} bytes; it can have 1 to 64", nonce.len());
    }
    let policy = Policy::read(&arguments.policy)
        .with_context(|| format!("--policy {}", arguments.policy.display()))?;
    let collateral = match &arguments.roots {
        Some(directory) => Collateral::read(directory).context("--roots")?,
        None => Collateral::intel_root_only(),
    };
    let now = arguments.time.unwrap_or_else(jiff::Timestamp::now);
    let now = u64::try_from(now.as_second()).context("--time is before 1970")?;
    let json = read_bounded(&arguments.evidence, BUNDLE_LIMIT as u64)
        .with_context(|| format!("cannot read {}", arguments.evidence.display()))?;

    let report = verifier::verify_json(&json, &policy, &collateral, now, &nonce);
    let mut out = stdout().lock();
    if arguments.json {
        let verdict = serde_json::json!({
            "trusted": report.is_trusted(),
            "verdict": report.verdict(),
            "accepted": report.accepted().map(|check| check.id).collect::<Vec<_>>(),
            "first_failure": report.first_failure().map(|check| check.id),
            "checks": report.checks,
        });
        serde_json::to_writer_pretty(&mut out, &verdict)?;
        writeln!(out)?;
    } else {
        write!(out, "{}", table::Table(&report))?;
    }
    if arguments.explain
        && let Ok(bundle) = Bundle::from_json(&json)
    {
        let text = verifier::explain(&bundle);
        // With --json, standard output is the report alone.
        match arguments.json {
            true => eprint!("{text}"),
            false => write!(out, "\n{text}")?,
        }
    }
    Ok(report.verdict())
}
