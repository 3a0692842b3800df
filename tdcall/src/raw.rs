//! The TDCALL instruction as a trait.

use tdx_defs::Registers;

/// The TDCALL instruction: one call, no interpretation, no retry.
///
/// Implemented by [`crate::hw::Hw`] (the instruction) and by a model of the TDX module. It takes
/// `&self` so that one value can be shared by everything that makes calls; a model keeps its
/// state in a cell.
pub trait RawTdcall {
    /// Executes TDCALL with `registers`, and stores what it returned there.
    fn tdcall(&self, registers: &mut Registers);
}

impl<T: RawTdcall + ?Sized> RawTdcall for &T {
    fn tdcall(&self, registers: &mut Registers) {
        T::tdcall(self, registers);
    }
}
