//! What a run said: the guest's console, and the simulator's log with its machine-readable records.

use crate::names;
use serde_json::Value;
use std::collections::BTreeMap;

/// A step of the guest's acceptance script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Its name.
    pub name: String,
    /// Whether it did what it should.
    pub passed: bool,
}

/// A moment of the boot, in virtual time.
#[derive(Clone, Debug, PartialEq)]
pub struct Phase {
    /// What begins.
    pub name: String,
    /// Microseconds since the machine's reset.
    pub microseconds: u64,
}

/// The simulator's name of the phase in which L2 runs.
const FIRST_L2_ENTRY: &str = "first-l2-entry";

/// Everything a run said.
pub struct Transcript {
    /// Lines of the guest's console.
    pub console: Vec<String>,
    /// Lines of the simulator's log for people.
    pub log: Vec<String>,
    /// Records of the simulator.
    pub records: Vec<Value>,
}

impl Transcript {
    /// Takes the simulator's log apart.
    pub fn new(console: Vec<String>, simulator_log: &str) -> Self {
        let mut log = Vec::new();
        let mut records = Vec::new();
        for line in simulator_log.lines() {
            match line
                .strip_prefix('@')
                .and_then(|json| serde_json::from_str(json).ok())
            {
                Some(record) => records.push(record),
                None => log.push(line.to_owned()),
            }
        }
        Self {
            console,
            log,
            records,
        }
    }

    /// The step that a console line reports.
    pub fn step_of(line: &str) -> Option<Step> {
        let mut words = line.strip_prefix("@step ")?.split_whitespace();
        let name = words.next()?.to_owned();
        match words.next()? {
            "pass" => Some(Step { name, passed: true }),
            "fail" => Some(Step {
                name,
                passed: false,
            }),
            _ => None,
        }
    }

    /// The steps that the guest reported.
    pub fn steps(&self) -> Vec<Step> {
        self.console
            .iter()
            .filter_map(|line| Self::step_of(line))
            .collect()
    }

    /// Whether the guest's script came to its end.
    pub fn steps_finished(&self) -> bool {
        self.console.iter().any(|line| line.starts_with("@steps "))
    }

    /// The moments of the boot, in order: the simulator's records, L1's first line, and the guest's first
    /// program, by the guest's own clock.
    pub fn phases(&self) -> Vec<Phase> {
        let mut phases: Vec<Phase> = self
            .records
            .iter()
            .filter_map(|record| {
                Some(Phase {
                    name: record.get("phase")?.as_str()?.to_owned(),
                    // The TSC counts nanoseconds on a counted clock.
                    microseconds: record.get("tsc")?.as_u64()? / 1000,
                })
            })
            .collect();
        phases.extend(self.l1_start());
        let entered = phases.iter().find(|phase| phase.name == FIRST_L2_ENTRY);
        phases.extend(
            entered
                .zip(self.guest_uptime())
                .map(|(entered, uptime)| Phase {
                    name: "user-space (first-l2-entry + the guest's uptime)".to_owned(),
                    microseconds: entered.microseconds + uptime,
                }),
        );
        phases.sort_by_key(|phase| phase.microseconds);
        phases
    }

    /// When L1 wrote its first line: "[  0.131000] L1: …".
    fn l1_start(&self) -> Option<Phase> {
        let line = self.log.iter().find(|line| line.contains("] L1: "))?;
        let seconds: f64 = line
            .strip_prefix('[')?
            .split(']')
            .next()?
            .trim()
            .parse()
            .ok()?;
        Some(Phase {
            name: "l1-vmm".to_owned(),
            microseconds: (seconds * 1e6) as u64,
        })
    }

    /// The guest's uptime when its first program ran, in microseconds.
    fn guest_uptime(&self) -> Option<u64> {
        let seconds = self
            .console
            .iter()
            .find_map(|line| line.strip_prefix("@userspace "))?;
        Some((seconds.trim().parse::<f64>().ok()? * 1e6) as u64)
    }

