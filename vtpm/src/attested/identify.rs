//! The TPM's identity: its keys, their certificates, and the first records of the journal.

use alloc::boxed::Box;
use alloc::string::String;

use attestation::claims::ca_report_data;
use attestation::digest::sha384;
use attestation::journal::{Mode, Record, Start, StartupType};
use attestation::report;
use attestation::tpm::{Name, Public, rh, template};
use attestation::window::{
    NV_REPORT, NV_SELECTOR, NV_USER_DATA, NV_WINDOW, SELECTOR_SIZE, USER_DATA_SIZE, WINDOW_SIZE,
};

use super::Attested;
use crate::evidence::Asker;
use crate::identity::{
    CertificateAuthority, CertificateError, KeyUse, TpmIdentity, subject_public_key_info,
};
use crate::provision::{NvAttributes, Provisioner};
use crate::request::Touches;
use crate::{CommandError, Engine, Error, Failure, TrustDomain, TrustDomainError};

/// What the first record tells besides the keys.
pub(super) struct Description {
    pub(super) engine: String,
    pub(super) interface: String,
    pub(super) mode: Mode,
    /// SHA-384 of the permanent state that the engine started from.
    pub(super) state: Option<[u8; 48]>,
}

/// The keys, and who certifies them.
pub(super) struct Identity {
    pub(super) authority: CertificateAuthority,
    /// Names of the EKs: RSA-2048, P-256, P-384.
    pub(super) eks: [Name; 3],
    pub(super) ak: Public,
    /// The AK is not at its handle, and could be brought back.
    pub(super) ak_lost: bool,
}

/// What certificates are issued for.
const CERTIFIED: [(u32, KeyUse); 4] = [
    (rh::NV_EK_RSA_2048, KeyUse::EndorsementDecrypt),
    (rh::NV_EK_P256, KeyUse::EndorsementAgree),
    (rh::NV_EK_P384, KeyUse::EndorsementAgree),
    (rh::NV_AK_CERTIFICATE, KeyUse::Attest),
];

impl<E: Engine, T: TrustDomain> Attested<E, T> {
    /// Before a command that touches this: whatever it could see of the identity is there.
    pub(super) fn identify_before(&mut self, touches: Touches) -> Result<(), Failure> {
        match touches.contains(Touches::IDENTITY) {
            true => self.identified().map(drop),
            false => Ok(()),
        }
    }

    /// As [`identify`](Self::identify), for a TPM in service.
    pub(super) fn identified(&mut self) -> Result<&Identity, Failure> {
        self.identify()
            .map_err(|error| error.into_failure(Failure::NoIdentity))
    }

    /// Makes the keys, begins the journal with them, and makes their certificates, unless that is
    /// done. On an error the vTPM must not answer any more.
    ///
    /// The quote for the authority's certificate is asked for and not waited for.
    pub(super) fn identify(&mut self) -> Result<&Identity, Error> {
        let identity = match self.identity.take() {
            Some(identity) => identity,
            None => self.make_identity()?,
        };
        Ok(self.identity.insert(identity))
    }

    fn make_identity(&mut self) -> Result<Identity, Error> {
        let begin = self.trust_domain().now();
        let tpm = self.provisioner.identity()?;
        let eks = [
            create(&mut self.provisioner, &template::ek_rsa_2048())?,
            create(&mut self.provisioner, &template::ek_p256())?,
            create(&mut self.provisioner, &template::ek_p384())?,
        ];
        let (ak, ak_lost) = create_ak(&mut self.provisioner)?;
        let keys_made = self.trust_domain().now();
        let identity = Identity {
            authority: CertificateAuthority::generate(&mut self.recorder.trust_domain)?,
            eks: eks.each_ref().map(Public::name),
            ak,
            ak_lost,
        };
        self.recorder.record(&Record::Start(Start {
            engine: self.description.engine.clone(),
            interface: self.description.interface.clone(),
            mode: self.description.mode,
            mirror: self.recorder.mirror(),
            state: self.description.state,
            eks: identity.eks.clone(),
            ak: identity.ak.name(),
            ca: sha384(identity.authority.public_key()),
        }))?;
        self.recorder.record(&Record::Startup(StartupType::Clear))?;
        self.certify(&identity, &eks, &tpm)?;
        let certified = self.trust_domain().now();
        for (what, time) in [
            ("make its keys", keys_made.saturating_sub(begin)),
            (
                "make their certificates",
                certified.saturating_sub(keys_made),
            ),
        ] {
            log::info!("time to {what}: {time} ns");
        }
        self.provide_evidence_indices()?;
        self.ask_for_authority_quote(&identity)?;
        self.forget_commits();
        Ok(identity)
    }

    fn certify(
        &mut self,
        identity: &Identity,
        eks: &[Public; 3],
        tpm: &TpmIdentity,
    ) -> Result<(), Error> {
        let publics = eks.iter().chain([&identity.ak]);
        for ((index, key_use), public) in CERTIFIED.into_iter().zip(publics) {
            let public = subject_public_key_info(public).map_err(CertificateError::from)?;
            let certificate = identity.authority.certify(public, key_use, tpm)?;
            self.provisioner.nv_put_for_good(index, &certificate)?;
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
            self.provisioner.nv_provide(index, attributes, size)?;
        }
        Ok(())
    }

    fn ask_for_authority_quote(&mut self, identity: &Identity) -> Result<(), TrustDomainError> {
        let trust_domain = &mut self.recorder.trust_domain;
        let data = ca_report_data(identity.authority.public_key());
        let report: Box<[u8; 1024]> = trust_domain.report(&data)?;
        let quotes = &mut self.evidence.quotes;
        quotes.ask(Asker::Authority, report, trust_domain);
        self.evidence.authority_log = self.recorder.log().bytes().len();
        Ok(())
    }
}

/// A primary key that is not kept: it can be made again from its seed and template.
fn create<E: Engine>(
    provisioner: &mut Provisioner<E>,
    template: &Public,
) -> Result<Public, CommandError> {
    let key = provisioner.create_endorsement(template)?;
    let public = key.public.clone();
    provisioner.flush(key)?;
    Ok(public)
}

/// The AK, and whether it is missing at its handle: with a state of an earlier boot the owner may
/// have taken it away, or have put something else there.
fn create_ak<E: Engine>(provisioner: &mut Provisioner<E>) -> Result<(Public, bool), CommandError> {
    let key = provisioner.create_endorsement(&template::ak_rsa_2048())?;
    let public = key.public.clone();
    let lost = match provisioner.read_public(rh::AK) {
        Ok(present) => present != public,
        Err(_) => provisioner.persist(&key, rh::AK).is_err(),
    };
    provisioner.flush(key)?;
    Ok((public, lost))
}
