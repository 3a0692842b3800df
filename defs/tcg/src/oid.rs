//! Object identifiers of certificates of TPM keys, in dotted form (TCG OID Registry; TCG EK Credential Profile 2.6,
//! section 3).

/// tcg-at-tpmManufacturer, of the subject alternative name.
pub const TPM_MANUFACTURER: &str = "2.23.133.2.1";
/// tcg-at-tpmModel, of the subject alternative name.
pub const TPM_MODEL: &str = "2.23.133.2.2";
/// tcg-at-tpmVersion, of the subject alternative name.
pub const TPM_VERSION: &str = "2.23.133.2.3";
/// tcg-at-tpmSpecification, of the subject directory attributes.
pub const TPM_SPECIFICATION: &str = "2.23.133.2.16";
/// tcg-kp-EKCertificate, of the extended key usage.
pub const EK_CERTIFICATE: &str = "2.23.133.8.1";
/// tcg-kp-AIKCertificate, of the extended key usage.
pub const AIK_CERTIFICATE: &str = "2.23.133.8.3";
