//! `verifier evidence.json --nonce HEX --policy policy.toml`: checks a bundle of evidence, offline.
//!
//! Exits with 0 if every link holds, 1 if one is broken, 2 if the input could not be read.
#![forbid(unsafe_code)]

mod table;

use anyhow::{Context, Result, bail};
use clap::Parser;
use std::{
    io::{Write, stdout},
    path::PathBuf,
    process::ExitCode,
};
use verifier::{BUNDLE_LIMIT, Bundle, Collateral, Policy, files::read_bounded};

/// Checks the evidence of a vTPM in a partitioned TD, offline.
///
/// Exits with 0 if every link holds, 1 if one is broken, 2 if the input could not be read.
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
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("verifier: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Whether the evidence is to be trusted.
fn run(arguments: &Arguments) -> Result<bool> {
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
    Ok(report.is_trusted())
}
