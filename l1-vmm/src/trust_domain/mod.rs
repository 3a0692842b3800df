//! The TD for the vTPM: its measurement registers and reports by TDCALL, its quotes by the host.
//!
//! Only L1 speaks for the TD. The TDX module reads and writes at addresses, so operands lie in a page
//! of L1's that is for nothing else ([`OperandPage`]); the host reads and writes in a part of the
//! shared memory that is for nothing else either ([`QuoteBuffer`]).

mod quote;
mod sealing;

pub use quote::{QuoteBuffer, QuoteBufferError};

use alloc::boxed::Box;

use attestation::event_log::SPARE;
use tdcall::{OperandPage, RawTdcall, SharedBuffer, Td};
use tdx_defs::Gpa;
use tdx_defs::key_request::TdKeyRequest;
use tdx_defs::report::TdReport;
use vtpm::{QuoteError, QuoteStatus, TrustDomain, TrustDomainError};

use crate::entropy::EntropyError;
use crate::launch::GpaRange;
use l2_exit::GuestMemory;

/// Offsets in the operand page, aligned as the leaves demand.
mod operand {
    /// TDG.MR.REPORT writes its report here: a multiple of 1024.
    pub(super) const REPORT: usize = 0;
    /// TDG.MR.REPORT reads REPORTDATA here: a multiple of 64.
    pub(super) const REPORT_DATA: usize = 1024;
    /// TDG.MR.RTMR.EXTEND reads the digest here: a multiple of 64.
    pub(super) const EXTEND_DATA: usize = 1088;
    /// TDG.MR.KEY.GET reads its request here: a multiple of 128.
    pub(super) const KEY_REQUEST: usize = 1152;
    /// TDG.MR.KEY.GET writes its key here: a multiple of 32. Zero outside a call.
    pub(super) const KEY: usize = 1280;
}

const _: () = assert!(
    operand::REPORT.is_multiple_of(TdReport::ALIGNMENT as usize)
        && operand::REPORT_DATA >= operand::REPORT + size_of::<TdReport>()
        && operand::REPORT_DATA.is_multiple_of(TdReport::REPORT_DATA_ALIGNMENT as usize)
        && operand::EXTEND_DATA >= operand::REPORT_DATA + 64
        && operand::EXTEND_DATA.is_multiple_of(64)
        && operand::KEY_REQUEST >= operand::EXTEND_DATA + 48
        && operand::KEY_REQUEST.is_multiple_of(TdKeyRequest::ALIGNMENT as usize)
        && operand::KEY >= operand::KEY_REQUEST + size_of::<TdKeyRequest>()
        && operand::KEY.is_multiple_of(TdKeyRequest::KEY_ALIGNMENT as usize)
);

/// What the image brings.
#[derive(Clone, Debug)]
pub struct Parts<R, P, B, M> {
    /// The TDX module.
    pub td: Td<R>,
    /// The page for its operands.
    pub operands: P,
    /// Where quotes come.
    pub quotes: QuoteBuffer<B>,
    /// Access to L2's memory.
    pub memory: M,
    /// Where in it L2 finds its copy of the CC event log.
    pub log_copy: GpaRange,
    /// Random bytes under health tests.
    pub random: fn(&mut [u8]) -> Result<(), EntropyError>,
    /// Nanoseconds since some fixed moment.
    pub clock: fn() -> u64,
}

/// The TD that L1 runs in.
#[derive(Debug)]
pub struct LaunchedTd<R, P, B, M> {
    parts: Parts<R, P, B, M>,
    /// A record did not fit the copy of the log: the copy ends before it.
    copy_ended: bool,
}

impl<R: RawTdcall, P: OperandPage, B: SharedBuffer, M: GuestMemory> LaunchedTd<R, P, B, M> {
    /// The TD, with the copy of the event log empty: all ones, which no event begins with (TCG PC
    /// Client Platform Firmware Profile, "Event Logging"; EDK II fills its log areas the same way).
    pub fn new(parts: Parts<R, P, B, M>) -> Self {
        let mut new = Self {
            parts,
            copy_ended: false,
        };
        new.empty_copy();
        new
    }

    fn empty_copy(&mut self) {
        const EMPTY: [u8; 0x1000] = [0xFF; 0x1000];
        let range = self.parts.log_copy;
        for page in (range.start()..range.end()).step_by(EMPTY.len()) {
            let length = EMPTY.len().min((range.end() - page) as usize);
            let empty = EMPTY.get(..length).unwrap_or(&[]);
            // Whoever laid L2's memory out put the area into it.
            let _ = self.parts.memory.write(page, empty);
        }
        self.copy_ended = false;
    }

    fn operand(&self, offset: usize) -> Gpa {
        Gpa(self.parts.operands.gpa().0 + offset as u64)
    }
}

impl<R: RawTdcall, P: OperandPage, B: SharedBuffer, M: GuestMemory> TrustDomain
    for LaunchedTd<R, P, B, M>
{
    fn extend_rtmr(&mut self, rtmr: u8, digest: &[u8; 48]) -> Result<(), TrustDomainError> {
        self.parts.operands.write(operand::EXTEND_DATA, digest);
        self.parts
            .td
            .rtmr_extend(rtmr, self.operand(operand::EXTEND_DATA))
            .map_err(|error| {
                log::error!("{error}");
                TrustDomainError::Extend(rtmr)
            })
    }

    fn report(&mut self, data: &[u8; 64]) -> Result<Box<[u8; 1024]>, TrustDomainError> {
        self.parts.operands.write(operand::REPORT_DATA, data);
        let report = self.operand(operand::REPORT);
        let made = self
            .parts
            .td
            .mr_report(report, self.operand(operand::REPORT_DATA));
        if let Err(error) = made {
            log::error!("{error}");
            return Err(TrustDomainError::Report);
        }
        let mut copy = Box::new([0; 1024]);
        self.parts
            .operands
            .read(operand::REPORT, copy.as_mut_slice());
        Ok(copy)
    }

    fn start_quote(&mut self, report: &[u8; 1024]) -> Result<(), QuoteError> {
        self.parts.quotes.start(&self.parts.td, report)
    }

    fn poll_quote(&mut self) -> QuoteStatus {
        self.parts.quotes.poll()
    }

    fn random(&mut self, into: &mut [u8]) -> Result<(), TrustDomainError> {
        (self.parts.random)(into).map_err(|_| TrustDomainError::Random)
    }

    fn now(&self) -> u64 {
        (self.parts.clock)()
    }

    /// Writes all of `bytes` or, once something did not fit with [`SPARE`] bytes behind it, nothing more: the copy is a log
    /// up to a whole record, never one with a gap. A log of [`CC_LOG_CAPACITY`](crate::launch::boot::CC_LOG_CAPACITY)
    /// always fits the area that the layout has for it.
    fn publish_log(&mut self, offset: usize, bytes: &[u8]) {
        if offset == 0 {
            self.empty_copy();
        }
        let area = self.parts.log_copy;
        let fits = (offset as u64)
            .checked_add(bytes.len() as u64)
            .and_then(|end| end.checked_add(SPARE as u64))
            .is_some_and(|end| end <= area.length());
        if self.copy_ended || !fits {
            self.copy_ended = true;
            return;
        }
        // Whoever laid L2's memory out put the area into it.
        let _ = self.parts.memory.write(area.start() + offset as u64, bytes);
    }
}

#[cfg(test)]
mod tests;
