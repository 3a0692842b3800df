//! L1 answers L2's exits without its heap: an allocator that counts says so.

use anyhow::{Context, Result, ensure};

use simulator::Run;

/// No exit of `run`, a machine of one processor, was answered with something allocated, but by the TPM's engine.
pub(crate) fn exits_without_the_heap(run: &Run) -> Result<()> {
    let counted = run.transcript.l1("l2").context("L1 has counted nothing")?;
    let allocating = counted.number("allocating");
    ensure!(
        allocating == Some(0),
        "exits that something was allocated for: {allocating:?}"
    );
    Ok(())
}
