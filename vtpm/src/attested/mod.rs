//! The TPM that says what it does.
//!
//! [`Attested`] stands between a register interface and an engine. It passes commands on as they
//! are, and for those that succeed it keeps the journal in RTMR3, before their responses go to the
//! guest; when the TD's registers cannot be extended it goes into failure mode instead. It gives the
//! guest reports and quotes through NV indices.
//!
//! It is composed of three parts, each of which knows nothing of a command's bytes: the journal, the identity, and the
//! window on evidence. A command is parsed once, into what it touches and what it does.
//!
//! `docs/measurement.md` is the specification of everything that is written here.

mod early;
mod failure;
mod keeping;
mod launch;
mod start;

use alloc::string::ToString;
use alloc::vec::Vec;

use attestation::journal::Record;
use attestation::launch::Measurement;
use attestation::tpm::{Name, Public};
use attestation::window::{NV_SELECTOR, NV_USER_DATA, SELECTOR_SIZE, USER_DATA_SIZE};

use self::failure::{Service, Withheld};
use self::keeping::{Before, Keeping};
use crate::evidence::EvidenceWindow;
use crate::identity::{Identity, Keys};
use crate::journal::Journal;
use crate::log::MeasurementLog;
use crate::message::{CANCELED, FAILURE, NV_UNAVAILABLE};
use crate::provision::{NvAttributes, Provisioner};
use crate::request::{Action, Answer, Request, Touches};
use crate::state::NotKept;
use crate::{
    Cancel, CommandError, Engine, EngineFailure, Error, Failure, Locality, TrustDomain, Work,
};

pub use self::start::{Config, IdentityTime, LaunchMeasurements, MeasuredLaunch};

/// An engine whose life is measured into the trust domain.
pub struct Attested<E, T> {
    tpm: Provisioner<E>,
    trust_domain: T,
    journal: Journal,
    /// `None` until it is needed; the journal has no record until then.
    identity: Option<Identity>,
    /// Its keys, as far as they are made.
    keys: Keys,
    evidence: EvidenceWindow,
    /// What PCRs are extended with after each startup.
    launch: Vec<(u8, Measurement)>,
    tcg_log: Vec<u8>,
    service: Service,
    /// `None` for a TPM whose state dies with the TD.
    keeping: Option<Keeping>,
    /// The guest's commands heed it, and what is made before it is needed.
    cancel: Cancel,
    /// Whether what is needed first can be made before.
    makes_early: bool,
}

/// An attested TPM that has its identity, in its parts.
struct Identified<'a, E, T> {
    identity: &'a mut Identity,
    tpm: &'a mut Provisioner<E>,
    trust_domain: &'a mut T,
    journal: &'a mut Journal,
    evidence: &'a mut EvidenceWindow,
}

impl<E: Engine, T: TrustDomain> Attested<E, T> {
    /// The TCG event log of what L1 has measured into PCRs, for the log area that the TPM2 table
    /// names.
    pub fn tcg_log(&self) -> &[u8] {
        &self.tcg_log
    }

    /// Begins L2's copy of the CC event log anew: all of the log, after L2's memory was emptied.
    pub fn publish_log(&mut self) {
        self.trust_domain.publish_log(0, self.journal.log().bytes());
    }

    /// The CC event log, with what it says that the RTMRs hold.
    pub fn log(&self) -> &MeasurementLog {
        self.journal.log()
    }

    /// The engine.
    pub fn engine(&self) -> &E {
        self.tpm.engine()
    }

