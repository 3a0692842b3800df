//! What passed and what failed.

use anyhow::Result;
use boots::Checks;

/// Counts of checks, and the names of those that failed.
#[derive(Default)]
pub(crate) struct Tally {
    passed: usize,
    failed: Vec<String>,
}

impl Tally {
    /// Counts one check and says how it went.
    pub(crate) fn count(&mut self, name: &str, result: Result<()>) {
        match result {
            Ok(()) => {
                self.passed += 1;
                println!("pass  {name}");
            }
            Err(error) => {
                println!("FAIL  {name}: {error:#}");
                self.failed.push(name.to_owned());
            }
        }
    }

    /// As [`count`](Self::count), for each of them.
    pub(crate) fn count_all(&mut self, checks: Checks) {
        for (name, result) in checks {
            self.count(&name, result);
        }
    }

    /// Counts what another program has checked and reported.
    pub(crate) fn add(&mut self, passed: usize, failed: Option<String>) {
        self.passed += passed;
        self.failed.extend(failed);
    }

    /// How many passed so far.
    pub(crate) fn passed(&self) -> usize {
        self.passed
    }

    /// Says what failed, and the counts in the last line; true if nothing failed.
    pub(crate) fn conclude(&self) -> bool {
        for name in &self.failed {
            println!("failed: {name}");
        }
        println!("{} passed, {} failed", self.passed, self.failed.len());
        self.failed.is_empty()
    }
}
