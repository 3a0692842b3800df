//! TDREPORTs: checked by the module, and turned into quotes by the host.

use alloc::vec::Vec;

use quoting::QuotingEnclave;
use quoting::message::Form;
use tdx_defs::ghci::{CompletionStatus, sub_function};
use tdx_defs::quote::TdQuoteBody;
use tdx_defs::report::TdReport;
use tdx_defs::status::{Code as StatusCode, Status};
use tdx_defs::tdg;
use tdx_defs::vp_enter::Gpr;
use zerocopy::FromZeros;

use super::calls::call;
use super::firmware::Code;
use super::l2::{expect, store};
use super::layout;
use super::script::Step;
use super::{Setup, Test};
use crate::options::Quote;

const REPORT: u64 = layout::DATA;
const REPORT_DATA: u64 = layout::DATA + 0x1000;
const REPORT_SIZE: u64 = size_of::<TdReport>() as u64;
/// The buffer: its GPA, and L1's address of it.
const BUFFER: u64 = layout::CONVERTIBLE;
const SHARED: u64 = layout::SHARED_ALIAS + layout::CONVERTIBLE;
const BUFFER_SIZE: u64 = 0x4000;
/// Where data begins.
const DATA: u64 = SHARED + 24;
const VECTOR: u8 = 0x51;

const IN_FLIGHT: u64 = u64::MAX;
const ERROR: u64 = 1 << 63;
const UNAVAILABLE: u64 = 1 << 63 | 1;
/// The first eight bytes of a quote: version 4, key type 2, TEE type 0x81.
const QUOTE_BEGINS: u64 = 0x81_0002_0004;

pub(super) fn tests() -> Vec<Test> {
    Vec::from([
        Test::new("report-verify", verify),
        Test::new("quote", |setup| quote(setup, Form::Report)),
        Test::new("quote-message", |setup| {
            quote(setup, Form::Message { minor_version: 0 })
        }),
        Test::new("quote-forged-report", |setup| {
            let mut steps = prepare(setup);
            // A byte of REPORTDATA.
            steps.push(store("forge the report", DATA + 128, 1));
            steps.extend(ask(setup, REPORT_SIZE));
            steps.extend(answer(ERROR, REPORT_SIZE));
            steps
        }),
        Test::new("quote-no-request", |setup| {
            let mut steps = prepare(setup);
            steps.extend(ask(setup, REPORT_SIZE - 1));
            steps.extend(answer(ERROR, REPORT_SIZE - 1));
            steps
        }),
        Test::new("quote-fail", |setup| {
            let mut steps = prepare(setup);
            steps.extend(ask(setup, REPORT_SIZE));
            steps.extend(answer(ERROR, REPORT_SIZE));
            steps
        })
        .with_quote(Quote::Fail),
        Test::new("quote-none", |setup| {
            let mut steps = prepare(setup);
            steps.push(header("lengths", REPORT_SIZE, 16));
            steps.push(get_quote("ask", setup, CompletionStatus::Success));
            steps.push(expect("there is no service", SHARED + 8, UNAVAILABLE));
            steps
        })
        .with_quote(Quote::None),
        Test::new("quote-refused", |setup| {
            let mut steps = prepare(setup);
            let unsupported = CompletionStatus::SubfuncUnsupported;
            steps.push(get_quote("ask", setup, unsupported));
            steps
        })
        .with_quote(Quote::Refused),
        Test::new("quote-operands", operands),
        Test::new("quote-too-many", too_many).with_quote(Quote::Late),
    ])
}

fn tdcall(what: &'static str, leaf: u64, status: Status) -> Step {
    Step::tdcall(what, leaf)
        .set(Gpr::Rcx, REPORT)
        .set(Gpr::Rdx, REPORT_DATA)
        .set(Gpr::R8, 0)
        .want(Gpr::Rax, status.0)
}

/// A report verifies as the module made it, and not otherwise.
fn verify(_: &Setup) -> Vec<Step> {
    const CPUSVN: u64 = REPORT + 16;
    const REPORT_DATA_FIELD: u64 = REPORT + 128;
    /// `quoting::pki::platform` and the model agree on it.
    const MODEL_CPUSVN: u64 = 0x0500_0103_0202_0202;
    let verify = |what, status| tdcall(what, tdg::MR_VERIFYREPORT, status);
    let refused = |code| Status::new(code, 0);
    Vec::from([
        tdcall("report", tdg::MR_REPORT, Status::SUCCESS),
        verify("as it is", Status::SUCCESS),
        expect("CPUSVN", CPUSVN, MODEL_CPUSVN),
        store("another CPUSVN", CPUSVN, 0),
        verify("another CPUSVN", refused(StatusCode::InvalidCpusvn)),
        store("CPUSVN", CPUSVN, MODEL_CPUSVN),
        store("other data", REPORT_DATA_FIELD, 1),
        verify("other data", refused(StatusCode::InvalidReportmacstruct)),
        store("the data", REPORT_DATA_FIELD, 0),
        verify("as it was", Status::SUCCESS),
    ])
}

/// A quadword of the buffer's header.
fn header(what: &'static str, value: u64, offset: u64) -> Step {
    store(what, SHARED + offset, value)
}

