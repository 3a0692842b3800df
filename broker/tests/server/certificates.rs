//! Issuers and certificates of a test's own.

use crate::running::Place;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::path::PathBuf;

/// An issuer, and its certificate in a file.
pub(crate) struct Issuer {
    issuer: CertifiedIssuer<'static, KeyPair>,
    pub(crate) file: PathBuf,
}

/// A certificate and its key in files.
pub(crate) struct Pair {
    pub(crate) certificate: PathBuf,
    pub(crate) key: PathBuf,
}

impl Issuer {
    pub(crate) fn new(place: &Place, name: &str) -> Issuer {
        let mut parameters = CertificateParams::new(Vec::new()).unwrap();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let named = &mut parameters.distinguished_name;
        named.push(rcgen::DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::self_signed(parameters, key).unwrap();
        Issuer {
            file: place.file(&format!("{name}.pem"), &issuer.pem()),
            issuer,
        }
    }

    /// Issues one for these names and addresses.
    pub(crate) fn issue(&self, place: &Place, file: &str, names: &[&str]) -> Pair {
        let names: Vec<String> = names.iter().map(|name| (*name).into()).collect();
        let key = KeyPair::generate().unwrap();
        let parameters = CertificateParams::new(names).unwrap();
        let certificate = parameters.signed_by(&key, &self.issuer).unwrap();
        Pair {
            certificate: place.file(&format!("{file}.pem"), &certificate.pem()),
            key: place.file(&format!("{file}.key"), &key.serialize_pem()),
        }
    }

    pub(crate) fn path(&self) -> &str {
        self.file.to_str().unwrap()
    }
}

impl Pair {
    pub(crate) fn options(&self) -> [&str; 4] {
        let [certificate, key] = [&self.certificate, &self.key].map(|file| file.to_str().unwrap());
        ["--tls-certificate", certificate, "--tls-key", key]
    }
}
