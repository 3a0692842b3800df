//! `cargo xtask state`: what can be told of a state disk without its key.

use anyhow::{Context, Result};
use serde_json::{Value, json};
use state_store::examine::{Counts, Examined, SlotExamined, examine};
use state_store::layout::{Fault, Label, SECTOR, Slot, SlotHeader, Tcb, VERSION};
use state_store::{Device, DeviceError, Point, SlotFault};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Options of the task.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The disk or its image. It is read, and never written.
    file: PathBuf,
    /// Print the findings as JSON.
    #[arg(long)]
    json: bool,
}

/// Prints what is on the disk; true if nothing is wrong with it as far as can be told without the key.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let findings = look(&options.file)?;
    if options.json {
        println!("{}", serde_json::to_string_pretty(&findings.json())?);
    } else {
        print!("{}", findings.text());
    }
    Ok(findings.whole())
}

/// How many slots of a disk were written and are not whole.
pub(crate) fn damaged_slots(path: &Path) -> Result<usize> {
    let slots = examine_file(path)?.1.slots;
    let damaged = |slot: &&SlotExamined| {
        slot.slot
            .as_ref()
            .is_err_and(|fault| *fault != SlotFault::Blank)
    };
    Ok(slots.iter().filter(damaged).count())
}

/// A file as a disk, to be read alone.
struct ReadOnly {
    file: File,
    sectors: u64,
}

impl Device for ReadOnly {
    fn sectors(&self) -> u64 {
        self.sectors
    }

    fn read(&mut self, sector: u64, into: &mut [u8]) -> Result<(), DeviceError> {
        let from = SeekFrom::Start(sector * SECTOR as u64);
        self.file.seek(from).map_err(|_| DeviceError::Failed)?;
        self.file.read_exact(into).map_err(|_| DeviceError::Failed)
    }

    fn write(&mut self, _sector: u64, _from: &[u8]) -> Result<(), DeviceError> {
        Err(DeviceError::Gone)
    }

    fn flush(&mut self) -> Result<(), DeviceError> {
        Err(DeviceError::Gone)
    }
}

fn look(path: &Path) -> Result<Findings> {
    let (bytes, examined) = examine_file(path)?;
    Ok(Findings::new(path, bytes, examined))
}

/// The file's length, and what is on it.
fn examine_file(path: &Path) -> Result<(u64, Examined)> {
    let mut file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    // The end is also known of a block device, whose length is none of its metadata.
    let bytes = file.seek(SeekFrom::End(0))?;
    let sectors = bytes / SECTOR as u64;
    let examined = examine(&mut ReadOnly { file, sectors })
        .with_context(|| format!("{} is no state disk", path.display()))?;
    Ok((bytes, examined))
}

/// How a part of the disk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    /// Whole.
    Ok,
    /// Not whole, and nothing that a power cut or a first start does not leave.
    Note,
    /// Wrong.
    Wrong,
}

impl Verdict {
    /// For people.
    fn shown(self) -> &'static str {
        match self {
            Self::Ok => "ok  ",
            Self::Note => "note",
            Self::Wrong => "FAIL",
        }
    }

    /// For programs.
    fn name(self) -> &'static str {
        self.shown().trim_end()
    }
}

/// A part of the disk, and what there is to say of it.
struct Part {
    name: String,
    verdict: Verdict,
    text: String,
    details: Value,
}

/// All that was found.
struct Findings {
    path: String,
    bytes: u64,
    parts: Vec<Part>,
}

impl Findings {
    fn new(path: &Path, bytes: u64, examined: Examined) -> Self {
        let counts = examined.counts();
        let mut parts = vec![label(&examined), key_record(&examined)];
        for (slot, found) in Slot::BOTH.into_iter().zip(&examined.slots) {
            parts.push(commit_record(slot, found, &counts));
            parts.push(contents(slot, found, &counts, examined.label.as_ref().ok()));
        }
        parts.push(counting(&counts));
        Self {
            path: path.display().to_string(),
            bytes,
            parts,
        }
    }

    fn whole(&self) -> bool {
        self.parts.iter().all(|part| part.verdict != Verdict::Wrong)
    }

    fn json(&self) -> Value {
        let parts = self.parts.iter().map(|part| {
            let mut value = part.details.clone();
            value["part"] = part.name.clone().into();
            value["verdict"] = part.verdict.name().into();
            value["text"] = part.text.clone().into();
            value
        });
        json!({
            "file": self.path,
            "bytes": self.bytes,
            "format": VERSION,
            "whole": self.whole(),
            "parts": parts.collect::<Vec<_>>(),
        })
    }

