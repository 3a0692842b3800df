//! The power fails at each write and at each flush of one commit, under a guest, and the machine is started again.
//!
//! The guest fills a page of NV memory with a number, and is told that it is there. Then it fills it with the next one,
//! and the power fails. At the next start one of the two fills the whole page, and it is known which:
//! `docs/state-format.md`, "How it is written".

use super::memory::Memory;
use super::small::{Boot, Keys, LISTENS, Machine, logged, ran};
use super::state_disk::{Disk, Newest};
use crate::blobs::script::{self, SUCCESS, Step, counter, define_page, write_page};
use crate::{Checks, Setup, Suite};
use anyhow::{Context, Result, ensure};
use attestation::digest::Algorithm;
use attestation::journal::{KeyHalves, Record, Rollback, Unlock};
use simulator::Run;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long the ledger may take, by this machine's clock.
const SETTLES: Duration = Duration::from_secs(20);
/// Bytes that the state disk's driver writes with one request.
const REQUEST: usize = 4096;
/// More sectors than a request has: all of it is written, and nobody is told.
const ALL: u64 = 8;

/// Machines whose disk alone says what counts, with a ledger, and with one that is not waited for.
pub(super) fn suite<'a>(setup: &'a Setup, programs: &'a Path) -> Suite<'a> {
    let mut suite = Suite::new();
    suite.add(move |_| checks(setup, Keys::Broker(programs, &[]), Rollback::Ledger));
    suite.add(move |_| checks(setup, Keys::Hardware, Rollback::None));
    suite.add(move |_| {
        let lazy = Keys::Broker(programs, &["--rollback", "lazy"]);
        checks(setup, lazy, Rollback::Lazy)
    });
    suite
}

fn checks(setup: &Setup, keys: Keys<'_>, rollback: Rollback) -> Checks {
    let mut checks = Checks::new();
    let name = format!("power-cut-{}", rollback.name());
    let result = Machine::new(setup, &name, keys).and_then(|machine| {
        Life {
            disk: machine.file("state.img"),
            machine: &machine,
            rollback,
            filled: 1,
            commit: 0,
        }
        .run(&mut checks)
    });
    if let Err(error) = result {
        checks.push((name, Err(error)));
    }
    checks
}

/// Which state there is when the power is back.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Counts {
    /// The one that was acknowledged.
    Former,
    /// The one that was being written, which nobody was told of.
    New,
}

/// Where the power fails.
struct Cut {
    title: String,
    /// The fault, as the simulator has it.
    fault: String,
    counts: Counts,
}

/// Each write and each flush of a commit whose slot is written by so many requests.
fn cuts(slot_requests: usize, rollback: Rollback) -> Vec<Cut> {
    use Counts::{Former, New};
    // With a ledger the commit counts before its commit record is written.
    let unrecorded = match rollback {
        Rollback::None => Former,
        Rollback::Ledger | Rollback::Lazy => New,
    };
    let record = slot_requests + 1;
    let mut cuts = Vec::new();
    let mut cut = |title: String, fault: String, counts| {
        cuts.push(Cut {
            title,
            fault,
            counts,
        });
    };
    cut("before the slot".into(), "cut:1".into(), Former);
    for write in 1..=slot_requests {
        cut(
            format!("in write {write} of the slot's {slot_requests}"),
            format!("cut:{write}:1:torn"),
            Former,
        );
    }
    // All of it is there, and nothing says that it counts.
    cut(
        "behind the slot".into(),
        format!("cut:{slot_requests}:{ALL}"),
        Former,
    );
    cut(
        "before the slot's flush".into(),
        "cut-flush:1:unflushed".into(),
        Former,
    );
    cut(
        "behind the slot's flush".into(),
        "cut-flush:1".into(),
        Former,
    );
    cut(
        "before the commit record".into(),
        format!("cut:{record}"),
        unrecorded,
    );
    // All that it says is in the first half of its sector.
    cut(
        "in the commit record".into(),
        format!("cut:{record}:torn"),
        New,
    );
    cut(
        "before the commit record's flush".into(),
        "cut-flush:2:unflushed".into(),
        unrecorded,
    );
    cut(
        "behind the commit record's flush".into(),
        "cut-flush:2".into(),
        New,
    );
    cuts
}

/// As [`cuts`], up to the answer, which comes behind the slot's flush. What is whole may have been answered.
fn lazy_cuts(slot_requests: usize) -> Vec<Cut> {
    let cut = |title: &str, fault, counts| Cut {
        title: title.into(),
        fault,
        counts,
    };
    vec![
        cut(
            "before the slot's last write",
            format!("cut:{slot_requests}"),
            Counts::Former,
        ),
        cut(
            "behind the slot",
            format!("cut:{slot_requests}:{ALL}"),
            Counts::New,
        ),
        cut("behind the slot's flush", "cut-flush:1".into(), Counts::New),
    ]
}

