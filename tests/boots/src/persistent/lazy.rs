//! A ledger that is not waited for: what was answered reaches it while the guest does something else.

use super::small::{Boot, Keys, LISTENS, Machine, document_text, logged, ran};
use super::state_disk::Disk;
use crate::blobs::script::{NV_UNAVAILABLE, SUCCESS, Step, counter, define_page, write_page};
use crate::{Checks, Setup, Suite};
use anyhow::{Context, Result, ensure};
use broker_client::scripted::Lie;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// The machine's files.
const NAME: &str = "lazy";
/// How long the ledger may take to hear of a commit, by this machine's clock, which is slower than the guest's.
const HEARS: Duration = Duration::from_secs(20);
/// The longest that a commit may be answered and not acknowledged, in nanoseconds of the guest: as long as an answer may
/// take. It is milliseconds, but for a broker on this machine that the machine has no time for.
const WINDOW: u64 = 2_000_000_000;
/// The console's registers take 5 ms each, so that time passes while L1 waits.
const SLOW: &str = "fault=virtio:console:slow:5000000";

/// Boots of one machine.
pub(super) fn suite(setup: &Setup) -> Suite<'_> {
    let mut suite = Suite::new();
    suite.add(move |_| {
        let mut checks = Checks::new();
        if let Err(error) = lazy(setup, &mut checks) {
            checks.push((NAME.into(), Err(error)));
        }
        checks
    });
    suite
}

fn lazy(setup: &Setup, checks: &mut Checks) -> Result<()> {
    let machine = Machine::new(setup, NAME, Keys::Scripted("require"))?;
    let scripted = machine.scripted.as_ref().context("there is no broker")?;
    let document = machine.file("lazy.toml");
    let key = scripted.identity();
    let text = format!("key = \"both\"\nrollback = \"lazy\"\n[broker]\nkey = \"{key}\"");
    fs::write(&document, document_text(NAME, "require", &text))?;
    let (disk, before) = (machine.file("state.img"), machine.file("before.img"));
    let boot = |name, steps, disk| Boot {
        document: Some(&document),
        ..machine.boot(name, steps, disk)
    };
    // What the disk has newest, once the ledger has it too.
    let heard = |disk: &Path| -> Result<u64> {
        let begun = Instant::now();
        loop {
            let newest = Disk::read(disk)?.newest()?.counter;
            let latest = scripted.broker().entry.counter();
            if latest == newest {
                return Ok(newest);
            }
            ensure!(
                begun.elapsed() < HEARS,
                "commit {newest} was answered, and the ledger has {latest}"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    };

    let steps = [
        Step::Send("define", define_page(), SUCCESS),
        Step::Send("fill", write_page(1), SUCCESS),
        Step::Say(LISTENS),
        Step::Listen,
        Step::ShowPage("filled"),
    ];
    let first = boot("first", &steps, &disk);
    let mut at_the_ledger = Err(anyhow::anyhow!("the guest did not come to wait"));
    let run = machine.run(&first, &mut |line| {
        if line == LISTENS {
            at_the_ledger = heard(&disk);
        }
    })?;
    ran(&first, &run)?;
    let said = logged(&run, "rollback protection lazy");
    checks.push((
        "lazy: the ledger hears of a commit without a further one".into(),
        said.and(at_the_ledger.map(drop)),
    ));
    let window = run.transcript.l1("window");
    let longest = window.and_then(|window| window.number("longest"));
    let longest = longest
        .context("L1 does not tell of a window")
        .and_then(|longest| {
            ensure!(longest <= WINDOW, "it was {longest} ns");
            Ok(())
        });
    checks.push(("lazy: the window is over in time".into(), longest));

    // The broker falls silent, and the power fails before it speaks again.
    let steps = [
        Step::Send("fill", write_page(2), SUCCESS),
        Step::Say(LISTENS),
        Step::Listen,
        Step::Send("fill in the window", write_page(3), SUCCESS),
        Step::Send("fill once more", write_page(4), NV_UNAVAILABLE),
        Step::ShowPage("filled"),
    ];
    let silent = Boot {
        options: &[SLOW],
        ..boot("silent", &steps, &disk)
    };
    let mut acknowledged = Err(anyhow::anyhow!("the guest did not come to wait"));
    let run = machine.run(&silent, &mut |line| {
        if line == LISTENS {
            acknowledged = heard(&disk);
            scripted.lie(Lie::Silence);
            if let Err(error) = fs::copy(&disk, &before) {
                acknowledged = Err(error.into());
            }
        }
    })?;
    let result = ran(&silent, &run).and_then(|()| {
        let filled = counter(&run.transcript.console, "filled")?;
        ensure!(filled == 3, "it is filled with {filled}");
        logged(&run, "the TPM's last state: the state is not acknowledged")
    });
    checks.push((
        "lazy: without the ledger one commit is answered and no second".into(),
        result,
    ));
    let acknowledged = acknowledged?;
    let latest = scripted.broker().entry.counter();
    ensure!(latest == acknowledged, "the ledger has {latest}");

    scripted.lie(Lie::None);
    let steps = [Step::ShowPage("found")];
    let found = machine.runs(&boot("found", &steps, &disk)).and_then(|run| {
        let found = counter(&run.transcript.console, "found")?;
        ensure!(found == 3, "it is filled with {found}");
        logged(&run, "was answered and not acknowledged")?;
        logged(&run, &format!(", commit {}", acknowledged + 1))?;
        heard(&disk)
    });
    checks.push((
        "lazy: what was answered in the window is there at the next start".into(),
        found.map(drop),
    ));
    let refused = machine.refuses(&boot("before", &steps, &before), "rolled-back");
    checks.push((
        "lazy: the disk of before the window is refused then".into(),
        refused.map(drop),
    ));
    Ok(())
}
