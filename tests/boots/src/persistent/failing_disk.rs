//! A state disk that fails while the guest runs.

use super::small::{Boot, Keys, Machine, logged, ran};
use crate::blobs::script::{
    NV_UNAVAILABLE, SUCCESS, Step, counter, define_counter, extend, get_random, increment,
    read_counter, read_pcr,
};
use crate::{Setup, Suite};
use anyhow::{Result, ensure};

/// What the disk does between the guest's marks 1 and 2.
struct Case {
    name: &'static str,
    lies: &'static [&'static str],
}

const CASES: [Case; 4] = [
    Case {
        name: "has errors only",
        lies: &["io-error"],
    },
    Case {
        name: "forges completions",
        lies: &["used-id:0x10000"],
    },
    Case {
        name: "is gone from the bus",
        lies: &["vanish"],
    },
    Case {
        name: "never answers",
        // Each look at it takes 5 ms, so that time passes.
        lies: &["silent", "slow:5000000"],
    },
];

/// A boot each.
pub(super) fn suite(setup: &Setup) -> Suite<'_> {
    let mut suite = Suite::new();
    for case in &CASES {
        suite.add(move |_| {
            let name = format!("state disk under a guest: it {}", case.name);
            vec![(name, case.run(setup))]
        });
    }
    suite
}

impl Case {
    fn run(&self, setup: &Setup) -> Result<()> {
        let name = format!("state-disk-{}", self.name.replace(' ', "-"));
        let machine = Machine::new(setup, &name, Keys::Hardware)?;
        let disk = machine.file("state.img");
        let steps = [
            Step::Send("define", define_counter(), SUCCESS),
            Step::Send("increment", increment(), SUCCESS),
            Step::ShowCounter("before"),
            Step::Mark(1),
            Step::Send("increment while it fails", increment(), NV_UNAVAILABLE),
            Step::Send("PCRs go on", extend(), SUCCESS),
            Step::Send("random numbers go on", get_random(), SUCCESS),
            Step::Send("reads go on", read_pcr(), SUCCESS),
            Step::Send("NV reads go on", read_counter(), SUCCESS),
            Step::Mark(2),
            Step::Send("increment when it works again", increment(), SUCCESS),
            Step::ShowCounter("after"),
        ];
        let lies = self.lies.iter();
        let faults: Vec<_> = lies
            .map(|lie| format!("virtio:state:{lie}@mark:1-2"))
            .collect();
        let boot = Boot {
            options: &[&format!("fault={}", faults.join(","))],
            ..machine.boot("failing", &steps, &disk)
        };
        let run = machine.run(&boot, &mut |_| {})?;
        ran(&boot, &run)?;
        logged(&run, "the host's block device fails: ")?;
        logged(&run, "the host's block device works again")?;
        let console = &run.transcript.console;
        let value = |name| counter(console, name);
        let (before, after) = (value("before")?, value("after")?);
        // What was refused took no effect.
        ensure!(after == before + 1, "it counts {before}, then {after}");
        let steps = [Step::ShowCounter("found")];
        let run = machine.runs(&machine.boot("again", &steps, &disk))?;
        let found = counter(&run.transcript.console, "found")?;
        ensure!(found == after, "{after} was acknowledged, {found} is there");
        Ok(())
    }
}
