//! For how long a processor is kept from the guest while the TPM has much to do: a thread reads the clock all the time, and
//! another sends commands that take long, or that have many bytes. What is longest between two readings is an exit, a slice
//! of the command's, and what the guest's kernel does for its driver.

use crate::command::{Command, LONG_INDEX_SIZE, SigningKey, created_handle};
use crate::{FIRST_KEY, Tpm, tell};
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

/// What the lines of gaps are marked with.
const MARK: u8 = 12;

/// For so long the sender leaves the processor to the reader of the clock, which may have had none up to then: at the
/// beginning, and after each command, whose end is its gap's.
const PAUSE: Duration = Duration::from_millis(5);

/// Prints a line as of a command that is timed, for each command that takes long.
pub(crate) fn measure(tpm: &mut Tpm) -> io::Result<()> {
    let longest = AtomicU64::new(0);
    let over = AtomicBool::new(false);
    let gaps = scope(|scope| {
        scope.spawn(|| read_the_clock(&longest, &over));
        sleep(PAUSE);
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
    let key = Command::create_primary;
    let long = [
        (FIRST_KEY, key(SigningKey::P256)),
        ("SelfTest(full)", Command::self_test()),
        ("CreatePrimary(RSA-2048)", key(SigningKey::Rsa2048)),
        ("CreatePrimary(RSA-3072)", key(SigningKey::Rsa3072)),
    ];
    let of_many_bytes = [
        ("NV_Write(1024)", Command::nv_write(LONG_INDEX_SIZE, 0xA5)),
        ("NV_Read(1024)", Command::nv_read(LONG_INDEX_SIZE)),
    ];
    let mut gaps = Vec::new();
    for (name, command) in long {
        gaps.push((name, gap(tpm, &command, longest)?));
    }
    tpm.transmit(&Command::nv_define(LONG_INDEX_SIZE))?;
    for (name, command) in of_many_bytes {
        gaps.push((name, gap(tpm, &command, longest)?));
    }
    Ok(gaps)
}

fn gap(tpm: &mut Tpm, command: &Command, longest: &AtomicU64) -> io::Result<u64> {
    sleep(PAUSE);
    longest.store(0, Ordering::Relaxed);
    let response = tpm.transmit(command)?;
    sleep(PAUSE);
    let gap = longest.load(Ordering::Relaxed);
    if let Some(handle) = created_handle(&response) {
        tpm.transmit(&Command::flush(handle))?;
    }
    Ok(gap)
}
