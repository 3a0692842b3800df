//! Why the vTPM did not do what L1 asked of it, and why it is in failure mode.

use alloc::boxed::Box;
use alloc::string::String;

use crate::identity::CertificateError;
use crate::log::{ContinueError, MeasureError};
use crate::{CommandError, TrustDomainError};

/// Why there is no vTPM, or no report.
///
/// Without a vTPM L2 must not be launched. Where there was no report, the one before it and what was read of it
/// stay as they were.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The TDX module refused a report, an extend, or random numbers.
    #[error("{0}")]
    TrustDomain(#[from] TrustDomainError),
    /// The firmware's log cannot be continued.
    #[error("the firmware's CC event log: {0}")]
    FirmwareLog(#[from] ContinueError),
    /// The launch could not be measured.
    #[error("the launch could not be measured: {0}")]
    Measure(#[from] MeasureError),
    /// RTMR3 is not what the event log says: somebody else extends it.
    #[error("RTMR3 does not hold what the event log says")]
    Journal,
    /// The TPM refused a command of L1's own. With a state of an earlier boot the endorsement hierarchy may have
    /// an authorization value.
    #[error("{0}")]
    Command(#[from] CommandError),
    /// The TPM has other PCR banks than it was given, or a digest for one of them is missing.
    #[error("the TPM's PCR banks are not those that were chosen")]
    Banks,
    /// A certificate could not be made.
    #[error("{0}")]
    Certificate(#[from] CertificateError),
    /// Claims and report do not fit the NV index.
    #[error("{0}")]
    Report(#[from] attestation::report::ReportError),
    /// The TPM is in failure mode.
    #[error("the vTPM is in failure mode: {0}")]
    Failed(#[from] Failure),
}

impl Error {
    /// What it is for a TPM in service: a record that was not measured is told as such, the rest as `otherwise`.
    pub(crate) fn into_failure(self, otherwise: fn(Box<Self>) -> Failure) -> Failure {
        match self {
            Self::Failed(failure) => failure,
            Self::TrustDomain(error @ TrustDomainError::Extend(_)) => Failure::Unattested(error),
            error => otherwise(Box::new(error)),
        }
    }
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
    NoIdentity(Box<Error>),
    /// _TPM_Init was done, and what its start is made of was refused.
    #[error("the TPM could not be started after a reset: {0}; launch the TD again")]
    Restart(Box<Error>),
    /// The permanent state changed, and will never be kept.
    #[error("the TPM's state cannot be kept any more: {0}")]
    State(String),
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn a_message_says_what_happened_and_no_more() {
        let identity = Error::from(CertificateError::Signature);
        let said = identity.into_failure(Failure::NoIdentity).to_string();
        assert!(
            said.contains("keys and certificates could not be made"),
            "{said}"
        );
        assert!(said.contains("could not be signed"), "{said}");
        assert!(!said.contains("TDREPORT"), "{said}");

        let no_random = Error::from(TrustDomainError::Random);
        let said = no_random.into_failure(Failure::Restart).to_string();
        assert!(said.contains("could not be started"), "{said}");
        assert!(said.contains("no random numbers"), "{said}");
        assert!(!said.contains("journal"), "{said}");
    }

    #[test]
    fn what_was_not_measured_is_told_as_such() {
        let unattested = Failure::Unattested(TrustDomainError::Extend(3));
        for otherwise in [Failure::NoIdentity, Failure::Restart] {
            let error = Error::from(TrustDomainError::Extend(3));
            assert_eq!(error.into_failure(otherwise), unattested);
            let error = Error::from(unattested.clone());
            assert_eq!(error.into_failure(otherwise), unattested);
        }
    }
}