    /// The trust domain.
    pub fn trust_domain(&self) -> &T {
        &self.trust_domain
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

    /// When [`tend`](Self::tend) is of use next, in nanoseconds of the clock that it is told. A TPM in failure mode has nothing
    /// left to do.
    pub fn due(&self) -> Option<u64> {
        match self.service {
            Service::Running => self.keeping.as_ref()?.due(),
            Service::Failed(_) => None,
        }
    }

    /// It is `now`: what is left to do of states whose commands are answered is done, as far as nobody has to be waited for.
    /// A state that is not the TPM's any more ends its service.
    pub fn tend(&mut self, now: u64) {
        let Some(keeping) = &mut self.keeping else {
            return;
        };
        match keeping.tend(now) {
            Ok(()) => {}
            Err(NotKept::Never(why)) => self.fail(Failure::State(why)),
            Err(NotKept::Unavailable(why)) => log::warn!("the TPM's state: {why}"),
        }
    }

    /// The guest is over: what is left to do is waited for.
    pub fn conclude(&mut self) {
        if let Some(keeping) = &mut self.keeping
            && let Err(error) = keeping.conclude()
        {
            log::warn!("the TPM's last state: {error}");
        }
    }

    /// Makes a report for `user_data` and asks for a quote of it. The report is also in its NV
    /// index afterwards.
    pub fn report(&mut self, user_data: [u8; USER_DATA_SIZE]) -> Result<Vec<u8>, Error> {
        if let Service::Failed(failure) = &self.service {
            return Err(failure.clone().into());
        }
        let made = self.make_report(user_data);
        if let Err(Error::Failed(failure)) = &made {
            self.fail(failure.clone());
        }
        made
    }

    fn make_report(&mut self, user_data: [u8; USER_DATA_SIZE]) -> Result<Vec<u8>, Error> {
        self.make_keys()?;
        let Identified {
            identity,
            tpm,
            trust_domain,
            journal,
            evidence,
        } = self.identified()?;
        identity.restore_ak(tpm);
        evidence.report(user_data, identity, journal, tpm, trust_domain)
    }

    /// What the window shows of the object that `selector` names, in at most `room` bytes.
    pub fn window(&mut self, selector: &[u8; SELECTOR_SIZE], room: usize) -> Vec<u8> {
        let log = self.journal.log();
        self.evidence
            .window(selector, room, log, &mut self.trust_domain)
    }

    /// As [`identify`](Self::identify), for a TPM in service.
    fn identified(&mut self) -> Result<Identified<'_, E, T>, Failure> {
        self.identify()
            .map_err(|error| error.into_failure(Failure::NoIdentity))
    }

