//! `cargo xtask fuzz`: all fuzz targets, each for its share of the time, with a corpus that is kept.

use crate::{images, progress, report};
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::fs::{File, read_dir};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// What builds the targets; not a Debian package.
const CARGO_FUZZ: &str = "0.13.2";
/// The folders that have targets, in their `fuzz`.
const FOLDERS: [&str; 5] = [
    "l1-vmm",
    "l1-vmm/broker-client",
    "l2-exit",
    "verifier",
    "vtpm",
];
/// A stable compiler takes the sanitizer's options only with this.
const UNSTABLE_OPTIONS: (&str, &str) = ("RUSTC_BOOTSTRAP", "1");
/// An input that takes this long, in seconds, is a finding.
const SLOW: u32 = 20;

/// Options of the task.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only the targets whose name contains this.
    #[arg(default_value = "")]
    name: String,
    /// How long all of them run together, on every processor of this machine.
    #[arg(long, value_name = "N", default_value_t = 0.5)]
    hours: f64,
    /// Write the results to this file as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// One fuzz target.
struct Target {
    folder: &'static str,
    name: String,
}

/// What a target's run came to.
struct Outcome {
    runs: u64,
    /// Edges that were reached.
    edges: u64,
    /// Inputs of the corpus, with those of the runs before.
    corpus: usize,
    /// What went wrong, if anything did.
    found: Option<String>,
}

/// Runs them; true if nothing was found.
pub(crate) fn run(options: &Options) -> Result<bool> {
    ensure!(
        options.hours.is_finite() && options.hours > 0.0,
        "--hours has to be more than 0"
    );
    let targets = targets(&options.name)?;
    ensure!(
        !targets.is_empty(),
        "no fuzz target has {:?} in its name",
        options.name
    );
    let builder = builder()?;
    for target in &targets {
        target.build(&builder)?;
    }
    let places = std::thread::available_parallelism().map_or(1, NonZero::get);
    let seconds = options.hours * 3600.0 * places.min(targets.len()) as f64 / targets.len() as f64;
    let seconds = (seconds as u64).max(1);
    let step = progress::step(format!("{} fuzz targets, {seconds} s each", targets.len()));
    let outcomes = run_all(&targets, places, seconds, &step)?;
    step.done();
    let rows = targets.iter().zip(&outcomes);
    let rows = rows.map(|(target, outcome)| target.row(outcome));
    let heading = ["folder", "target", "runs", "edges", "corpus", "found"];
    println!("{}", report::table(&heading, rows));
    for (target, outcome) in targets.iter().zip(&outcomes) {
        if let Some(found) = &outcome.found {
            println!("{}: {found}", target.name);
        }
    }
    if let Some(file) = &options.json {
        let rows = targets.iter().zip(&outcomes);
        let rows: Vec<Value> = rows.map(|(target, it)| target.json(it, seconds)).collect();
        std::fs::write(file, serde_json::to_string_pretty(&rows)?)
            .with_context(|| file.display().to_string())?;
    }
    Ok(outcomes.iter().all(|outcome| outcome.found.is_none()))
}

/// As many at a time as there are processors; the outcomes are in the targets' order.
fn run_all(
    targets: &[Target],
    places: usize,
    seconds: u64,
    step: &progress::Step,
) -> Result<Vec<Outcome>> {
    let next = AtomicUsize::new(0);
    let outcomes: Mutex<Vec<(usize, Result<Outcome>)>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..places {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(target) = targets.get(number) else {
                        break;
                    };
                    let outcome = target.run(seconds);
                    let mut outcomes = outcomes.lock().unwrap_or_else(PoisonError::into_inner);
                    outcomes.push((number, outcome));
                    step.reached(outcomes.len(), targets.len());
                }
            });
        }
    });
    let mut outcomes = outcomes
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    outcomes.sort_by_key(|(number, _)| *number);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

/// All targets whose name contains `filter`.
fn targets(filter: &str) -> Result<Vec<Target>> {
    let mut all = Vec::new();
    for folder in FOLDERS {
        let files = images::root().join(folder).join("fuzz/fuzz_targets");
        let mut names = Vec::new();
        for entry in read_dir(&files).with_context(|| files.display().to_string())? {
            let path = entry?.path();
            let name = path.file_stem().and_then(|stem| stem.to_str());
            names.extend(name.map(str::to_owned));
        }
        names.sort();
        let named = names.into_iter().filter(|name| name.contains(filter));
        all.extend(named.map(|name| Target { folder, name }));
    }
    Ok(all)
}

/// cargo-fuzz, installed below the target folder on first use.
fn builder() -> Result<PathBuf> {
    let root = images::work_folder()?.join("cargo-fuzz");
    let program = root.join("bin/cargo-fuzz");
    if program.exists() {
        return Ok(program);
    }
    let step = progress::step(format!("installing cargo-fuzz {CARGO_FUZZ}"));
    let status = Command::new(env!("CARGO"))
        .args(["install", "--quiet", "--locked", "cargo-fuzz"])
        .args(["--version", CARGO_FUZZ, "--root"])
        .arg(&root)
        .status()
        .context("cannot run cargo")?;
    ensure!(status.success(), "cargo-fuzz cannot be installed");
    step.done();
    Ok(program)
}