/// A report in a shared buffer with a header; a vector for the answer.
fn prepare(setup: &Setup) -> Vec<Step> {
    use CompletionStatus::Success;
    let copy = Step::new("the report into the buffer", Code::Copy)
        .set(Gpr::Rsi, REPORT)
        .set(Gpr::Rdi, DATA)
        .set(Gpr::Rcx, REPORT_SIZE);
    Vec::from([
        call("share a page", sub_function::MAP_GPA, Success)
            .set(Gpr::R12, BUFFER | setup.shared_bit)
            .set(Gpr::R13, 2 << 20),
        call(
            "a vector",
            sub_function::SETUP_EVENT_NOTIFY_INTERRUPT,
            Success,
        )
        .set(Gpr::R12, VECTOR.into()),
        tdcall("report", tdg::MR_REPORT, Status::SUCCESS),
        header("version", 1, 0),
        header("no status", 0, 8),
        copy,
    ])
}

fn get_quote(what: &'static str, setup: &Setup, status: CompletionStatus) -> Step {
    call(what, sub_function::GET_QUOTE, status)
        .set(Gpr::R12, BUFFER | setup.shared_bit)
        .set(Gpr::R13, BUFFER_SIZE)
}

/// A request of a length, which is taken, and the wait for the answer.
fn ask(setup: &Setup, length: u64) -> [Step; 4] {
    [
        header("lengths", length, 16),
        get_quote("ask", setup, CompletionStatus::Success),
        expect("in flight", SHARED + 8, IN_FLIGHT),
        call("wait", sub_function::HLT, CompletionStatus::Success)
            .set(Gpr::R12, 0)
            .with_code(Code::StiTdcall)
            .interrupted(VECTOR),
    ]
}

/// The header after the answer.
fn answer(status: u64, lengths: u64) -> [Step; 2] {
    [
        expect("status", SHARED + 8, status),
        expect("lengths", SHARED + 16, lengths),
    ]
}

/// A quote, in the form of the request.
fn quote(setup: &Setup, form: Form) -> Vec<Step> {
    let quote = QuotingEnclave::default().sign_body(&TdQuoteBody::new_zeroed());
    let request = form.request(&[0; REPORT_SIZE as usize]).len() as u64;
    let reply = form.answer(Ok(&quote)).map_or(0, |reply| reply.len()) as u64;
    // What is in front of the report, and of the quote.
    let frame = request - REPORT_SIZE;
    let mut steps = prepare(setup);
    if frame != 0 {
        let message = form.request(&[0; REPORT_SIZE as usize]);
        let front = message[..frame as usize].chunks(4);
        steps.push(
            Step::new("make room", Code::Copy)
                .set(Gpr::Rsi, REPORT)
                .set(Gpr::Rdi, DATA + frame)
                .set(Gpr::Rcx, REPORT_SIZE),
        );
        let staged = layout::DATA + 0x2000;
        steps.extend((0..).zip(front).map(|(index, word)| {
            let mut bytes = [0; 8];
            bytes[..word.len()].copy_from_slice(word);
            store("the message", staged + 4 * index, u64::from_le_bytes(bytes))
        }));
        steps.push(
            Step::new("the message's front", Code::Copy)
                .set(Gpr::Rsi, staged)
                .set(Gpr::Rdi, DATA)
                .set(Gpr::Rcx, frame),
        );
    }
    steps.extend(ask(setup, request));
    steps.extend(answer(0, request | reply << 32));
    steps.push(expect("a quote", DATA + frame, QUOTE_BEGINS));
    steps
}

/// What QEMU refuses before it asks anybody.
fn operands(setup: &Setup) -> Vec<Step> {
    use CompletionStatus::{AlignError, InvalidOperand};
    let refused = |what| get_quote(what, setup, InvalidOperand);
    let mut steps = prepare(setup);
    steps.extend([
        get_quote("a buffer not aligned", setup, AlignError)
            .set(Gpr::R12, (BUFFER + 0x800) | setup.shared_bit),
        get_quote("a size not aligned", setup, AlignError).set(Gpr::R13, 0x1800),
        refused("no size").set(Gpr::R13, 0),
        refused("more than 128 KiB").set(Gpr::R13, 0x2_1000),
        refused("partly private").set(Gpr::R12, (BUFFER - 0x1000) | setup.shared_bit),
        header("a request that does not fit", BUFFER_SIZE - 23, 16),
        refused("a request that does not fit"),
        header("an answer's length", REPORT_SIZE | 1 << 32, 16),
        refused("an answer's length"),
        header("lengths", REPORT_SIZE, 16),
        header("a status", 1, 8),
        refused("a status"),
        header("no status", 0, 8),
        header("version 2", 2, 0),
        refused("version 2"),
    ]);
    steps
}

/// The seventeenth request at a time has to wait.
fn too_many(setup: &Setup) -> Vec<Step> {
    let mut steps = prepare(setup);
    steps.push(header("lengths", REPORT_SIZE, 16));
    for _ in 0..16 {
        steps.push(get_quote("one more", setup, CompletionStatus::Success));
        steps.push(header("again", 0, 8));
    }
    steps.push(get_quote("too many", setup, CompletionStatus::Retry));
    steps
}
