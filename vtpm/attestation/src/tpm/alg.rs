//! TPM_ALG_ID (TCG Algorithm Registry).

/// RSA.
pub const RSA: u16 = 0x0001;
/// AES.
pub const AES: u16 = 0x0006;
/// Keyed hashes and sealed data.
pub const KEYED_HASH: u16 = 0x0008;
/// SHA-256.
pub const SHA256: u16 = 0x000B;
/// The null algorithm.
pub const NULL: u16 = 0x0010;
/// RSASSA-PKCS1-v1_5.
pub const RSASSA: u16 = 0x0014;
/// RSAES-PKCS1-v1_5.
pub const RSAES: u16 = 0x0015;
/// RSASSA-PSS.
pub const RSAPSS: u16 = 0x0016;
/// RSAES-OAEP.
pub const OAEP: u16 = 0x0017;
/// ECDSA.
pub const ECDSA: u16 = 0x0018;
/// Elliptic-curve keys.
pub const ECC: u16 = 0x0023;
/// Cipher feedback mode.
pub const CFB: u16 = 0x0043;