fn work_folder() -> PathBuf {
    images::target().join("fuzz")
}

impl Target {
    fn build(&self, builder: &Path) -> Result<()> {
        let (name, value) = UNSTABLE_OPTIONS;
        let step = progress::step(format!("building {}", self.name));
        let output = Command::new(builder)
            .args(["build", &self.name, "--target-dir"])
            .arg(work_folder())
            .env(name, value)
            .current_dir(images::root().join(self.folder))
            .output()
            .context("cannot run cargo-fuzz")?;
        ensure!(
            output.status.success(),
            "{} does not build (it takes a C++ compiler, Debian package g++):\n{}",
            self.name,
            String::from_utf8_lossy(&output.stderr)
        );
        step.done();
        Ok(())
    }

    fn run(&self, seconds: u64) -> Result<Outcome> {
        let folder = work_folder();
        let corpus = folder.join("corpus").join(&self.name);
        let artifacts = folder.join("artifacts").join(&self.name);
        for folder in [&corpus, &artifacts] {
            std::fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
        }
        let log = folder.join(format!("{}.log", self.name));
        let program = folder
            .join("x86_64-unknown-linux-gnu/release")
            .join(&self.name);
        let status = Command::new(&program)
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-timeout={SLOW}"))
            .args(["-print_final_stats=1", "-rss_limit_mb=4096"])
            .arg(format!("-artifact_prefix={}/", artifacts.display()))
            .arg(&corpus)
            .args(self.seeds())
            .stderr(File::create(&log)?)
            .stdout(std::process::Stdio::null())
            .status()
            .with_context(|| program.display().to_string())?;
        let said = std::fs::read(&log)?;
        let said = String::from_utf8_lossy(&said);
        Ok(Outcome {
            runs: last_number(&said, "stat::number_of_executed_units:").unwrap_or(0),
            edges: last_number(&said, " cov:").unwrap_or(0),
            corpus: read_dir(&corpus)?.count(),
            found: (!status.success()).then(|| {
                let last = said.lines().find(|line| line.contains("ERROR"));
                format!(
                    "{}; what it said is in {}, the input below {}",
                    last.unwrap_or("it ended early").trim(),
                    log.display(),
                    artifacts.display()
                )
            }),
        })
    }

    /// Inputs to begin with, which are in the repository.
    fn seeds(&self) -> Option<PathBuf> {
        let seeds = images::root().join(self.folder).join("fuzz/seeds");
        Some(seeds.join(&self.name)).filter(|seeds| seeds.exists())
    }

    fn row(&self, outcome: &Outcome) -> Vec<String> {
        let found = if outcome.found.is_some() { "yes" } else { "" };
        vec![
            self.folder.to_owned(),
            self.name.clone(),
            outcome.runs.to_string(),
            outcome.edges.to_string(),
            outcome.corpus.to_string(),
            found.to_owned(),
        ]
    }

    fn json(&self, outcome: &Outcome, seconds: u64) -> Value {
        json!({
            "folder": self.folder,
            "target": self.name,
            "seconds": seconds,
            "runs": outcome.runs,
            "edges": outcome.edges,
            "corpus": outcome.corpus,
            "found": outcome.found,
        })
    }
}

/// The number behind the last `label` in libFuzzer's words.
fn last_number(said: &str, label: &str) -> Option<u64> {
    let behind = said.rsplit_once(label)?.1.trim_start();
    let end = behind.find(|letter: char| !letter.is_ascii_digit());
    behind.get(..end.unwrap_or(behind.len()))?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_from_what_libfuzzer_says() {
        let said = "#2\tINITED cov: 12 ft: 13 corp: 1/1b\n#9\tNEW    cov: 581 ft: 900\n\
                    stat::number_of_executed_units: 5904554\nstat::peak_rss_mb: 9";
        assert_eq!(last_number(said, " cov:"), Some(581));
        let runs = last_number(said, "stat::number_of_executed_units:");
        assert_eq!(runs, Some(5_904_554));
        assert_eq!(last_number(said, "exec/s:"), None);
        assert_eq!(last_number("cov: ", "cov:"), None);
    }

    /// A target that is not listed in its manifest would not be built.
    #[test]
    fn every_target_is_in_its_manifest() {
        let targets = targets("").unwrap();
        assert!(targets.len() > 20);
        for target in targets {
            let manifest = images::root().join(target.folder).join("fuzz/Cargo.toml");
            let manifest = std::fs::read_to_string(manifest).unwrap();
            let line = format!("name = \"{}\"", target.name);
            assert!(manifest.contains(&line), "{}", target.name);
        }
    }

    /// Seeds that are no target's would not be used.
    #[test]
    fn every_seed_is_a_targets() {
        let targets = targets("").unwrap();
        for folder in FOLDERS {
            let seeds = images::root().join(folder).join("fuzz/seeds");
            let Ok(entries) = read_dir(seeds) else {
                continue;
            };
            for entry in entries {
                let name = entry.unwrap().file_name();
                assert!(
                    targets.iter().any(|target| *target.name == *name),
                    "{name:?}"
                );
            }
        }
    }
}
