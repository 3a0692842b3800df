//! Failure mode: what leads into it, and what a response is withheld for.

use super::launch::PowerUpError;
use super::{ReportError, StartError};
use crate::{CommandError, TrustDomainError};

/// Whether the TPM answers commands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Service {
    /// It does.
    Running,
    /// It answers TPM_RC_FAILURE, for good.
    Failed(Failure),
}

/// Why the TPM is in failure mode until the TD is launched again: something happened that RTMR3
/// does not tell.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// A record could not be measured.
    #[error("the journal could not be written: {0}; launch the TD again")]
    Unattested(#[from] TrustDomainError),
    /// The TPM did not tell what a record has to.
    #[error("the TPM did not tell what the journal has to: {0}; launch the TD again")]
    Untold(CommandError),
    /// The journal has to begin, and a key or certificate could not be made.
    #[error(
        "the TPM's keys and certificates could not be made: {0}; launch the TD again, \
         with a new TPM if a state of an earlier boot stands in their way"
    )]
    NoIdentity(StartError),
    /// _TPM_Init was done, and the TPM refused a command that its start is made of.
    #[error("the TPM could not be started after a reset: {0}; launch the TD again")]
    Restart(CommandError),
}

impl From<PowerUpError> for Failure {
    fn from(error: PowerUpError) -> Self {
        match error {
            PowerUpError::Command(error) => Self::Restart(error),
            PowerUpError::TrustDomain(error) => Self::Unattested(error),
        }
    }
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
    NoReport(ReportError),
}

impl From<ReportError> for Withheld {
    fn from(error: ReportError) -> Self {
        match error {
            ReportError::Failed(failure) => Self::Failure(failure),
            ReportError::Command(error) => Self::Command(error),
            error => Self::NoReport(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{AuthorityError, CertificateError};
    use std::string::ToString;

    #[test]
    fn a_message_says_what_happened_and_no_more() {
        let signature = CertificateError::Signature;
        let identity = StartError::Authority(AuthorityError::Certificate(signature));
        let said = Failure::NoIdentity(identity).to_string();
        assert!(
            said.contains("keys and certificates could not be made"),
            "{said}"
        );
        assert!(said.contains("could not be signed"), "{said}");
        assert!(!said.contains("TDREPORT"), "{said}");

        let format = attestation::report::ReportError::ClaimsTooLong(900);
        let said = Withheld::from(ReportError::Format(format)).to_string();
        assert!(
            said.contains("no report was made") && said.contains("900 bytes"),
            "{said}"
        );
        assert!(!said.contains("TDREPORT"), "{said}");

        let said = Withheld::from(ReportError::TrustDomain(TrustDomainError::Report)).to_string();
        assert!(said.contains("the TDX module made no TDREPORT"), "{said}");
    }

    #[test]
    fn a_failure_stays_one_on_its_way_through_a_report() {
        let failure = Failure::Unattested(TrustDomainError::Extend(3));
        assert_eq!(
            Withheld::from(ReportError::Failed(failure.clone())),
            Withheld::Failure(failure)
        );
    }
}
