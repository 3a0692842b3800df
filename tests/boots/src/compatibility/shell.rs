//! A session at the guest's shell: what its banner names works.

use crate::{BASE_COMMAND_LINE, Checks, Setup, Suite};
use anyhow::{Context, Result, ensure};
use simulator::{Answer, Clock, Console, Run, Simulation};

/// The command that the banner names, and what the line that names it ends with.
const COMMAND: &str = "tpm2_getrandom --hex 16";
const TRY: &str = "try: ";
/// Digits that it prints.
const DIGITS: usize = 32;
/// The banner's last line: the shell reads what is typed behind it.
const LAST_LINE: &str = "Leave with: exit (or poweroff -f)";

/// The session's name.
pub(super) const NAME: &str = "a session at the shell";

/// The session.
pub(super) fn suite(setup: &Setup) -> Suite<'_> {
    let mut suite = Suite::new();
    suite.add(|_| {
        let whole = run(setup).and_then(|run| judge(&run));
        let checks: Checks = vec![(NAME.to_owned(), whole)];
        checks
    });
    suite
}

/// As `cargo xtask run --shell`, but for who types.
fn run(setup: &Setup) -> Result<Run> {
    let command_line = format!("{BASE_COMMAND_LINE} quiet tdp.mode=shell");
    let typed = format!("{COMMAND}; echo; exit");
    let boot = setup.linux(&command_line);
    Simulation {
        clock: Clock::Paced,
        options: &["watchdog=0".to_owned()],
        console: Console::Asked(Answer {
            question: LAST_LINE,
            answer: &typed,
        }),
        ..setup.simulation("shell", boot, 1024)
    }
    .run(&mut |_| {})
}

fn judge(run: &Run) -> Result<()> {
    let console = &run.transcript.console;
    let named = console
        .iter()
        .find_map(|line| line.split_once(TRY))
        .context("the banner names no command")?;
    ensure!(named.1 == COMMAND, "the banner names {:?}", named.1);
    let answered = console
        .iter()
        .any(|line| line.len() == DIGITS && line.bytes().all(|digit| digit.is_ascii_hexdigit()));
    ensure!(answered, "no random number came: see shell.console.log");
    ensure!(run.succeeded, "it ended so: {}", run.transcript.result());
    Ok(())
}
