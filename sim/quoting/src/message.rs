//! What a GetQuote buffer carries: a bare TDREPORT, as Linux sends it to hosts that do the rest, or a
//! message for the quote generation service (`qgs_msg_lib.h` of Intel's DCAP), as Linux's
//! `tdx-attest` and Intel's L1 prototype send it. The answer comes in the form of the request.
//!
//! A message has a big-endian length in front; all else is little-endian.

use alloc::vec::Vec;

const REPORT_SIZE: usize = 1024;
const HEADER_SIZE: usize = 16;
const MAJOR_VERSION: u16 = 1;
/// Minor versions in use: 0, and 1 since DCAP 1.20.
const MINOR_VERSIONS: core::ops::RangeInclusive<u16> = 0..=1;
const GET_QUOTE_REQUEST: u32 = 0;
const GET_QUOTE_RESPONSE: u32 = 1;

/// What the service says of a request (`qgs_msg_error_t`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ServiceError {
    /// The quote could not be made.
    Unexpected = 0x0001_2001,
    /// The request is none, or its report is not one of this platform.
    InvalidParameter = 0x0001_2003,
}

/// The form of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A TDREPORT alone; the answer is the quote alone.
    Report,
    /// A message of this minor version.
    Message {
        /// `minor_version` of the header.
        minor_version: u16,
    },
}

/// A request for a quote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// In which form it came.
    pub form: Form,
    /// The TDREPORT.
    pub report: &'a [u8; REPORT_SIZE],
}

impl<'a> Request<'a> {
    /// Reads the data of a GetQuote buffer; `None` if it is a request in neither form.
    #[must_use]
    pub fn parse(data: &'a [u8]) -> Option<Request<'a>> {
        if let Ok(report) = data.try_into() {
            let form = Form::Report;
            return Some(Request { form, report });
        }
        let (length, message) = data.split_first_chunk::<4>()?;
        if u32::from_be_bytes(*length) as usize != message.len() {
            return None;
        }
        let (header, body) = message.split_first_chunk::<HEADER_SIZE>()?;
        let minor_version = u16_at(header, 2);
        if u16_at(header, 0) != MAJOR_VERSION
            || !MINOR_VERSIONS.contains(&minor_version)
            || u32_at(header, 4) != GET_QUOTE_REQUEST
            || u32_at(header, 8) as usize != message.len()
            || u32_at(header, 12) != 0
        {
            return None;
        }
        let (sizes, body) = body.split_first_chunk::<8>()?;
        let (report, list) = body.split_first_chunk::<REPORT_SIZE>()?;
        if u32_at(sizes, 0) as usize != REPORT_SIZE || u32_at(sizes, 4) as usize != list.len() {
            return None;
        }
        let form = Form::Message { minor_version };
        Some(Request { form, report })
    }
}

impl Form {
    /// A request of a quote in this form.
    #[must_use]
    pub fn request(self, report: &[u8; REPORT_SIZE]) -> Vec<u8> {
        match self {
            Form::Report => report.to_vec(),
            Form::Message { minor_version } => message(
                minor_version,
                GET_QUOTE_REQUEST,
                0,
                [REPORT_SIZE, 0],
                report,
            ),
        }
    }

    /// The answer to a request in this form. To a bare report only a quote can be answered.
    #[must_use]
    pub fn answer(self, quote: Result<&[u8], ServiceError>) -> Option<Vec<u8>> {
        match (self, quote) {
            (Form::Report, quote) => quote.ok().map(<[u8]>::to_vec),
            (Form::Message { minor_version }, quote) => {
                let error = quote.err().map_or(0, |error| error as u32);
                let quote = quote.unwrap_or_default();
                let sizes = [0, quote.len()];
                Some(message(
                    minor_version,
                    GET_QUOTE_RESPONSE,
                    error,
                    sizes,
                    quote,
                ))
            }
        }
    }

    /// The quote in an answer to a request in this form.
    #[must_use]
    pub fn quote(self, answer: &[u8]) -> Option<&[u8]> {
        let Form::Message { .. } = self else {
            return Some(answer);
        };
        let (length, message) = answer.split_first_chunk::<4>()?;
        let (header, body) = message.split_first_chunk::<HEADER_SIZE>()?;
        let (sizes, body) = body.split_first_chunk::<8>()?;
        let quote = body.get(u32_at(sizes, 0) as usize..)?;
        let whole = u32::from_be_bytes(*length) as usize == message.len()
            && u32_at(header, 4) == GET_QUOTE_RESPONSE
            && u32_at(header, 12) == 0
            && u32_at(sizes, 4) as usize == quote.len();
        whole.then_some(quote)
    }
}

/// A message: length, header, two sizes, data.
fn message(minor: u16, kind: u32, error: u32, sizes: [usize; 2], data: &[u8]) -> Vec<u8> {
    let size = (HEADER_SIZE + 8 + data.len()) as u32;
    let mut message = size.to_be_bytes().to_vec();
    message.extend_from_slice(&MAJOR_VERSION.to_le_bytes());
    message.extend_from_slice(&minor.to_le_bytes());
    for word in [kind, size, error, sizes[0] as u32, sizes[1] as u32] {
        message.extend_from_slice(&word.to_le_bytes());
    }
    message.extend_from_slice(data);
    message
}

fn u16_at(bytes: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes([bytes[offset], bytes[offset + 1]])
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from(u16_at(bytes, offset)) | u32::from(u16_at(bytes, offset + 2)) << 16
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    const FORMS: [Form; 3] = [
        Form::Report,
        Form::Message { minor_version: 0 },
        Form::Message { minor_version: 1 },
    ];

    #[test]
    fn a_request_is_read_as_it_was_written() {
        let report = &[7; REPORT_SIZE];
        for form in FORMS {
            let request = form.request(report);
            assert_eq!(Request::parse(&request), Some(Request { form, report }));
            let answer = form.answer(Ok(b"quote")).unwrap();
            assert_eq!(form.quote(&answer), Some(&b"quote"[..]));
        }
        // Header, size and body as `qgs_msg_lib.h` has them.
        let message = FORMS[1].request(report);
        assert_eq!(message.len(), 4 + 16 + 8 + REPORT_SIZE);
        assert_eq!(message[..4], 1048u32.to_be_bytes());
        assert_eq!(message[4..12], [1, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(message[12..16], 1048u32.to_le_bytes());
    }

    #[test]
    fn an_error_can_be_told_in_a_message_only() {
        let error = Err(ServiceError::InvalidParameter);
        assert_eq!(Form::Report.answer(error), None);
        let answer = FORMS[1].answer(error).unwrap();
        assert_eq!(answer[16..20], 0x12003u32.to_le_bytes());
        assert_eq!(FORMS[1].quote(&answer), None);
    }

    #[test]
    fn a_message_with_a_wrong_field_is_none() {
        let good = FORMS[1].request(&[7; REPORT_SIZE]);
        // Length, major and minor version, type, size, error, report size, list size.
        for offset in [3, 4, 6, 8, 12, 16, 20, 24] {
            let mut bad = good.clone();
            bad[offset] ^= 2;
            assert_eq!(Request::parse(&bad), None, "byte {offset}");
        }
        assert_eq!(Request::parse(&vec![0; REPORT_SIZE - 1]), None);
    }

    proptest! {
        #[test]
        fn nothing_makes_the_parser_panic(data in prop::collection::vec(any::<u8>(), 0..64)) {
            prop_assert_eq!(Request::parse(&data), None);
            for form in FORMS {
                let _ = form.quote(&data);
            }
        }
    }
}
