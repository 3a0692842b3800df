//! The module's try-locks: what is busy while a virtual processor is inside a TDCALL, and while the host waits.

use alloc::vec::Vec;

use tdx_defs::status::{Operand, Status};
use tdx_defs::tdg;
use tdx_defs::vp_enter::Gpr;

use super::processors::{tell, wait};
use super::script::Step;
use super::{Setup, Test, layout};
use crate::options::Fault;

const BUSY: Status = Status::operand_busy(Operand::RTMR);

fn extend(what: &'static str, status: Status) -> Step {
    Step::tdcall(what, tdg::MR_RTMR_EXTEND)
        .set(Gpr::Rcx, layout::DATA)
        .set(Gpr::Rdx, 3)
        .want(Gpr::Rax, status.0)
}

fn accept(what: &'static str, status: Status) -> Step {
    Step::tdcall(what, tdg::MEM_PAGE_ACCEPT)
        .set(Gpr::Rcx, layout::PENDING_LARGE | 1)
        .want(Gpr::Rax, status.0)
}

pub(super) fn tests() -> Vec<Test> {
    let held = |leaf| Fault::Hold {
        leaf,
        vcpu: 1,
        every: 1,
    };
    let already = Status::new(tdx_defs::status::Code::PageAlreadyAccepted, 1);
    Vec::from([
        conflict("locks-rtmr", extend, BUSY, Status::SUCCESS).with_fault(held(tdg::MR_RTMR_EXTEND)),
        conflict(
            "locks-accept",
            accept,
            Status::operand_busy(Operand::RCX),
            already,
        )
        .with_fault(held(tdg::MEM_PAGE_ACCEPT)),
        Test::new("locks-held-alone", |_| {
            Vec::from([extend("nobody else runs", Status::SUCCESS)])
        })
        .with_fault(Fault::Hold {
            leaf: tdg::MR_RTMR_EXTEND,
            vcpu: 0,
            every: 1,
        }),
        Test::new("locks-host-priority", |_| {
            Vec::from([
                extend("the host waits", BUSY),
                extend("it has called again", Status::SUCCESS),
            ])
        })
        .with_fault(Fault::HostPriority {
            leaf: tdg::MR_RTMR_EXTEND,
            times: 1,
            microseconds: 1,
        }),
    ])
}

/// A TDCALL while another virtual processor is inside the same one, and after that.
fn conflict(
    name: &'static str,
    call: fn(&'static str, Status) -> Step,
    meanwhile: Status,
    after: Status,
) -> Test {
    Test::new(name, move |_: &Setup| {
        Vec::from([
            tell(0, 1),
            wait(1, 1),
            call("the other is inside", meanwhile),
            wait(1, 2),
            call("it has come out", after),
        ])
    })
    .and_processor(move |_| {
        Vec::from([
            wait(0, 1),
            tell(1, 1),
            call("a call", Status::SUCCESS),
            tell(1, 2),
        ])
    })
}