/// Waits until the last commit is at its end, which a ledger that is not waited for brings about, and copies the disk.
fn settled(disk: &Path, copy: &Path) -> Result<Newest> {
    let begun = Instant::now();
    loop {
        fs::copy(disk, copy)?;
        let newest = Disk::read(copy)?.newest()?;
        if newest.is_recorded {
            return Ok(newest);
        }
        let counter = newest.counter;
        ensure!(begun.elapsed() < SETTLES, "commit {counter} has no record");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A machine from one power cut to the next.
struct Life<'a> {
    machine: &'a Machine<'a>,
    rollback: Rollback,
    disk: PathBuf,
    /// The number that the page is filled with, and the counter of that commit.
    filled: u32,
    commit: u64,
}

impl Life<'_> {
    fn run(&mut self, checks: &mut Checks) -> Result<()> {
        let first = [
            Step::Send("define", define_page(), SUCCESS),
            Step::Send("fill", write_page(self.filled), SUCCESS),
        ];
        self.machine
            .runs(&self.machine.boot("first", &first, &self.disk))?;
        let slot = Disk::read(&self.disk)?.newest()?;
        self.commit = slot.counter;
        let requests = slot.bytes.len().div_ceil(REQUEST);
        let cuts = match self.rollback {
            Rollback::Lazy => lazy_cuts(requests),
            rollback => cuts(requests, rollback),
        };
        for cut in cuts {
            let name = format!("power cut, {}: {}", self.rollback.name(), cut.title);
            let result = self.cut(&cut);
            let goes_on = result.is_ok();
            checks.push((name, result));
            if !goes_on {
                return Ok(());
            }
        }
        let name = format!("power cut, {}: the machine goes on", self.rollback.name());
        checks.push((name, self.goes_on()));
        if self.rollback != Rollback::None {
            let what = "the disk of before the last one is refused";
            let name = format!("power cut, {}: {what}", self.rollback.name());
            checks.push((name, self.before_is_refused()));
        }
        Ok(())
    }

    fn before(&self) -> PathBuf {
        self.machine.file("before.img")
    }

    /// Starts the machine, which was cut off last, and cuts it off here.
    fn cut(&mut self, cut: &Cut) -> Result<()> {
        let (acknowledged, cut_off) = (self.filled + 1, self.filled + 2);
        let steps = [
            Step::ShowPage("found"),
            Step::Send("acknowledged", write_page(acknowledged), SUCCESS),
            Step::Say(LISTENS),
            Step::Listen,
            Step::Mark(1),
            Step::Send("cut off", write_page(cut_off), SUCCESS),
        ];
        let fault = format!("fault=virtio:state:{}@mark:1", cut.fault);
        let options = [fault.as_str()];
        let boot = Boot {
            options: &options,
            ..self.machine.boot("cut", &steps, &self.disk)
        };
        let mut newest = Err(anyhow::anyhow!("the guest did not come to wait"));
        let before = self.before();
        let run = self.start(&boot, &mut |line| {
            if line == LISTENS {
                newest = settled(boot.disk, &before);
            }
        })?;
        self.found(&run)?;
        script::check(&run.transcript.console, &steps[..2])?;
        let said = run.transcript.result();
        ensure!(said == "power-cut", "the run ended otherwise: {said}");
        let answered = script::check(&run.transcript.console, &steps[5..]);
        ensure!(answered.is_err(), "the command was answered");
        let acknowledged_as = newest?.counter;
        (self.filled, self.commit) = match cut.counts {
            Counts::Former => (acknowledged, acknowledged_as),
            Counts::New => (cut_off, acknowledged_as + 1),
        };
        Ok(())
    }

    /// After the last cut.
    fn goes_on(&mut self) -> Result<()> {
        let last = self.filled + 1;
        let steps = [
            Step::ShowPage("found"),
            Step::Send("fill", write_page(last), SUCCESS),
            Step::ShowPage("filled"),
        ];
        let boot = self.machine.boot("goes-on", &steps, &self.disk);
        let run = self.start(&boot, &mut |_| {})?;
        ran(&boot, &run)?;
        self.found(&run)?;
        let filled = counter(&run.transcript.console, "filled")?;
        ensure!(filled == u64::from(last), "it is filled with {filled}");
        Ok(())
    }

    /// Where a ledger counts, an acknowledged commit is not to be had any more once a later one counts.
    fn before_is_refused(&self) -> Result<()> {
        let before = self.before();
        let boot = self.machine.boot("before", &[], &before);
        self.machine.refuses(&boot, "rolled-back").map(drop)
    }

    /// Boots with the machine's memory in a file, and looks for what the journal has of the state that was opened.
    fn start(&self, boot: &Boot<'_>, on_line: &mut dyn FnMut(&str)) -> Result<Run> {
        let file = self.machine.file("memory");
        let boot = Boot {
            memory: Some(&file),
            ..*boot
        };
        let run = self.machine.run(&boot, on_line);
        let memory = run.as_ref().ok().map(|run| Memory::read(&file, run));
        fs::remove_file(&file)?;
        let run = run?;
        let event = Record::Unlock(self.unlock(&run)?).to_event();
        let found = memory.context("there was no run")??.count(&event);
        ensure!(
            found.private > 0,
            "the journal has no record `unlock` with commit {}",
            self.commit
        );
        Ok(run)
    }

    /// What the journal has to say of the state that was opened.
    fn unlock(&self, run: &Run) -> Result<Unlock> {
        let state = run.transcript.l1("state");
        let epoch = state.and_then(|state| state.number("epoch"));
        let document = fs::read(&self.machine.document)?;
        let document = init_data::parse(&document).ok();
        let configured = document.and_then(|document| document.configuration.state);
        let configured = configured.context("the document has no state")?;
        let broker = configured.key.broker().map(|broker| {
            let mut name = [0; 32];
            name.copy_from_slice(Algorithm::Sha256.digest(&broker.key).bytes());
            name
        });
        Ok(Unlock {
            machine: configured.machine.0,
            key: match broker {
                Some(_) => KeyHalves::Both,
                None => KeyHalves::Hardware,
            },
            broker,
            rollback: self.rollback,
            epoch: epoch.context("L1 did not open the state")?,
            counter: self.commit,
        })
    }

    /// Whether the guest found the state that counts, and L1 opened that commit.
    fn found(&self, run: &Run) -> Result<()> {
        let found = counter(&run.transcript.console, "found")?;
        ensure!(
            found == u64::from(self.filled),
            "the page is filled with {found}, and {} counts",
            self.filled
        );
        logged(run, &format!(", commit {}", self.commit))
    }
}
