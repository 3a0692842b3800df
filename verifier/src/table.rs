//! The report as a table: one line a link.

use std::fmt;
use verifier::{Check, Outcome, Report, printable};

/// Characters of a value that a line shows.
const VALUE_WIDTH: usize = 64;

/// A report, as text.
pub(crate) struct Table<'a>(pub(crate) &'a Report);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for check in &self.0.checks {
            line(f, check)?;
        }
        let count = |is_it: fn(&Outcome) -> bool| {
            let checks = self.0.checks.iter();
            checks.filter(|check| is_it(&check.outcome)).count()
        };
        let passed = count(|outcome| *outcome == Outcome::Passed);
        let skipped = count(|outcome| matches!(outcome, Outcome::Skipped { .. }));
        let not_reached = count(|outcome| matches!(outcome, Outcome::NotReached { .. }));
        writeln!(f)?;
        match self.0.first_failure() {
            None => writeln!(f, "trusted: {passed} checks passed, {skipped} skipped"),
            Some(failure) => writeln!(
                f,
                "NOT TRUSTED: {} ({passed} checks passed, {skipped} skipped, {not_reached} not reached)\n  {}\n  expected: {}\n  found:    {}",
                failure.id,
                printable(&failure.sentence),
                or_nothing(&failure.expected),
                or_nothing(&failure.found),
            ),
        }
    }
}

fn or_nothing(value: &str) -> String {
    match value {
        "" => "-".into(),
        value => printable(value),
    }
}

fn line(f: &mut fmt::Formatter<'_>, check: &Check) -> fmt::Result {
    let outcome = match &check.outcome {
        Outcome::Passed => "ok",
        Outcome::Failed => "FAILED",
        Outcome::Skipped { .. } => "skipped",
        Outcome::NotReached { .. } => "-",
    };
    write!(
        f,
        "{outcome:<8}{:<22}{}",
        check.id,
        printable(&check.sentence)
    )?;
    if let Outcome::Skipped { why } = &check.outcome {
        write!(f, ": {why}")?;
    }
    if !check.found.is_empty() {
        let found = printable(&check.found);
        let short: String = found.chars().take(VALUE_WIDTH).collect();
        let more = if short.len() < found.len() { "…" } else { "" };
        write!(f, " [{short}{more}]")?;
    }
    writeln!(f)
}
