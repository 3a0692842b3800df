//! The report as a table: one line a link.

use std::fmt;
use verifier::{Account, Check, Outcome};

/// Characters of a value that a line shows.
const VALUE_WIDTH: usize = 64;

/// An account, as text.
pub(crate) struct Table<'a>(pub(crate) &'a Account);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for check in &self.0.checks {
            line(f, check)?;
        }
        let account = self.0;
        let count = |is_it: fn(&Outcome) -> bool| {
            let checks = account.checks.iter();
            checks.filter(|check| is_it(&check.outcome)).count()
        };
        let passed = count(|outcome| *outcome == Outcome::Passed);
        let skipped = count(|outcome| matches!(outcome, Outcome::Skipped { .. }));
        let not_reached = count(|outcome| matches!(outcome, Outcome::NotReached { .. }));
        let accepted = account.accepted.len();
        writeln!(f)?;
        if let Some(failure) = account.first_failure.and_then(|id| account.check(id)) {
            return writeln!(
                f,
                "NOT TRUSTED: {} ({passed} checks passed, {accepted} accepted unseen, {skipped} skipped, {not_reached} not reached)\n  {}\n  expected: {}\n  found:    {}",
                failure.id,
                failure.sentence,
                or_nothing(&failure.expected),
                or_nothing(&failure.found),
            );
        }
        if accepted == 0 {
            return writeln!(f, "trusted: {passed} checks passed, {skipped} skipped");
        }
        writeln!(
            f,
            "trusted, but for what the policy accepts unseen: {passed} checks passed, {accepted} accepted unseen, {skipped} skipped"
        )?;
        account
            .checks
            .iter()
            .try_for_each(|check| match &check.outcome {
                Outcome::Accepted { by } => writeln!(f, "  {:<22}{by}", check.id),
                _ => Ok(()),
            })
    }
}

fn or_nothing(value: &str) -> String {
    match value {
        "" => "-".into(),
        value => value.into(),
    }
}

fn line(f: &mut fmt::Formatter<'_>, check: &Check) -> fmt::Result {
    let outcome = match &check.outcome {
        Outcome::Passed => "ok",
        Outcome::Failed => "FAILED",
        Outcome::Accepted { .. } => "accepted",
        Outcome::Skipped { .. } => "skipped",
        Outcome::NotReached { .. } => "-",
    };
    write!(f, "{outcome:<9}{:<22}{}", check.id, check.sentence)?;
    if let Outcome::Skipped { why: reason } | Outcome::Accepted { by: reason } = &check.outcome {
        write!(f, ": {reason}")?;
    }
    if !check.found.is_empty() {
        let short: String = check.found.chars().take(VALUE_WIDTH).collect();
        let more = if short.len() < check.found.len() {
            "…"
        } else {
            ""
        };
        write!(f, " [{short}{more}]")?;
    }
    writeln!(f)
}
