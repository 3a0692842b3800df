//! Memory of a [`ModelTdcall`]'s TD, as L1 reaches it.

use super::{ModelTdcall, SHARED_MEMORY};
use core::ops::Range;
use tdcall::{OperandPage, SharedBuffer};
use tdx_defs::Gpa;
use x86_defs::paging::PAGE_4K;

/// A private page of L1's.
#[derive(Clone)]
pub struct ModelPage {
    model: ModelTdcall,
    gpa: u64,
}

impl ModelPage {
    /// The page at `gpa`, a multiple of 4 KiB.
    pub fn new(model: &ModelTdcall, gpa: u64) -> ModelPage {
        let model = model.clone();
        ModelPage { model, gpa }
    }
}

impl OperandPage for ModelPage {
    fn gpa(&self) -> Gpa {
        Gpa(self.gpa)
    }

    fn read(&self, offset: usize, into: &mut [u8]) {
        self.model.read(self.gpa + offset as u64, into);
    }

    fn write(&mut self, offset: usize, from: &[u8]) {
        self.model.write(self.gpa + offset as u64, from);
    }
}

/// Memory that the host has mapped into the TD.
#[derive(Clone)]
pub struct ModelShared {
    model: ModelTdcall,
    range: Range<u64>,
}

impl ModelShared {
    /// Has the host map the pages of `range`, without the SHARED bit.
    pub fn new(model: &ModelTdcall, range: Range<u64>) -> ModelShared {
        range
            .clone()
            .step_by(PAGE_4K as usize)
            .for_each(|page| model.share(page));
        let model = model.clone();
        ModelShared { model, range }
    }
}

impl SharedBuffer for ModelShared {
    fn gpa(&self) -> u64 {
        self.range.start
    }

    fn length(&self) -> usize {
        (self.range.end - self.range.start) as usize
    }

    fn read(&self, offset: usize, into: &mut [u8]) {
        let hpa = SHARED_MEMORY + self.gpa() + offset as u64;
        self.model.read(hpa, into);
    }

    fn write(&self, offset: usize, from: &[u8]) {
        let hpa = SHARED_MEMORY + self.gpa() + offset as u64;
        self.model.write(hpa, from);
    }
}
