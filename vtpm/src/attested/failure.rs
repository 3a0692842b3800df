//! Failure mode, and what a response is withheld for.

use alloc::string::String;

use crate::state::NotKept;
use crate::{CommandError, Error, Failure};

/// Whether the TPM answers commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Service {
    /// It does.
    Running,
    /// It answers TPM_RC_FAILURE, for good.
    Failed(Failure),
}

/// Why a response that the engine gave, or would give, must not go to the guest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Withheld {
    /// Failure mode.
    #[error("{0}")]
    Failure(#[from] Failure),
    /// The TPM failed at the command, or at what had to follow it.
    #[error("{0}")]
    Command(#[from] CommandError),
    /// The report that the command asks for could not be made; the one before it stays.
    #[error("no report was made: {0}")]
    NoReport(Error),
    /// What it changed could not be kept: the guest is told TPM_RC_NV_UNAVAILABLE.
    #[error("the TPM's state could not be kept: {0}")]
    Unkept(String),
    /// It gave up before it was executed: the guest is told TPM_RC_CANCELED.
    #[error("it was canceled")]
    Canceled,
}

impl From<NotKept> for Withheld {
    fn from(error: NotKept) -> Self {
        match error {
            NotKept::Unavailable(why) => Self::Unkept(why),
            NotKept::Never(why) => Self::Failure(Failure::State(why)),
        }
    }
}

impl From<Error> for Withheld {
    fn from(error: Error) -> Self {
        match error {
            Error::Failed(failure) => Self::Failure(failure),
            Error::Command(error) => Self::Command(error),
            error => Self::NoReport(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TrustDomainError;
    use std::string::ToString;

    #[test]
    fn a_report_that_was_not_made_says_why() {
        let format = attestation::report::ReportError::ClaimsTooLong(900);
        let said = Withheld::from(Error::Report(format)).to_string();
        assert!(
            said.contains("no report was made") && said.contains("900 bytes"),
            "{said}"
        );
        assert!(!said.contains("TDREPORT"), "{said}");

        let said = Withheld::from(Error::TrustDomain(TrustDomainError::Report)).to_string();
        assert!(said.contains("the TDX module made no TDREPORT"), "{said}");
    }

    #[test]
    fn a_failure_stays_one_on_its_way_through_a_report() {
        let failure = Failure::Unattested(TrustDomainError::Extend(3));
        assert_eq!(
            Withheld::from(Error::Failed(failure.clone())),
            Withheld::Failure(failure)
        );
    }
}
