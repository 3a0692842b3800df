//! What processors cost: rounds of one thing between two marks, with nothing else going on.
//!
//! A byte is written to port 0x80, where a PC shows POST codes, before and after: on the simulator that makes a mark with the
//! counters of that moment, elsewhere it does nothing. For each case prints `@measured {json}`.

use crate::interrupts::sums;
use crate::messages::{by_pipe, register_barriers};
use crate::plan::{Plan, What};
use crate::processors::{on_each, online, pin};
use crate::tpm::Client;
use crate::{Outcome, Steps};
use attestation::digest::{Algorithm, Digest};
use rustix::thread::{MembarrierCommand, membarrier};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// The port that nothing listens to.
const MARK_PORT: u64 = 0x80;
/// In a mark: the end of what it marks.
const END: u8 = 0x80;

/// The mark of each case.
mod mark {
    pub(super) const IPI: u8 = 1;
    pub(super) const WAKE: u8 = 2;
    pub(super) const SWITCH: u8 = 3;
    pub(super) const TICK: u8 = 4;
    pub(super) const TPM: u8 = 5;
    pub(super) const LOAD: u8 = 6;
}

const IPIS: usize = 500;
const TALKS: usize = 500;
const BUSY: Duration = Duration::from_millis(400);
const TPM_ROUNDS: usize = 20;
/// Of the load, over all processors: programs that are started, and digests for each.
const PROGRAMS: usize = 48;
const DIGESTS: usize = 2_000;

pub(crate) fn steps(steps: &mut Steps, plan: &Plan) {
    steps.step("measured", || {
        let marks = Marks::open();
        if plan.what == What::Load {
            return load(&marks);
        }
        if plan.cpus > 1 {
            interrupts(&marks)?;
            wakes(&marks)?;
        }
        switches(&marks)?;
        ticks(&marks)?;
        tpm(&marks)?;
        load(&marks)
    });
}

struct Marks(Option<File>);

impl Marks {
    fn open() -> Self {
        Self(OpenOptions::new().write(true).open("/dev/port").ok())
    }

    fn mark(&self, value: u8) -> Outcome {
        match &self.0 {
            Some(ports) => ports
                .write_all_at(&[value], MARK_PORT)
                .map_err(|error| format!("/dev/port: {error}")),
            None => Ok(()),
        }
    }

    /// Measures `rounds` rounds. Interrupts of these `kinds` are counted meanwhile, over all processors.
    fn measure(
        &self,
        mark: u8,
        case: &str,
        rounds: usize,
        kinds: &[&str],
        act: impl FnOnce() -> Outcome,
    ) -> Outcome {
        let sum = || Ok::<u64, String>(sums(kinds)?.iter().sum());
        // The kernel sends what was printed a byte an exit, while the program goes on; what is no terminal has nothing to
        // wait for.
        let _ = rustix::termios::tcdrain(std::io::stdout());
        let before = sum()?;
        self.mark(mark)?;
        let started = Instant::now();
        act()?;
        let elapsed = started.elapsed();
        self.mark(mark | END)?;
        let interrupts = sum()? - before;
        println!(
            "@measured {{\"mark\":{mark},\"case\":\"{case}\",\"rounds\":{rounds},\"ns\":{},\"interrupts\":{interrupts}}}",
            elapsed.as_nanos()
        );
        Ok(())
    }
}

/// The first two processors.
fn two() -> Result<[usize; 2], String> {
    match online()?[..] {
        [one, other, ..] => Ok([one, other]),
        _ => Err("there is one processor".to_owned()),
    }
}

