//! TPM_RH, TPM_RS and handles with a meaning (TPM 2.0 Library, part 2, "Permanent Handles"; TCG
//! Registry of Reserved TPM 2.0 Handles and Localities).

/// Owner hierarchy.
pub const OWNER: u32 = 0x4000_0001;
/// No hierarchy.
pub const NULL: u32 = 0x4000_0007;
/// A password session.
pub const PASSWORD: u32 = 0x4000_0009;
/// Lockout authorization.
pub const LOCKOUT: u32 = 0x4000_000A;
/// Endorsement hierarchy.
pub const ENDORSEMENT: u32 = 0x4000_000B;
/// Platform hierarchy.
pub const PLATFORM: u32 = 0x4000_000C;
/// Persistent handle of the vTPM's AK.
pub const AK: u32 = 0x8100_0003;
/// NV index of the EK certificate, RSA-2048 (template L-1).
pub const NV_EK_RSA_2048: u32 = 0x01C0_0002;
/// NV index of the EK certificate, P-256 (template L-2).
pub const NV_EK_P256: u32 = 0x01C0_000A;
/// NV index of the EK certificate, P-384 (template H-3).
pub const NV_EK_P384: u32 = 0x01C0_0016;
/// First NV index of the EK certificate chain.
pub const NV_EK_CHAIN: u32 = 0x01C0_0100;
/// NV index of the AK certificate.
pub const NV_AK_CERTIFICATE: u32 = 0x01C1_01D0;
