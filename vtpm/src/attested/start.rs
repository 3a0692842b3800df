//! From an engine that had its _TPM_Init to a TPM that the guest may speak to.

use alloc::boxed::Box;
use alloc::vec::Vec;

use attestation::claims::ca_report_data;
use attestation::digest::{Digests, sha384};
use attestation::journal::{self, Mode, PcrMirror, Record, Start};
use attestation::launch::Launch;
use attestation::report;
use attestation::tpm::{Public, rh, template};
use attestation::window::{
    NV_REPORT, NV_SELECTOR, NV_USER_DATA, NV_WINDOW, SELECTOR_SIZE, USER_DATA_SIZE, WINDOW_SIZE,
};
use tdcall::report::TdReport;

use super::launch::{PowerUpError, power_up};
use super::{Attested, Keys, Withheld};
use crate::evidence::{Asker, Evidence, Quotes};
use crate::identity::{
    AuthorityError, CertificateAuthority, CertificateError, KeyUse, TpmIdentity,
    subject_public_key_info,
};
use crate::log::{MeasureError, MeasurementLog};
use crate::platform::{NvAttributes, Platform};
use crate::recorder::Recorder;
use crate::state::Commits;
use crate::{CommandError, Engine, TrustDomain, TrustDomainError};

/// What the vTPM says of itself.
#[derive(Clone, Debug)]
pub struct Config<'a> {
    /// Of L1: the S-CRTM's version.
    pub version: &'a str,
    /// The engine and its version.
    pub engine: &'a str,
    /// The register interface in front of it.
    pub interface: &'a str,
    /// Whether the engine's state outlives the TD.
    pub mode: Mode,
    /// How PCRs are mirrored in the journal.
    pub mirror: PcrMirror,
    /// What the engine's store sees; without it commits are not in the journal.
    pub commits: Option<Commits>,
}

/// What L1 is about to launch.
#[derive(Clone, Debug)]
pub struct LaunchMeasurements {
    /// Of the kernel file ([`attestation::launch::kernel_digests`]).
    pub kernel: Digests,
    /// Without its NUL.
    pub command_line: Vec<u8>,
    /// Of the initrd file, if there is one.
    pub initrd: Option<Digests>,
}

/// How long the parts of a start took, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StartTimes {
    /// Measuring the launch into RTMRs, and TPM2_Startup.
    pub startup: u64,
    /// Making EKs and AK.
    pub keys: u64,
    /// Making the authority, and certificates of all keys.
    pub certificates: u64,
}

