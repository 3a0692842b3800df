//! A kept TPM behind either of its registers.

use super::{Change, DISK, Guest, Keeping, Outcome};
use crate::{Checks, Setup, Suite};
use attestation::journal::TpmInterface;
use std::path::Path;

/// A machine with a command response buffer: its TPM is made, found again, and found by the FIFO, which the host chose once.
pub(super) fn suite<'a>(setup: &'a Setup, programs: &'a Path) -> Suite<'a> {
    let mut suite = Suite::new();
    suite.add(move |_| life(setup, programs));
    suite
}

fn life(setup: &Setup, programs: &Path) -> Checks {
    let guest = Guest::steps(setup).by(TpmInterface::Crb);
    let keeping = match Keeping::start(setup, guest, programs, "persistent-crb") {
        Ok(keeping) => keeping,
        Err(error) => return vec![("persistent CRB: the key broker".into(), Err(error))],
    };
    let boot = |interface, outcome| {
        let change = Change {
            interface,
            ..Change::default()
        };
        let run = keeping.boot(&keeping.file(DISK), change, &mut |_| {})?;
        keeping.check(outcome, &run)
    };
    [
        ("the first boot makes the TPM", None, Outcome::New),
        ("the second boot finds it", None, Outcome::Found),
        (
            "and by the FIFO it is the same",
            Some(TpmInterface::Fifo),
            Outcome::Found,
        ),
        ("and again", None, Outcome::Found),
    ]
    .map(|(name, interface, outcome)| (format!("persistent CRB: {name}"), boot(interface, outcome)))
    .into()
}
