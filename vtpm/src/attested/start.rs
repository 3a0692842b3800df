//! From an engine that had its _TPM_Init to a TPM that the guest may speak to.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use attestation::digest::{Digests, sha384};
use attestation::event_log::EV_EVENT_TAG;
use attestation::journal::{self, PcrMirror, Processors, Record, Unlock};
use attestation::launch::Launch;
use attestation::pcr::PcrBanks;
use tdx_defs::report::TdReport;

use super::Attested;
use super::failure::Service;
use super::keeping::Keeping;
use super::launch::{measure, power_up};
use crate::evidence::EvidenceWindow;
use crate::identity::{Keys, log_time};
use crate::journal::{Description, Journal};
use crate::log::MeasurementLog;
use crate::provision::Provisioner;
use crate::state::{Commits, Keeper};
use crate::{Cancel, Engine, Error, Failure, TrustDomain};

/// What the vTPM says of itself.
pub struct Config<'a> {
    /// The engine and its version.
    pub engine: &'a str,
    /// The register interface in front of it.
    pub interface: &'a str,
    /// How many processors there are.
    pub processors: Processors,
    /// What unlocked the engine's state, of one that outlives the TD; none for a TPM that is new at each boot.
    pub unlock: Option<Unlock>,
    /// How PCRs are mirrored in the journal.
    pub mirror: PcrMirror,
    /// The PCR banks that the TPM gets.
    pub banks: PcrBanks,
    /// When the TPM gets its identity.
    pub identity: IdentityTime,
    /// What the engine's store sees; without it commits are not in the journal.
    pub commits: Option<Commits>,
    /// Where the state is kept beyond the TD's life; the engine's store is then
    /// [`WatchedStore::kept_elsewhere`](crate::state::WatchedStore::kept_elsewhere), and `commits` are its own.
    pub keeper: Option<Box<dyn Keeper + Send>>,
}

/// When keys and certificates are made, and with them the journal is begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IdentityTime {
    /// Before the guest's first command.
    #[default]
    Start,
    /// Before the first command that could see them or stand in their way, and before any report or
    /// record: nobody can tell the difference but by the time it takes. With [`PcrMirror::Full`] that
    /// is at the start, since PCRs are extended there.
    FirstNeed,
}

/// What L1 is about to launch.
#[derive(Clone, Debug)]
pub struct LaunchMeasurements {
    /// Of the kernel file ([`attestation::launch::kernel_digests`]), for each bank, as below.
    pub kernel: Digests,
    /// Without its NUL.
    pub command_line: Vec<u8>,
    /// Of the initrd file, if there is one.
    pub initrd: Option<Digests>,
}

/// A launch that RTMR1 and RTMR2 tell, of a TPM that was not started yet: what is attested so far is enough to be
/// given the TPM's state.
pub struct MeasuredLaunch<T> {
    trust_domain: T,
    log: MeasurementLog,
    /// As the firmware left the TD.
    firmware: Box<[u8; 1024]>,
    version: String,
    launch: LaunchMeasurements,
    begin: u64,
}

impl<T: TrustDomain> MeasuredLaunch<T> {
    /// Measures the launch of L1's `version`. `log` is the firmware's, continued.
    ///
    /// # Errors
    /// There is no vTPM, and L2 must not be launched.
    pub fn new(
        mut trust_domain: T,
        mut log: MeasurementLog,
        version: &str,
        launch: &LaunchMeasurements,
    ) -> Result<Self, Error> {
        let begin = trust_domain.now();
        let firmware = trust_domain.report(&[0; 64])?;
        let report: &TdReport = zerocopy::transmute_ref!(&*firmware);
        let [.., rtmr3] = &report.td_info.rtmr;
        if log.rtmr(journal::RTMR) != Some(rtmr3) {
            return Err(Error::Journal);
        }
        trust_domain.publish_log(0, log.bytes());
        let events = description(report, version, launch).rtmr_events();
        for (rtmr, event) in events {
            let digest = &event.digests.sha384;
            log.measure(
                &mut trust_domain,
                rtmr,
                event.event_type,
                digest,
                &event.data,
            )?;
        }
        Ok(Self {
            trust_domain,
            log,
            firmware,
            version: version.into(),
            launch: launch.clone(),
            begin,
        })
    }

