//! From a TDREPORT to the body of a quote.

use sha2::{Digest, Sha384};
use tdx_defs::report::{ReportType, TdReport};
use zerocopy::{FromBytes, IntoBytes};

use tdx_defs::quote::TdQuoteBody;

/// Why a quoting enclave refuses a TDREPORT, whatever its MAC.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// It is not a report of a TD: the request holds something else.
    #[error("the report's type is {0:#04x}, not TDX: send a TDREPORT")]
    Type(u8),
    /// TEE_TCB_INFO is not what the MAC covers: somebody changed it.
    #[error("TEE_TCB_INFO_HASH is not that of TEE_TCB_INFO: take a new report")]
    TeeTcbInfoHash,
    /// TDINFO is not what the MAC covers: somebody changed it.
    #[error("TEE_INFO_HASH is not that of TDINFO: take a new report")]
    TeeInfoHash,
}

/// The body of a quote of this TDREPORT, after the checks that need no key: the MAC covers the
/// hashes, and the hashes cover the rest.
pub fn body_of(report: &[u8; 1024]) -> Result<TdQuoteBody, ReportError> {
    let Ok(report) = TdReport::ref_from_bytes(report) else {
        unreachable!("TDREPORT has 1024 bytes");
    };
    let (mac, tcb, td) = (&report.report_mac, &report.tee_tcb_info, &report.td_info);
    if mac.report_type.kind != ReportType::TDX {
        return Err(ReportError::Type(mac.report_type.kind));
    }
    if Sha384::digest(tcb.as_bytes())[..] != mac.tee_tcb_info_hash {
        return Err(ReportError::TeeTcbInfoHash);
    }
    if Sha384::digest(td.as_bytes())[..] != mac.tee_info_hash {
        return Err(ReportError::TeeInfoHash);
    }
    Ok(TdQuoteBody::of(report))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tdx_module::{Configuration, Module};

    fn report() -> [u8; 1024] {
        let module = Module::new(Configuration::default());
        module.report([0x5a; 64]).as_bytes().try_into().unwrap()
    }

    #[test]
    fn a_body_is_the_report_without_its_mac() {
        let report = report();
        let body = body_of(&report).unwrap();
        assert_eq!(body.report_data, [0x5a; 64]);
        // Field by field at the offsets of TDREPORT_STRUCT.
        let bytes = body.as_bytes();
        for (body, report, length) in [
            (0, 264, 16),
            (16, 280, 48),
            (64, 328, 48),
            (112, 376, 8),
            (120, 512, 8),
            (128, 520, 8),
            (136, 528, 48 * 8),
            (520, 128, 64),
        ] {
            assert_eq!(
                bytes[body..body + length],
                self::report()[report..report + length]
            );
        }
    }

    #[test]
    fn a_report_that_its_hashes_do_not_cover_is_refused() {
        for (offset, error) in [
            (0, ReportError::Type(0x80)),
            (32, ReportError::TeeTcbInfoHash),
            (264, ReportError::TeeTcbInfoHash),
            (494, ReportError::TeeTcbInfoHash),
            (80, ReportError::TeeInfoHash),
            (512, ReportError::TeeInfoHash),
            (1023, ReportError::TeeInfoHash),
        ] {
            let mut report = report();
            report[offset] ^= 1;
            assert_eq!(body_of(&report), Err(error), "byte {offset}");
        }
    }
}
