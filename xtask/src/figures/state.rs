//! What a TPM that is kept costs: NV_Write without state, with the state disk, and with the ledger as well; commits, bytes on
//! the disk, the start from it, and the start after a power cut.

use super::Figure;
use super::guests::on_simulator;
use super::samples;
use crate::commands::state::damaged_slots;
use crate::report;
use anyhow::{Context, Result, ensure};
use attestation::journal::Rollback;
use boots::persistent::{Change, Guest, Keeping};
use boots::{BASE_COMMAND_LINE, Setup};
use serde_json::{Value, json};
use simulator::{BootFiles, HostDevices, Run, Simulation, Transcript, Window};
use std::path::{Path, PathBuf};

/// The mark of NV_Write in the guest's timing program, and bytes of its index.
const NV_WRITE: u64 = 8;
const NV_SIZE: f64 = 64.0;
/// The guest's writes, alone.
const TIMING: &str = "quiet tdp.mode=timing-nv";
/// Bytes of a request of a disk beside its data: header and status (VIRTIO 5.2.6).
const AROUND_DATA: f64 = 17.0;
/// The write to the state disk at which the power is cut: one of a slot, of which a sector and a half are written.
const CUT: &str = "fault=virtio:state:cut:102:1:torn";
/// Milliseconds that unlocking may add to a boot.
const UNLOCK_GOAL: f64 = 300.0;
/// A TPM whose state only this platform opens, under this L1 (`docs/init-data.md`).
const HARDWARE: &str = "version = \"0.1.0\"
algorithm = \"sha384\"

