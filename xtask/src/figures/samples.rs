//! Figures out of samples: medians, spreads, and the counters between two marks.

use serde::Serialize;
use serde_json::Value;
use simulator::Transcript;

/// Minimum, median and maximum of samples.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) minimum: f64,
    pub(crate) median: f64,
    pub(crate) maximum: f64,
}

impl Spread {
    /// `None` of no samples.
    pub(crate) fn of(samples: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut samples: Vec<f64> = samples.into_iter().collect();
        samples.sort_by(f64::total_cmp);
        Some(Self {
            minimum: *samples.first()?,
            median: *samples.get(samples.len() / 2)?,
            maximum: *samples.last()?,
        })
    }
}

/// Times of one command as the guest saw them.
#[derive(Clone, Debug)]
pub(crate) struct Timing {
    pub(crate) mark: u64,
    pub(crate) command: String,
    pub(crate) nanoseconds: Vec<f64>,
}

/// The guest's `@timing` lines.
pub(crate) fn timings(transcript: &Transcript) -> Vec<Timing> {
    transcript
        .console
        .iter()
        .filter_map(|line| serde_json::from_str::<Value>(line.strip_prefix("@timing ")?).ok())
        .filter_map(|value| {
            Some(Timing {
                mark: value.get("mark")?.as_u64()?,
                command: value.get("command")?.as_str()?.to_owned(),
                nanoseconds: value
                    .get("ns")?
                    .as_array()?
                    .iter()
                    .filter_map(Value::as_f64)
                    .collect(),
            })
        })
        .collect()
}

/// What one command cost below the guest, from the marks around it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cost {
    /// Exits on the TPM window.
    pub(crate) tpm_exits: f64,
    /// All of L2's.
    pub(crate) all_exits: f64,
    /// All TDCALLs of L1.
    pub(crate) tdcalls: f64,
    /// Instructions of L2.
    pub(crate) guest: f64,
    /// Instructions of L1, the engine among it.
    pub(crate) l1: f64,
    /// Instructions of the simulated module and of world switches.
    pub(crate) exits: f64,
}

/// The costs of every run of the command with this mark.
pub(crate) fn costs(transcript: &Transcript, mark: u64) -> Vec<Cost> {
    let marks: Vec<&Value> = transcript
        .records
        .iter()
        .filter(|record| record.get("mark").is_some())
        .collect();
    marks
        .windows(2)
        .filter_map(|pair| {
            let [before, after] = pair else { return None };
            let number = |record: &Value, key: &str| record.get(key).and_then(Value::as_f64);
            if number(before, "mark")? != mark as f64
                || number(after, "mark")? != (mark | 0x80) as f64
            {
                return None;
            }
            let difference = |key: &str| Some(number(after, key)? - number(before, key)?);
            let (all, guest, l1) = (difference("tsc")?, difference("l2")?, difference("l1")?);
            Some(Cost {
                tpm_exits: difference("tpm_exits")?,
                all_exits: difference("l2_exits")?,
                tdcalls: difference("tdcalls")?,
                guest,
                l1,
                exits: all - guest - l1,
            })
        })
        .collect()
}

/// The median of one part of the costs; not a number of no costs.
pub(crate) fn median(costs: &[Cost], of: impl Fn(&Cost) -> f64) -> f64 {
    Spread::of(costs.iter().map(of)).map_or(f64::NAN, |spread| spread.median)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        let spread = Spread::of([3.0, 1.0, 2.0]).unwrap();
        assert_eq!(
            (spread.minimum, spread.median, spread.maximum),
            (1.0, 2.0, 3.0)
        );
        assert!(Spread::of([]).is_none());
    }

    #[test]
    fn costs_are_differences_between_a_marks_two_records() {
        let log = "@{\"mark\":1,\"tsc\":100,\"tpm_exits\":5,\"l2_exits\":6,\"tdcalls\":50,\"l1\":10,\"l2\":20}\n\
                   @{\"mark\":129,\"tsc\":200,\"tpm_exits\":82,\"l2_exits\":86,\"tdcalls\":130,\"l1\":40,\"l2\":60}\n";
        let transcript = Transcript::new(Vec::new(), log);
        let costs = costs(&transcript, 1);
        assert_eq!(costs.len(), 1);
        assert_eq!(costs[0].tpm_exits, 77.0);
        assert_eq!(costs[0].all_exits, 80.0);
        assert_eq!(
            (costs[0].guest, costs[0].l1, costs[0].exits),
            (40.0, 30.0, 30.0)
        );
    }
}
