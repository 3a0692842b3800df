//! L2 resets its machine, whose TPM is kept: it is the same TPM, and what it wrote is on the disk.

use super::small::{Keys, Machine};
use crate::blobs::script::{SUCCESS, Step, counter, define_counter, increment};
use crate::{Setup, Suite};
use anyhow::{Result, ensure};
use std::path::Path;

/// The TPM's count of resets up to which the guest resets.
const LAST: u32 = 8;

/// With a broker, and with the hardware's half alone.
pub(super) fn suite<'a>(setup: &'a Setup, programs: &'a Path) -> Suite<'a> {
    let mut suite = Suite::new();
    suite.add(move |_| {
        let name = "resets of L2, with a broker".into();
        let keys = Keys::Broker(programs, &[]);
        vec![(name, nothing_is_lost(setup, "resets-broker", keys))]
    });
    suite.add(move |_| {
        let name = "resets of L2, with the hardware's key alone".into();
        vec![(
            name,
            nothing_is_lost(setup, "resets-hardware", Keys::Hardware),
        )]
    });
    suite
}

/// A counter is incremented once before each reset, and found by the next TD.
fn nothing_is_lost(setup: &Setup, name: &str, keys: Keys<'_>) -> Result<()> {
    let machine = Machine::new(setup, name, keys)?;
    let disk = machine.file("state.img");
    let steps = [
        Step::Send("define", define_counter(), SUCCESS),
        Step::Send("increment", increment(), SUCCESS),
        Step::ShowCounter("counter"),
    ];
    let run = machine.runs(&machine.boot("first", &steps, &disk))?;
    let first = counter(&run.transcript.console, "counter")?;
    let steps = [
        Step::Send("increment", increment(), SUCCESS),
        Step::ResetUpTo(LAST),
    ];
    let run = machine.runs(&machine.boot("resets", &steps, &disk))?;
    let records = run.transcript.l1_records.iter();
    let resets = records.filter(|record| record.name == "reset").count() as u64;
    ensure!(resets >= 4, "{resets} resets");
    let steps = [Step::ShowCounter("found")];
    let run = machine.runs(&machine.boot("again", &steps, &disk))?;
    let found = counter(&run.transcript.console, "found")?;
    let expected = first + resets + 1;
    ensure!(
        found == expected,
        "{first}, then {resets} resets, then {found}"
    );
    Ok(())
}