    fn text(&self) -> String {
        let mut text = format!("{}: {} bytes\n", self.path, self.bytes);
        for part in &self.parts {
            let verdict = part.verdict.shown();
            text += &format!("{verdict}  {:9} {}\n", part.name, part.text);
        }
        text += match self.whole() {
            true => "nothing is wrong, as far as can be told without key and ledger\n",
            false => "something is wrong; docs/state-format.md says what to do\n",
        };
        text
    }
}

/// What is wrong with a structure.
fn words(fault: Fault) -> String {
    match fault {
        Fault::Blank => "never written".into(),
        Fault::Magic => "something else is there".into(),
        Fault::Version(version) => format!("format version {version}, known is {VERSION}"),
        Fault::Damaged => "damaged: its digest does not hold".into(),
    }
}

fn label(examined: &Examined) -> Part {
    let (verdict, text, details) = match &examined.label {
        Ok(label) => {
            let (machine, key) = (hex::encode(label.machine), hex::encode(label.key_id));
            (
                Verdict::Ok,
                format!("machine {machine}, key {key}"),
                json!({ "machine": machine, "key": key }),
            )
        }
        Err(Fault::Blank) if examined.is_blank() => (
            Verdict::Note,
            "blank: nothing was stored yet".into(),
            json!({}),
        ),
        Err(fault) => (Verdict::Wrong, words(*fault), json!({})),
    };
    part("label", verdict, text, details)
}

fn key_record(examined: &Examined) -> Part {
    let (verdict, text, details) = match &examined.key {
        Ok(record) => {
            let cpusvn = hex::encode(record.cpusvn);
            let module = hex::encode(record.tee_tcb_svn);
            (
                Verdict::Ok,
                format!("sealed to CPUSVN {cpusvn}, TEE_TCB_SVN {module}"),
                json!({ "cpusvn": cpusvn, "tee-tcb-svn": module }),
            )
        }
        Err(Fault::Blank) => (
            Verdict::Ok,
            "none: of version 1, where the hardware has a part in the key".into(),
            json!({}),
        ),
        Err(fault) => (Verdict::Wrong, words(*fault), json!({})),
    };
    part("key", verdict, text, details)
}

fn part(name: impl Into<String>, verdict: Verdict, text: String, details: Value) -> Part {
    Part {
        name: name.into(),
        verdict,
        text,
        details,
    }
}

fn commit_record(slot: Slot, found: &SlotExamined, counts: &Counts) -> Part {
    let name = format!("record {}", slot.index());
    match &found.record {
        Ok(record) => {
            let (epoch, counter) = (record.epoch.get(), record.counter.get());
            let digest = hex::encode(record.slot_digest);
            let text = format!(
                "commit {counter} of epoch {epoch}, slot {}…",
                short(&digest)
            );
            let details = json!({ "epoch": epoch, "counter": counter, "slot-digest": digest });
            part(name, Verdict::Ok, text, details)
        }
        Err(Fault::Blank) => part(name, Verdict::Note, words(Fault::Blank), json!({})),
        // Torn, and its slot is whole: so it is the slot's.
        Err(Fault::Damaged) if *counts != Counts::Unknown => {
            let text = "damaged: a power cut as it was written leaves this, its slot is whole";
            part(name, Verdict::Note, text.into(), json!({}))
        }
        Err(fault) => part(name, Verdict::Wrong, words(*fault), json!({})),
    }
}

fn short(digest: &str) -> &str {
    digest.get(..16).unwrap_or(digest)
}

