//! Progress on a terminal, plain lines elsewhere.

use indicatif::{ProgressBar, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// One thing that takes a while.
pub(crate) struct Step {
    bar: Option<ProgressBar>,
    what: String,
    started: Instant,
}

/// Says what is being done; dropped without [`Step::done`], it says nothing more.
pub(crate) fn step(what: impl Into<String>) -> Step {
    let what = what.into();
    let bar = std::io::stderr().is_terminal().then(|| {
        let style = ProgressStyle::with_template("{spinner} {msg} {elapsed}");
        let bar = ProgressBar::new_spinner();
        if let Ok(style) = style {
            bar.set_style(style);
        }
        bar.set_message(what.clone());
        bar.enable_steady_tick(Duration::from_millis(120));
        bar
    });
    if bar.is_none() {
        eprintln!("{what} ...");
    }
    Step {
        bar,
        what,
        started: Instant::now(),
    }
}

impl Step {
    /// So many parts of it are done.
    pub(crate) fn reached(&self, done: usize, all: usize) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{}: {done} of {all} done", self.what));
        }
    }

    /// Prints something without a trace of the bar in it.
    pub(crate) fn beside<T>(&self, print: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    /// The thing is done.
    pub(crate) fn done(self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        eprintln!(
            "{} ({:.1} s)",
            self.what,
            self.started.elapsed().as_secs_f64()
        );
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
