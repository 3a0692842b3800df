//! Hosts that play key broker, stand between it and L1, or have none.

use super::small::{Boot, Channel, Keys, Machine, logged};
use crate::blobs::script::{SUCCESS, Step, define_counter, increment};
use crate::{Checks, Setup, Suite};
use anyhow::{Context, Result};
use broker_client::scripted::Lie;
use std::time::Duration;

/// A broker, and the name by which its machine's state is refused.
struct Case {
    name: &'static str,
    broker: Answers,
    refusal: &'static str,
}

impl Case {
    /// Whether it is a broker of the host's own.
    fn is_of_a_host(&self) -> bool {
        matches!(self.broker, Answers::Lie(Lie::OtherIdentity))
    }
}

enum Answers {
    /// One that does this.
    Lie(Lie),
    /// One that does this, while time passes.
    LieInTime(Lie),
    /// What it answered at the machine's first start, again.
    Again,
    /// None; the simulator's console.
    None(&'static [&'static str]),
}

/// A console whose registers take 5 ms each, so that time passes.
const SLOW: &[&str] = &["fault=virtio:console:slow:5000000"];
/// As [`SLOW`], with nobody behind it.
const NOBODY: &[&str] = &["console=nobody", "fault=virtio:console:slow:5000000"];
/// A console that completes nothing.
const SILENT: &[&str] = &[
    "console=nobody",
    "fault=virtio:console:slow:5000000,virtio:console:silent",
];

const CASES: [Case; 13] = [
    Case {
        name: "signs with another key",
        broker: Answers::Lie(Lie::OtherIdentity),
        refusal: "signature",
    },
    Case {
        name: "releases for an earlier start",
        broker: Answers::Lie(Lie::OldNonce),
        refusal: "other-nonce",
    },
    Case {
        name: "encrypts to another key",
        broker: Answers::Lie(Lie::OtherRecipient),
        refusal: "other-recipient",
    },
    Case {
        name: "releases another machine's key",
        broker: Answers::Lie(Lie::OtherMachine),
        refusal: "other-machine",
    },
    Case {
        name: "answers as it did an earlier start",
        broker: Answers::Again,
        refusal: "other-recipient",
    },
    Case {
        name: "answers with a mebibyte",
        broker: Answers::Lie(Lie::Mebibyte),
        refusal: "broker-nonsense",
    },
    Case {
        name: "cuts its answers in the middle",
        broker: Answers::LieInTime(Lie::Cut),
        refusal: "broker-unreachable",
    },
    Case {
        name: "wants another version of the protocol",
        broker: Answers::Lie(Lie::OtherVersion),
        refusal: "broker-refused",
    },
    Case {
        name: "refuses the evidence",
        broker: Answers::Lie(Lie::RefusedEvidence),
        refusal: "broker-refused",
    },
    Case {
        name: "keeps no ledger",
        broker: Answers::Lie(Lie::NoLedger),
        refusal: "no-ledger",
    },
    Case {
        name: "is down",
        broker: Answers::None(NOBODY),
        refusal: "broker-unreachable",
    },
    Case {
        name: "has a console that is silent",
        broker: Answers::None(SILENT),
        refusal: "broker-unreachable",
    },
    Case {
        name: "sends everything back",
        broker: Answers::None(&["console=echo", "fault=virtio:console:slow:5000000"]),
        refusal: "broker-nonsense",
    },
];

/// Each with a machine that wants no guest without its TPM, some with one that takes a new TPM then. The state of
/// neither is touched.
pub(super) fn suite(setup: &Setup) -> Suite<'_> {
    let mut suite = Suite::new();
    suite.add(move |_| checks(setup, "require"));
    suite.add(move |_| checks(setup, "ephemeral"));
    suite
}

fn checks(setup: &Setup, otherwise: &'static str) -> Checks {
    let mut checks = Checks::new();
    let name = format!("lying-broker-{otherwise}");
    let result = Machine::new(setup, &name, Keys::Scripted(otherwise))
        .and_then(|machine| each(&machine, otherwise, &mut checks));
    if let Err(error) = result {
        checks.push((format!("key broker, {otherwise}"), Err(error)));
    }
    checks
}

fn each(machine: &Machine<'_>, otherwise: &str, checks: &mut Checks) -> Result<()> {
    let disk = machine.file("state.img");
    let first = [
        Step::Send("define", define_counter(), SUCCESS),
        Step::Send("increment", increment(), SUCCESS),
    ];
    machine.runs(&machine.boot("first", &first, &disk))?;
    let state = std::fs::read(&disk)?;
    let scripted = machine.scripted.as_ref().context("there is no broker")?;
    let first_answers = scripted.answers();
    // Chunked answers are as good as others.
    scripted.broker().chunked = true;
    let kept = [Step::Send("increment", increment(), SUCCESS)];
    for case in CASES.iter().filter(|case| {
        otherwise == "require" || matches!(case.broker, Answers::None(_)) || case.is_of_a_host()
    }) {
        let (options, channel) = match case.broker {
            Answers::Lie(lie) => {
                scripted.lie(lie);
                (&[][..], Channel::Own)
            }
            Answers::LieInTime(lie) => {
                scripted.lie(lie);
                (SLOW, Channel::Own)
            }
            Answers::Again => {
                scripted.play(first_answers.clone());
                (&[][..], Channel::Own)
            }
            Answers::None(options) => (options, Channel::Options),
        };
        // A TPM that is new has no counter yet. With the first start's random numbers its answers would be this one's.
        let boot = Boot {
            options,
            channel,
            seed: simulator::SEED + 1,
            ..machine.boot("lied-to", &first, &disk)
        };
        let result = match otherwise {
            "require" => machine.refuses(&boot, case.refusal).map(drop),
            _ => machine.runs(&boot).and_then(|run| {
                let says = format!(
                    "the TPM's state is not opened, and the TPM is a new one: {}: ",
                    case.refusal
                );
                logged(&run, &says)?;
                logged(&run, ", ephemeral")
            }),
        };
        let untouched = std::fs::read(&disk).map(|now| now == state);
        let result = result.and_then(|()| match untouched? {
            true => Ok(()),
            false => anyhow::bail!("its state disk was written"),
        });
        checks.push((format!("key broker, {otherwise}: it {}", case.name), result));
    }
    scripted.lie(Lie::None);
    scripted.wait(Duration::from_millis(200));
    let goes_on = machine.runs(&machine.boot("goes-on", &kept, &disk));
    let name = format!("key broker, {otherwise}: it tells the truth, in chunks and slowly");
    checks.push((name, goes_on.map(drop)));
    Ok(())
}
