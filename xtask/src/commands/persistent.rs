//! `cargo xtask run --persistent`: a machine whose TPM is kept, with a Debian root on a disk that its TPM opens, boot by
//! boot, and what is refused.

use super::broker;
use super::run::show_line;
use crate::{progress, root_disk};
use anyhow::Result;
use attestation::journal::TpmInterface;
use boots::Setup;
use boots::persistent::{Guest, Keeping, LIFE, Outcome};

/// Plays the machine's life.
pub(crate) fn run(setup: &Setup, interface: TpmInterface, verbose: bool) -> Result<bool> {
    let programs = broker::build()?;
    let root = root_disk::build(&setup.folder)?;
    let disk = setup.folder.join("run-persistent.disk");
    root.new_disk(&disk)?;
    let guest = Guest::root(&root.initrd, &disk).by(interface);
    let step = progress::step("starting the key broker and the host's proxy");
    let keeping = Keeping::start(setup, guest, &programs, "run-persistent")?;
    step.done();
    let mut all = true;
    for (number, scene) in (1..).zip(&LIFE) {
        println!("\n{number}. {}", scene.title);
        let run = scene.play(&keeping, &mut |line| show_line(line, verbose))?;
        match keeping.check(scene.outcome, &run) {
            Ok(()) => println!("ok    {}", account(scene.outcome, &run)),
            Err(error) => {
                all = false;
                println!("FAIL  {error:#}");
            }
        }
    }
    println!(
        "\nbroker, state disks, init-data and logs are in {}",
        keeping.file("").display()
    );
    Ok(all)
}

/// What a boot came to, in L1's words.
fn account(outcome: Outcome, run: &simulator::Run) -> String {
    match outcome {
        Outcome::Refused(_) | Outcome::NotAllowed(_) => run.transcript.result(),
        Outcome::New | Outcome::Found => {
            let state = run.transcript.l1("state");
            let number = |key| {
                state
                    .and_then(|record| record.number(key))
                    .unwrap_or_default()
            };
            format!(
                "epoch {}, started from commit {}",
                number("epoch"),
                number("counter")
            )
        }
    }
}
