//! One machine started twice at a time, from its disk and a copy of it.

use super::small::{Boot, Channel, Keys, LISTENS, Machine, logged, ran};
use crate::blobs::script::{
    FAILURE, SUCCESS, Step, counter, define_counter, get_random, increment, read_counter,
};
use crate::{Checks, Setup, Suite};
use anyhow::{Context, Result, ensure};
use attestation::journal::Record;
use simulator::Run;
use std::fs;
use std::path::Path;

/// Twins.
pub(super) fn suite<'a>(setup: &'a Setup, programs: &'a Path) -> Suite<'a> {
    let mut suite = Suite::new();
    suite.add(move |_| {
        let mut checks = Checks::new();
        if let Err(error) = twins(setup, programs, &mut checks) {
            checks.push(("twins".into(), Err(error)));
        }
        checks
    });
    suite
}

fn twins(setup: &Setup, programs: &Path, checks: &mut Checks) -> Result<()> {
    let machine = Machine::new(setup, "twins", Keys::Broker(programs, &[]))?;
    let (disk, copy) = (machine.file("older.img"), machine.file("newer.img"));
    let first = [
        Step::Send("define", define_counter(), SUCCESS),
        Step::Send("increment", increment(), SUCCESS),
        Step::ShowCounter("counter"),
    ];
    let run = machine.runs(&machine.boot("first", &first, &disk))?;
    let begun = counter(&run.transcript.console, "counter")?;

    // The older twin waits while its disk is copied and the newer one lives its life.
    let older = [
        Step::Send("increment", increment(), SUCCESS),
        Step::Say(LISTENS),
        Step::Listen,
        Step::Send("read", read_counter(), SUCCESS),
        Step::Mark(1),
        Step::Send("refused", increment(), FAILURE),
        Step::Mark(2),
        Step::Send("and for good", get_random(), FAILURE),
    ];
    let newer = [
        Step::ShowCounter("found"),
        Step::Send("increment", increment(), SUCCESS),
        Step::ShowCounter("counter"),
    ];
    let mut twin = Err(anyhow::anyhow!("the older twin did not come to wait"));
    let older = Boot {
        options: &["marks=1"],
        ..machine.boot("older", &older, &disk)
    };
    let run = machine.run(&older, &mut |line| {
        if line == LISTENS {
            twin = fs::copy(&disk, &copy)
                .map_err(Into::into)
                .and_then(|_| live_beside(&machine, &newer, &copy));
        }
    })?;
    let twin = twin.and_then(|values| {
        ensure!(values == [begun + 1, begun + 2], "it counts {values:?}");
        Ok(())
    });
    let goes_on = twin.is_ok();
    checks.push(("twins: the newer one goes on".into(), twin));
    let fenced = ran(&older, &run).and_then(|()| logged(&run, "the vTPM is in failure mode: "));
    checks.push(("twins: the older one is fenced".into(), fenced));
    let measured = measured(&run, "fenced");
    checks.push(("twins: the refusal is in RTMR3".into(), measured));
    if !goes_on {
        return Ok(());
    }

    // Its last commit, which was refused, is on its disk: no state that counts.
    let again = machine.boot("older-again", &newer, &disk);
    let refused = machine.refuses(&again, "rolled-back").map(drop);
    checks.push(("twins: the older one's disk is refused".into(), refused));
    let found = machine.runs(&machine.boot("newer-again", &newer, &copy));
    let found = found.and_then(|run| {
        let found = counter(&run.transcript.console, "found")?;
        ensure!(found == begun + 2, "it counts {found}");
        Ok(())
    });
    checks.push(("twins: the newer one starts again".into(), found));
    Ok(())
}

/// The newer twin's life, on another host's proxy; what its counter was and is.
fn live_beside(machine: &Machine<'_>, steps: &[Step], disk: &Path) -> Result<[u64; 2]> {
    let broker = machine.broker.as_ref().context("there is no broker")?;
    let proxy = broker.proxy("newer")?;
    let boot = Boot {
        channel: Channel::Proxy(&proxy),
        ..machine.boot("newer", steps, disk)
    };
    let console = machine.runs(&boot)?.transcript.console;
    Ok([counter(&console, "found")?, counter(&console, "counter")?])
}

/// Whether RTMR3 between the marks 1 and 2 was extended by the record of this refusal, and by nothing else.
fn measured(run: &Run, refusal: &str) -> Result<()> {
    let rtmr3 = |mark: u64| {
        let records = run.transcript.records.iter();
        let record = records.clone().find(|record| record["mark"] == mark);
        let digits = record.and_then(|record| record["rtmr3"].as_str());
        let bytes = digits.map(hex::decode).transpose()?;
        bytes.with_context(|| format!("there is no mark {mark}"))
    };
    const WORDS: &str = "the vTPM is in failure mode: ";
    let line = run.transcript.log.iter().find(|line| line.contains(WORDS));
    let line = line.context("the log does not tell of failure mode")?;
    let (_, said) = line.split_once(WORDS).context("it does not say why")?;
    ensure!(said.contains(refusal), "the log says {said:?}");
    let (before, after) = (rtmr3(1)?, rtmr3(2)?);
    // What the log says ends with the reason that the record has.
    let reasons = said.char_indices().map(|(at, _)| &said[at..]);
    let mut extended = reasons.map(|reason| {
        let reason = reason.to_owned();
        let event = Record::StateRefused { reason }.to_event();
        let digest = attestation::digest::sha384(&event);
        attestation::digest::sha384(&[&before[..], &digest].concat())
    });
    ensure!(
        extended.any(|value| value[..] == after[..]),
        "RTMR3 was not extended by the refusal {said:?}"
    );
    Ok(())
}
