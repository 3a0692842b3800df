//! The buffer of `TDG.VP.VMCALL<GetQuote>` (GHCI 1.5, section "TDG.VP.VMCALL\<GetQuote\>").

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned, little_endian as le};

/// Alignment of the buffer's address and length.
pub const ALIGNMENT: u64 = 4096;
/// VERSION of [`Header`].
pub const VERSION: u64 = 1;

/// STATUS of [`Header`].
pub mod status {
    /// The quote is there.
    pub const SUCCESS: u64 = 0;
    /// The request is being served.
    pub const IN_FLIGHT: u64 = u64::MAX;
    /// It failed.
    pub const ERROR: u64 = 0x8000_0000_0000_0000;
    /// The host has no quoting service.
    pub const SERVICE_UNAVAILABLE: u64 = 0x8000_0000_0000_0001;
}

/// What the buffer begins with; the data follow, first the report, then in its place the quote. Lengths do
/// not count the header.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Header {
    /// [`VERSION`].
    pub version: le::U64,
    /// The host's: see [`status`].
    pub status: le::U64,
    /// Bytes of the report.
    pub in_length: le::U32,
    /// Bytes of the quote, the host's.
    pub out_length: le::U32,
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::mem::offset_of;

    #[test]
    fn the_header_is_laid_out_as_ghci_says() {
        assert_eq!(size_of::<Header>(), 24);
        assert_eq!(offset_of!(Header, status), 8);
        assert_eq!(offset_of!(Header, in_length), 16);
        assert_eq!(offset_of!(Header, out_length), 20);
    }
}
