//! TDKEYREQUEST: what TDG.MR.KEY.GET derives a sealing key from (Intel, "Sealing Support for Intel TDX", and the published
//! source of the module, `tdg_mr_key_get.c`).

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// TDKEYREQUEST, 128 bytes, integers little-endian.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned,
)]
#[repr(C)]
pub struct TdKeyRequest {
    /// KEYNAME: [`TdKeyRequest::SEAL_KEY`].
    pub key_name: [u8; 2],
    /// SWKEYNAME: the caller's, and part of the derivation.
    pub sw_key_name: u8,
    /// KEYSIZE_BITMAP: sizes that the caller takes.
    pub key_sizes: u8,
    /// 0.
    pub reserved_4: [u8; 4],
    /// KEYPOLICY: which measurements the key is bound to, bits of [`key_policy`].
    pub key_policy: [u8; 8],
    /// ATTRIBUTESMASK: which bits of ATTRIBUTES it is bound to.
    pub attributes_mask: [u8; 8],
    /// XFAMMASK: which bits of XFAM it is bound to.
    pub xfam_mask: [u8; 8],
    /// CPUSVN: at most the platform's.
    pub cpusvn: [u8; 16],
    /// TEE_TCB_SVN: at most the module's; bytes 3 to 15 are 0.
    pub tee_tcb_svn: [u8; 16],
    /// ISVSVN.
    pub isv_svn: [u8; 2],
    /// MRCONFIGSVN.
    pub mrconfig_svn: [u8; 2],
    /// MROWNERCONFIGSVN.
    pub mrownerconfig_svn: [u8; 2],
    /// SALT: the caller's, and part of the derivation.
    pub salt: [u8; 32],
    /// 0.
    pub reserved_102: [u8; 26],
}

impl TdKeyRequest {
    /// Required alignment of the request.
    pub const ALIGNMENT: u64 = 128;
    /// Required alignment of the 32 bytes that the key is written to.
    pub const KEY_ALIGNMENT: u64 = 32;
    /// KEYNAME of a seal key, the only one.
    pub const SEAL_KEY: u16 = 0;
    /// KEYSIZE_BITMAP: a key of 256 bits, which the module gives where it can.
    pub const SIZE_256: u8 = 1 << 1;
    /// The highest requestor in R8: the index of an L2 VM, or 0 for L1 itself.
    pub const REQUESTOR_MAX: u64 = 3;
}

/// Bits of KEYPOLICY.
pub mod key_policy {
    /// MRTD.
    pub const MRTD: u64 = 1 << 0;
    /// Those of them that select something in one released module or another.
    pub const DEFINED: u64 = 0xF_0000_070F;
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::offset_of;

    #[test]
    fn the_layout_is_that_of_the_module() {
        assert_eq!(size_of::<TdKeyRequest>(), 128);
        assert_eq!(offset_of!(TdKeyRequest, key_policy), 8);
        assert_eq!(offset_of!(TdKeyRequest, cpusvn), 32);
        assert_eq!(offset_of!(TdKeyRequest, tee_tcb_svn), 48);
        assert_eq!(offset_of!(TdKeyRequest, salt), 70);
        assert_eq!(offset_of!(TdKeyRequest, reserved_102), 102);
    }
}
