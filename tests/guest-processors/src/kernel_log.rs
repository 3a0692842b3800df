//! What the kernel says of the machine.

use rustix::fs::OFlags;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;

/// What a kernel says when its machine is wrong.
const COMPLAINTS: [&str; 16] = [
    "BUG: ",
    "WARNING: ",
    "unchecked MSR access",
    "soft lockup",
    "hard LOCKUP",
    "self-detected stall",
    "detected stalls on CPUs",
    "detected expedited stalls",
    "hung_task",
    "blocked for more than",
    "csd: ",
    "CPU timed out",
    "do_IRQ",
    "No irq handler for vector",
    "didn't stop",
    "do_boot_cpu failed",
];

/// Every message so far, without its priority, number and time.
pub(crate) fn lines() -> Result<Vec<String>, String> {
    let flags = i32::try_from(OFlags::NONBLOCK.bits()).map_err(|error| error.to_string())?;
    let mut log = OpenOptions::new()
        .read(true)
        .custom_flags(flags)
        .open("/dev/kmsg")
        .map_err(|error| format!("/dev/kmsg: {error}"))?;
    let mut lines = Vec::new();
    let mut record = [0; 8192];
    loop {
        match log.read(&mut record) {
            Ok(0) => break,
            Ok(length) => {
                let text = String::from_utf8_lossy(record.get(..length).unwrap_or_default());
                let message = text.split_once(';').map_or("", |(_, message)| message);
                lines.push(message.lines().next().unwrap_or_default().to_owned());
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            // Overwritten before it was read.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
            Err(error) => return Err(format!("/dev/kmsg: {error}")),
        }
    }
    Ok(lines)
}

/// The first message with one of these words.
pub(crate) fn find(words: &[&str]) -> Result<Option<String>, String> {
    let mut lines = lines()?.into_iter();
    Ok(lines.find(|line| words.iter().any(|word| line.contains(word))))
}

/// Whether there is no complaint.
pub(crate) fn is_quiet() -> Result<(), String> {
    match find(&COMPLAINTS)? {
        Some(line) => Err(line),
        None => Ok(()),
    }
}
