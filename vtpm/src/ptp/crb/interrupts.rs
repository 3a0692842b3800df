//! The events of the CRB interface.

use super::bits::IntEnable;

/// What occurs, each by its bit of TPM_CRB_INT_ENABLE_x and TPM_CRB_INT_STS_x.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Occurrence {
    /// The command that START began is over: the response is there.
    Start,
    /// cmdReady was done: a command can be written.
    CommandReady,
    /// tpmEstablished says again that no dynamic launch has happened.
    EstablishmentClear,
    /// The locality has got the TPM.
    LocalityChange,
}

impl Occurrence {
    pub(super) const fn bits(self) -> u32 {
        let bits = IntEnable::new();
        match self {
            Self::Start => bits.with_start(true),
            Self::CommandReady => bits.with_cmd_ready(true),
            Self::EstablishmentClear => bits.with_establishment_clear(true),
            Self::LocalityChange => bits.with_locality_change(true),
        }
        .into_bits()
    }
}