[data]
\"tdp-vtpm.toml\" = '''
machine = \"f16f16f16f16f16f16f16f16f16f16f16f16f16f16f16f16f16f16f16f16f16f\"
state = \"require\"
key = \"hardware\"
rollback = \"none\"
'''
";

/// Times of NV_Write in one machine.
#[derive(Debug)]
pub(crate) struct Latency {
    what: &'static str,
    /// In microseconds, sorted.
    microseconds: Vec<f64>,
    /// Instructions of L1 at the median.
    instructions: f64,
    /// Bytes of data written to the state disk.
    bytes: f64,
}

impl Latency {
    fn of(what: &'static str, transcript: &Transcript) -> Result<Self> {
        let timing = samples::timings(transcript);
        let timing = timing.iter().find(|timing| timing.mark == NV_WRITE);
        let timing = timing.with_context(|| format!("{what}: NV_Write was not timed"))?;
        let mut microseconds: Vec<f64> = timing.nanoseconds.iter().map(|ns| ns / 1e3).collect();
        microseconds.sort_by(f64::total_cmp);
        ensure!(
            microseconds.first().is_some_and(|&least| least > 0.0),
            "{what}: NV_Write took no time"
        );
        let costs = samples::costs(transcript, NV_WRITE);
        ensure!(
            costs.len() == microseconds.len(),
            "{what}: marks are missing"
        );
        Ok(Self {
            what,
            instructions: samples::median(&costs, |cost| cost.l1),
            bytes: written(transcript) / costs.len() as f64,
            microseconds,
        })
    }

    fn at(&self, percent: usize) -> f64 {
        let last = self.microseconds.len().saturating_sub(1);
        let at = self.microseconds.get(last * percent / 100);
        at.copied().unwrap_or(f64::NAN)
    }

    fn a_second(&self) -> f64 {
        self.microseconds.len() as f64 / self.microseconds.iter().sum::<f64>() * 1e6
    }

    fn cells(&self) -> Vec<String> {
        vec![
            self.what.to_owned(),
            format!("{:.0}", self.at(50)),
            format!("{:.0}", self.at(99)),
            format!("{:.0}", self.at(100)),
            format!("{:.0}", self.a_second()),
            format!("{:.0}", self.instructions),
            format!("{:.0}", self.bytes),
            format!("{:.0}", self.bytes / NV_SIZE),
        ]
    }

    /// The row for programs.
    pub(crate) fn json(&self) -> Value {
        json!({
            "state": self.what,
            "samples": self.microseconds.len(),
            "p50_microseconds": self.at(50),
            "p99_microseconds": self.at(99),
            "maximum_microseconds": self.at(100),
            "a_second": self.a_second(),
            "l1_instructions": self.instructions,
            "bytes_on_disk": self.bytes,
            "write_amplification": self.bytes / NV_SIZE,
        })
    }
}

/// Bytes of data that went to the state disk between the marks of all writes; nothing is read there.
fn written(transcript: &Transcript) -> f64 {
    let marks = transcript.records.iter().filter_map(|record| {
        let mark = record.get("mark")?.as_u64()?;
        let number = |key| record.pointer(&format!("/virtio/state/{key}"))?.as_f64();
        let bytes = number("bytes")? - AROUND_DATA * number("requests")?;
        (mark & 0x7F == NV_WRITE).then_some(if mark & 0x80 == 0 { -bytes } else { bytes })
    });
    // The sum of nothing is a negative zero.
    marks.sum::<f64>() + 0.0
}

/// What L1 told of a time, in milliseconds.
fn told(run: &Run, of: &str) -> Result<f64> {
    let mut times = run.transcript.l1_records.iter();
    let time = times.find(|record| record.name == "time" && record.text("of") == Some(of));
    let time = time.and_then(|time| time.number("ns"));
    let time = time.filter(|&time| time != 0);
    Ok(time.with_context(|| format!("L1 did not tell what {of} took"))? as f64 / 1e6)
}

/// All of them, and the table of latencies.
pub(crate) fn figures(
    setup: &Setup,
    initrd: &Path,
    programs: &Path,
) -> Result<(Vec<Figure>, Vec<Latency>)> {
    let machine = Machine::new(setup, initrd)?;
    let none = on_simulator(setup, initrd, TIMING, "state-none", &[])?;
    let disk = machine.boot("state-disk", TIMING, None)?;
    ended_well(&disk)?;
    let again = machine.boot("state-disk", "quiet tdp.mode=boot", None)?;
    ended_well(&again)?;
    let cut = machine.boot("state-cut", TIMING, Some(CUT))?;
    let end = cut.transcript.result();
    ensure!(end == "power-cut", "the power was not cut: {end}");
    let damaged = damaged_slots(&machine.disk("state-cut"))?;
    ensure!(damaged == 1, "the power cut left {damaged} damaged slots");
    let recovered = machine.boot("state-cut", "quiet tdp.mode=boot", None)?;
    ended_well(&recovered)?;
    let guest = Guest::timing(initrd, TIMING);
    let keeping = Keeping::start(setup, guest, programs, "state-ledger")?;
    let state = keeping.file("state.img");
    let marks = Change {
        options: &["marks=1"],
        ..Change::default()
    };
    let ledger = keeping.boot(&state, marks, &mut |_| {})?;
    ended_well(&ledger)?;
    // Its own TPM again, which is what most starts are.
    let ledger_again = keeping.boot(&state, marks, &mut |_| {})?;
    ended_well(&ledger_again)?;
    let guest = Guest::timing(initrd, TIMING);
    let lazy = Keeping::start_with(setup, guest, programs, "state-lazy", Rollback::Lazy)?;
    let lazy = lazy.boot(&lazy.file("state.img"), marks, &mut |_| {})?;
    ended_well(&lazy)?;
    let window = lazy.transcript.l1("window");
    let window = window.and_then(|window| window.number("longest"));
    let window = window.context("L1 did not tell how long a commit was not acknowledged")?;
    let latencies = vec![
        Latency::of("none", &none.transcript)?,
        Latency::of("state disk", &disk.transcript)?,
        Latency::of("state disk and ledger", &ledger.transcript)?,
        Latency::of("state disk and lazy ledger", &lazy.transcript)?,
    ];
    let unlock = |name: &str, run: &Run| {
        let milliseconds = told(run, "unlock")?;
        anyhow::Ok(Figure {
            name: format!("boot time added by unlocking, {name}"),
            value: format!("{milliseconds:.1} ms"),
            goal: format!("≤ {UNLOCK_GOAL} ms"),
            holds: milliseconds <= UNLOCK_GOAL,
        })
    };
    let heap = ledger
        .transcript
        .l1("memory")
        .and_then(|memory| memory.number("heap"));
    let heap = heap.context("L1 did not tell its heap high-water mark")?;
    let figures = vec![
        unlock("hardware's key alone", &again)?,
        unlock("the same after a power cut, one slot damaged", &recovered)?,
        unlock("key broker and hardware", &ledger_again)?,
        Figure::without_goal(
            "longest time from a lazy commit's answer to its acknowledgement, where no other commit came first".to_owned(),
            format!("{:.1} ms", window as f64 / 1e6),
        ),
        Figure::without_goal(
            "L1 heap high-water mark, state with a ledger".to_owned(),
            format!("{} KiB", heap / 1024),
        ),
    ];
    Ok((figures, latencies))
}

fn ended_well(run: &Run) -> Result<()> {
    ensure!(run.succeeded, "{}", run.transcript.result());
    Ok(())
}

/// A machine with a state disk, and the hardware's key alone.
struct Machine<'a> {
    setup: &'a Setup,
    initrd: &'a Path,
    document: PathBuf,
}

impl<'a> Machine<'a> {
    fn new(setup: &'a Setup, initrd: &'a Path) -> Result<Self> {
        let document = setup.folder.join("state-figures.init-data.toml");
        std::fs::write(&document, HARDWARE)?;
        let new = Self {
            setup,
            initrd,
            document,
        };
        for name in ["state-disk", "state-cut"] {
            let disk = new.disk(name);
            if disk.exists() {
                std::fs::remove_file(disk)?;
            }
        }
        Ok(new)
    }

    fn disk(&self, name: &str) -> PathBuf {
        self.setup.folder.join(format!("{name}.img"))
    }

    fn boot(&self, name: &str, words: &str, fault: Option<&str>) -> Result<Run> {
        let mut options = vec![Window::Accepted.option(), "marks=1".to_owned()];
        options.extend(fault.map(str::to_owned));
        let command_line = format!("{BASE_COMMAND_LINE} {words}");
        let boot = BootFiles {
            initrd: Some(self.initrd),
            ..self.setup.linux(&command_line)
        };
        Simulation {
            init_data: Some(&self.document),
            options: &options,
            devices: HostDevices {
                state_disk: Some(&self.disk(name)),
                ..HostDevices::default()
            },
            ..self.setup.simulation(name, boot, 1024)
        }
        .run(&mut |_| {})
    }
}

/// Prints the latencies.
pub(crate) fn print(latencies: &[Latency]) {
    println!("\nNV_Write of 64 bytes, µs by the guest's clock, by where the TPM's state is kept:");
    let heading = [
        "state",
        "p50",
        "p99",
        "most",
        "a second",
        "L1 instr.",
        "bytes on the disk",
        "a byte of NV",
    ];
    println!(
        "{}",
        report::table(&heading, latencies.iter().map(Latency::cells))
    );
    println!(
        "Without a ledger 1 µs is 1,000 instructions. With one, the broker's time is this machine's while L1 waits."
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transcript(console: &str, log: &str) -> Transcript {
        Transcript::new(vec![console.to_owned()], log)
    }

    const LINE: &str = "@timing {\"mark\":8,\"command\":\"NV_Write(64)\",\"ns\":[3000]}";
    const LOG: &str = "@{\"mark\":8,\"tsc\":0,\"tpm_exits\":0,\"l2_exits\":0,\"tdcalls\":0,\"l1\":0,\"l2\":0,\"virtio\":{\"state\":{\"bytes\":1000,\"requests\":2}}}\n\
         @{\"mark\":136,\"tsc\":3000,\"tpm_exits\":1,\"l2_exits\":1,\"tdcalls\":9,\"l1\":500,\"l2\":9,\"virtio\":{\"state\":{\"bytes\":4140,\"requests\":6}}}\n";

    #[test]
    fn a_write_has_its_time_and_its_bytes() {
        let latency = Latency::of("x", &transcript(LINE, LOG)).unwrap();
        assert_eq!((latency.at(50), latency.at(99)), (3.0, 3.0));
        assert_eq!(latency.instructions, 500.0);
        assert_eq!(latency.bytes, 3072.0);
        assert!((latency.a_second() - 333_333.3).abs() < 1.0);
    }

    #[test]
    fn what_is_missing_is_an_error() {
        assert!(Latency::of("x", &transcript("", LOG)).is_err());
        assert!(Latency::of("x", &transcript(LINE, "")).is_err());
        let zero = LINE.replace("[3000]", "[0]");
        assert!(Latency::of("x", &transcript(&zero, LOG)).is_err());
    }

    #[test]
    fn ranks_are_of_sorted_samples() {
        let latency = Latency {
            what: "x",
            microseconds: (1..=200).map(f64::from).collect(),
            instructions: 0.0,
            bytes: 0.0,
        };
        assert_eq!(
            (latency.at(50), latency.at(99), latency.at(100)),
            (100.0, 198.0, 200.0)
        );
    }
}
