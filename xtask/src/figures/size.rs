//! How large L1 is, in its file and in memory.

use super::Figure;
use crate::prepare::Prepared;
use anyhow::{Context, Result};
use simulator::Run;

/// All of them; `ours` is the run with the timing program.
pub(crate) fn figures(prepared: &Prepared, ours: &Run) -> Result<Vec<Figure>> {
    let image = prepared.images.payload.len();
    let mut figures = vec![Figure::without_goal(
        "L1 image, stripped".to_owned(),
        format!("{} KiB", image / 1024),
    )];
    for (what, label) in [
        ("heap", "L1 heap high-water mark"),
        ("stack", "L1 stack high-water mark"),
    ] {
        let bytes = ours
            .transcript
            .l1("memory")
            .and_then(|memory| memory.number(what))
            .with_context(|| format!("L1 did not tell its {what} high-water mark"))?;
        let value = format!("{} KiB", bytes / 1024);
        figures.push(Figure::without_goal(label.to_owned(), value));
    }
    Ok(figures)
}
