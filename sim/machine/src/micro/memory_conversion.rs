//! Private and shared memory: acceptance, MapGPA, and both aliases of one address.

use alloc::vec::Vec;

use tdx_defs::ghci::{CompletionStatus, sub_function};
use tdx_defs::status::{Code as StatusCode, Status};
use tdx_defs::tdg;
use tdx_defs::vp_enter::Gpr;

use super::calls::call;
use super::l2::{expect, store};
use super::layout;
use super::script::Step;
use super::{Setup, Test};
use crate::host::End;

const LARGE: u64 = layout::CONVERTIBLE;
const SHARED: u64 = layout::SHARED_ALIAS + layout::CONVERTIBLE;
const VALUE: u64 = 0x1234_5678_9ABC_DEF0;

pub(super) fn tests() -> Vec<Test> {
    Vec::from([
        Test::new("accept", acceptance),
        Test::new("convert", conversion),
        Test::new("convert-in-steps", steps),
        Test::new("shared-unmapped", |_| {
            Vec::from([expect("touch memory that is not shared", SHARED, 0)])
        })
        .ending(|end| matches!(end, End::Stuck(text) if text.contains("shared GPA"))),
        Test::new("private-hole", |_| {
            Vec::from([expect("touch nothing", layout::HOLE, 0)])
        })
        .ending(|end| matches!(end, End::Stuck(text) if text.contains("private GPA"))),
    ])
}

fn accept(what: &'static str, gpa: u64, level: u64, status: Status) -> Step {
    Step::tdcall(what, tdg::MEM_PAGE_ACCEPT)
        .set(Gpr::Rcx, gpa | level)
        .want(Gpr::Rax, status.0)
}

/// Memory is zero and the TD's once it is accepted, and only then.
fn acceptance(_: &Setup) -> Vec<Step> {
    let accepted = |level| Status::new(StatusCode::PageAlreadyAccepted, level);
    Vec::from([
        accept("2 MiB", LARGE, 1, Status::SUCCESS),
        expect("it is zero", LARGE + 0x1F_FFF8, 0),
        store("it is memory", LARGE, VALUE),
        accept("again", LARGE, 1, accepted(1)),
        accept("a part again", LARGE + 0x1000, 0, accepted(1)),
        expect("what was written stays", LARGE, VALUE),
    ])
}

fn map(what: &'static str, start: u64, size: u64, status: CompletionStatus) -> Step {
    call(what, sub_function::MAP_GPA, status)
        .set(Gpr::R12, start)
        .set(Gpr::R13, size)
}

/// There and back: what was private is lost, what is shared is the host's to see, what is private
/// again has to be accepted again.
fn conversion(setup: &Setup) -> Vec<Step> {
    use CompletionStatus::Success;
    Vec::from([
        accept("2 MiB", LARGE, 1, Status::SUCCESS),
        store("private content", LARGE, VALUE),
        map("to shared", LARGE | setup.shared_bit, 2 << 20, Success),
        expect("the content is gone", SHARED, 0),
        store("shared content", SHARED + 8, VALUE),
        expect("shared content", SHARED + 8, VALUE),
        map("to private", LARGE, 2 << 20, Success),
        accept("accept again", LARGE, 1, Status::SUCCESS),
        expect("it is zero", LARGE + 8, 0),
    ])
}

/// More than the host does at a time: RETRY says where to go on.
fn steps(setup: &Setup) -> Vec<Step> {
    use CompletionStatus::{Retry, Success};
    let start = LARGE | setup.shared_bit;
    Vec::from([
        map("4 MiB", start, 4 << 20, Retry).want(Gpr::R11, start + (2 << 20)),
        map("the rest", start + (2 << 20), 2 << 20, Success),
        store("the end of it", SHARED + (4 << 20) - 8, VALUE),
        expect("the end of it", SHARED + (4 << 20) - 8, VALUE),
    ])
}
