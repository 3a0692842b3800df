//! What the guest's program `tests/guest-throughput` told of its cases, and the simulator's marks around them.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use simulator::Transcript;
use std::time::{Duration, Instant};

/// How the guest's lines begin.
const BEGIN: &str = "@begin ";
const RESULT: &str = "@throughput ";
/// In a mark: the end of what it marks.
const END: u64 = 0x80;

/// One case in one run.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// What the simulator's marks around its rounds are.
    pub mark: u64,
    /// Its name.
    pub name: String,
    /// Requests or packets of each round.
    pub units: Vec<f64>,
    /// Bytes of a round.
    pub bytes: f64,
    /// What each round took, in nanoseconds of the guest's clock.
    pub nanoseconds: Vec<f64>,
    /// What all rounds took by the host's clock; none of a transcript that was only read.
    pub wall: Option<Duration>,
}

impl Measured {
    fn new(line: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(line)?;
        let numbers = |key: &str| {
            let list = value.get(key).and_then(Value::as_array);
            let list = list.with_context(|| format!("{key} is no list"))?;
            let numbers: Option<Vec<f64>> = list.iter().map(Value::as_f64).collect();
            numbers.with_context(|| format!("{key} has what is no number"))
        };
        let new = Self {
            mark: value
                .get("mark")
                .and_then(Value::as_u64)
                .context("no mark")?,
            name: value
                .get("name")
                .and_then(Value::as_str)
                .context("no name")?
                .to_owned(),
            units: numbers("units")?,
            bytes: value
                .get("bytes")
                .and_then(Value::as_f64)
                .context("no bytes")?,
            nanoseconds: numbers("ns")?,
            wall: None,
        };
        let positive = |numbers: &[f64]| numbers.iter().all(|&number| number > 0.0);
        ensure!(
            !new.units.is_empty()
                && new.units.len() == new.nanoseconds.len()
                && positive(&new.units)
                && positive(&new.nanoseconds)
                && new.bytes > 0.0,
            "{}: nothing was moved, or in no time",
            new.name
        );
        Ok(new)
    }

    /// Bytes a second by the guest's clock, of each round.
    pub fn rates(&self) -> impl Iterator<Item = f64> {
        self.nanoseconds.iter().map(|ns| self.bytes / ns * 1e9)
    }

    /// The same of all rounds by the host's clock.
    pub fn wall_rate(&self) -> Option<f64> {
        let bytes = self.bytes * self.units.len() as f64;
        self.wall.map(|wall| bytes / wall.as_secs_f64())
    }
}

/// All cases that a guest told; an error if one is missing of those that were begun, or there is none.
pub fn all(transcript: &Transcript) -> Result<Vec<Measured>> {
    let lines = |begin| {
        let lines = transcript.console.iter();
        lines.filter_map(move |line| line.strip_prefix(begin))
    };
    if let Some(error) = lines("@error ").next() {
        anyhow::bail!("the guest failed: {error}");
    }
    let cases: Vec<Measured> = lines(RESULT)
        .map(|line| Measured::new(line).with_context(|| line.to_owned()))
        .collect::<Result<_>>()?;
    ensure!(!cases.is_empty(), "the guest measured nothing");
    let begun = lines(BEGIN).count();
    ensure!(
        begun == cases.len(),
        "{begun} cases began, {} ended",
        cases.len()
    );
    Ok(cases)
}

/// The host's clock while a guest measures.
#[derive(Debug, Default)]
pub struct Watch {
    begun: Option<Instant>,
    times: Vec<Duration>,
}

impl Watch {
    /// Sees a line of the guest's console.
    pub fn line(&mut self, line: &str) {
        if line.starts_with(BEGIN) {
            self.begun = Some(Instant::now());
        } else if line.starts_with(RESULT)
            && let Some(begun) = self.begun.take()
        {
            self.times.push(begun.elapsed());
        }
    }

    /// All cases of the run that was watched.
    pub fn all(self, transcript: &Transcript) -> Result<Vec<Measured>> {
        let mut cases = all(transcript)?;
        for (case, time) in cases.iter_mut().zip(self.times) {
            case.wall = Some(time);
        }
        Ok(cases)
    }
}

/// What a case cost below the guest, for a request or a packet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// How often L1 got L2's exits, and entered it again.
    pub exits: f64,
    /// The same without those of L2's own timer and IPIs: the timer's interrupts, and writes of MSRs.
    pub device_exits: f64,
    /// TDVMCALLs that reached the host.
    pub tdvmcalls: f64,
    /// Instructions of L1.
    pub l1: f64,
    /// Instructions of L2.
    pub l2: f64,
}

