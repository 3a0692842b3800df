//! TDG.VP.VMCALL\<GetQuote\> (GHCI 1.5, section 3.3): QEMU's part, and behind it a quoting enclave.
//!
//! As in QEMU, a request is taken, runs by itself, and is answered in the buffer that it came in;
//! SetupEventNotifyInterrupt's vector then tells the TD.

use alloc::vec::Vec;

use quoting::message::{Request, ServiceError};
use quoting::{QuotingEnclave, body_of};
use sha2::{Digest, Sha256};
use tdx_defs::Registers;
use tdx_defs::get_quote::{self, Header, status};
use tdx_defs::ghci::CompletionStatus;
use tdx_defs::quote::TdQuoteBody;
use tdx_defs::report::TdReport;
use zerocopy::FromBytes;

use super::Host;
use crate::arch::clock::ticks_per_millisecond;
use crate::arch::cpu::rdtsc;
use crate::arch::memory;
use crate::console::say;
use crate::hardware::Timer;
use crate::options::Quote;

const PAGE: u64 = get_quote::ALIGNMENT;
/// QEMU's limits: of a buffer, and of requests at a time.
const LARGEST_BUFFER: u64 = 128 << 10;
const MOST_REQUESTS: usize = 16;
/// How long a quote takes, and one that comes too late for anybody.
const MILLISECONDS: u64 = 5;
const LATE_MILLISECONDS: u64 = 120_000;

/// Bytes of a buffer's header.
const HEADER: u64 = size_of::<Header>() as u64;

/// A request that is taken and not answered.
#[derive(Debug)]
struct Pending {
    /// The buffer, without the shared bit.
    buffer: u64,
    due: u64,
    answer: Answer,
}

/// What the buffer will hold.
#[derive(Debug)]
struct Answer {
    status: u64,
    out_length: u32,
    data: Vec<u8>,
}

impl Answer {
    const ERROR: Self = Self {
        status: status::ERROR,
        out_length: 0,
        data: Vec::new(),
    };

    fn of(data: Vec<u8>) -> Self {
        Self {
            status: status::SUCCESS,
            out_length: data.len() as u32,
            data,
        }
    }
}

/// The quote generation service.
#[derive(Debug, Default)]
pub(super) struct QuoteService {
    /// Made when it is first needed.
    enclave: Option<QuotingEnclave>,
    pending: Vec<Pending>,
    /// REPORTDATA of the last request.
    last_report_data: Option<[u8; 64]>,
    /// What tells the TD of an answer: the virtual processor and the vector of SetupEventNotifyInterrupt.
    pub(super) event: Option<(u32, u8)>,
}

impl QuoteService {
    /// A quote of this report as the option wants it.
    fn quote(&mut self, body: TdQuoteBody, option: Quote) -> Vec<u8> {
        let enclave = self.enclave.get_or_insert_default();
        let last = self.last_report_data.replace(body.report_data);
        match option {
            Quote::OtherTd => enclave.sign_body(&TdQuoteBody {
                mrtd: [0xA5; 48],
                ..body
            }),
            Quote::Stale => enclave.sign_body(&TdQuoteBody {
                report_data: last.unwrap_or([0; 64]),
                ..body
            }),
            Quote::Garbage => garbage(enclave.sign_body(&body).len()),
            Quote::Truncated => {
                let mut quote = enclave.sign_body(&body);
                quote.truncate(quote.len() / 2);
                quote
            }
            _ => enclave.sign_body(&body),
        }
    }

    /// Whether any quote is still to be answered.
    pub(super) fn is_any_pending(&self) -> bool {
        !self.pending.is_empty()
    }

    fn next_due(&self) -> Option<u64> {
        self.pending.iter().map(|pending| pending.due).min()
    }
}

/// Bytes without a meaning, the same in every run.
fn garbage(length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut block = Sha256::digest(b"garbage");
    while bytes.len() < length {
        bytes.extend_from_slice(&block);
        block = Sha256::digest(block);
    }
    bytes.truncate(length);
    bytes
}

