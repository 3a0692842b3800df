//! A P-384 key that signs in pieces.
//!
//! A signature is one multiplication of the curve's generator, of 384 doublings, which take milliseconds. p384 does it in one go,
//! and the processor is L2's meanwhile: so it is here, in steps of a byte of the scalar, between which the work may be left.
//! The arithmetic of points and scalars is p384's, whose formulas are complete (Renes, Costello, Batina 2016), so that no step depends on the
//! scalar; what is added is looked for in all of its table.

use p384::ecdsa::signature::{self, Keypair, Signer};
use p384::ecdsa::{DerSignature, Signature, VerifyingKey};
use p384::elliptic_curve::Curve;
use p384::elliptic_curve::ff::PrimeField;
use p384::elliptic_curve::group::Group;
use p384::elliptic_curve::ops::{Invert, Reduce};
use p384::elliptic_curve::point::AffineCoordinates;
use p384::elliptic_curve::subtle::{ConditionallySelectable, ConstantTimeEq};
use p384::elliptic_curve::zeroize::Zeroizing;
use p384::{FieldBytes, NistP384, NonZeroScalar, ProjectivePoint, PublicKey, Scalar};
use sha2::{Digest, Sha384};
use spki::{AlgorithmIdentifierOwned, DynSignatureAlgorithmIdentifier};

/// The key. It is erased when it goes.
pub(super) struct SigningKey {
    secret: Zeroizing<NonZeroScalar>,
    public: VerifyingKey,
}

impl SigningKey {
    /// `None` if the bytes are no scalar of the curve.
    pub(super) fn new(secret: &[u8; 48]) -> Option<Self> {
        let secret = Zeroizing::new(NonZeroScalar::from_repr((*secret).into()).into_option()?);
        let public = PublicKey::from_affine(generator_times(&secret).to_affine()).ok()?;
        Some(Self {
            secret,
            public: public.into(),
        })
    }

    /// With this scalar, which must be used for nothing else; `None` if it does not do (FIPS 186-5, 6.4.1).
    fn sign_with(&self, once: &NonZeroScalar, digest: &FieldBytes) -> Option<Signature> {
        let point = generator_times(once).to_affine();
        let r = <Scalar as Reduce<FieldBytes>>::reduce(&point.x());
        let e = <Scalar as Reduce<FieldBytes>>::reduce(digest);
        tpm2_ref_sys::yield_now();
        let inverse = Zeroizing::new(once.invert());
        let s = **inverse * (e + r * **self.secret);
        tpm2_ref_sys::yield_now();
        Signature::from_scalars(r, s).ok()
    }
}

impl Signer<DerSignature> for SigningKey {
    /// ECDSA with SHA-384, deterministic (RFC 6979).
    fn try_sign(&self, message: &[u8]) -> signature::Result<DerSignature> {
        let digest: FieldBytes = Sha384::digest(message);
        let secret = Zeroizing::new(self.secret.to_repr());
        let order = NistP384::ORDER.get();
        let mut numbers =
            rfc6979::KGenerator::<Sha384, _>::new(secret.as_slice(), &digest, &[], &order);
        loop {
            let mut once = Zeroizing::new(FieldBytes::default());
            numbers.fill_next_k(&mut once);
            let Some(once) = NonZeroScalar::from_repr(*once).into_option() else {
                continue;
            };
            let once = Zeroizing::new(once);
            if let Some(signature) = self.sign_with(&once, &digest) {
                return Ok(signature.to_der());
            }
        }
    }
}

impl Keypair for SigningKey {
    type VerifyingKey = VerifyingKey;

    fn verifying_key(&self) -> VerifyingKey {
        self.public
    }
}

impl DynSignatureAlgorithmIdentifier for SigningKey {
    fn signature_algorithm_identifier(&self) -> spki::Result<AlgorithmIdentifierOwned> {
        Ok(AlgorithmIdentifierOwned {
            oid: const_oid::db::rfc5912::ECDSA_WITH_SHA_384,
            parameters: None,
        })
    }
}

/// The curve's generator, that many times: four bits a step, from the top.
fn generator_times(scalar: &NonZeroScalar) -> ProjectivePoint {
    let mut multiples = [ProjectivePoint::IDENTITY; 16];
    let mut next = ProjectivePoint::IDENTITY;
    for multiple in &mut multiples {
        *multiple = next;
        next += ProjectivePoint::GENERATOR;
    }
    let bytes = Zeroizing::new(scalar.to_repr());
    let mut product = ProjectivePoint::IDENTITY;
    for byte in bytes.iter() {
        for digit in [byte >> 4, byte & 0xF] {
            for _ in 0..4 {
                product = product.double();
            }
            let mut addend = ProjectivePoint::IDENTITY;
            for (value, multiple) in (0_u8..).zip(&multiples) {
                addend.conditional_assign(multiple, value.ct_eq(&digit));
            }
            product += addend;
        }
        tpm2_ref_sys::yield_now();
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// RFC 6979 leaves no choice: p384's own signature is the same to the bit.
        #[test]
        fn signatures_and_public_keys_are_those_of_p384(
            secret in any::<[u8; 48]>(),
            message in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let theirs = p384::ecdsa::SigningKey::from_slice(&secret).unwrap();
            let ours = SigningKey::new(&secret).unwrap();
            prop_assert_eq!(&ours.verifying_key(), theirs.verifying_key());
            let [theirs, ours]: [DerSignature; 2] = [theirs.sign(&message), ours.sign(&message)];
            prop_assert_eq!(ours.as_bytes(), theirs.as_bytes());
        }
    }

    #[test]
    fn small_and_large_scalars_have_their_points() {
        for (scalar, point) in [
            (Scalar::from(1_u64), ProjectivePoint::GENERATOR),
            (-Scalar::from(1_u64), -ProjectivePoint::GENERATOR),
            (
                Scalar::from(16_u64),
                ProjectivePoint::GENERATOR * Scalar::from(16_u64),
            ),
        ] {
            let scalar = NonZeroScalar::new(scalar).unwrap();
            assert_eq!(generator_times(&scalar), point);
        }
    }

    #[test]
    fn what_is_no_scalar_is_no_key() {
        assert!(SigningKey::new(&[0; 48]).is_none());
        assert!(SigningKey::new(&[0xFF; 48]).is_none());
    }

    #[test]
    fn certificates_say_how_they_are_signed() {
        let ours = SigningKey::new(&[7; 48]).unwrap();
        let theirs = p384::ecdsa::SigningKey::from_slice(&[7; 48]).unwrap();
        assert_eq!(
            ours.signature_algorithm_identifier().unwrap(),
            theirs.signature_algorithm_identifier().unwrap()
        );
    }
}