/// The costs of a case, of all of its rounds; an error if a mark is missing.
pub fn cost(transcript: &Transcript, case: &Measured) -> Result<Cost> {
    let units: f64 = case.units.iter().sum();
    let rounds = case.units.len();
    let sum = |key: &str| {
        let marks = transcript.records.iter().filter_map(|record| {
            let mark = record.get("mark")?.as_u64()?;
            (mark & !END == case.mark).then_some((mark & END != 0, record.get(key)?.as_f64()?))
        });
        let marks: Vec<(bool, f64)> = marks.collect();
        ensure!(
            marks.len() == 2 * rounds,
            "{}: {} marks of {}",
            case.name,
            marks.len(),
            2 * rounds
        );
        let difference = |(end, value): &(bool, f64)| if *end { *value } else { -value };
        Ok(marks.iter().map(difference).sum::<f64>() / units)
    };
    let exits = sum("entries")?;
    Ok(Cost {
        exits,
        device_exits: exits - sum("timer_exits")?,
        tdvmcalls: sum("tdvmcalls")?,
        l1: sum("l1")?,
        l2: sum("l2")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str =
        r#"@throughput {"mark":5,"name":"read","units":[2, 2],"bytes":8192,"ns":[1000, 2000]}"#;

    fn transcript(lines: &[&str], log: &str) -> Transcript {
        Transcript::new(lines.iter().map(|&line| line.to_owned()).collect(), log)
    }

    #[test]
    fn a_case_has_its_rates() {
        let cases = all(&transcript(&["@begin 5", LINE], "")).unwrap();
        assert_eq!(cases.len(), 1);
        assert_eq!(
            cases[0].rates().collect::<Vec<_>>(),
            [8.192e9, 4.096e9],
            "bytes a second"
        );
        let mut watch = Watch::default();
        watch.line("@begin 5");
        watch.line(LINE);
        let cases = watch.all(&transcript(&["@begin 5", LINE], "")).unwrap();
        assert!(cases[0].wall_rate().is_some_and(|rate| rate > 0.0));
    }

    #[test]
    fn what_is_missing_or_zero_is_an_error() {
        let error = |lines: &[&str]| all(&transcript(lines, "")).unwrap_err().to_string();
        assert!(error(&[]).contains("measured nothing"));
        assert!(error(&["@begin 5", LINE, "@begin 6"]).contains("2 cases began, 1 ended"));
        assert!(error(&["@error no disk", "@begin 5", LINE]).contains("no disk"));
        for (from, to) in [
            ("8192", "0"),
            ("[2, 2]", "[2, 0]"),
            ("[2, 2]", "[2]"),
            ("[1000, 2000]", "[1000, 0]"),
            ("\"mark\":5,", ""),
            ("[2, 2]", "[2, null]"),
        ] {
            let line = LINE.replace(from, to);
            assert_ne!(line, LINE);
            assert!(all(&transcript(&["@begin 5", &line], "")).is_err(), "{to}");
        }
    }

    #[test]
    fn costs_are_of_a_unit() {
        let log = "@{\"mark\":5,\"entries\":10,\"timer_exits\":0,\"tdvmcalls\":1,\"l1\":100,\"l2\":0}\n\
                   @{\"mark\":133,\"entries\":14,\"timer_exits\":2,\"tdvmcalls\":3,\"l1\":500,\"l2\":8}\n\
                   @{\"mark\":6,\"entries\":15,\"timer_exits\":2,\"tdvmcalls\":3,\"l1\":500,\"l2\":8}\n\
                   @{\"mark\":5,\"entries\":20,\"timer_exits\":3,\"tdvmcalls\":3,\"l1\":500,\"l2\":8}\n\
                   @{\"mark\":133,\"entries\":24,\"timer_exits\":3,\"tdvmcalls\":3,\"l1\":600,\"l2\":8}\n";
        let transcript = transcript(&["@begin 5", LINE], log);
        let cases = all(&transcript).unwrap();
        assert_eq!(
            cost(&transcript, &cases[0]).unwrap(),
            Cost {
                exits: 2.0,
                device_exits: 1.5,
                tdvmcalls: 0.5,
                l1: 125.0,
                l2: 2.0
            }
        );
        let mut other = cases[0].clone();
        other.mark = 6;
        assert!(cost(&transcript, &other).is_err(), "a mark is missing");
    }
}
