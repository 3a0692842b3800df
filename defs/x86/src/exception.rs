//! Vectors of exceptions and the NMI (SDM Vol. 3A, table "Protected-Mode Exceptions and Interrupts").

/// #DE.
pub const DIVIDE_ERROR: u8 = 0;
/// #DB.
pub const DEBUG: u8 = 1;
/// NMI.
pub const NMI: u8 = 2;
/// #BP.
pub const BREAKPOINT: u8 = 3;
/// #OF.
pub const OVERFLOW: u8 = 4;
/// #BR.
pub const BOUND_RANGE: u8 = 5;
/// #UD.
pub const INVALID_OPCODE: u8 = 6;
/// #NM.
pub const DEVICE_NOT_AVAILABLE: u8 = 7;
/// #DF.
pub const DOUBLE_FAULT: u8 = 8;
/// #TS.
pub const INVALID_TSS: u8 = 10;
/// #NP.
pub const SEGMENT_NOT_PRESENT: u8 = 11;
/// #SS.
pub const STACK_FAULT: u8 = 12;
/// #GP.
pub const GENERAL_PROTECTION: u8 = 13;
/// #PF.
pub const PAGE_FAULT: u8 = 14;
/// #MF.
pub const FLOATING_POINT: u8 = 16;
/// #AC.
pub const ALIGNMENT_CHECK: u8 = 17;
/// #MC.
pub const MACHINE_CHECK: u8 = 18;
/// #XM.
pub const SIMD_FLOATING_POINT: u8 = 19;
/// #VE.
pub const VIRTUALIZATION: u8 = 20;
/// #CP.
pub const CONTROL_PROTECTION: u8 = 21;
