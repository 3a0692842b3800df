use crate::platform::{Action, HardwareExit, Platform, Register, Vm};
use crate::td::seamcall;
use crate::test_platform::ModelTdcall;
use crate::{TdParams, VpEnterInput};
use tdx_defs::attributes::{AttrFlags, GpaAttributes, VmAttributes};
use tdx_defs::field::FieldId;
use tdx_defs::status::{Code, Operand, Status};
use tdx_defs::{PageLevel, Registers, VmIndex, tdg};

const MEMORY: u64 = 0x20_0000;
const PENDING: u64 = 0x40_0000;
const DATA: u64 = 0x4000;
const REPORT: u64 = 0x5000;

const SUCCESS: Status = Status::SUCCESS;
const RTMR_BUSY: Status = Status::operand_busy(Operand::RTMR);
const PAGE_BUSY: Status = Status::operand_busy(Operand::RCX);

/// Both virtual processors of a TD with two.
fn two() -> [ModelTdcall; 2] {
    let params = TdParams {
        max_vcpus: 2,
        ..TdParams::default()
    };
    let model = ModelTdcall::new(&params, MEMORY);
    [model.on_vcpu(0), model.on_vcpu(1)]
}

/// TDCALLs by what they are in these tests.
#[derive(Clone, Copy, Debug)]
enum Call {
    Extend,
    Report,
    Accept(u64),
    ReadAttributes(u64),
    WriteAttributes(u64),
}

use Call::{Accept, Extend, ReadAttributes, Report, WriteAttributes};

fn registers(call: Call) -> Registers {
    let vm = VmIndex::FIRST;
    let (rax, rcx, rdx, r8) = match call {
        Extend => (tdg::MR_RTMR_EXTEND, DATA, 3, 0),
        Report => (tdg::MR_REPORT, REPORT, DATA, 0),
        Accept(page) => (tdg::MEM_PAGE_ACCEPT, page, 0, 0),
        ReadAttributes(page) => (tdg::MEM_PAGE_ATTR_RD, page & !0xfff, 0, 0),
        WriteAttributes(page) => (
            tdg::MEM_PAGE_ATTR_WR,
            page,
            GpaAttributes::of(vm, VmAttributes::RWX).0,
            AttrFlags::permissions(vm).0,
        ),
    };
    Registers {
        rax,
        rcx,
        rdx,
        r8,
        ..Registers::default()
    }
}

fn status(model: &ModelTdcall, call: Call) -> Status {
    Status(model.call(registers(call)).unwrap().rax)
}

/// The call, up to where the virtual processor is held inside it.
fn begin(model: &ModelTdcall, call: Call) {
    begin_with(model, registers(call));
}

fn begin_with(model: &ModelTdcall, input: Registers) {
    model.with(|module, platform| {
        module.faults().hold(input.rax, 0, 1);
        let rip = platform.register(Vm::L1, Register::Rip);
        for (register, value) in [
            (Register::Rip, rip),
            (Register::Rax, input.rax),
            (Register::Rcx, input.rcx),
            (Register::Rdx, input.rdx),
            (Register::R8, input.r8),
            (Register::R9, input.r9),
        ] {
            platform.set_register(Vm::L1, register, value);
        }
        let tdcall = HardwareExit::Exception {
            vector: 6,
            error_code: None,
            cr2: 0,
        };
        let action = module.handle_exit(platform, tdcall.into());
        assert_eq!(action, Action::Held, "{input:x?}");
        assert_eq!(platform.register(Vm::L1, Register::Rip), rip);
    });
}

/// Lets it go on: what the call ends in.
fn finish(model: &ModelTdcall) -> Status {
    model.with(|module, platform| {
        assert_eq!(module.finish_held(platform), Action::Run(Vm::L1));
        Status(platform.register(Vm::L1, Register::Rax))
    })
}

/// At the TDCALL, before any was made.
fn at_tdcall(model: &ModelTdcall) {
    model.with(|_, platform| {
        let code = ModelTdcall::L1_PAGES.end - 0x1000;
        platform.set_register(Vm::L1, Register::Rip, code);
    });
}

#[test]
fn what_conflicts_with_a_held_leaf_is_busy_and_nothing_else() {
    let small = MEMORY - 0x1000;
    for (held, other, while_held) in [
        (Extend, Extend, RTMR_BUSY),
        (Extend, Report, RTMR_BUSY),
        (Report, Extend, RTMR_BUSY),
        // Readers share the lock.
        (Report, Report, SUCCESS),
        (Extend, WriteAttributes(1), SUCCESS),
        (Accept(PENDING | 1), Accept(PENDING | 1), PAGE_BUSY),
        (Accept(PENDING | 1), Extend, SUCCESS),
        (WriteAttributes(1), WriteAttributes(1), PAGE_BUSY),
        (WriteAttributes(1), ReadAttributes(small), PAGE_BUSY),
        (ReadAttributes(small), WriteAttributes(1), PAGE_BUSY),
        (WriteAttributes(1), ReadAttributes(PENDING), SUCCESS),
    ] {
        let [one, another] = two();
        one.augment(PENDING, PageLevel::Page2M);
        at_tdcall(&one);
        begin(&one, held);
        let got = status(&another, other);
        assert_eq!(got, while_held, "{held:?}, {other:?}");
        assert_eq!(finish(&one), SUCCESS, "{held:?}");
        let again = match other {
            Accept(_) => Status::new(Code::PageAlreadyAccepted, 1),
            _ => SUCCESS,
        };
        assert_eq!(status(&another, other), again, "{held:?}, {other:?}");
    }
}

