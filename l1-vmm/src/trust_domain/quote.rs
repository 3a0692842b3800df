//! GetQuote: a report to the host's quoting service, and its quote back (GHCI 1.5,
//! "`TDG.VP.VMCALL<GetQuote>`").
//!
//! The call only starts the service. The host works on the buffer until it has put a final status
//! there, so the buffer is out of use until then, however long that takes: an answer can be late, but
//! never the answer to another request. What it is worth, the caller has to find out.

use alloc::vec;
use alloc::vec::Vec;

use core::mem::offset_of;
use tdcall::SharedBuffer;
use tdcall::tdvmcall::VmcallError;
use tdcall::{RawTdcall, Td};
use tdx_defs::Gpa;
use tdx_defs::get_quote::{self, Header, VERSION, status};
use vtpm::{QuoteError, QuoteStatus};
use zerocopy::IntoBytes;

/// Alignment of the buffer's address and length.
const PAGE: usize = get_quote::ALIGNMENT as usize;
/// Offset of STATUS.
const STATUS: usize = offset_of!(Header, status);
/// Offset of OUT_LEN.
const OUT_LENGTH: usize = offset_of!(Header, out_length);

/// Why memory can be no buffer for GetQuote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuoteBufferError {
    /// Its address or its length is not one that GHCI allows.
    #[error("the buffer for quotes is not made of whole pages")]
    NotPages,
    /// It cannot hold a report.
    #[error("the buffer for quotes has no room for a report")]
    TooSmall,
}

/// The shared memory through which quotes come.
#[derive(Clone, Debug)]
pub struct QuoteBuffer<B> {
    buffer: B,
    shared_bit: u64,
    in_flight: bool,
}

impl<B: SharedBuffer> QuoteBuffer<B> {
    /// Takes whole pages of shared memory that are for nothing else from now on.
    pub fn new(buffer: B, shared_bit: u64) -> Result<Self, QuoteBufferError> {
        if !buffer.gpa().is_multiple_of(PAGE as u64) || !buffer.length().is_multiple_of(PAGE) {
            return Err(QuoteBufferError::NotPages);
        }
        if buffer.length() < PAGE {
            return Err(QuoteBufferError::TooSmall);
        }
        Ok(Self {
            buffer,
            shared_bit,
            in_flight: false,
        })
    }

    /// Asks for a quote of `report`. [`QuoteError::Failed`] while another one is on its way.
    pub fn start<R: RawTdcall>(
        &mut self,
        td: &Td<R>,
        report: &[u8; 1024],
    ) -> Result<(), QuoteError> {
        if self.in_flight {
            return Err(QuoteError::Failed);
        }
        let header = Header {
            version: VERSION.into(),
            status: 0.into(),
            in_length: (report.len() as u32).into(),
            out_length: 0.into(),
        };
        self.buffer.write(0, header.as_bytes());
        self.buffer.write(size_of::<Header>(), report);
        let buffer = Gpa(self.shared_bit | self.buffer.gpa());
        td.get_quote(buffer, self.buffer.length() as u64)
            .map_err(|error| {
                log::warn!("GetQuote: {error}");
                match error {
                    VmcallError::Unsupported | VmcallError::InvalidOperand => QuoteError::NoService,
                    VmcallError::Unknown(_) => QuoteError::Malformed,
                    _ => QuoteError::Failed,
                }
            })?;
        self.in_flight = true;
        Ok(())
    }

    /// Looks whether the host is done. Costs no TDCALL.
    pub fn poll(&mut self) -> QuoteStatus {
        if !self.in_flight {
            return QuoteStatus::Idle;
        }
        // The status first: what the host wrote before it is there once it is.
        let status = u64::from_le_bytes(self.read(STATUS));
        let length = u32::from_le_bytes(self.read(OUT_LENGTH)) as usize;
        let answer = match (status, length) {
            // A success without a length is what the request said: the host has not begun.
            (status::IN_FLIGHT, _) | (status::SUCCESS, 0) => return QuoteStatus::InFlight,
            (status::SUCCESS, _) => self.quote(length),
            (status::ERROR, _) => Err(QuoteError::Failed),
            (status::SERVICE_UNAVAILABLE, _) => Err(QuoteError::NoService),
            _ => Err(QuoteError::Malformed),
        };
        self.in_flight = false;
        match answer {
            Ok(quote) => QuoteStatus::Ready(quote),
            Err(error) => QuoteStatus::Failed(error),
        }
    }

    fn quote(&self, length: usize) -> Result<Vec<u8>, QuoteError> {
        if length > self.buffer.length() - size_of::<Header>() {
            return Err(QuoteError::Malformed);
        }
        let mut quote = vec![0; length];
        self.buffer.read(size_of::<Header>(), &mut quote);
        Ok(quote)
    }

    fn read<const N: usize>(&self, offset: usize) -> [u8; N] {
        let mut bytes = [0; N];
        self.buffer.read(offset, &mut bytes);
        bytes
    }
}
