//! The report at NV index 0x01400001: the layout of the HCL report of Azure.
//!
//! A header that says nothing that is attested, the hardware report, a second header, and the
//! runtime claims that the hardware report's REPORTDATA is a digest of. Little-endian.
//!
//! Layout: Azure, "Guest attestation design for confidential virtual machines", "Attestation report format";
//! version and sizes as the paravisor OpenHCL gives them.

use crate::reader::{CutOff, Reader};
use alloc::vec::Vec;

/// Bytes of the NV index: the report, then zeros.
pub const NV_SIZE: usize = 2048;
/// Bytes of a TDREPORT.
pub const TD_REPORT_SIZE: usize = 1024;
/// Bytes of the field with the hardware report: the largest of any kind (SEV-SNP's).
const HARDWARE_REPORT_SIZE: usize = 1184;
/// Bytes before the claims.
const CLAIMS_OFFSET: usize = HEADER_SIZE + HARDWARE_REPORT_SIZE + REQUEST_DATA_SIZE;
const HEADER_SIZE: usize = 32;
const REQUEST_DATA_SIZE: usize = 20;
/// Longest runtime claims.
pub const CLAIMS_MAX: usize = NV_SIZE - CLAIMS_OFFSET;

const SIGNATURE: [u8; 4] = *b"HCLA";
/// Of the layout.
const HEADER_VERSION: u32 = 2;
/// Request for a certificate of the AK: what the report on Azure was made for.
const REQUEST_TYPE_AK_CERTIFICATE: u32 = 2;
const REQUEST_DATA_VERSION: u32 = 1;
const REPORT_TYPE_TDX: u32 = 4;
const HASH_TYPE_SHA256: u32 = 1;

/// A report in its parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report<'a> {
    /// The TDREPORT.
    pub td_report: &'a [u8; TD_REPORT_SIZE],
    /// The runtime claims, as they are written.
    pub claims: &'a [u8],
}

/// Why bytes are not a report, or cannot become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// The claims are too long for the index.
    #[error("the runtime claims have {0} bytes; the report has room for {CLAIMS_MAX}")]
    ClaimsTooLong(usize),
    /// The bytes end before the report does.
    #[error("the report is cut off")]
    CutOff,
    /// A field has another value than in a report of this kind.
    #[error("the report's field \"{field}\" is {found:#x}; {expected:#x} was expected")]
    Field {
        /// Its name.
        field: &'static str,
        /// Its value.
        found: u32,
        /// The value it must have.
        expected: u32,
    },
    /// Something stands where a report has zeros.
    #[error("the report has other bytes than zero {0}")]
    NotZero(&'static str),
}

impl From<CutOff> for ReportError {
    fn from(_: CutOff) -> Self {
        Self::CutOff
    }
}

impl<'a> Report<'a> {
    /// The report without the zeros that fill the index.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ReportError> {
        let too_long = ReportError::ClaimsTooLong(self.claims.len());
        if self.claims.len() > CLAIMS_MAX {
            return Err(too_long);
        }
        let size = |length: usize| u32::try_from(length).map_err(|_| too_long);
        let mut bytes = SIGNATURE.to_vec();
        let mut put = |field: u32| bytes.extend(field.to_le_bytes());
        put(HEADER_VERSION);
        put(size(CLAIMS_OFFSET + self.claims.len())?);
        put(REQUEST_TYPE_AK_CERTIFICATE);
        (0..4).for_each(|_| put(0));
        bytes.extend(self.td_report);
        bytes.resize(HEADER_SIZE + HARDWARE_REPORT_SIZE, 0);
        let mut put = |field: u32| bytes.extend(field.to_le_bytes());
        put(size(REQUEST_DATA_SIZE + self.claims.len())?);
        put(REQUEST_DATA_VERSION);
        put(REPORT_TYPE_TDX);
        put(HASH_TYPE_SHA256);
        put(size(self.claims.len())?);
        bytes.extend(self.claims);
        Ok(bytes)
    }

    /// Reads a report, with or without the zeros behind it.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ReportError> {
        let mut reader = Reader::new(bytes);
        let signature = u32::from_le_bytes(SIGNATURE);
        expect(&mut reader, "signature", signature)?;
        expect(&mut reader, "version", HEADER_VERSION)?;
        let report_size = reader.u32_le()?;
        expect(&mut reader, "request type", REQUEST_TYPE_AK_CERTIFICATE)?;
        zeros(reader.bytes(16)?, "in its header")?;
        let td_report = reader.bytes(TD_REPORT_SIZE)?;
        let td_report = td_report.try_into().map_err(|_| ReportError::CutOff)?;
        let unused = HARDWARE_REPORT_SIZE - TD_REPORT_SIZE;
        zeros(reader.bytes(unused)?, "behind the TDREPORT")?;
        let data_size = reader.u32_le()?;
        expect(&mut reader, "request data version", REQUEST_DATA_VERSION)?;
        expect(&mut reader, "report type", REPORT_TYPE_TDX)?;
        expect(&mut reader, "hash type", HASH_TYPE_SHA256)?;
        let claims = reader.u32_le()?;
        let claims = reader.sized(claims)?;
        zeros(reader.rest(), "behind the claims")?;
        let report = Self { td_report, claims };
        same("report size", report_size, CLAIMS_OFFSET + claims.len())?;
        same("data size", data_size, REQUEST_DATA_SIZE + claims.len())?;
        Ok(report)
    }
}

