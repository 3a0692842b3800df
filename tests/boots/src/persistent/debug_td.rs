//! The machine's state in a TD that its host can look into: the same image, with ATTRIBUTES.DEBUG.

use super::small::{Boot, Keys, Machine, logged};
use crate::blobs::script::{SUCCESS, Step, counter, define_counter, increment};
use crate::{Setup, Suite};
use anyhow::{Result, ensure};
use std::fs;
use std::path::Path;

/// The simulator's option.
const DEBUG: &[&str] = &["debug=1"];

/// With a broker, and with the hardware's half alone.
pub(super) fn suite<'a>(setup: &'a Setup, programs: &'a Path) -> Suite<'a> {
    let mut suite = Suite::new();
    suite.add(move |_| {
        let name = "debug TD: the broker releases nothing".into();
        vec![(name, with_a_broker(setup, programs))]
    });
    suite.add(move |_| {
        let name = "debug TD: its hardware key is another".into();
        vec![(name, with_hardware(setup))]
    });
    suite
}

fn first() -> [Step; 3] {
    [
        Step::Send("define", define_counter(), SUCCESS),
        Step::Send("increment", increment(), SUCCESS),
        Step::ShowCounter("counter"),
    ]
}

/// A production TD makes the state; a debug TD is refused it, by this name, and leaves the disk as it was; the
/// production TD finds it again.
fn refused(machine: &Machine<'_>, reason: &str, cause: &str) -> Result<()> {
    let disk = machine.file("state.img");
    let steps = first();
    let run = machine.runs(&machine.boot("first", &steps, &disk))?;
    let made = counter(&run.transcript.console, "counter")?;
    let before = fs::read(&disk)?;
    let debug = Boot {
        options: DEBUG,
        ..machine.boot("debug", &steps, &disk)
    };
    let run = machine.refuses(&debug, reason)?;
    let said = run.transcript.result();
    ensure!(
        said.contains(cause),
        "the end does not name {cause:?}: {said}"
    );
    ensure!(fs::read(&disk)? == before, "the state disk was written to");
    let steps = [Step::ShowCounter("found")];
    let run = machine.runs(&machine.boot("again", &steps, &disk))?;
    let found = counter(&run.transcript.console, "found")?;
    ensure!(found == made, "{made} was stored, {found} is there");
    Ok(())
}

fn with_a_broker(setup: &Setup, programs: &Path) -> Result<()> {
    let machine = Machine::new(setup, "debug-td-broker", Keys::Broker(programs, &[]))?;
    refused(&machine, "broker-refused", ": td-debug: ")
}

fn with_hardware(setup: &Setup) -> Result<()> {
    let machine = Machine::new(setup, "debug-td-hardware", Keys::Hardware)?;
    refused(&machine, "other-key", "")?;
    // It is the key: a debug TD has a state of its own, which it opens again.
    let own = machine.file("debug.img");
    let steps = first();
    let debug = |name, steps| Boot {
        options: DEBUG,
        ..machine.boot(name, steps, &own)
    };
    machine.runs(&debug("debug-own", &steps))?;
    let steps = [Step::ShowCounter("found")];
    let run = machine.runs(&debug("debug-own-again", &steps))?;
    counter(&run.transcript.console, "found")?;
    logged(&run, "state: unlocked, ")
}
