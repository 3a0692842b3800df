//! The micro-guests of `sim/machine`, which try the simulated TDX module: each is a check.

use crate::{Checks, Setup, Suite};
use anyhow::{anyhow, ensure};
use serde_json::Value;
use simulator::{Clock, Console, Gpaw, Run, Simulation};
use std::time::Duration;

/// All of them, with either shared bit.
pub fn suite(setup: &Setup) -> Suite<'_> {
    let mut suite = Suite::new();
    for (gpaw, name, file) in [
        (Gpaw::Bits48, "micro-guests, GPAW 48", "micro-48"),
        (Gpaw::Bits52, "micro-guests, GPAW 52", "micro-52"),
    ] {
        suite.add(move |_| check(setup, gpaw, name, file));
    }
    suite
}

fn check(setup: &Setup, gpaw: Gpaw, name: &str, file: &str) -> Checks {
    let options = ["test=all".to_owned()];
    let run = Simulation {
        init_data: None,
        simulator: &setup.simulator,
        image: &[],
        boot: None,
        memory_mib: 64,
        gpaw,
        clock: Clock::Counted,
        options: &options,
        folder: &setup.folder,
        name: file,
        console: Console::Kept,
        limit: Some(Duration::from_secs(300)),
    }
    .run(&mut |_| {});
    match run {
        Err(error) => vec![(name.to_owned(), Err(error))],
        Ok(run) => checks(name, &run),
    }
}

/// One for each record of a micro-guest, and one for the run.
fn checks(suite: &str, run: &Run) -> Checks {
    let mut checks = Checks::new();
    for record in &run.transcript.records {
        let Some(name) = record.get("test").and_then(Value::as_str) else {
            continue;
        };
        let result = match record.get("ok").and_then(Value::as_bool) {
            Some(true) => Ok(()),
            _ => Err(anyhow!("{record}")),
        };
        checks.push((format!("{suite}: {name}"), result));
    }
    let count = checks.len();
    let whole = || {
        ensure!(
            count > 0 && run.succeeded,
            "{count} ran; {}",
            run.transcript.result()
        );
        Ok(())
    };
    checks.push((suite.to_owned(), whole()));
    checks
}
