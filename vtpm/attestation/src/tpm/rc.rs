//! TPM_RC (TPM 2.0 Library, part 2, "TPM_RC (Response Codes)").

/// Success.
pub const SUCCESS: u32 = 0x000;
/// TPM2_Startup is needed first.
pub const INITIALIZE: u32 = 0x100;
/// Failure mode.
pub const FAILURE: u32 = 0x101;
/// The command's size is wrong.
pub const COMMAND_SIZE: u32 = 0x142;
/// The NV index is locked.
pub const NV_LOCKED: u32 = 0x148;
/// No room for the NV index.
pub const NV_SPACE: u32 = 0x14B;
/// The NV index exists already.
pub const NV_DEFINED: u32 = 0x14C;
/// A handle that is not correct for its use; with the number of the handle or parameter in bits 8 to 11.
pub const HANDLE: u32 = 0x08B;
/// Not from this locality.
pub const LOCALITY: u32 = 0x907;
/// The command was asked to give up, and did.
pub const CANCELED: u32 = 0x909;
/// The TPM tests what the command needs.
pub const TESTING: u32 = 0x90A;
/// The TPM is in its lockout.
pub const LOCKOUT: u32 = 0x921;
/// The TPM asks for the command again.
pub const RETRY: u32 = 0x922;
/// NV cannot be written now.
pub const NV_UNAVAILABLE: u32 = 0x923;
