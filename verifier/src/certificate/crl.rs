//! Whose a certificate revocation list is.

use super::{NAME_LIMIT, sequence};
use x509_cert::der::{Decode, SliceReader, Tag, asn1::AnyRef};

/// The issuer's Name of a CRL (RFC 5280, 5.1), DER; its list is not looked into.
pub fn crl_issuer(der: &[u8]) -> Option<&[u8]> {
    let whole = AnyRef::from_der(der).ok()?;
    let mut fields = SliceReader::new(whole.value()).ok()?;
    let signed = AnyRef::decode(&mut fields).ok()?;
    let mut fields = SliceReader::new(signed.value()).ok()?;
    if Tag::peek(&fields).ok()? == Tag::Integer {
        AnyRef::decode(&mut fields).ok()?;
    }
    // The signature's algorithm.
    AnyRef::decode(&mut fields).ok()?;
    sequence(&mut fields, "its issuer's name", NAME_LIMIT).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Collateral, certificate::Certificate};

    #[test]
    fn a_list_is_of_the_authority_that_signed_it() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../sim/quoting/pki");
        let collateral = Collateral::read(folder.as_ref()).unwrap();
        let root = Certificate::parse(&collateral.root).unwrap();
        let root_crl = collateral.root_crl.unwrap();
        assert_eq!(crl_issuer(&root_crl), Some(root.issuer_name()));
        let platform_crl = crl_issuer(&collateral.pck_crls[0]);
        assert!(platform_crl.is_some());
        assert_ne!(platform_crl, Some(root.issuer_name()));
        assert_eq!(crl_issuer(&root_crl[..40]), None);
        assert_eq!(crl_issuer(b""), None);
    }
}
