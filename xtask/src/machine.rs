//! Running the simulated platform, or plain QEMU beside it, and listening to what they say.

use crate::pack;
use crate::transcript::Transcript;
use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Where the bench lies in the machine's memory; a TD's low memory ends below it.
const BENCH_START_MIB: u64 = 0x7000_0000 >> 20;
const BENCH_END_MIB: u64 = 0x8000_0000 >> 20;
/// Where a PC's high memory begins.
const GIB4: u64 = 1 << 32;
/// From this much memory on, q35 puts what is above 2 GiB at 4 GiB.
const SPLIT_MIB: u64 = 0xB000_0000 >> 20;
/// isa-debug-exit gives 2 * value + 1; the bench writes 0 when all went well.
const SUCCESS: i32 = 1;

/// The RAM of a TD on the simulated platform: low up to the bench, the rest from 4 GiB, all in large
/// pages.
pub(crate) fn td_ram(memory_mib: u64) -> Vec<Range<u64>> {
    const LARGE_PAGE_MIB: u64 = 2;
    let whole = |mib: u64| (mib / LARGE_PAGE_MIB * LARGE_PAGE_MIB) << 20;
    let low = whole(memory_mib.min(BENCH_START_MIB));
    let high = whole(memory_mib.saturating_sub(BENCH_START_MIB));
    [0..low, GIB4..GIB4 + high]
        .into_iter()
        .filter(|range| !range.is_empty())
        .collect()
}

/// The guest physical address width of the TD: the shared bit is its highest bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Gpaw {
    /// 48 bits: shared bit 47.
    #[value(name = "48")]
    Bits48,
    /// 52 bits: shared bit 51.
    #[value(name = "52")]
    Bits52,
}

/// What is inserted into the virtual clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Clock {
    /// One instruction is one nanosecond, idle time is skipped: every run is the same.
    Counted,
    /// As `Counted`, but idle time passes as the host's: for people.
    Paced,
}

/// What boots.
pub(crate) struct Guest<'a> {
    pub(crate) kernel: &'a Path,
    pub(crate) initrd: Option<&'a Path>,
    pub(crate) command_line: &'a str,
}

/// What is typed on the guest's console when it asks for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answer<'a> {
    /// The line that asks.
    pub(crate) question: &'a str,
    pub(crate) answer: &'a str,
}

/// A run of the simulated platform.
pub(crate) struct Platform<'a> {
    pub(crate) bench: &'a Path,
    pub(crate) image: &'a [u8],
    pub(crate) guest: Option<Guest<'a>>,
    pub(crate) memory_mib: u64,
    pub(crate) gpaw: Gpaw,
    pub(crate) clock: Clock,
    /// Further words of the bench's command line.
    pub(crate) options: &'a [String],
    /// Files are kept here, under this name.
    pub(crate) folder: &'a Path,
    pub(crate) name: &'a str,
    /// Connect the guest's console to this terminal instead of listening to it.
    pub(crate) interactive: bool,
    pub(crate) answer: Option<Answer<'a>>,
    /// The run is ended after this much of the host's time.
    pub(crate) limit: Duration,
}

/// How a run ended.
pub(crate) struct Outcome {
    pub(crate) transcript: Transcript,
    pub(crate) succeeded: bool,
    pub(crate) wall: Duration,
    /// The host's time until the guest's first program ran.
    pub(crate) to_user_space: Option<Duration>,
}

impl Platform<'_> {
    /// Runs to the end; `on_line` sees each line of the guest's console as it comes.
    pub(crate) fn run(&self, on_line: &mut dyn FnMut(&str)) -> Result<Outcome> {
        let pack_file = self.file("pack");
        let pack = self.pack()?;
        std::fs::write(&pack_file, &pack)?;
        let log = self.file("bench.log");
        let _ = std::fs::remove_file(&log);
        let mut command = Command::new("qemu-system-x86_64");
        let (cpu, gpaw) = match self.gpaw {
            Gpaw::Bits48 => ("max,vendor=GenuineIntel,phys-bits=48,la57=off", 48),
            Gpaw::Bits52 => ("max,vendor=GenuineIntel,phys-bits=52", 52),
        };
        common_arguments(
            &mut command,
            cpu,
            self.machine_memory_mib(pack.len()),
            self.clock,
        );
        let mut append = format!("gpaw={gpaw} memory={}", self.memory_mib);
        for option in self.options {
            append.push(' ');
            append.push_str(option);
        }
        command
            .arg("-debugcon")
            .arg(format!("file:{}", log.display()))
            .args(["-device", "isa-debug-exit,iobase=0xf4"])
            .arg("-kernel")
            .arg(self.bench)
            .arg("-initrd")
            .arg(&pack_file)
            .args(["-append", &append]);
        let started = Instant::now();
        let mut to_user_space = None;
        let (status, console) = if self.interactive {
            (watch_terminal(command)?, Vec::new())
        } else {
            watch_console(command, self.answer, self.limit, &mut |line| {
                note_user_space(line, started, &mut to_user_space);
                on_line(line);
            })?
        };
        std::fs::write(self.file("console.log"), console.join("\n"))?;
        let log = std::fs::read(&log).unwrap_or_default();
        Ok(Outcome {
            transcript: Transcript::new(console, &String::from_utf8_lossy(&log)),
            succeeded: status == Some(SUCCESS),
            wall: started.elapsed(),
            to_user_space,
        })
    }

    fn file(&self, extension: &str) -> PathBuf {
        self.folder.join(format!("{}.{extension}", self.name))
    }

    fn pack(&self) -> Result<Vec<u8>> {
        let mut files = vec![("image", self.image.to_vec())];
        if let Some(guest) = &self.guest {
            let read = |path: &Path| {
                std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
            };
            files.push(("kernel", read(guest.kernel)?));
            if let Some(initrd) = guest.initrd {
                files.push(("initrd", read(initrd)?));
            }
            files.push(("cmdline", guest.command_line.as_bytes().to_vec()));
        }
        let files: Vec<(&str, &[u8])> = files
            .iter()
            .map(|(name, data)| (*name, &data[..]))
            .collect();
        pack::pack(&files)
    }

    /// The TD's low memory, the bench above it, and above that the pack file, which QEMU loads at
    /// the end of low memory, or (q35 then has 2 GiB of it) the TD's high memory at 4 GiB.
    fn machine_memory_mib(&self, pack_size: usize) -> u64 {
        match self.memory_mib.saturating_sub(BENCH_START_MIB) {
            0 => {
                let pack = (pack_size as u64).div_ceil(1 << 20) + 1;
                (BENCH_END_MIB + pack).min(SPLIT_MIB - 1)
            }
            high => (BENCH_END_MIB + high).max(SPLIT_MIB),
        }
    }
}

