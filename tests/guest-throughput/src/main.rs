//! Measures inside the guest what its disk and its network do.
//!
//! What to measure is the word `tdp.measure=` of the kernel's command line ([`plan`]). For each case it prints `@begin MARK`,
//! and when it is done `@throughput {json}`: how much was moved a round, and what each round took in nanoseconds of the
//! guest's clock. Around each round it writes a byte to port 0x80, where a PC shows POST codes: on the simulator that makes a
//! mark with the counters of that moment, elsewhere it does nothing.
#![forbid(unsafe_code)]

mod disk;
mod network;
mod plan;

use plan::{Plan, What};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::process::ExitCode;
use std::time::Instant;

/// The port that nothing listens to.
const MARK_PORT: u64 = 0x80;
/// In a mark: the end of what it marks.
const END: u8 = 0x80;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("@error guest-throughput: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> io::Result<()> {
    let plan = Plan::of(&std::fs::read_to_string("/proc/cmdline")?)
        .ok_or_else(|| io::Error::other("the command line does not say what to measure"))?;
    let marks = Marks::open();
    match plan.what {
        What::Disk(content) => disk::measure(&marks, &plan, content),
        What::Network(peer) => network::measure(&marks, &plan, peer),
    }
}

/// What a round has moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Moved {
    /// Requests of a disk, packets of a network.
    units: u64,
    bytes: u64,
}

/// The mark port.
struct Marks(Option<File>);

impl Marks {
    fn open() -> Self {
        Self(OpenOptions::new().write(true).open("/dev/port").ok())
    }

    fn set(&self, value: u8) -> io::Result<()> {
        match &self.0 {
            Some(ports) => ports.write_all_at(&[value], MARK_PORT),
            None => Ok(()),
        }
    }

    /// Does `round` so many times, and prints what it was; every round has to move the same.
    fn measure(
        &self,
        mark: u8,
        name: &str,
        rounds: u32,
        round: &mut dyn FnMut() -> io::Result<Moved>,
    ) -> io::Result<()> {
        println!("@begin {mark}");
        drain_console();
        let mut times = Vec::new();
        let mut units = Vec::new();
        let mut bytes = 0;
        for _ in 0..rounds {
            self.set(mark)?;
            let started = Instant::now();
            let moved = round();
            let elapsed = started.elapsed();
            self.set(mark | END)?;
            let moved = moved?;
            times.push(elapsed.as_nanos());
            units.push(moved.units);
            bytes = moved.bytes;
        }
        println!("{}", line(mark, name, &units, bytes, &times));
        Ok(())
    }
}

/// Waits until the kernel has sent what was printed. It sends it a byte an exit, while the program goes on: without this, a
/// measurement counts exits of the line before. What is no terminal has nothing to wait for.
fn drain_console() {
    let _ = rustix::termios::tcdrain(io::stdout());
}

/// The line that a case ends with.
fn line(mark: u8, name: &str, units: &[u64], bytes: u64, times: &[u128]) -> String {
    format!(
        "@throughput {{\"mark\":{mark},\"name\":\"{name}\",\"units\":{units:?},\"bytes\":{bytes},\"ns\":{times:?}}}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_ends_with_a_line_for_programs() {
        assert_eq!(
            line(5, "random read", &[2, 2], 8192, &[10, 11]),
            r#"@throughput {"mark":5,"name":"random read","units":[2, 2],"bytes":8192,"ns":[10, 11]}"#
        );
    }

    #[test]
    fn a_round_that_fails_is_no_figure() {
        let marks = Marks(None);
        let mut rounds = 0;
        let failed = marks.measure(1, "x", 3, &mut || {
            rounds += 1;
            Err(io::Error::other("the disk is gone"))
        });
        assert!(failed.is_err());
        assert_eq!(rounds, 1);
    }
}