fn contents(slot: Slot, found: &SlotExamined, counts: &Counts, label: Option<&Label>) -> Part {
    let name = format!("slot {}", slot.index());
    let (header, point) = match &found.slot {
        Ok(whole) => whole,
        Err(SlotFault::Blank) => {
            return part(name, Verdict::Note, words(Fault::Blank), json!({}));
        }
        Err(fault) => {
            // A commit that was cut off leaves the slot that does not count.
            let verdict = match counts.slot() {
                Some(other) if other != slot => Verdict::Note,
                _ => Verdict::Wrong,
            };
            let hint = match verdict {
                Verdict::Note => ": a commit that was cut off leaves this, it does not count",
                _ => "",
            };
            return part(name, verdict, format!("{fault}{hint}"), json!({}));
        }
    };
    let details = slot_json(header, point);
    if label.is_some_and(|label| label.machine != header.machine) {
        let text = format!("another machine's: {}", hex::encode(header.machine));
        return part(name, Verdict::Wrong, text, details);
    }
    let mut text = format!(
        "commit {} of epoch {}, digest {}…; {} bytes of records, {} of NV memory",
        point.counter,
        point.epoch,
        short(&hex::encode(point.digest)),
        header.length,
        header.nv_size,
    );
    if header.tcb != Tcb::NONE {
        text += &format!(
            "; sealed to CPUSVN {}, TEE_TCB_SVN {}",
            hex::encode(header.tcb.cpusvn),
            hex::encode(header.tcb.tee_tcb_svn)
        );
    }
    // After an update of the platform or of L1; whether it is ours nobody can tell without the key.
    if label.is_some_and(|label| label.key_id != header.key_id) {
        text += &format!(
            "; sealed with another key than the first, {}",
            hex::encode(header.key_id)
        );
    }
    part(name, Verdict::Ok, text, details)
}

fn slot_json(header: &SlotHeader, point: &Point) -> Value {
    json!({
        "epoch": point.epoch,
        "counter": point.counter,
        "digest": hex::encode(point.digest),
        "machine": hex::encode(header.machine),
        "key": hex::encode(header.key_id),
        "cpusvn": hex::encode(header.tcb.cpusvn),
        "tee-tcb-svn": hex::encode(header.tcb.tee_tcb_svn),
        "records-bytes": header.length.get(),
        "nv-bytes": header.nv_size.get(),
        "nonce": hex::encode(header.nonce),
    })
}