/// Why there is no vTPM. L2 must not be launched without one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The TDX module refused a report, an extend, or random numbers.
    #[error("{0}")]
    TrustDomain(#[from] TrustDomainError),
    /// The launch could not be measured.
    #[error("{0}")]
    Measure(#[from] MeasureError),
    /// RTMR3 is not what the event log says: somebody else extends it.
    #[error("RTMR3 does not hold what the event log says")]
    Journal,
    /// The TPM refused a command that the start is made of. With a state of an earlier boot the
    /// endorsement hierarchy may have an authorization value.
    #[error("{0}")]
    Command(#[from] CommandError),
    /// A key or certificate could not be made.
    #[error("{0}")]
    Authority(#[from] AuthorityError),
    /// A certificate could not be made.
    #[error("{0}")]
    Certificate(#[from] CertificateError),
}

impl From<PowerUpError> for StartError {
    fn from(error: PowerUpError) -> Self {
        match error {
            PowerUpError::Command(error) => Self::Command(error),
            PowerUpError::TrustDomain(error) => Self::TrustDomain(error),
        }
    }
}

impl From<Withheld> for StartError {
    fn from(error: Withheld) -> Self {
        match error {
            Withheld::Command(error) | Withheld::Untold(error) => Self::Command(error),
            Withheld::Unattested(error) => Self::TrustDomain(error),
            Withheld::NoReport => Self::TrustDomain(TrustDomainError::Report),
        }
    }
}

/// What certificates are issued for.
const CERTIFIED: [(u32, KeyUse); 4] = [
    (rh::NV_EK_RSA_2048, KeyUse::EndorsementDecrypt),
    (rh::NV_EK_P256, KeyUse::EndorsementAgree),
    (rh::NV_EK_P384, KeyUse::EndorsementAgree),
    (rh::NV_AK_CERTIFICATE, KeyUse::Attest),
];

impl<E: Engine, T: TrustDomain> Attested<E, T> {
    /// Measures the launch, starts the TPM, and gives it its identity. `engine` has had its
    /// _TPM_Init and nothing more; `log` is the firmware's, continued.
    ///
    /// The quote for the authority's certificate is asked for and not waited for.
    pub fn start(
        engine: E,
        mut trust_domain: T,
        log: MeasurementLog,
        config: Config<'_>,
        launch: &LaunchMeasurements,
    ) -> Result<Self, StartError> {
        let begin = trust_domain.now();
        let firmware = trust_domain.report(&[0; 64])?;
        let firmware: &TdReport = zerocopy::transmute_ref!(&*firmware);
        let [rtmr0, .., rtmr3] = &firmware.td_info.rtmr;
        if log.rtmr(journal::RTMR) != Some(rtmr3) {
            return Err(StartError::Journal);
        }
        let launch = Launch {
            version: config.version,
            mrtd: &firmware.td_info.mrtd,
            rtmr0,
            kernel: launch.kernel,
            command_line: &launch.command_line,
            initrd: launch.initrd,
        };
        let mut recorder = Recorder::new(trust_domain, log, config.mirror);
        recorder.publish();
        for (rtmr, event) in launch.rtmr_events() {
            let digest = &event.digests.sha384;
            recorder.measure(rtmr, event.event_type, digest, &event.data)?;
        }

        let mut platform = Platform::new(engine);
        power_up(&mut platform, &mut recorder.trust_domain)?;
        let banks = platform.allocated_banks()?;
        let tpm = platform.identity()?;
        let started = recorder.trust_domain.now();
        let eks = [
            create(&mut platform, &template::ek_rsa_2048())?,
            create(&mut platform, &template::ek_p256())?,
            create(&mut platform, &template::ek_p384())?,
        ];
        let (ak, ak_lost) = create_ak(&mut platform)?;
        let keys_made = recorder.trust_domain.now();
        let authority = CertificateAuthority::generate(&mut recorder.trust_domain)?;
        let authority_made = recorder.trust_domain.now();

        let keys = Keys {
            eks: eks.each_ref().map(Public::name),
            ak,
        };
        recorder.record(&Record::Start(Start {
            engine: config.engine.into(),
            interface: config.interface.into(),
            mode: config.mode,
            mirror: config.mirror,
            state: config.commits.as_ref().and_then(Commits::loaded),
            eks: keys.eks.clone(),
            ak: keys.ak.name(),
            ca: sha384(authority.public_key()),
        }))?;
        let mut attested = Self {
            platform,
            recorder,
            evidence: Evidence {
                quotes: Quotes::default(),
                authority_log: 0,
                published: None,
                report_log: None,
            },
            authority,
            keys,
            ak_lost,
            banks,
            launch: launch.pcr_events(),
            tcg_log: launch.tcg_log().into_bytes(),
            commits: config.commits,
            unattested: false,
            start_times: StartTimes::default(),
        };
        attested.measure_launch()?;
        let measured = attested.trust_domain().now();
        attested.certify(&eks, &tpm)?;
        let certified = attested.trust_domain().now();
        let authority_time = authority_made.saturating_sub(keys_made);
        attested.start_times = StartTimes {
            startup: started.saturating_sub(begin),
            keys: keys_made.saturating_sub(started),
            certificates: authority_time.saturating_add(certified.saturating_sub(measured)),
        };
        attested.provide_evidence_indices()?;
        attested.ask_for_authority_quote()?;
        attested.forget_commits();
        Ok(attested)
    }

    fn certify(&mut self, eks: &[Public; 3], tpm: &TpmIdentity) -> Result<(), StartError> {
        let publics = eks.iter().chain([&self.keys.ak]);
        for ((index, key_use), public) in CERTIFIED.into_iter().zip(publics) {
            let public = subject_public_key_info(public).map_err(CertificateError::from)?;
            let certificate = self.authority.certify(public, key_use, tpm)?;
            self.platform.nv_put_for_good(index, &certificate)?;
        }
        Ok(())
    }

    fn provide_evidence_indices(&mut self) -> Result<(), CommandError> {
        for (index, attributes, size) in [
            (NV_REPORT, NvAttributes::PUBLIC, report::NV_SIZE),
            (NV_USER_DATA, NvAttributes::MAILBOX, USER_DATA_SIZE),
            (NV_SELECTOR, NvAttributes::MAILBOX, SELECTOR_SIZE),
            (NV_WINDOW, NvAttributes::PUBLIC, WINDOW_SIZE),
        ] {
            let size = u16::try_from(size).unwrap_or(u16::MAX);
            self.platform.nv_provide(index, attributes, size)?;
        }
        Ok(())
    }

    fn ask_for_authority_quote(&mut self) -> Result<(), TrustDomainError> {
        let trust_domain = &mut self.recorder.trust_domain;
        let data = ca_report_data(self.authority.public_key());
        let report: Box<[u8; 1024]> = trust_domain.report(&data)?;
        let quotes = &mut self.evidence.quotes;
        quotes.ask(Asker::Authority, report, trust_domain);
        self.evidence.authority_log = self.recorder.log().bytes().len();
        Ok(())
    }
}

/// A primary key that is not kept: it can be made again from its seed and template.
fn create<E: Engine>(
    platform: &mut Platform<E>,
    template: &Public,
) -> Result<Public, CommandError> {
    let key = platform.create_endorsement(template)?;
    let public = key.public.clone();
    platform.flush(key)?;
    Ok(public)
}

/// The AK, and whether it is missing at its handle: with a state of an earlier boot the owner may
/// have taken it away, or have put something else there.
fn create_ak<E: Engine>(platform: &mut Platform<E>) -> Result<(Public, bool), CommandError> {
    let key = platform.create_endorsement(&template::ak_rsa_2048())?;
    let public = key.public.clone();
    let lost = match platform.read_public(rh::AK) {
        Ok(present) => present != public,
        Err(_) => platform.persist(&key, rh::AK).is_err(),
    };
    platform.flush(key)?;
    Ok((public, lost))
}
