//! The keys, where the AK is, and what they are certified with.

use attestation::tpm::{Name, Public, rh, template};

use super::{CertificateAuthority, CertificateError, KeyUse, TpmIdentity, subject_public_key_info};
use crate::provision::Provisioner;
use crate::{CommandError, Engine, EngineFailure, Error, TrustDomain};

/// The keys, and who certifies them.
pub(crate) struct Identity {
    pub(crate) authority: CertificateAuthority,
    /// Names of the EKs: RSA-2048, P-256, P-384.
    pub(crate) eks: [Name; 3],
    pub(crate) ak: Public,
    residence: Residence,
}

/// Whether the AK is at its handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Residence {
    /// It is, or nothing is known to have taken it away.
    Present,
    /// It is not, and could be brought back.
    Lost,
}

/// What the certificates are made for, beside the AK.
pub(crate) struct Endorsed {
    eks: [Public; 3],
    tpm: TpmIdentity,
    /// When the last of the keys was made.
    made: u64,
}

/// Keys that were made: they can be made again from their seed and template, and so are known by their public areas.
#[derive(Default)]
pub(crate) struct Keys {
    eks: [Option<Public>; 3],
    ak: Option<(Public, Residence)>,
}

/// Whether there are keys to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// There are none.
    None,
    /// There may be.
    Some,
}

impl Keys {
    /// Makes an EK that is not made.
    pub(crate) fn make_next<E: Engine>(
        &mut self,
        tpm: &mut Provisioner<E>,
    ) -> Result<Left, CommandError> {
        let templates = [
            template::ek_rsa_2048(),
            template::ek_p256(),
            template::ek_p384(),
        ];
        let mut places = self.eks.iter_mut().zip(templates);
        match places.find(|(place, _)| place.is_none()) {
            Some((place, template)) => {
                *place = Some(create(tpm, &template)?);
                Ok(Left::Some)
            }
            None => Ok(Left::None),
        }
    }

    /// Makes the AK, which is then at its handle: the journal has to begin before the guest's next command.
    pub(crate) fn make_ak<E: Engine>(
        &mut self,
        tpm: &mut Provisioner<E>,
    ) -> Result<(), CommandError> {
        self.ak = Some(create_ak(tpm)?);
        Ok(())
    }

    /// The EKs, made where they are not.
    fn make<E: Engine>(&mut self, tpm: &mut Provisioner<E>) -> Result<[Public; 3], Error> {
        while self.make_next(tpm)? == Left::Some {}
        match &self.eks {
            [Some(rsa), Some(p256), Some(p384)] => Ok([rsa.clone(), p256.clone(), p384.clone()]),
            _ => Err(CommandError::from(EngineFailure).into()),
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

impl Identity {
    /// Makes the keys of a TPM that is started, but for those that are made.
    pub(crate) fn make<E: Engine>(
        tpm: &mut Provisioner<E>,
        keys: &mut Keys,
        trust_domain: &mut impl TrustDomain,
    ) -> Result<(Self, Endorsed), Error> {
        let begin = trust_domain.now();
        let described = tpm.identity()?;
        let eks = keys.make(tpm)?;
        let (ak, residence) = match keys.ak.take() {
            Some(ak) => ak,
            None => create_ak(tpm)?,
        };
        let identity = Self {
            authority: CertificateAuthority::generate(trust_domain)?,
            eks: eks.each_ref().map(Public::name),
            ak,
            residence,
        };
        let endorsed = Endorsed {
            eks,
            tpm: described,
            made: begin,
        };
        Ok((identity, endorsed))
    }

    /// Puts the certificates of the keys into their NV indices.
    pub(crate) fn certify<E: Engine>(
        &self,
        endorsed: &Endorsed,
        tpm: &mut Provisioner<E>,
        trust_domain: &impl TrustDomain,
    ) -> Result<(), Error> {
        let publics = endorsed.eks.iter().chain([&self.ak]);
        for ((index, key_use), public) in CERTIFIED.into_iter().zip(publics) {
            let public = subject_public_key_info(public).map_err(CertificateError::from)?;
            let certificate = self.authority.certify(public, key_use, &endorsed.tpm)?;
            tpm.nv_put_for_good(index, &certificate)?;
        }
        log_time(
            "certificates",
            "make their certificates",
            endorsed.made,
            trust_domain,
        );
        Ok(())
    }

    /// The AK may be gone from its handle.
    pub(crate) fn lose_ak(&mut self) {
        self.residence = Residence::Lost;
    }

    /// Puts the AK back to its handle if the guest has taken it away. Needs a free transient slot
    /// and empty authorizations of owner and endorsement, which TPM2_Clear leaves; where it has not
    /// got them it is tried again with the next report.
    pub(crate) fn restore_ak<E: Engine>(&mut self, tpm: &mut Provisioner<E>) {
        if self.residence == Residence::Present {
            return;
        }
        if tpm.read_public(rh::AK).is_ok() {
            self.residence = Residence::Present;
            return;
        }
        let Ok(key) = tpm.create_endorsement(&template::ak_rsa_2048()) else {
            return;
        };
        if key.public == self.ak && tpm.persist(&key, rh::AK).is_ok() {
            self.residence = Residence::Present;
        }
        let _ = tpm.flush(key);
    }
}

/// Says on L1's log how long `what` took, to programs by the name `of`, and returns its end.
pub(crate) fn log_time(of: &str, what: &str, begin: u64, trust_domain: &impl TrustDomain) -> u64 {
    let end = trust_domain.now();
    let time = end.saturating_sub(begin);
    log::info!(target: "time", of, ns = time; "time to {what}: {time} ns");
    end
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
fn create_ak<E: Engine>(
    provisioner: &mut Provisioner<E>,
) -> Result<(Public, Residence), CommandError> {
    let key = provisioner.create_endorsement(&template::ak_rsa_2048())?;
    let public = key.public.clone();
    let present = match provisioner.read_public(rh::AK) {
        Ok(present) => present == public,
        Err(_) => provisioner.persist(&key, rh::AK).is_ok(),
    };
    provisioner.flush(key)?;
    let residence = match present {
        true => Residence::Present,
        false => Residence::Lost,
    };
    Ok((public, residence))
}
