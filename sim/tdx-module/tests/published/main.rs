//! The model answers as the published TDX module, release 1.5.01, did when it was called in the same
//! way. `README.md` says how the answers came about and what the files are.
#![expect(
    clippy::indexing_slicing,
    clippy::expect_used,
    clippy::panic,
    reason = "the recordings are the tests' own: a wrong line ends the test"
)]

mod accepted;
mod faults;
mod recording;
mod td;

use accepted::ACCEPTED;
use recording::{Case, cases};
use std::collections::BTreeMap;
use td::Td;

/// One answer that is not the recorded one.
struct Difference<'a> {
    case: u32,
    /// The step, as text.
    step: &'a str,
    recorded: &'a str,
    model: String,
}

fn differences(cases: &[Case]) -> Vec<Difference<'_>> {
    let mut found = Vec::new();
    for case in cases {
        let mut td = Td::new();
        let mut answers = case.answers.iter();
        for (text, step) in &case.steps {
            let answer = td.step(step);
            if let Some(model) = answer.line {
                // The recording ends with an exit that the model may not have.
                let Some(recorded) = answers.next() else {
                    break;
                };
                if *recorded != model {
                    found.push(Difference {
                        case: case.number,
                        step: text,
                        recorded,
                        model,
                    });
                }
            }
            if answer.ends {
                break;
            }
        }
    }
    found
}

/// Every difference is an accepted one, and there are as many of each kind as there were.
fn replay(file: &str, cases: &[Case]) {
    let mut counts = BTreeMap::new();
    for difference in differences(cases) {
        let accepted = ACCEPTED
            .iter()
            .filter(|accepted| accepted.file == file)
            .find(|accepted| (accepted.applies)(&difference));
        let Some(accepted) = accepted else {
            panic!(
                "case {}: {}\n  recorded {}\n  model    {}",
                difference.case, difference.step, difference.recorded, difference.model
            );
        };
        *counts.entry(accepted.reason).or_insert(0) += 1;
    }
    for accepted in ACCEPTED.iter().filter(|accepted| accepted.file == file) {
        let count = counts.get(accepted.reason).copied();
        assert_eq!(count, Some(accepted.count), "{}", accepted.reason);
    }
}

macro_rules! replays {
    ($($name:ident: $file:literal;)*) => {
        $(
            fn $name() -> Vec<Case> {
                cases(
                    include_bytes!(concat!("1.5.01/", $file, ".in.gz")),
                    include_bytes!(concat!("1.5.01/", $file, ".out.gz")),
                )
            }
        )*

        mod replay {
            $(
                #[test]
                fn $name() {
                    super::replay($file, &super::$name());
                }
            )*
        }
    };
}

replays! {
    metadata: "rd";
    sequences: "pg";
    contents: "ct";
    msrs: "ms";
    l2_exits: "l2";
}
