//! QEMU's process: its arguments, its console, its end.

use crate::transcript::Transcript;
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// What is inserted into the virtual clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// One instruction is one nanosecond, idle time is skipped: every run is the same.
    Counted,
    /// As `Counted`, but idle time passes as the host's: for people.
    Paced,
    /// The host's: of several processors of QEMU's, which starve each other where instructions are counted.
    Host,
    /// The host's, and each of QEMU's processors has a thread of the host's: no two runs are the same.
    Threads,
}

/// What boots.
#[derive(Clone, Copy, Debug)]
pub struct BootFiles<'a> {
    /// A bzImage.
    pub kernel: &'a Path,
    /// Its initrd.
    pub initrd: Option<&'a Path>,
    /// The kernel's whole command line.
    pub command_line: &'a str,
}

/// What is typed on the guest's console when it asks for it.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// The line that asks.
    pub question: &'a str,
    /// The line that is typed.
    pub answer: &'a str,
}

/// A run that has ended.
pub struct Run {
    /// What it said.
    pub transcript: Transcript,
    /// QEMU's exit status says that all went well, and the guest did not halt instead of powering off.
    pub succeeded: bool,
    /// The host's time that it took.
    pub wall: Duration,
    /// The host's time until the guest's first program ran.
    pub to_user_space: Option<Duration>,
}

/// The seed of QEMU's random numbers, of a run that has no wish.
pub const SEED: u32 = 1;

/// A PC with this processor (`-cpu`) and random numbers of this seed, whose console is QEMU's standard input and output.
pub(crate) fn command(cpu: &str, memory_mib: u64, clock: Clock, seed: u32) -> Command {
    let icount = match clock {
        Clock::Counted => Some("shift=0,sleep=off"),
        Clock::Paced => Some("shift=0,sleep=on"),
        Clock::Host | Clock::Threads => None,
    };
    let accelerator = match clock {
        Clock::Threads => "tcg,thread=multi",
        // One thread, as where instructions are counted.
        _ => "tcg,thread=single",
    };
    let mut command = Command::new("qemu-system-x86_64");
    command
        .args(["-machine", "q35", "-cpu", cpu])
        .args(["-accel", accelerator])
        .args(["-m", &memory_mib.to_string()])
        .args(["-bios", "/usr/share/qemu/qboot.rom"])
        .args([
            "-display",
            "none",
            "-vga",
            "none",
            "-net",
            "none",
            "-no-reboot",
        ])
        .args(["-seed", &seed.to_string()])
        .args(["-rtc", "base=2024-01-01,clock=vm"])
        .args([
            "-chardev",
            "stdio,id=console,signal=off",
            "-serial",
            "chardev:console",
        ]);
    if let Some(icount) = icount {
        command.args(["-icount", icount]);
    }
    command
}

/// What came of a process.
pub(crate) struct Heard {
    status: Option<i32>,
    /// Lines of the guest's console.
    pub(crate) console: Vec<String>,
    wall: Duration,
    to_user_space: Option<Duration>,
}

impl Heard {
    /// The run, whose exit status is `success` if all went well, with the simulator's log.
    pub(crate) fn into_run(self, success: i32, log: &str) -> Run {
        let transcript = Transcript::new(self.console, log);
        Run {
            succeeded: self.status == Some(success) && transcript.halted_at().is_none(),
            transcript,
            wall: self.wall,
            to_user_space: self.to_user_space,
        }
    }
}

/// The guest's console is this terminal.
pub(crate) fn connect_terminal(mut command: Command) -> Result<Heard> {
    if !std::io::stdin().is_terminal() {
        eprintln!("note: standard input is not a terminal; the shell reads what it gives");
    }
    let started = Instant::now();
    let status = command.status().context("cannot run qemu-system-x86_64")?;
    Ok(Heard {
        status: status.code(),
        console: Vec::new(),
        wall: started.elapsed(),
        to_user_space: None,
    })
}

/// Ends QEMU whatever happens to the one who started it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Collects the console's lines, each of which `on_line` sees as it comes; ends the run at the time
/// limit, if there is one.
pub(crate) fn listen(
    mut command: Command,
    answer: Option<Answer<'_>>,
    limit: Option<Duration>,
    on_line: &mut dyn FnMut(&str),
) -> Result<Heard> {
    let started = Instant::now();
    let child = command
        .stdin(answer.map_or_else(Stdio::null, |_| Stdio::piped()))
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot run qemu-system-x86_64")?;
    let mut running = Running(child);
    let mut stdin = running.0.stdin.take();
    let stdout = running.0.stdout.take().context("QEMU gives no console")?;
    let (sender, receiver) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        for line in BufReader::new(stdout).split(b'\n') {
            let Ok(line) = line else { break };
            let line = String::from_utf8_lossy(&line)
                .trim_end_matches('\r')
                .to_owned();
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    let deadline = limit.and_then(|limit| started.checked_add(limit));
    let mut console: Vec<String> = Vec::new();
    let mut to_user_space = None;
    loop {
        let line = match deadline {
            Some(deadline) => {
                receiver.recv_timeout(deadline.saturating_duration_since(Instant::now()))
            }
            None => receiver
                .recv()
                .map_err(|_| mpsc::RecvTimeoutError::Disconnected),
        };
        match line {
            Ok(line) => {
                if to_user_space.is_none() && line.starts_with("@userspace ") {
                    to_user_space = Some(started.elapsed());
                }
                on_line(&line);
                if let Some((answer, stdin)) = answer.zip(stdin.as_mut())
                    && line == answer.question
                {
                    writeln!(stdin, "{}", answer.answer).context("QEMU reads no console")?;
                }
                console.push(line);
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                drop(running);
                let _ = reader.join();
                // What came since, and a line that had not ended.
                for line in receiver.try_iter() {
                    on_line(&line);
                    console.push(line);
                }
                let last = console.iter().rfind(|line| !line.is_empty());
                let last = last.map_or_else(|| "(nothing)".to_owned(), |line| end_of(line));
                bail!(
                    "the run did not end within {} s; the console's last line: {last}",
                    limit.unwrap_or_default().as_secs()
                );
            }
        }
    }
    let status = running.0.wait()?;
    let _ = reader.join();
    Ok(Heard {
        status: status.code(),
        console,
        wall: started.elapsed(),
        to_user_space,
    })
}

/// The end of a line, as one may show it: a program that draws on its screen sends one endless line with control
/// characters.
fn end_of(line: &str) -> String {
    const SHOWN: usize = 160;
    let skipped = line.chars().count().saturating_sub(SHOWN);
    let shown = line.chars().skip(skipped);
    shown
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// memtest86+ draws its screen by cursor movements alone.
    #[test]
    fn a_line_without_an_end_is_seen_when_the_limit_ends_a_run() {
        let mut command = Command::new("sh");
        command.args(["-c", r"printf 'first\n\033[2Jscreen'; exec sleep 60"]);
        let mut seen = Vec::new();
        let heard = listen(command, None, Some(Duration::from_secs(1)), &mut |line| {
            seen.push(line.to_owned());
        });
        assert_eq!(seen, ["first", "\u{1b}[2Jscreen"]);
        let error = heard.err().map(|error| error.to_string());
        assert_eq!(
            error.as_deref(),
            Some("the run did not end within 1 s; the console's last line:  [2Jscreen")
        );
    }
}
