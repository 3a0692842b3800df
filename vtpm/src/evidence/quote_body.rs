//! Whether a TD quote is a quote of a given report.

use alloc::vec::Vec;

use tdx_defs::report::TdReport;

/// Header of a TD quote of version 4 or 5: u16 version, u16 attestation key type, u32 TEE type, …
const HEADER: usize = 48;
const VERSION_4: [u8; 2] = 4u16.to_le_bytes();
/// With u16 body type and u32 body size between header and body.
const VERSION_5: [u8; 2] = 5u16.to_le_bytes();
const TEE_TYPE: core::ops::Range<usize> = 4..8;
const TDX: [u8; 4] = 0x81u32.to_le_bytes();
/// Body types and sizes of version 5: TDX 1.0 and TDX 1.5, which has more at its end.
const BODIES: [[u8; 6]; 2] = [[2, 0, 0x48, 0x02, 0, 0], [3, 0, 0x88, 0x02, 0, 0]];

/// The body that a quote of `report` has (DCAP, "TD Quote Body Descriptor").
fn body_of(report: &TdReport) -> Vec<u8> {
    let (module, td) = (&report.tee_tcb_info, &report.td_info);
    [
        module.tee_tcb_svn.as_slice(),
        &module.mrseam,
        &module.mrsignerseam,
        &module.attributes,
        &td.attributes,
        &td.xfam,
        &td.mrtd,
        &td.mrconfigid,
        &td.mrowner,
        &td.mrownerconfig,
        td.rtmr.as_flattened(),
        &report.report_mac.report_data,
    ]
    .concat()
}

/// Whether `quote` is of version 4 or 5 and its body says what `report` says. Its signature is not
/// looked at: the host may have made it, and the relying party is who checks it.
pub(crate) fn is_quote_of(quote: &[u8], report: &[u8; 1024]) -> bool {
    let report: &TdReport = zerocopy::transmute_ref!(report);
    let Some((header, rest)) = quote.split_at_checked(HEADER) else {
        return false;
    };
    let body = if header.starts_with(&VERSION_4) {
        Some(rest)
    } else if header.starts_with(&VERSION_5) {
        BODIES.iter().find_map(|kind| rest.strip_prefix(kind))
    } else {
        None
    };
    header.get(TEE_TYPE) == Some(&TDX)
        && body.is_some_and(|body| body.starts_with(&body_of(report)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    /// A quote of `report`, unsigned.
    fn quote_of(report: &[u8; 1024]) -> Vec<u8> {
        let mut quote = vec![0; HEADER];
        quote[..2].copy_from_slice(&VERSION_4);
        quote[TEE_TYPE].copy_from_slice(&TDX);
        quote.extend(body_of(zerocopy::transmute_ref!(report)));
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
        for kind in BODIES {
            let mut newer = quote.clone();
            newer[..2].copy_from_slice(&VERSION_5);
            newer.splice(HEADER..HEADER, kind);
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