fn counting(counts: &Counts) -> Part {
    let (verdict, text, details) = match counts {
        Counts::Nothing => (Verdict::Ok, "no commit".into(), json!({ "counter": null })),
        Counts::Commit(point) => (
            Verdict::Ok,
            format!(
                "commit {} in slot {}, by the commit records; where there is a ledger it decides",
                point.counter,
                Slot::of(point.counter).index()
            ),
            json!({ "counter": point.counter }),
        ),
        Counts::Unusable { counter, fault } => (
            Verdict::Wrong,
            format!("commit {counter}, and its slot cannot be used: {fault}"),
            json!({ "counter": counter }),
        ),
        Counts::Unknown => (
            Verdict::Wrong,
            "the commit records do not tell".into(),
            json!({ "counter": null }),
        ),
    };
    part("counts", verdict, text, details)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::images::root;
    use std::io::Write;

    /// A golden disk as a file, with bytes changed.
    fn golden(name: &str, changes: &[(usize, u8)]) -> tempfile::NamedTempFile {
        golden_of(1, name, changes)
    }

    fn golden_of(version: u16, name: &str, changes: &[(usize, u8)]) -> tempfile::NamedTempFile {
        let text = root().join(format!("l1-vmm/store/tests/golden/v{version}/{name}.txt"));
        let mut disk = vec![0; 3 << 20];
        for line in std::fs::read_to_string(text).unwrap().lines() {
            let (offset, bytes) = line.split_once(' ').unwrap();
            let offset = usize::from_str_radix(offset, 16).unwrap();
            hex::decode_to_slice(bytes, &mut disk[offset..offset + bytes.len() / 2]).unwrap();
        }
        for (offset, byte) in changes {
            disk[*offset] ^= byte;
        }
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&disk).unwrap();
        file
    }

    /// Verdict of each part, and the whole text.
    fn found(file: &tempfile::NamedTempFile) -> (Vec<&'static str>, String) {
        let before = std::fs::read(file.path()).unwrap();
        let findings = look(file.path()).unwrap();
        assert!(before == std::fs::read(file.path()).unwrap());
        let verdicts = findings.parts.iter().map(|part| part.verdict.name());
        let verdicts: Vec<&str> = verdicts.collect();
        assert_eq!(findings.whole(), !verdicts.contains(&"FAIL"));
        (verdicts, findings.text())
    }

    const SLOT_0: usize = 0x10_0000;
    const SLOT_1: usize = 0x20_0000;
    const RECORD_0: usize = 0x1000;

    /// Label and key; record and slot 0; record and slot 1; what counts.
    #[test]
    fn each_golden_disk_is_told() {
        let (ok, note) = ("ok", "note");
        for (name, expected, words) in [
            (
                "first",
                [ok, ok, note, note, ok, ok, ok],
                "commit 1 in slot 1",
            ),
            ("second", [ok; 7], "commit 2 in slot 0"),
            ("third", [ok; 7], "commit 3 in slot 1"),
            (
                "torn-slot",
                [ok, ok, ok, ok, ok, note, ok],
                "commit 2 in slot 0",
            ),
            ("unacknowledged", [ok; 7], "commit 2 in slot 0"),
            (
                "torn-record",
                [ok, ok, ok, ok, note, ok, ok],
                "commit 3 in slot 1",
            ),
        ] {
            let (verdicts, text) = found(&golden(name, &[]));
            assert_eq!(verdicts, expected, "{name}: {text}");
            assert!(text.contains(words), "{name}: {text}");
            assert!(text.contains("nothing is wrong"), "{name}: {text}");
        }
        let (verdicts, text) = found(&golden("hardware", &[]));
        assert_eq!(verdicts, [ok, ok, note, note, ok, ok, ok], "{text}");
        let sealed = format!(
            "sealed to CPUSVN {}, TEE_TCB_SVN {}",
            "c5".repeat(16),
            "7d".repeat(16)
        );
        assert!(text.contains(&sealed), "{text}");
        let (verdicts, text) = found(&golden_of(2, "hardware", &[]));
        assert_eq!(verdicts, [ok, ok, note, note, ok, ok, ok], "{text}");
        assert!(text.contains(&sealed), "{text}");
        let (verdicts, text) = found(&golden("hardware", &[(0x210, 1)]));
        assert_eq!(verdicts[1], "FAIL", "{text}");
        let (verdicts, text) = found(&golden("torn-label", &[]));
        assert_eq!(verdicts[0], "FAIL", "{text}");
    }

    #[test]
    fn what_is_wrong_is_told() {
        let (ok, wrong) = ("ok", "FAIL");
        for (name, changes, at, words) in [
            (
                "second",
                vec![(SLOT_0 + 0x240, 1)],
                vec![3, 6],
                "commit 2, and its slot cannot be used",
            ),
            (
                "second",
                vec![(SLOT_0 + 8, 2)],
                vec![3, 6],
                "its format has version 3",
            ),
            (
                "second",
                vec![(RECORD_0 + 0x40, 1), (SLOT_0 + 0x40, 1)],
                vec![2, 3, 6],
                "do not tell",
            ),
            ("second", vec![(0, 1)], vec![0], "something else is there"),
            ("second", vec![(0x20, 1)], vec![0], "damaged: its digest"),
            (
                "second",
                vec![(8, 2)],
                vec![0],
                "format version 3, known is 2",
            ),
        ] {
            let (verdicts, text) = found(&golden(name, &changes));
            for (part, verdict) in verdicts.iter().enumerate() {
                let expected = if at.contains(&part) { wrong } else { ok };
                assert_eq!(*verdict, expected, "part {part}: {text}");
            }
            assert!(text.contains(words), "{text}");
            assert!(text.contains("something is wrong"), "{text}");
        }
        // The slot that does not count may be anything.
        let (verdicts, text) = found(&golden("second", &[(SLOT_1 + 0x240, 1)]));
        assert_eq!(verdicts, [ok, ok, ok, ok, ok, "note", ok], "{text}");
    }

    #[test]
    fn programs_read_the_same() {
        let file = golden("second", &[]);
        let json = look(file.path()).unwrap().json();
        assert_eq!(json["whole"], true);
        assert_eq!(json["bytes"], 3 << 20);
        assert_eq!(json["parts"][0]["machine"], "a5".repeat(32));
        assert_eq!(json["parts"][3]["counter"], 2);
        assert_eq!(json["parts"][3]["nv-bytes"], 176_832);
        assert_eq!(json["parts"][6]["counter"], 2);
    }

    #[test]
    fn a_blank_disk_is_not_wrong_and_others_are_none() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(&vec![0; 3 << 20]).unwrap();
        let (verdicts, text) = found(&file);
        assert!(!verdicts.contains(&"FAIL"), "{text}");
        assert!(text.contains("blank: nothing was stored yet"), "{text}");
        file.as_file().set_len((3 << 20) - 1).unwrap();
        let error = format!("{:#}", look(file.path()).err().unwrap());
        assert!(error.contains("6143 sectors"), "{error}");
        let absent = look(Path::new("/nonexistent")).err().unwrap();
        assert!(absent.to_string().starts_with("cannot read "), "{absent}");
    }
}
