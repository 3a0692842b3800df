//! The TPM that says what it does.
//!
//! [`Attested`] stands between a register interface and an engine. It passes commands on as they
//! are, and for those that succeed it keeps the journal in RTMR3, before their responses go to the
//! guest; when the TD's registers cannot be extended it goes into failure mode instead. It gives the
//! guest reports and quotes through NV indices.
//!
//! `docs/measurement.md` is the specification of everything that is written here.

mod authority;
mod failure;
mod follow;
mod identify;
mod launch;
mod report;
mod start;

use alloc::vec::Vec;

use attestation::digest::Algorithm;
use attestation::launch::Measurement;
use attestation::tpm::{Name, Public};

use self::failure::{Service, Withheld};
use self::identify::{Description, Identity};
use crate::evidence::Evidence;
use crate::log::MeasurementLog;
use crate::message::FAILURE;
use crate::provision::Provisioner;
use crate::recorder::Recorder;
use crate::request::{Answer, Request};
use crate::state::Commits;
use crate::{CommandError, Engine, EngineFailure, Failure, Locality, TrustDomain};

pub use self::start::{Config, IdentityTime, LaunchMeasurements};

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
    service: Service,
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

    /// Why it is in failure mode, if it is.
    pub fn failure(&self) -> Option<&Failure> {
        match &self.service {
            Service::Running => None,
            Service::Failed(failure) => Some(failure),
        }
    }

    /// The state as of L1's own commands is nobody's news.
    fn forget_commits(&self) {
        if let Some(commits) = &self.commits {
            commits.take();
        }
    }

    fn in_service(&self) -> Result<(), EngineFailure> {
        match self.service {
            Service::Running => Ok(()),
            Service::Failed(_) => Err(EngineFailure),
        }
    }

    /// What could not be attested ends the TPM's service.
    fn latch(&mut self, outcome: Result<(), Failure>) -> Result<(), EngineFailure> {
        outcome.map_err(|failure| {
            self.fail(failure);
            EngineFailure
        })
    }

    /// Failure mode, for good. What led there first is kept.
    fn fail(&mut self, failure: Failure) {
        if self.service == Service::Running {
            log::error!("the vTPM is in failure mode: {failure}");
            self.service = Service::Failed(failure);
        }
    }

    /// One command of the guest's to a TPM in service, with what comes before and after it. On an
    /// error nothing of a response is left.
    fn attend(
        &mut self,
        locality: Locality,
        command: &[u8],
        response: &mut [u8],
    ) -> Result<usize, Withheld> {
        let Request { touches, action } = Request::parse(command);
        self.identify_before(touches)?;
        self.prepare(touches);
        self.report_before(touches)?;
        let undefined = self.attributes_of_undefined(action);
        let length = self
            .provisioner
            .engine_mut()
            .execute(locality, command, response)
            .map_err(CommandError::from)?;
        let answer = Answer::parse(response.get(..length).unwrap_or_default());
        self.follow(action, answer, undefined).inspect_err(|_| {
            // What the guest must not learn.
            if let Some(answer) = response.get_mut(..length) {
                answer.fill(0);
            }
        })?;
        Ok(length)
    }
}

impl<E: Engine, T: TrustDomain> Engine for Attested<E, T> {
    fn execute(
        &mut self,
        locality: Locality,
        command: &[u8],
        response: &mut [u8],
    ) -> Result<usize, EngineFailure> {
        if let Service::Failed(_) = self.service {
            return put_failure(response);
        }
        match self.attend(locality, command, response) {
            Ok(length) => return Ok(length),
            Err(Withheld::Failure(failure)) => self.fail(failure),
            Err(Withheld::Command(CommandError::Engine(failure))) => return Err(failure),
            Err(withheld @ (Withheld::Command(_) | Withheld::NoReport(_))) => {
                log::warn!("a command of L2 failed: {withheld}");
            }
        }
        put_failure(response)
    }

    /// _TPM_Init, and then what firmware does: TPM2_Startup(CLEAR) and the measurements of the launch.
    fn reset(&mut self) -> Result<(), EngineFailure> {
        let identified = self.identified().map(drop);
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
}

fn put_failure(response: &mut [u8]) -> Result<usize, EngineFailure> {
    response
        .get_mut(..FAILURE.len())
        .ok_or(EngineFailure)?
        .copy_from_slice(&FAILURE);
    Ok(FAILURE.len())
}
