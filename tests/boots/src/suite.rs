//! Cases that run side by side, and what they checked.

use crate::parallel;
use anyhow::{Context, Result};
use simulator::Run;

/// Checks by name.
pub type Checks = Vec<(String, Result<()>)>;

/// The steps that a guest reported, each a check of the case `name`, whose console is kept as `file`.
pub(crate) fn steps(name: &str, file: &str, run: &Run) -> Checks {
    let steps = run.transcript.steps().into_iter();
    steps
        .map(|step| {
            let result = step.passed.then_some(());
            let result = result.with_context(|| format!("see {file}.console.log"));
            (format!("{name}: {}", step.name), result)
        })
        .collect()
}

/// Runs a case at a place that no other case has meanwhile.
type Case<'a> = Box<dyn Fn(usize) -> Checks + Sync + 'a>;

/// Cases that have nothing to do with each other. The long ones should come first.
#[derive(Default)]
pub struct Suite<'a>(Vec<Case<'a>>);

impl<'a> Suite<'a> {
    /// A suite of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a case; it gets a number that no case has that runs at the same time.
    pub fn add(&mut self, case: impl Fn(usize) -> Checks + Sync + 'a) {
        self.0.push(Box::new(case));
    }

    /// This suite's cases, then the other's.
    pub fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// How many cases there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Runs the cases, as many at a time as there are processors; `ended` gets what each checked as soon as it has.
    pub fn run(&self, ended: impl Fn(Checks) + Sync) {
        parallel::each(&self.0, |place, case| ended(case(place)));
    }

    /// The same, one after another: for cases that want all processors.
    pub fn run_one_by_one(&self, ended: impl Fn(Checks)) {
        for (place, case) in self.0.iter().enumerate() {
            ended(case(place));
        }
    }
}
