//! The TPM that says what it does.
//!
//! [`Attested`] stands between a register interface and an engine. It passes commands on as they
//! are, and for those that succeed it keeps the journal in RTMR3, before their responses go to the
//! guest; when the TD's registers cannot be extended it goes into failure mode instead. It gives the
//! guest reports and quotes through NV indices.
//!
//! `docs/measurement.md` is the specification of everything that is written here.

mod authority;
mod command;
mod follow;
mod identify;
mod launch;
mod report;
mod start;

use alloc::vec::Vec;

use attestation::digest::Algorithm;
use attestation::launch::Measurement;
use attestation::tpm::{Name, Public};

use self::command::{Command, Response};
use self::identify::{Description, Identity};
use crate::evidence::Evidence;
use crate::log::MeasurementLog;
use crate::provision::Provisioner;
use crate::recorder::Recorder;
use crate::state::Commits;
use crate::{CommandError, Engine, EngineFailure, Locality, TrustDomain, TrustDomainError};

pub use self::report::ReportError;
pub use self::start::{Config, IdentityTime, LaunchMeasurements, StartError};

/// TPM_RC_FAILURE, as a whole response.
const FAILURE: [u8; 10] = [0x80, 0x01, 0, 0, 0, 10, 0, 0, 0x01, 0x01];

/// An engine whose life is measured into the trust domain.
pub struct Attested<E, T> {
    provisioner: Provisioner<E>,
    recorder: Recorder<T>,
    evidence: Evidence,
    description: Description,
    /// `None` until it is needed; the journal has no record until then.
    identity: Option<Identity>,
    /// Allocated, in order of their algorithms.
    banks: Vec<Algorithm>,
    /// What PCRs are extended with after each startup.
    launch: Vec<(u8, Measurement)>,
    tcg_log: Vec<u8>,
    commits: Option<Commits>,
    /// Something happened that RTMR3 does not tell. For good.
    unattested: bool,
}

/// Why a response that the engine gave must not go to the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Withheld {
    /// The journal could not be written. Failure mode, for good.
    #[error("{0}")]
    Unattested(#[from] TrustDomainError),
    /// The TPM did not tell what the journal has to. Failure mode, for good.
    #[error("what the journal has to tell: {0}")]
    Untold(CommandError),
    /// The journal has to begin, and the authority or a certificate could not be made. Failure
    /// mode, for good.
    #[error("no identity")]
    NoIdentity,
    /// The TPM failed at what had to follow the command.
    #[error("{0}")]
    Command(#[from] CommandError),
    /// The report that the command asks for could not be made.
    #[error("no report")]
    NoReport,
}

impl<E: Engine, T: TrustDomain> Attested<E, T> {
    /// The TCG event log of what L1 has measured into PCRs, for the log area that the TPM2 table
    /// names.
    pub fn tcg_log(&self) -> &[u8] {
        &self.tcg_log
    }

    /// The CC event log, with what it says that the RTMRs hold.
    pub fn log(&self) -> &MeasurementLog {
        self.recorder.log()
    }

    /// The engine.
    pub fn engine(&self) -> &E {
        self.provisioner.engine()
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &T {
        &self.recorder.trust_domain
    }

    /// The names of the EKs: RSA-2048, P-256, P-384; `None` until they are made.
    pub fn ek_names(&self) -> Option<&[Name; 3]> {
        Some(&self.identity.as_ref()?.eks)
    }

    /// The AK; `None` until it is made.
    pub fn ak(&self) -> Option<&Public> {
        Some(&self.identity.as_ref()?.ak)
    }

    /// In failure mode, because the journal could not be written.
    pub fn is_unattested(&self) -> bool {
        self.unattested
    }

    /// The state as of L1's own commands is nobody's news.
    fn forget_commits(&self) {
        if let Some(commits) = &self.commits {
            commits.take();
        }
    }

    fn in_service(&self) -> Result<(), EngineFailure> {
        match self.unattested {
            true => Err(EngineFailure),
            false => Ok(()),
        }
    }

    /// What could not be attested ends the TPM's service.
    fn latch(&mut self, outcome: Result<(), Withheld>) -> Result<(), EngineFailure> {
        outcome.map_err(|_| {
            self.unattested = true;
            EngineFailure
        })
    }
}

impl<E: Engine, T: TrustDomain> Engine for Attested<E, T> {
    fn execute(
        &mut self,
        locality: Locality,
        command: &[u8],
        response: &mut [u8],
    ) -> Result<usize, EngineFailure> {
        if self.unattested {
            return put_failure(response);
        }
        let asked = Command(command);
        if self.identify_before(asked).is_err() {
            self.unattested = true;
            return put_failure(response);
        }
        self.prepare(asked);
        self.report_before(asked);
        if self.unattested {
            return put_failure(response);
        }
        let undefined = self.attributes_of_undefined(asked);
        let length = self
            .provisioner
            .engine_mut()
            .execute(locality, command, response)?;
        let answer = Response(response.get(..length).unwrap_or_default());
        let withheld = match self.follow(asked, answer, undefined) {
            Ok(()) => return Ok(length),
            Err(withheld) => withheld,
        };
        // What the guest must not learn.
        if let Some(answer) = response.get_mut(..length) {
            answer.fill(0);
        }
        match withheld {
            Withheld::Unattested(_) | Withheld::Untold(_) | Withheld::NoIdentity => {
                self.unattested = true;
            }
            Withheld::Command(CommandError::Engine(failure)) => return Err(failure),
            Withheld::Command(_) | Withheld::NoReport => {}
        }
        put_failure(response)
    }

    /// _TPM_Init, and then what firmware does: TPM2_Startup(CLEAR) and the measurements of the launch.
    fn reset(&mut self) -> Result<(), EngineFailure> {
        let identified = self.identified();
        self.provisioner.reset()?;
        self.in_service()?;
        self.latch(identified)?;
        let outcome = self.restart();
        self.latch(outcome)
    }

    fn establishment(&self) -> bool {
        self.provisioner.engine().establishment()
    }

    fn reset_establishment(&mut self, locality: Locality) -> Result<(), EngineFailure> {
        self.provisioner.engine_mut().reset_establishment(locality)
    }

    fn hash_start(&mut self) -> Result<(), EngineFailure> {
        self.in_service()?;
        let identified = self.identified();
        self.latch(identified)?;
        self.provisioner.engine_mut().hash_start()
    }

    fn hash_data(&mut self, data: &[u8]) -> Result<(), EngineFailure> {
        self.in_service()?;
        self.provisioner.engine_mut().hash_data(data)
    }

    fn hash_end(&mut self) -> Result<(), EngineFailure> {
        self.in_service()?;
        self.provisioner.engine_mut().hash_end()?;
        let outcome = self.follow_dynamic_launch();
        self.latch(outcome)
    }
}

fn put_failure(response: &mut [u8]) -> Result<usize, EngineFailure> {
    response
        .get_mut(..FAILURE.len())
        .ok_or(EngineFailure)?
        .copy_from_slice(&FAILURE);
    Ok(FAILURE.len())
}
