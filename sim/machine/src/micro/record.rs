//! A step's record in L1's memory: what the interpreter reads and writes. Offsets only.

/// General registers before, by their number in instructions.
pub(super) const INPUT: u64 = 0x00;
/// General registers after.
pub(super) const OUTPUT: u64 = 0x80;
/// Address of the code; 0 ends the script.
pub(super) const CODE: u64 = 0x100;
/// Vector of the exception that ended the step, or of a #VE; [`NONE`] without one.
pub(super) const VECTOR: u64 = 0x108;
/// Its error code.
pub(super) const ERROR: u64 = 0x110;
/// CR2 after an exception.
pub(super) const CR2: u64 = 0x118;
/// RCX, RDX, R8, R9, R10, RAX of TDG.VP.VEINFO.GET.
pub(super) const VE: u64 = 0x120;
/// Vector of the last interrupt taken.
pub(super) const INTERRUPT: u64 = 0x150;
/// A byte: 1 once the step is over.
pub(super) const DONE: u64 = 0x158;
/// Bytes of a record.
pub(super) const SIZE: u64 = 0x180;

/// No exception, no interrupt.
pub(super) const NONE: u64 = u64::MAX;