/// It comes to pass when the leaf goes on, and not before.
#[test]
fn a_held_leaf_has_done_nothing_yet() {
    let [one, another] = two();
    at_tdcall(&one);
    let rtmr = || another.with(|module, _| module.td_info().rtmr[3]);
    let before = rtmr();
    begin(&one, Extend);
    assert_eq!(rtmr(), before);
    let entered =
        one.with(|module, platform| module.tdh_vp_enter(platform, VpEnterInput::default()));
    let Action::TdExit(exit) = entered else {
        panic!("it is inside the module")
    };
    let active = Status::new(seamcall::VCPU_STATE_INCORRECT, 0);
    assert_eq!(Status(exit.registers.rax), active);
    finish(&one);
    assert_ne!(rtmr(), before);
    one.with(|module, _| assert_eq!(module.statistics().tdcalls()[&tdg::MR_RTMR_EXTEND], 1));
}

#[test]
fn operands_are_checked_before_a_lock_is_held() {
    let [one, _] = two();
    one.with(|module, _| module.faults().hold(tdg::MR_RTMR_EXTEND, 0, 1));
    let wrong = Registers {
        rdx: 4,
        ..registers(Extend)
    };
    let after = one.call(wrong).unwrap();
    assert_eq!(Status(after.rax), Status::operand_invalid(Operand::RDX));
    assert_eq!(status(&one, Extend), SUCCESS);
}

/// A field of the TD has no lock: whoever finds it changed in between has lost.
#[test]
fn a_field_that_another_has_changed_meanwhile_is_busy() {
    let write = |value: u64| Registers {
        rax: tdg::VM_WR,
        rdx: FieldId::NOTIFY_ENABLES.0,
        r8: value,
        r9: u64::MAX,
        ..Registers::default()
    };
    for (others, ends) in [
        (None, SUCCESS),
        (Some(0), SUCCESS),
        (Some(1), Status::operand_busy(Operand::METADATA_FIELD)),
    ] {
        let [one, another] = two();
        at_tdcall(&one);
        begin_with(&one, write(1));
        if let Some(value) = others {
            assert_eq!(Status(another.call(write(value)).unwrap().rax), SUCCESS);
        }
        assert_eq!(finish(&one), ends, "{others:?}");
    }
}

/// The guest gets TDX_OPERAND_BUSY until the host has had the lock; another object is not concerned.
#[test]
fn a_lock_that_the_host_waits_for_is_the_hosts_first() {
    let [one, another] = two();
    one.with(|module, platform| {
        module.faults().host_priority(tdg::MR_RTMR_EXTEND, 1, 1000);
        platform.tsc_step = 0;
    });
    for _ in 0..3 {
        assert_eq!(status(&one, Extend), RTMR_BUSY);
        assert_eq!(status(&another, Report), RTMR_BUSY);
        assert_eq!(status(&another, ReadAttributes(0)), SUCCESS);
    }
    one.with(|_, platform| platform.tsc += 1000);
    assert_eq!(status(&one, Extend), SUCCESS);
    assert_eq!(status(&another, Report), SUCCESS);
}

/// A second of nothing but that, and the host hears of it.
#[test]
fn the_host_hears_of_a_lock_that_it_never_comes_back_for() {
    let [one, _] = two();
    let exits = alloc::rc::Rc::new(core::cell::Cell::new(0));
    let seen = exits.clone();
    one.set_host(move |_, _, exit| {
        assert_eq!(exit.registers.rax, 0x9000_0205_0000_0000);
        seen.set(seen.get() + 1);
        VpEnterInput::default()
    });
    one.with(|module, platform| {
        let faults = module.faults();
        faults.host_priority(tdg::MR_RTMR_EXTEND, 1, u64::MAX);
        platform.tsc_step = 0;
    });
    let second = |tenths: u64| one.with(|_, platform| platform.tsc += tenths * 100_000_000);
    assert_eq!(status(&one, Extend), RTMR_BUSY);
    second(9);
    // Any other TDCALL that ends starts the time anew.
    assert_eq!(status(&one, ReadAttributes(0)), SUCCESS);
    second(9);
    assert_eq!(status(&one, Extend), RTMR_BUSY);
    second(9);
    assert_eq!(status(&one, Extend), RTMR_BUSY);
    assert_eq!(exits.get(), 0);
    second(1);
    assert_eq!(status(&one, Extend), RTMR_BUSY);
    assert_eq!(exits.get(), 1);
    assert_eq!(status(&one, Extend), SUCCESS);
}
