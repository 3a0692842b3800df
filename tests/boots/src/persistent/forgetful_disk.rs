//! A state disk that says that it wrote, and did not.

use super::small::{Boot, Keys, LISTENS, Machine, logged, ran};
use super::state_disk::Disk;
use crate::blobs::script::{SUCCESS, Step, counter, define_page, write_page};
use crate::{Setup, Suite};
use anyhow::{Result, ensure};
use std::fs;
use std::path::Path;

/// With the guest's mark it begins to forget.
const FORGETS: &[&str] = &["fault=virtio:state:forget@mark:1"];

/// With a ledger, and without one.
pub(super) fn suite<'a>(setup: &'a Setup, programs: &'a Path) -> Suite<'a> {
    let mut suite = Suite::new();
    suite.add(move |_| {
        let name = "state disk that forgets: a ledger finds it out".into();
        let keys = Keys::Broker(programs, &[]);
        let result = forgotten(setup, "forgetful-disk-ledger", keys).and_then(|machine| {
            let disk = machine.file("state.img");
            let before = fs::read(&disk)?;
            let steps = [Step::ShowPage("found")];
            machine.refuses(&machine.boot("again", &steps, &disk), "rolled-back")?;
            ensure!(fs::read(&disk)? == before, "the state disk was written to");
            Ok(())
        });
        vec![(name, result)]
    });
    suite.add(move |_| {
        let name =
            "state disk that forgets: without a ledger the older state is said to be unprotected";
        let result = forgotten(setup, "forgetful-disk-hardware", Keys::Hardware);
        let result = result.and_then(|machine| {
            let disk = machine.file("state.img");
            let steps = [Step::ShowPage("found")];
            let run = machine.runs(&machine.boot("again", &steps, &disk))?;
            let found = counter(&run.transcript.console, "found")?;
            ensure!(found == 1, "it is filled with {found}");
            logged(&run, "rollback protection none")
        });
        vec![(name.into(), result)]
    });
    suite
}

/// A machine whose guest was told of two commits, of which the disk has the first.
fn forgotten<'a>(setup: &'a Setup, name: &str, keys: Keys<'_>) -> Result<Machine<'a>> {
    let machine = Machine::new(setup, name, keys)?;
    let disk = machine.file("state.img");
    let first = [
        Step::Send("define", define_page(), SUCCESS),
        Step::Send("fill", write_page(1), SUCCESS),
    ];
    machine.runs(&machine.boot("first", &first, &disk))?;
    let steps = [
        Step::Say(LISTENS),
        Step::Listen,
        Step::Mark(1),
        Step::Send("fill once more", write_page(2), SUCCESS),
        Step::ShowPage("filled"),
    ];
    let boot = Boot {
        options: FORGETS,
        ..machine.boot("forgets", &steps, &disk)
    };
    // A start commits as well.
    let mut kept = Err(anyhow::anyhow!("the guest did not come to wait"));
    let run = machine.run(&boot, &mut |line| {
        if line == LISTENS {
            kept = Disk::read(&disk).and_then(|mut disk| disk.newest());
        }
    })?;
    ran(&boot, &run)?;
    let kept = kept?.counter;
    let filled = counter(&run.transcript.console, "filled")?;
    ensure!(filled == 2, "it is filled with {filled}");
    let newest = Disk::read(&disk)?.newest()?.counter;
    ensure!(newest == kept, "the disk has commit {newest}");
    Ok(machine)
}