fn expect(reader: &mut Reader<'_>, field: &'static str, expected: u32) -> Result<(), ReportError> {
    let found = reader.u32_le()?;
    if found != expected {
        return Err(ReportError::Field {
            field,
            found,
            expected,
        });
    }
    Ok(())
}

fn same(field: &'static str, found: u32, expected: usize) -> Result<(), ReportError> {
    let expected = u32::try_from(expected).unwrap_or(u32::MAX);
    if found != expected {
        return Err(ReportError::Field {
            field,
            found,
            expected,
        });
    }
    Ok(())
}

fn zeros(bytes: &[u8], place: &'static str) -> Result<(), ReportError> {
    match bytes.iter().all(|byte| *byte == 0) {
        true => Ok(()),
        false => Err(ReportError::NotZero(place)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn report(claims: &[u8]) -> Vec<u8> {
        let td_report = &[0x5A; TD_REPORT_SIZE];
        Report { td_report, claims }.to_bytes().unwrap()
    }

    fn field(bytes: &[u8], offset: usize) -> u32 {
        u32::from_le_bytes(bytes[offset..offset + 4].try_into().unwrap())
    }

    /// Where clients of Azure's report look, and what they expect there.
    #[test]
    fn clients_of_azure_find_every_field() {
        let bytes = report(b"{\"keys\":[]}");
        let fields = [
            (0, 0x414C_4348),
            (4, 2),
            (8, 1236 + 11),
            (12, 2),
            (16, 0),
            (1216, 20 + 11),
            (1220, 1),
            (1224, 4),
            (1228, 1),
            (1232, 11),
        ];
        for (offset, expected) in fields {
            assert_eq!(field(&bytes, offset), expected, "{offset}");
        }
        assert_eq!(bytes[20..32], [0; 12]);
        assert_eq!(bytes[32..1056], [0x5A; 1024]);
        assert_eq!(bytes[1056..1216], [0; 160]);
        assert_eq!(bytes[1236..], *b"{\"keys\":[]}");
    }

    #[test]
    fn the_index_may_be_read_with_its_zeros() {
        let mut bytes = report(b"{}");
        bytes.resize(NV_SIZE, 0);
        let parsed = Report::parse(&bytes).unwrap();
        assert_eq!(
            (parsed.claims, parsed.td_report),
            (b"{}".as_slice(), &[0x5A; 1024])
        );
        bytes[1500] = 1;
        let error = ReportError::NotZero("behind the claims");
        assert_eq!(Report::parse(&bytes), Err(error));
    }

    #[test]
    fn claims_have_a_longest_length() {
        assert_eq!(report(&[b' '; CLAIMS_MAX]).len(), NV_SIZE);
        let td_report = &[0; TD_REPORT_SIZE];
        let claims = &[b' '; CLAIMS_MAX + 1];
        let error = ReportError::ClaimsTooLong(CLAIMS_MAX + 1);
        assert_eq!(Report { td_report, claims }.to_bytes(), Err(error));
    }

    #[test]
    fn every_byte_but_the_reports_own_and_the_claims_is_checked() {
        let good = report(b"{}");
        let free = |place| (32..1056).contains(&place) || place >= 1236;
        for place in 0..good.len() {
            let mut bytes = good.clone();
            bytes[place] ^= 0x80;
            assert_eq!(Report::parse(&bytes).is_ok(), free(place), "{place}");
            assert_eq!(Report::parse(&good[..place]), Err(ReportError::CutOff));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(
            noise in proptest::collection::vec(any::<u8>(), 0..100),
            changes in proptest::collection::vec((0usize..1300, any::<u8>()), 0..4),
        ) {
            let mut bytes = report(&[b' '; 64]);
            for (place, value) in changes {
                bytes[place] = value;
            }
            for bytes in [bytes, noise] {
                if let Ok(report) = Report::parse(&bytes) {
                    let written = report.to_bytes().unwrap();
                    prop_assert!(bytes.starts_with(&written));
                }
            }
        }
    }
}