/// Plain QEMU with the same kernel and initrd: what the simulated platform is compared with.
pub(crate) struct PlainQemu<'a> {
    pub(crate) guest: Guest<'a>,
    pub(crate) memory_mib: u64,
    pub(crate) clock: Clock,
    /// The control socket of a running swtpm.
    pub(crate) tpm_socket: Option<&'a Path>,
    pub(crate) limit: Duration,
}

impl PlainQemu<'_> {
    /// Runs to the guest's power-off.
    pub(crate) fn run(&self, on_line: &mut dyn FnMut(&str)) -> Result<Outcome> {
        let mut command = Command::new("qemu-system-x86_64");
        common_arguments(
            &mut command,
            "max,vendor=GenuineIntel",
            self.memory_mib,
            self.clock,
        );
        command.arg("-kernel").arg(self.guest.kernel);
        if let Some(initrd) = self.guest.initrd {
            command.arg("-initrd").arg(initrd);
        }
        command.args(["-append", self.guest.command_line]);
        if let Some(socket) = self.tpm_socket {
            command
                .arg("-chardev")
                .arg(format!("socket,id=tpm,path={}", socket.display()))
                .args(["-tpmdev", "emulator,id=tpm0,chardev=tpm"])
                .args(["-device", "tpm-tis,tpmdev=tpm0"]);
        }
        let started = Instant::now();
        let mut to_user_space = None;
        let (status, console) = watch_console(command, None, self.limit, &mut |line| {
            note_user_space(line, started, &mut to_user_space);
            on_line(line);
        })?;
        Ok(Outcome {
            transcript: Transcript::new(console, ""),
            succeeded: status == Some(0),
            wall: started.elapsed(),
            to_user_space,
        })
    }
}

fn note_user_space(line: &str, started: Instant, when: &mut Option<Duration>) {
    if when.is_none() && line.starts_with("@userspace ") {
        *when = Some(started.elapsed());
    }
}

fn common_arguments(command: &mut Command, cpu: &str, memory_mib: u64, clock: Clock) {
    let icount = match clock {
        Clock::Counted => "shift=0,sleep=off",
        Clock::Paced => "shift=0,sleep=on",
    };
    command
        .args(["-machine", "q35", "-accel", "tcg", "-cpu", cpu])
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
        .args(["-seed", "1", "-icount", icount])
        .args(["-rtc", "base=2024-01-01,clock=vm"])
        .args([
            "-chardev",
            "stdio,id=console,signal=off",
            "-serial",
            "chardev:console",
        ]);
}

/// The guest's console is this terminal.
fn watch_terminal(mut command: Command) -> Result<Option<i32>> {
    if !std::io::stdin().is_terminal() {
        eprintln!("note: standard input is not a terminal; the shell reads what it gives");
    }
    let status = command.status().context("cannot run qemu-system-x86_64")?;
    Ok(status.code())
}

/// Ends QEMU whatever happens to the one who started it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Collects the console's lines; ends the run at the time limit.
fn watch_console(
    mut command: Command,
    answer: Option<Answer<'_>>,
    limit: Duration,
    on_line: &mut dyn FnMut(&str),
) -> Result<(Option<i32>, Vec<String>)> {
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
    let deadline = Instant::now() + limit;
    let mut lines = Vec::new();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match receiver.recv_timeout(left) {
            Ok(line) => {
                on_line(&line);
                if let Some((answer, stdin)) = answer.zip(stdin.as_mut())
                    && line == answer.question
                {
                    writeln!(stdin, "{}", answer.answer).context("QEMU reads no console")?;
                }
                lines.push(line);
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                drop(running);
                let _ = reader.join();
                let last = lines.last().map_or("(nothing)", String::as_str);
                bail!(
                    "the run did not end within {} s; the console's last line: {last}",
                    limit.as_secs()
                );
            }
        }
    }
    let status = running.0.wait()?;
    let _ = reader.join();
    Ok((status.code(), lines))
}