/// The second processor runs; the first has a barrier for it, which is an interrupt.
fn interrupts(marks: &Marks) -> Outcome {
    let [one, other] = two()?;
    register_barriers()?;
    let (running, ended) = (AtomicBool::new(false), AtomicBool::new(false));
    let run = |_| {
        running.store(true, Ordering::Release);
        while !ended.load(Ordering::Relaxed) {
            std::hint::spin_loop();
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let runner = scope.spawn(|| on_each(&[other], run));
        let measured = pin(one).and_then(|()| {
            while !running.load(Ordering::Acquire) {
                std::thread::yield_now();
            }
            let barriers = || {
                (0..IPIS).try_for_each(|_| {
                    membarrier(MembarrierCommand::PrivateExpedited)
                        .map_err(|error| format!("membarrier: {error}"))
                })
            };
            marks.measure(
                mark::IPI,
                "IPI to a running processor",
                IPIS,
                &["CAL"],
                barriers,
            )
        });
        ended.store(true, Ordering::Relaxed);
        runner.join().map_err(|_| "a thread panicked")??;
        measured
    })
}

/// Two halted processors wake each other up: a round is two wake-ups, and two switches to the thread and two to idle.
fn wakes(marks: &Marks) -> Outcome {
    let [one, other] = two()?;
    marks.measure(
        mark::WAKE,
        "wake-up there and back",
        TALKS,
        &["RES", "CAL"],
        || by_pipe(one, other, TALKS),
    )
}

/// Two threads of one processor: a round is two switches.
fn switches(marks: &Marks) -> Outcome {
    let first = *online()?.first().ok_or("no processor")?;
    marks.measure(
        mark::SWITCH,
        "two switches on one processor",
        TALKS,
        &["LOC"],
        || by_pipe(first, first, TALKS),
    )
}

/// A thread that never waits: the timer's ticks are all that comes.
fn ticks(marks: &Marks) -> Outcome {
    let last = *online()?.last().ok_or("no processor")?;
    let run = |_| {
        let started = Instant::now();
        let mut digest = Digest::zero(Algorithm::Sha256);
        while started.elapsed() < BUSY {
            digest = digest.extended(&digest).ok_or("no digest")?;
        }
        Ok(())
    };
    let rounds = usize::try_from(BUSY.as_millis()).unwrap_or_default() / 4;
    marks.measure(mark::TICK, "ticks of 4 ms", rounds, &["LOC"], || {
        on_each(&[last], run).map(drop)
    })
}

/// All processors send commands.
fn tpm(marks: &Marks) -> Outcome {
    let cpus = online()?;
    let mut clients = Vec::new();
    for &cpu in &cpus {
        clients.push(std::sync::Mutex::new(Client::new(cpu)?));
    }
    let ask = |cpu| {
        let own = cpus.iter().zip(&clients).find(|(own, _)| **own == cpu);
        let (_, client) = own.ok_or("no client")?;
        let mut client = client.lock().map_err(|error| error.to_string())?;
        (0..TPM_ROUNDS).try_for_each(|_| client.random())
    };
    let commands = TPM_ROUNDS * cpus.len();
    marks.measure(
        mark::TPM,
        "GetRandom from each processor",
        commands,
        &["RES", "CAL"],
        || on_each(&cpus, ask).map(drop),
    )
}

/// What a build is like: programs that are started, read and write files, compute and end, as many at a time as there are
/// processors.
fn load(marks: &Marks) -> Outcome {
    let cpus = online()?;
    let left = std::sync::atomic::AtomicUsize::new(PROGRAMS);
    let work = |cpu| {
        let take = |left: usize| left.checked_sub(1);
        while left
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take)
            .is_ok()
        {
            let script = format!(
                "sed s/0/1/g /proc/cpuinfo | sort | gzip -c >/tmp/out.{cpu} && gunzip -c /tmp/out.{cpu} | md5sum >/dev/null"
            );
            let status = Command::new("/bin/sh").args(["-c", &script]).status();
            if !status.is_ok_and(|status| status.success()) {
                return Err("a program failed".to_owned());
            }
            let mut digest = Digest::zero(Algorithm::Sha256);
            for _ in 0..DIGESTS {
                digest = digest.extended(&digest).ok_or("no digest")?;
            }
        }
        Ok(())
    };
    marks.measure(mark::LOAD, "a build's load", PROGRAMS, &["TLB"], || {
        on_each(&cpus, work).map(drop)
    })
}
