//! `verifier evidence.json --nonce HEX --policy policy.toml`: checks a bundle of evidence, offline.
//!
//! Exits with 0 if every link holds and was checked, 1 if one is broken, 2 if the input could not be read, 3 if none is
//! broken but the policy accepted something unseen.
#![forbid(unsafe_code)]

mod table;

use anyhow::{Context, Result, bail};
use clap::Parser;
use sha2::{Digest, Sha256};
use std::{
    io::{Write, stdout},
    path::{Path, PathBuf},
    process::ExitCode,
};
use verifier::{
    About, Account, BUNDLE_LIMIT, Bundle, Collateral, Policy, Verdict, account::File,
    files::read_bounded, printable,
};

/// Largest policy file.
const POLICY_LIMIT: u64 = 16 << 20;

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
    /// Write the verdict to this file, as a page to show to others.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Print every measured event of both logs as well, with what it is; --json has them in any case.
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
    let policy_text = read_bounded(&arguments.policy, POLICY_LIMIT)
        .with_context(|| format!("--policy {}", arguments.policy.display()))?;
    let policy = Policy::parse(
        str::from_utf8(&policy_text).context("--policy is not a text")?,
        arguments.policy.parent().unwrap_or(Path::new(".")),
    )
    .with_context(|| format!("--policy {}", arguments.policy.display()))?;
    let collateral = match &arguments.roots {
        Some(directory) => Collateral::read(directory).context("--roots")?,
        None => Collateral::intel_root_only(),
    };
    let time = arguments.time.unwrap_or_else(jiff::Timestamp::now);
    // Certificates and collateral count seconds.
    let time = jiff::Timestamp::from_second(time.as_second()).context("--time")?;
    let now = u64::try_from(time.as_second()).context("--time is before 1970")?;
    let json = read_bounded(&arguments.evidence, BUNDLE_LIMIT as u64)
        .with_context(|| format!("cannot read {}", arguments.evidence.display()))?;

    let report = verifier::verify_json(&json, &policy, &collateral, now, &nonce);
    let bundle = Bundle::from_json(&json).ok();
    let about = About {
        verifier: env!("CARGO_PKG_VERSION"),
        time: time.to_string(),
        nonce: hex::encode(&nonce),
        evidence: File::new(&arguments.evidence.to_string_lossy(), &json),
        policy: File::new(&arguments.policy.to_string_lossy(), &policy_text),
        root_sha256: hex::encode(Sha256::digest(&collateral.root)),
    };
    let account = Account::new(report, about, bundle.as_ref());
    if let Some(path) = &arguments.html {
        std::fs::write(path, verifier::page(&account))
            .with_context(|| format!("--html {}", path.display()))?;
    }
    let mut out = stdout().lock();
    if arguments.json {
        serde_json::to_writer_pretty(&mut out, &account)?;
        writeln!(out)?;
        return Ok(account.verdict);
    }
    write!(out, "{}", table::Table(&account))?;
    if let (true, Some(bundle)) = (arguments.explain, &bundle) {
        write!(out, "\n{}", verifier::explain(bundle))?;
    }
    Ok(account.verdict)
}
