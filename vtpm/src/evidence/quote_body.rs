//! Whether a TD quote is a quote of a given report.

use tdx_defs::quote::{BodyDescriptor, QuoteHeader, TEE_TDX, TdQuoteBody, VERSION_4, VERSION_5};
use tdx_defs::report::TdReport;
use zerocopy::{FromBytes, IntoBytes};

/// The bodies of a TD that version 5 has: each begins with that of version 4.
const KINDS: [BodyDescriptor; 3] = [
    BodyDescriptor::TDX_1_0,
    BodyDescriptor::TDX_1_5,
    BodyDescriptor::TDX_1_5_EX,
];

/// Whether `quote` is of version 4 or 5 and its body says what `report` says. Its signature is not
/// looked at: the host may have made it, and the relying party is who checks it.
pub(crate) fn is_quote_of(quote: &[u8], report: &[u8; 1024]) -> bool {
    let report: &TdReport = zerocopy::transmute_ref!(report);
    let Ok((header, rest)) = QuoteHeader::ref_from_prefix(quote) else {
        return false;
    };
    let body = match u16::from_le_bytes(header.version) {
        VERSION_4 => Some(rest),
        VERSION_5 => KINDS
            .iter()
            .find_map(|kind| rest.strip_prefix(kind.as_bytes())),
        _ => None,
    };
    u32::from_le_bytes(header.tee_type) == TEE_TDX
        && body.is_some_and(|body| body.starts_with(TdQuoteBody::of(report).as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;

    const HEADER: usize = size_of::<QuoteHeader>();

    /// A quote of `report`, unsigned.
    fn quote_of(report: &[u8; 1024]) -> Vec<u8> {
        let mut quote = vec![0; HEADER];
        quote[..2].copy_from_slice(&VERSION_4.to_le_bytes());
        quote[4..8].copy_from_slice(&TEE_TDX.to_le_bytes());
        quote.extend(TdQuoteBody::of(zerocopy::transmute_ref!(report)).as_bytes());
        quote
    }

    fn report() -> [u8; 1024] {
        core::array::from_fn(|at| (at % 251) as u8)
    }

    #[test]
    fn every_byte_of_the_body_counts() {
        let quote = quote_of(&report());
        assert_eq!(quote.len(), HEADER + 584);
        assert!(is_quote_of(&quote, &report()));
        for at in (0..2).chain(4..8).chain(HEADER..quote.len()) {
            let mut other = quote.clone();
            other[at] ^= 1;
            assert!(!is_quote_of(&other, &report()), "byte {at}");
        }
    }

    #[test]
    fn version_5_says_which_body_it_has() {
        let quote = quote_of(&report());
        for kind in KINDS {
            let mut newer = quote.clone();
            newer[..2].copy_from_slice(&VERSION_5.to_le_bytes());
            newer.splice(HEADER..HEADER, kind.as_bytes().iter().copied());
            assert!(is_quote_of(&newer, &report()));
            for at in HEADER..newer.len() {
                let mut other = newer.clone();
                other[at] ^= 1;
                // 2 and 3 are one bit apart, but their sizes are not.
                assert!(!is_quote_of(&other, &report()), "byte {at}");
            }
        }
    }

    #[test]
    fn a_cut_quote_is_none() {
        let quote = quote_of(&report());
        for length in 0..quote.len() {
            assert!(!is_quote_of(&quote[..length], &report()));
        }
    }
}