    /// The last record that has this key.
    pub fn last(&self, key: &str) -> Option<&Value> {
        self.records.iter().rev().find_map(|record| record.get(key))
    }

    /// L2 exits by reason.
    pub fn exits(&self) -> BTreeMap<String, u64> {
        let counted = self.counters("exits").into_iter();
        counted
            .map(|(key, count)| (names::counted_exit(&key), count))
            .collect()
    }

    /// TDCALLs by leaf.
    pub fn tdcalls(&self) -> BTreeMap<String, u64> {
        let counted = self.counters("tdcalls").into_iter();
        counted
            .map(|(key, count)| (names::counted_leaf(&key), count))
            .collect()
    }

    /// A table of counters, by the simulator's key.
    fn counters(&self, key: &str) -> BTreeMap<String, u64> {
        let Some(Value::Object(table)) = self.last(key) else {
            return BTreeMap::new();
        };
        table
            .iter()
            .filter_map(|(name, count)| Some((name.clone(), count.as_u64()?)))
            .collect()
    }

    /// L1's high-water mark of its heap or stack in bytes, from its last log line that names one:
    /// "… heap 123 bytes, stack 456 bytes …".
    pub fn high_water(&self, what: &str) -> Option<u64> {
        self.log
            .iter()
            .rev()
            .filter(|line| line.contains("high-water"))
            .find_map(|line| {
                let mut words = line.split_whitespace();
                words.find(|word| *word == what)?;
                words.next()?.parse().ok()
            })
    }

    /// How the run ended, in the simulator's words.
    pub fn result(&self) -> String {
        match self.last("result") {
            Some(result) => {
                let text = |key| result.get(key).and_then(Value::as_str);
                match (text("reason"), text("text")) {
                    (Some(reason), Some(text)) => format!("{reason}: {}", self.whole(text)),
                    (Some(reason), None) => reason.to_owned(),
                    _ => result.to_string(),
                }
            }
            None => "the simulator said nothing of the end".to_owned(),
        }
    }

    /// A message as the log has it: `TDVMCALL<ReportFatalError>` carries only its first 64 bytes.
    fn whole<'a>(&'a self, text: &'a str) -> &'a str {
        let lines = self.log.iter().rev();
        let found = lines.filter_map(|line| line.find(text).and_then(|at| line.get(at..)));
        found.max_by_key(|found| found.len()).unwrap_or(text)
    }

    /// Lines that name a failure: for the summary.
    pub fn failures(&self) -> impl Iterator<Item = &String> {
        self.log.iter().filter(|line| {
            ["fatal", "error", "panic", "watchdog"]
                .iter()
                .any(|word| line.to_lowercase().contains(word))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_of_all_levels_are_in_order() {
        let console = vec!["@userspace 0.5".into()];
        let log = "@{\"phase\":\"first-instruction\",\"tsc\":1000000}\n[  0.002000] L1: up\n\
                   @{\"phase\":\"first-l2-entry\",\"tsc\":3000000}\n";
        let phases = Transcript::new(console, log).phases();
        let moments: Vec<u64> = phases.iter().map(|phase| phase.microseconds).collect();
        assert_eq!(moments, [1000, 2000, 3000, 503_000]);
        assert_eq!(phases[1].name, "l1-vmm");
    }

    #[test]
    fn lines_become_steps_phases_and_counters() {
        let console = vec![
            "@step a pass".into(),
            "noise".into(),
            "@step b fail".into(),
            "@userspace 1.25".into(),
        ];
        let log = "[ 0.1] host: up\n@{\"phase\":\"td-build\",\"tsc\":12000}\n@{\"exits\":{\"48:l1\":3}}\n";
        let transcript = Transcript::new(console, log);
        assert_eq!(
            transcript
                .steps()
                .iter()
                .map(|step| step.passed)
                .collect::<Vec<_>>(),
            [true, false]
        );
        assert_eq!(transcript.phases()[0].microseconds, 12);
        assert_eq!(transcript.exits()["EPT violation"], 3);
        assert_eq!(transcript.log.len(), 1);
        assert!(!transcript.steps_finished());
    }
}
