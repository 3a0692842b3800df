//! For how long a processor is kept from the guest while the TPM has much to do: a thread reads the clock all the time, and
//! another sends commands that take long. What is longest between two readings is an exit, a slice of the command's,
//! and what the guest's kernel does for its driver.

use crate::command::{Command, SigningKey, created_handle};
use crate::{FIRST_KEY, Tpm, tell};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

/// What the lines of gaps are marked with.
const MARK: u8 = 12;

/// Prints a line as of a command that is timed, for each command that takes long.
pub(crate) fn measure(tpm: &mut Tpm) -> io::Result<()> {
    let longest = AtomicU64::new(0);
    let over = AtomicBool::new(false);
    let gaps = std::thread::scope(|scope| {
        scope.spawn(|| read_the_clock(&longest, &over));
        let gaps = send(tpm, &longest);
        over.store(true, Ordering::Relaxed);
        gaps
    })?;
    for (name, gap) in gaps {
        tell(MARK, name, &[gap.into()]);
    }
    Ok(())
}

fn read_the_clock(longest: &AtomicU64, over: &AtomicBool) {
    let mut last = Instant::now();
    while !over.load(Ordering::Relaxed) {
        let now = Instant::now();
        let gap = now.duration_since(last).as_nanos();
        longest.fetch_max(u64::try_from(gap).unwrap_or(u64::MAX), Ordering::Relaxed);
        last = now;
    }
}

/// The gaps, which are told when all are known: the console has interrupts for what is printed before.
fn send(tpm: &mut Tpm, longest: &AtomicU64) -> io::Result<Vec<(&'static str, u64)>> {
    let commands = [
        (FIRST_KEY, Command::create_primary(SigningKey::P256)),
        ("SelfTest(full)", Command::self_test()),
        (
            "CreatePrimary(RSA-2048)",
            Command::create_primary(SigningKey::Rsa2048),
        ),
        (
            "CreatePrimary(RSA-3072)",
            Command::create_primary(SigningKey::Rsa3072),
        ),
    ];
    let gap = |(name, command): (&'static str, Command)| {
        longest.store(0, Ordering::Relaxed);
        let response = tpm.transmit(&command)?;
        let gap = longest.load(Ordering::Relaxed);
        if let Some(handle) = created_handle(&response) {
            tpm.transmit(&Command::flush(handle))?;
        }
        Ok((name, gap))
    };
    commands.into_iter().map(gap).collect()
}
