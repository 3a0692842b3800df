//! L1 answers L2's exits without its heap: an allocator that counts says so.

use anyhow::{Context, Result, ensure};

use simulator::Run;

/// Of the exits of `run`, a machine of one processor, at most so many were answered with something allocated, but by the
/// TPM's engine.
pub(crate) fn exits_without_the_heap(run: &Run, but: u64) -> Result<()> {
    let counted = run.transcript.l1("l2").context("L1 has counted nothing")?;
    let allocating = counted.number("allocating");
    ensure!(
        allocating.is_some_and(|allocating| allocating <= but),
        "exits that something was allocated for, of which {but} may be: {allocating:?}"
    );
    Ok(())
}
