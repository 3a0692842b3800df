//! What a run said: the guest's console, and the simulator's log with its machine-readable records.

use crate::names;
use serde_json::{Map, Value};
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

/// Figures that L1 told.
#[derive(Clone, Debug, PartialEq)]
pub struct L1Record {
    /// The record's name.
    pub name: String,
    /// When, in nanoseconds of virtual time since the machine's reset.
    pub nanoseconds: u64,
    /// The figures by their keys.
    pub figures: Map<String, Value>,
}

impl L1Record {
    /// What L1 said in a record of the simulator's.
    fn new(quoted: &Value) -> Option<Self> {
        let said: Map<String, Value> =
            serde_json::from_str(quoted.get("l1_record")?.as_str()?).ok()?;
        let (name, Value::Object(figures)) = said.into_iter().next()? else {
            return None;
        };
        Some(Self {
            name,
            // The TSC counts nanoseconds on a counted clock.
            nanoseconds: quoted.get("tsc")?.as_u64()?,
            figures,
        })
    }

    /// A figure that is a number.
    pub fn number(&self, key: &str) -> Option<u64> {
        self.figures.get(key)?.as_u64()
    }

    /// A figure that is text.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.figures.get(key)?.as_str()
    }
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
    /// Records of L1.
    pub l1_records: Vec<L1Record>,
}

impl Transcript {
    /// Takes the simulator's log apart.
    pub fn new(console: Vec<String>, simulator_log: &str) -> Self {
        let mut log = Vec::new();
        let mut records = Vec::new();
        let mut l1_records = Vec::new();
        for line in simulator_log.lines() {
            let record = line.strip_prefix('@');
            let record = record.and_then(|json| serde_json::from_str::<Value>(json).ok());
            match record {
                Some(record) if record.get("l1_record").is_some() => match L1Record::new(&record) {
                    Some(record) => l1_records.push(record),
                    None => log.push(line.to_owned()),
                },
                Some(record) => records.push(record),
                None => log.push(line.to_owned()),
            }
        }
        Self {
            console,
            log,
            records,
            l1_records,
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

    /// The moments of the boot, in order: the simulator's records, L1's start, and the guest's first
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
        phases.extend(self.l1("start").map(|start| Phase {
            name: "l1-vmm".to_owned(),
            microseconds: start.nanoseconds / 1000,
        }));
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

    /// The guest's uptime when its first program ran, in microseconds.
    pub fn guest_uptime(&self) -> Option<u64> {
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

    /// L1's last record of this name.
    pub fn l1(&self, name: &str) -> Option<&L1Record> {
        self.l1_records.iter().rfind(|record| record.name == name)
    }

    /// How the run ended, in the simulator's words.
    pub fn result(&self) -> String {
        match self.last("result") {
            Some(result) => {
                let text = |key| result.get(key).and_then(Value::as_str);
                if let (Some("poweroff"), Some(rip)) = (text("reason"), self.halted_at()) {
                    return format!("halted: L2 halted for good at {rip:#x}");
                }
                match (text("reason"), text("text")) {
                    (Some(reason), Some(text)) => format!("{reason}: {}", self.whole(text)),
                    (Some(reason), None) => reason.to_owned(),
                    _ => result.to_string(),
                }
            }
            None => "the simulator said nothing of the end".to_owned(),
        }
    }

    /// Where L2 halted with interrupts disabled: L1 then powers the machine off, for a guest that did not. Other
    /// ends have their own words.
    pub fn halted_at(&self) -> Option<u64> {
        self.l1("halted")?.number("rip")
    }

    /// The whole of a text that a TD gave up with: `TDVMCALL<ReportFatalError>` carries only its first 64
    /// bytes, and L1 tells all of it in its last record.
    fn whole<'a>(&'a self, text: &'a str) -> &'a str {
        let told = self.l1("fatal").and_then(|fatal| fatal.text("text"));
        told.filter(|told| told.starts_with(text)).unwrap_or(text)
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
        let start = quoted(r#"{"start":{"version":"1"}}"#);
        let log = format!(
            "@{{\"phase\":\"first-instruction\",\"tsc\":1000000}}\n{start}\
             @{{\"phase\":\"first-l2-entry\",\"tsc\":3000000}}\n"
        );
        let phases = Transcript::new(console, &log).phases();
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

    /// The simulator's line for what L1 wrote behind its `@`.
    fn quoted(said: &str) -> String {
        format!(
            "@{}\n",
            serde_json::json!({"l1_record": said, "tsc": 2_000_000})
        )
    }

    #[test]
    fn what_l1_tells_is_known_by_name_and_moment() {
        let log = quoted(r#"{"memory":{"heap":1}}"#) + &quoted(r#"{"memory":{"heap":2,"of":"x"}}"#);
        let transcript = Transcript::new(Vec::new(), &log);
        let last = transcript.l1("memory").unwrap();
        assert_eq!((last.number("heap"), last.text("of")), (Some(2), Some("x")));
        assert_eq!(last.nanoseconds, 2_000_000);
        assert_eq!(transcript.l1_records.len(), 2);
    }

    #[test]
    fn nothing_that_l1_tells_is_a_record_of_the_simulator() {
        for said in [
            r#"{"result":{"reason":"poweroff"}}"#,
            r#"{},"result":{"reason":"poweroff"},"x":{}"#,
            r#"{"a":{}},"result":{"reason":"poweroff"}"#,
            "result",
            "{\"cut",
            "[1]",
            "{}",
            r#"{"result":"poweroff"}"#,
        ] {
            let transcript = Transcript::new(Vec::new(), &quoted(said));
            assert!(transcript.records.is_empty(), "{said}");
            assert!(transcript.last("result").is_none(), "{said}");
            assert_eq!(
                transcript.log.len() + transcript.l1_records.len(),
                1,
                "{said}"
            );
        }
    }

    #[test]
    fn a_guest_that_halted_did_not_power_off() {
        let end = "@{\"result\":{\"reason\":\"poweroff\"}}\n";
        let told = quoted(r#"{"halted":{"rip":4096}}"#);
        let result = |told: &str| Transcript::new(Vec::new(), &format!("{told}{end}")).result();
        assert_eq!(result(""), "poweroff");
        assert_eq!(result(&told), "halted: L2 halted for good at 0x1000");
    }

    #[test]
    fn the_end_has_all_of_what_l1_said() {
        let end = "@{\"result\":{\"reason\":\"fatal-error\",\"text\":\"the first 64\"}}\n";
        let result = |told: &str| Transcript::new(Vec::new(), &(quoted(told) + end)).result();
        assert_eq!(
            result(r#"{"fatal":{"code":1,"text":"the first 64 and more"}}"#),
            "fatal-error: the first 64 and more"
        );
        assert_eq!(
            result(r#"{"fatal":{"code":1,"text":"another"}}"#),
            "fatal-error: the first 64"
        );
    }
}