    /// The trust domain.
    pub fn trust_domain_mut(&mut self) -> &mut T {
        &mut self.trust_domain
    }

    /// The TD as the firmware left it, and the platform that it runs on.
    pub fn report(&self) -> &TdReport {
        zerocopy::transmute_ref!(&*self.firmware)
    }

    /// The CC event log so far.
    pub fn log(&self) -> &MeasurementLog {
        &self.log
    }

    /// The trust domain, and the CC event log so far.
    pub fn trust_domain_and_log(&mut self) -> (&mut T, &[u8]) {
        (&mut self.trust_domain, self.log.bytes())
    }

    /// Measures that the state was refused, for this `reason`: there will be no vTPM.
    ///
    /// # Errors
    /// RTMR3 does not tell it.
    pub fn refuse(mut self, reason: &str) -> Result<(), Error> {
        let record = Record::StateRefused {
            reason: reason.into(),
        };
        let event = record.to_event();
        let digest = sha384(&event);
        let rtmr = journal::RTMR;
        let Self {
            log, trust_domain, ..
        } = &mut self;
        Ok(log.measure(trust_domain, rtmr, EV_EVENT_TAG, &digest, &event)?)
    }
}

fn description<'a>(
    firmware: &'a TdReport,
    version: &'a str,
    launch: &'a LaunchMeasurements,
) -> Launch<'a> {
    let [rtmr0, ..] = &firmware.td_info.rtmr;
    Launch {
        version,
        mrtd: &firmware.td_info.mrtd,
        rtmr0,
        kernel: launch.kernel,
        command_line: &launch.command_line,
        initrd: launch.initrd,
    }
}

impl<E: Engine, T: TrustDomain> Attested<E, T> {
    /// Starts the TPM, and gives it its identity when the configuration says. `engine` has had its _TPM_Init and
    /// nothing more.
    ///
    /// # Errors
    /// There is no vTPM, and L2 must not be launched.
    pub fn start(
        engine: E,
        measured: MeasuredLaunch<T>,
        config: Config<'_>,
    ) -> Result<Self, Error> {
        let MeasuredLaunch {
            mut trust_domain,
            log,
            firmware,
            version,
            launch,
            begin,
        } = measured;
        let firmware: &TdReport = zerocopy::transmute_ref!(&*firmware);
        let launch = description(firmware, &version, &launch);
        let mut tpm = Provisioner::new(engine);
        power_up(&mut tpm, &mut trust_domain, config.banks)?;
        log_time(
            "measure",
            "measure the launch and start the TPM",
            begin,
            &trust_domain,
        );
        let keeping = match (config.keeper, &config.commits) {
            (Some(keeper), Some(commits)) => Some(Keeping::new(keeper, commits.clone(), &mut tpm)?),
            (Some(_), None) => return Err(Failure::State("nobody sees it".into()).into()),
            (None, _) => None,
        };
        let description = Description {
            engine: config.engine.into(),
            interface: config.interface.into(),
            unlock: config.unlock,
            mirror: config.mirror,
            state: config.commits.as_ref().and_then(Commits::loaded),
            processors: config.processors,
        };
        let mut attested = Self {
            tpm,
            trust_domain,
            journal: Journal::new(description, log, config.banks, config.commits),
            identity: None,
            keys: Keys::default(),
            evidence: EvidenceWindow::default(),
            launch: launch.pcr_events(),
            tcg_log: launch.tcg_log(config.banks).into_bytes(),
            service: Service::Running,
            keeping,
            cancel: Cancel::default(),
            makes_early: true,
        };
        let at_start = config.identity == IdentityTime::Start || config.mirror == PcrMirror::Full;
        if at_start {
            attested.identify()?;
        }
        measure(
            &attested.launch,
            &mut attested.journal,
            &mut attested.tpm,
            &mut attested.trust_domain,
        )?;
        attested.journal.forget_commits();
        // A guest that saw a TPM which nobody has kept would find another one the next time.
        attested
            .keep()
            .map_err(|error| Failure::State(error.to_string()))?;
        Ok(attested)
    }
}
