//! Why there is no TPM, and why there is no response.

use crate::host::Fault;
use crate::state::StateError;

/// Why there is no TPM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another [`Tpm`](crate::Tpm) of this process is open; drop it first.
    #[error("the engine is in use")]
    InUse,
    /// The stored permanent state cannot be used. Nothing was changed in the store.
    #[error("the permanent state: {0}")]
    State(#[from] StateError),
    /// The engine could not be manufactured or started.
    #[error("{0}")]
    Fault(#[from] Fault),
    /// The engine refused to start for a reason of its own; the code is libtpms's.
    #[error("the engine did not start: {0:#x}")]
    Engine(u32),
}

/// Why a command has no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExecuteError {
    /// The TPM is out of service until [`Tpm::reset`](crate::Tpm::reset); this command may be the one that ended it.
    #[error("{0}")]
    Fault(#[from] Fault),
    /// There is no such locality: 0 to 4 and 32 to 255 are.
    #[error("there is no locality {0}")]
    Locality(u8),
    /// The engine gave no response; the code is libtpms's.
    #[error("the engine gave no response: {0:#x}")]
    Engine(u32),
    /// The command was executed, its response is longer than the buffer.
    #[error("the response has {length} bytes, more than its buffer")]
    ResponseTooLong {
        /// Of the response.
        length: usize,
    },
}