    /// Makes the keys, begins the journal with them, makes their certificates and opens the window on evidence, unless
    /// that is done. On an error the vTPM must not answer any more.
    fn identify(&mut self) -> Result<Identified<'_, E, T>, Error> {
        let Self {
            tpm,
            trust_domain,
            journal,
            identity,
            keys,
            evidence,
            keeping,
            ..
        } = self;
        let identity = match identity {
            Some(identity) => identity,
            None => {
                let (made, endorsed) = Identity::make(tpm, keys, trust_domain)?;
                if let Some(keeping) = keeping {
                    let same = keeping.endorsed_as(&made.eks);
                    same.map_err(|error| Failure::State(error.to_string()))?;
                }
                journal.begin(&made, trust_domain)?;
                made.certify(&endorsed, tpm, trust_domain)?;
                evidence.open(&made, journal.log(), tpm, trust_domain)?;
                journal.forget_commits();
                identity.insert(made)
            }
        };
        Ok(Identified {
            identity,
            tpm,
            trust_domain,
            journal,
            evidence,
        })
    }

    /// Failure mode, for good. What led there first is kept.
    fn fail(&mut self, failure: Failure) {
        if self.service == Service::Running {
            log::error!("the vTPM is in failure mode: {failure}");
            if let Failure::State(reason) = &failure {
                // It is in failure mode whether this is measured or not.
                let record = Record::StateRefused {
                    reason: reason.clone(),
                };
                let _ = self.journal.record(&record, &mut self.trust_domain);
            }
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
        let request = Request::parse(command);
        let Request {
            touches, action, ..
        } = request;
        let all_kept = self.all_kept();
        self.prepare(touches)?;
        if all_kept {
            // The guest may see what was made for it.
            self.keep()?;
        }
        let before = match &mut self.keeping {
            Some(keeping) => keeping.before(&request, command, &mut self.tpm)?,
            None => Before::NOTHING,
        };
        let undefined = self.attributes_of_undefined(action);
        let length = self.execute_kept(&request, locality, command, response)?;
        let answer = Answer::parse(response.get(..length).unwrap_or_default());
        let kept = match &mut self.keeping {
            Some(keeping) => keeping.after(before, &request, answer, &mut self.tpm),
            None => Ok(()),
        };
        let all_kept = self.all_kept();
        let attended = match kept {
            Ok(()) => self.follow(action, answer, undefined),
            Err(withheld) => Err(withheld),
        };
        attended.inspect_err(|_| {
            // What the guest must not learn.
            if let Some(answer) = response.get_mut(..length) {
                answer.fill(0);
            }
        })?;
        // L1's own commands behind it: what they change is made anew if it is lost, and kept with the next command.
        if all_kept && let Err(error) = self.keep() {
            log::warn!("the TPM's state was not kept: {error}");
        }
        Ok(length)
    }

    /// Has the engine execute a command of the guest's, and commit what the response may tell.
    fn execute_kept(
        &mut self,
        request: &Request<'_>,
        locality: Locality,
        command: &[u8],
        response: &mut [u8],
    ) -> Result<usize, CommandError> {
        let engine = self.tpm.engine_mut();
        let Some(keeping) = &mut self.keeping else {
            let executed = self
                .cancel
                .heeded(|| engine.execute(locality, command, response));
            return Ok(executed?);
        };
        let available = keeping.all_kept();
        // Those that wait for nothing are not refused: what they write beside is kept later.
        engine.set_nv_available(available || !Keeping::may_show_clock(request));
        let executed = self
            .cancel
            .heeded(|| engine.execute(locality, command, response));
        // L1's own commands find out for themselves.
        engine.set_nv_available(true);
        let length = executed?;
        if available && Keeping::may_show_clock(request) {
            keeping.commit_clock(engine)?;
        }
        Ok(length)
    }

    /// Whether everything is kept that is to be.
    fn all_kept(&self) -> bool {
        self.keeping.as_ref().is_none_or(Keeping::all_kept)
    }

    /// Keeps what was committed.
    fn keep(&mut self) -> Result<(), NotKept> {
        self.keeping.as_mut().map_or(Ok(()), Keeping::keep)
    }

    /// Before a command that touches this: what it may see is made.
    fn prepare(&mut self, touches: Touches) -> Result<(), Withheld> {
        if touches.contains(Touches::IDENTITY) {
            if let Err(error) = self.make_keys() {
                return Err(match error.is_canceled() {
                    true => Withheld::Canceled,
                    false => Error::from(error).into_failure(Failure::NoIdentity).into(),
                });
            }
            self.identified()?;
        }
        if self.evidence.wants_certificate(touches)
            && let Some(identity) = &self.identity
        {
            self.evidence.publish_certificate(
                &identity.authority,
                self.journal.log(),
                &mut self.tpm,
                &mut self.trust_domain,
            );
            self.journal.forget_commits();
        }
        if self.evidence.wants_report(touches) {
            // Without one the index is not written, and the command's response says so.
            if let Err(Error::Failed(failure)) = self.report([0; USER_DATA_SIZE]) {
                return Err(failure.into());
            }
        }
        Ok(())
    }

    /// Of the index that the command would undefine, as long as it has some.
    fn attributes_of_undefined(&mut self, action: Action<'_>) -> Option<NvAttributes> {
        let Action::NvUndefine { index } = action else {
            return None;
        };
        Some(self.tpm.nv_public(index).ok()??.attributes)
    }

    /// The engine has executed a command. On an error the guest must not have the response.
    fn follow(
        &mut self,
        action: Action<'_>,
        answer: Answer<'_>,
        undefined: Option<NvAttributes>,
    ) -> Result<(), Withheld> {
        let Answer::Succeeded { parameters } = answer else {
            // It may have changed the state nevertheless: a wrong authorization is counted.
            return Ok(self.record_commit()?);
        };
        let (tpm, trust_domain) = (&mut self.tpm, &mut self.trust_domain);
        self.journal
            .follow(action, parameters, undefined, tpm, trust_domain)?;
        match action {
            Action::UserData => {
                self.journal.forget_commits();
                let user_data = self.tpm.nv_read_array(NV_USER_DATA)?;
                self.report(user_data)?;
            }
            Action::Selector => {
                self.journal.forget_commits();
                let selector = self.tpm.nv_read_array(NV_SELECTOR)?;
                let log = self.journal.log();
                let (tpm, trust_domain) = (&mut self.tpm, &mut self.trust_domain);
                self.evidence.show(&selector, log, tpm, trust_domain)?;
                self.journal.forget_commits();
            }
            Action::Clear => {
                self.record_commit()?;
                self.bring_back_ak();
            }
            _ => self.record_commit()?,
        }
        Ok(())
    }

    fn record_commit(&mut self) -> Result<(), Failure> {
        let Some(state) = self.journal.take_commit() else {
            return Ok(());
        };
        // Commands that come before the identity are not known to commit anything; should
        // one, the journal begins before it tells so.
        let Identified {
            journal,
            trust_domain,
            ..
        } = self.identified()?;
        Ok(journal.record(&Record::NvCommit { state }, trust_domain)?)
    }

    /// The AK may be gone from its handle.
    fn bring_back_ak(&mut self) {
        if let Some(identity) = &mut self.identity {
            identity.lose_ak();
            identity.restore_ak(&mut self.tpm);
            self.journal.forget_commits();
        }
    }

    /// After _TPM_Init: what firmware does. A journal that has not begun does not begin by this, since no keys are
    /// needed: it tells the reset when it begins.
    fn restart(&mut self) -> Result<(), Failure> {
        self.journal.reset(&mut self.trust_domain)?;
        self.start_again()
            .map_err(|error| error.into_failure(Failure::Restart))?;
        // The owner may have evicted it; firmware brings it back.
        self.bring_back_ak();
        self.journal.forget_commits();
        match self.keep() {
            Ok(()) => Ok(()),
            // Tried again with the next command that changes something.
            Err(NotKept::Unavailable(why)) => {
                log::warn!("the TPM's state was not kept: {why}");
                Ok(())
            }
            Err(NotKept::Never(why)) => Err(Failure::State(why)),
        }
    }

    fn start_again(&mut self) -> Result<(), Error> {
        let (tpm, trust_domain) = (&mut self.tpm, &mut self.trust_domain);
        launch::power_up(tpm, trust_domain, self.journal.banks())?;
        self.journal.restarted(trust_domain)?;
        launch::measure(&self.launch, &mut self.journal, tpm, trust_domain)
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
            return put(&FAILURE, response);
        }
        match self.attend(locality, command, response) {
            Ok(length) => return Ok(length),
            Err(Withheld::Failure(failure)) => self.fail(failure),
            Err(Withheld::Command(CommandError::Engine(failure))) => return Err(failure),
            Err(withheld @ Withheld::Unkept(_)) => {
                log::warn!("a command of L2 had no effect: {withheld}");
                return put(&NV_UNAVAILABLE, response);
            }
            Err(Withheld::Canceled) => return put(&CANCELED, response),
            Err(withheld @ (Withheld::Command(_) | Withheld::NoReport(_))) => {
                log::warn!("a command of L2 failed: {withheld}");
            }
        }
        put(&FAILURE, response)
    }

    /// _TPM_Init, and then what firmware does: TPM2_Startup(CLEAR) and the measurements of the launch.
    ///
    /// A TPM in failure mode has its _TPM_Init as well, so that nothing of its volatile state stays, and remains in
    /// failure mode.
    fn reset(&mut self) -> Result<(), EngineFailure> {
        self.tpm.reset()?;
        if let Service::Failed(_) = self.service {
            return Err(EngineFailure);
        }
        self.restart().map_err(|failure| {
            self.fail(failure);
            EngineFailure
        })
    }

    fn has_work(&self) -> Work {
        self.early_work()
    }

    /// Makes the next part of what the first command that needs it would wait for.
    fn work(&mut self, _until: u64) {
        if self.has_work() == Work::Own {
            self.make_early();
        }
    }

    fn heed(&mut self, cancel: Cancel) {
        self.cancel = cancel;
    }

    fn establishment(&self) -> bool {
        self.tpm.engine().establishment()
    }

    fn reset_establishment(&mut self, locality: Locality) -> Result<(), EngineFailure> {
        self.tpm.engine_mut().reset_establishment(locality)
    }
}

/// A response of L1's own.
fn put(answer: &[u8], response: &mut [u8]) -> Result<usize, EngineFailure> {
    response
        .get_mut(..answer.len())
        .ok_or(EngineFailure)?
        .copy_from_slice(answer);
    Ok(answer.len())
}