impl Host {
    /// GetQuote, with QEMU's checks in QEMU's order. Status and out_length must be zero, as the GHCI
    /// has it.
    pub(super) fn get_quote(&mut self, call: &Registers) -> CompletionStatus {
        let buffer = call.r12 & !self.shared_bit();
        let size = call.r13;
        if call.r12 == buffer || size == 0 {
            return CompletionStatus::InvalidOperand;
        }
        if !buffer.is_multiple_of(PAGE) || !size.is_multiple_of(PAGE) {
            return CompletionStatus::AlignError;
        }
        if self.options.quote == Quote::Refused {
            return CompletionStatus::SubfuncUnsupported;
        }
        if size > LARGEST_BUFFER {
            return CompletionStatus::InvalidOperand;
        }
        let mut content = Vec::from([0; 0]);
        content.resize(size as usize, 0);
        if !self.read_buffer(buffer, &mut content) {
            say!("GetQuote: {buffer:#x} + {size:#x} is not shared memory");
            return CompletionStatus::InvalidOperand;
        }
        let Ok((header, data)) = Header::read_from_prefix(&content) else {
            return CompletionStatus::InvalidOperand;
        };
        let Some(data) = data.get(..header.in_length.get() as usize) else {
            return CompletionStatus::InvalidOperand;
        };
        if header.version.get() != get_quote::VERSION
            || header.status.get() != 0
            || header.out_length.get() != 0
        {
            return CompletionStatus::InvalidOperand;
        }
        if self.options.quote == Quote::None {
            self.write_status(buffer, status::SERVICE_UNAVAILABLE, 0);
            return CompletionStatus::Success;
        }
        if self.quotes.pending.len() >= MOST_REQUESTS {
            return CompletionStatus::Retry;
        }
        let answer = self.answer(data);
        let time = match self.options.quote {
            Quote::Late => LATE_MILLISECONDS * ticks_per_millisecond(),
            _ => MILLISECONDS * ticks_per_millisecond(),
        };
        self.write_status(buffer, status::IN_FLIGHT, 0);
        self.quotes.pending.push(Pending {
            buffer,
            due: rdtsc().saturating_add(time),
            answer,
        });
        self.arm_quotes();
        CompletionStatus::Success
    }

    /// The answer to the data of a request.
    fn answer(&mut self, data: &[u8]) -> Answer {
        let Some(request) = Request::parse(data) else {
            say!("GetQuote: {} bytes that are no request", data.len());
            return Answer::ERROR;
        };
        let form = request.form;
        let option = self.options.quote;
        let refused = |error| form.answer(Err(error)).map_or(Answer::ERROR, Answer::of);
        if option == Quote::Fail {
            return refused(ServiceError::Unexpected);
        }
        // The quoting enclave: only reports of this platform, and only what they cover.
        let local = TdReport::read_from_bytes(request.report)
            .is_ok_and(|report| self.module.is_local_report(&report.report_mac));
        if !local {
            say!("GetQuote: the report is not one of this platform");
            return refused(ServiceError::InvalidParameter);
        }
        let body = match body_of(request.report) {
            Ok(body) => body,
            Err(error) => {
                say!("GetQuote: {error}");
                return refused(ServiceError::InvalidParameter);
            }
        };
        let quote = self.quotes.quote(body, option);
        let answer = form.answer(Ok(&quote)).map_or(Answer::ERROR, Answer::of);
        match option {
            Quote::Huge => Answer {
                out_length: u32::MAX,
                ..answer
            },
            _ => answer,
        }
    }

    /// Answers what is due.
    pub(super) fn finish_quotes(&mut self) {
        let Some(next) = self.quotes.next_due() else {
            return;
        };
        let now = rdtsc();
        if now < next {
            return;
        }
        let (due, pending) = core::mem::take(&mut self.quotes.pending)
            .into_iter()
            .partition(|pending| pending.due <= now);
        self.quotes.pending = pending;
        self.arm_quotes();
        let due: Vec<Pending> = due;
        for Pending { buffer, answer, .. } in due {
            if self.write_buffer(buffer + HEADER, &answer.data) {
                self.write_status(buffer, answer.status, answer.out_length);
            } else {
                say!("GetQuote: the buffer at {buffer:#x} does not take the answer");
                self.write_status(buffer, status::ERROR, 0);
            }
            if let Some((index, vector)) = self.quotes.event {
                self.post(index, vector);
            }
        }
    }

    fn arm_quotes(&mut self) {
        let due = self.quotes.next_due();
        self.hardware.set_deadline(Timer::Quote, due);
    }

    /// Status and out_length of a buffer that is still there.
    fn write_status(&mut self, buffer: u64, status: u64, out_length: u32) {
        let length_at = core::mem::offset_of!(Header, out_length) as u64;
        self.write_buffer(buffer + length_at, &out_length.to_le_bytes());
        let status_at = core::mem::offset_of!(Header, status) as u64;
        self.write_buffer(buffer + status_at, &status.to_le_bytes());
    }

    /// Reads shared memory; whether all of it was.
    fn read_buffer(&self, gpa: u64, into: &mut [u8]) -> bool {
        let mut at = gpa;
        let mut rest = into;
        while !rest.is_empty() {
            let Some((hpa, length)) = self.memory.shared(at) else {
                return false;
            };
            let step = rest.len().min(length as usize);
            let (now, later) = rest.split_at_mut(step);
            memory::read(hpa, now);
            at += step as u64;
            rest = later;
        }
        true
    }

    /// Writes shared memory; whether all of it was.
    fn write_buffer(&self, gpa: u64, from: &[u8]) -> bool {
        let mut at = gpa;
        let mut rest = from;
        while !rest.is_empty() {
            let Some((hpa, length)) = self.memory.shared(at) else {
                return false;
            };
            let (now, later) = rest.split_at(rest.len().min(length as usize));
            memory::write(hpa, now);
            at += now.len() as u64;
            rest = later;
        }
        true
    }
}
