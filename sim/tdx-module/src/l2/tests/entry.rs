//! TDG.VP.ENTER and the two flushes.

use super::{CODE, L1, STATE, VM};
use crate::TdParams;
use crate::platform::{Action, HardwareExit, Platform, Register, Vm};
use crate::test_platform::ModelTdcall;
use tdx_defs::Registers;
use tdx_defs::field::FieldId;
use tdx_defs::status::{Code, Operand, Status};
use tdx_defs::tdg;
use tdx_defs::vmcs::VmcsField;

#[test]
fn entry_checks_its_operands_in_order() {
    let l1 = L1 {
        model: ModelTdcall::new(&TdParams::default(), 4 << 20),
    };
    let enter = |rcx, rdx| Registers {
        rax: tdg::VP_ENTER,
        rcx,
        rdx,
        ..Registers::default()
    };
    let invalid = Status::operand_invalid;
    let shared = 1 << 47 | STATE;
    let rows = [
        (enter(0, STATE + 0x80), invalid(Operand::RDX)),
        (enter(0, shared), invalid(Operand::RDX)),
        (enter(0, STATE), invalid(Operand::RCX)),
        (enter(2 << 52, STATE), invalid(Operand::RCX)),
        (enter(1 << 52 | 4, STATE), invalid(Operand::RCX)),
        (enter(1 << 52, STATE), invalid(Operand::L2_VAPIC_GPA)),
    ];
    for (registers, status) in rows {
        assert_eq!(l1.status_of(registers), status, "{registers:x?}");
    }
}

#[test]
fn an_interrupt_for_l1_comes_before_l2() {
    let l1 = L1::with_l2(&[0xf4]);
    l1.model.with(|module, _| module.post_interrupt(0, 0xe0));
    assert_eq!(
        Status(l1.enter().rax),
        Status::new(Code::PendingInterrupt, 0)
    );
    assert_eq!(l1.model.take_interrupts(), [0xe0]);
    l1.model.push_exit(HardwareExit::Hlt);
    assert_eq!(l1.enter().rax, 12);
}

#[test]
fn an_exit_fills_every_output_register() {
    let l1 = L1::with_l2(&[0x0f, 0xa2]);
    l1.set_state(0x28, 0xb0b0);
    l1.set_state(0x20, 0x9000);
    l1.model.push_run(|platform, vm| {
        platform.set_register(vm, Register::Rdx, 0xd0d0);
        platform.set_register(vm, Register::Cpl, 3);
        HardwareExit::Cpuid.into()
    });
    let out = l1.enter();
    assert_eq!(
        out,
        Registers {
            rax: 10,
            rbp: 0xb0b0,
            rsi: 0xffff_ffff_c09b_0000,
            rdi: 0,
            r11: 2 << 32,
            r12: 3,
            ..Registers::default()
        }
    );
    assert_eq!(l1.state(0x10), 0xd0d0);
    assert_eq!(l1.state(0x20), 0x9000);
    assert_eq!(l1.state(0x88), CODE, "RIP stays at the instruction");
    assert_eq!(l1.get(VmcsField::EXIT_REASON), 10);
    assert_eq!(l1.get(VmcsField::EXIT_INSTRUCTION_LENGTH), 2);
}

#[test]
fn bad_guest_state_is_exit_reason_33() {
    let l1 = L1::with_l2(&[]);
    l1.set_state(0x80, 0);
    assert_eq!(l1.enter().rax, 0x8000_0021);
}

#[test]
fn what_l1_writes_between_two_entries_is_checked() {
    let l1 = L1::with_l2(&[0xf4]);
    let rows = [
        (VmcsField::GUEST_TR_ACCESS_RIGHTS, 0x89, 0x8b),
        (VmcsField::GUEST_IDTR_LIMIT, 0x1_0000, 0),
        (VmcsField::GUEST_PAT, 2, 6),
        (VmcsField::GUEST_DR7, 1 << 32, 0x400),
    ];
    for (field, bad, good) in rows {
        l1.model.push_exit(HardwareExit::Hlt);
        assert_eq!(l1.enter().rax, 12);
        l1.set(field, bad);
        assert_eq!(l1.enter().rax, 0x8000_0021, "{field:x?}");
        assert_eq!(l1.enter().rax, 0x8000_0021, "{field:x?}");
        l1.set(field, good);
    }
}

#[test]
fn l2_inherits_what_is_not_switched_and_leaves_its_own() {
    let l1 = L1::with_l2(&[0xf4]);
    l1.model.with(|_, platform| {
        platform.set_register(Vm::L1, Register::Lstar, 0x1111);
        platform.set_register(Vm::L1, Register::Cr2, 0x2222);
    });
    l1.model.push_run(|platform, vm| {
        assert_eq!(platform.register(vm, Register::Lstar), 0x1111);
        assert_eq!(platform.register(vm, Register::Cr2), 0x2222);
        platform.set_register(vm, Register::KernelGsBase, 0x3333);
        HardwareExit::Hlt.into()
    });
    l1.enter();
    assert_eq!(l1.l1_register(Register::KernelGsBase), 0x3333);
}

#[test]
fn a_past_deadline_exits_before_the_first_instruction() {
    let l1 = L1::with_l2(&[]);
    l1.write(FieldId::tsc_deadline(VM), 1, u64::MAX);
    let out = l1.enter();
    assert_eq!(out.rax, 52);
    assert_eq!(out.r11, 0);
}

#[test]
fn invept_and_invgla_check_their_operands() {
    let l1 = L1 {
        model: ModelTdcall::new(&TdParams::default(), 4 << 20),
    };
    let call = |rax, rcx, rdx| {
        l1.status_of(Registers {
            rax,
            rcx,
            rdx,
            ..Registers::default()
        })
    };
    let invalid = Status::operand_invalid;
    assert_eq!(call(tdg::VP_INVEPT, 1, 0), invalid(Operand::RCX));
    assert_eq!(call(tdg::VP_INVEPT, 4, 0), invalid(Operand::RCX));
    assert_eq!(call(tdg::VP_INVEPT, 2, 0), Status::SUCCESS);
    let vm = 1 << 52;
    assert_eq!(call(tdg::VP_INVGLA, 0, 0), invalid(Operand::RCX));
    assert_eq!(call(tdg::VP_INVGLA, vm | 2, 0), invalid(Operand::RCX));
    assert_eq!(
        call(tdg::VP_INVGLA, vm, 1 << 47),
        Status::new(Code::GlaNotCanonical, 0)
    );
    assert_eq!(call(tdg::VP_INVGLA, vm, 0x1000 | 3), Status::SUCCESS);
    let list = |first: u64, count: u64| first | STATE | count << 52;
    assert_eq!(
        call(tdg::VP_INVGLA, vm | 1, list(511, 2)),
        invalid(Operand::RDX)
    );
    let done = l1.call(Registers {
        rax: tdg::VP_INVGLA,
        rcx: vm | 1,
        rdx: list(0, 2),
        ..Registers::default()
    });
    assert_eq!((done.rax, done.rdx >> 52), (0, 0));
}

/// TDG.VP.INVEPT takes the VMs that the TD has, none of them and L1 not.
#[test]
fn invept_knows_the_vms_of_the_td() {
    for num_l2_vms in 0..=3 {
        let params = TdParams {
            num_l2_vms,
            ..TdParams::default()
        };
        let l1 = L1 {
            model: ModelTdcall::new(&params, 0),
        };
        for rcx in (0..32).chain([1 << 63]) {
            let status = l1.status_of(Registers {
                rax: tdg::VP_INVEPT,
                rcx,
                ..Registers::default()
            });
            let known = (1..=u64::from(num_l2_vms)).fold(0, |vms, vm| vms | 1 << vm);
            let expected = if rcx & !known == 0 {
                Status::SUCCESS
            } else {
                Status::operand_invalid(Operand::RCX)
            };
            assert_eq!(status, expected, "{num_l2_vms} VMs, {rcx:#x}");
        }
    }
}

/// Entries of a list are looked at from the first to the last, and none beside them.
#[test]
fn invgla_checks_each_entry_of_its_list() {
    const LIST: u64 = 0x1_2000;
    const NOT_CANONICAL: u64 = 1 << 47;
    let l1 = L1 {
        model: ModelTdcall::new(&TdParams::default(), 4 << 20),
    };
    let flush = |first: u64, count: u64| {
        let done = l1.call(Registers {
            rax: tdg::VP_INVGLA,
            rcx: 1 << 52 | 1,
            rdx: first | LIST | count << 52,
            ..Registers::default()
        });
        (Status(done.rax), done.rdx)
    };
    let not_canonical = Status::new(Code::GlaNotCanonical, 0);
    for index in [0, 1, 5, 511] {
        l1.model.write(LIST, &[0; 0x1000]);
        let bad = NOT_CANONICAL.to_le_bytes();
        l1.model.write(LIST + 8 * index, &bad);
        assert_eq!(flush(index, 1).0, not_canonical, "{index}");
        assert_eq!(flush(0, 512).0, not_canonical, "{index}");
        let before = flush(0, index);
        assert_eq!(before, (Status::SUCCESS, LIST | index));
        let after = flush(index + 1, 511 - index);
        let first = (index + 1) & 0x1ff;
        if index < 511 {
            assert_eq!(after, (Status::SUCCESS, LIST), "{first}");
        }
    }
    let one = |entry| {
        l1.status_of(Registers {
            rax: tdg::VP_INVGLA,
            rcx: 1 << 52,
            rdx: entry,
            ..Registers::default()
        })
    };
    // The first page and the last one are looked at.
    const HALF: u64 = 0x0000_7fff_ffff_f000;
    assert_eq!(one(HALF), Status::SUCCESS);
    assert_eq!(one(HALF | 1), not_canonical);
    assert_eq!(one(!HALF), Status::SUCCESS);
    assert_eq!(one(NOT_CANONICAL), not_canonical);
}

/// Without virtual-interrupt delivery, a TPR threshold above the virtual TPR does not enter (SDM
/// volume 3, "VM-Execution Control Fields").
#[test]
fn a_threshold_above_the_tpr_is_fatal_without_interrupt_delivery() {
    for (delivery, tpr, threshold, enters) in [
        (true, 0, 0xf, true),
        (false, 0, 0, true),
        (false, 0, 1, false),
        (false, 0x30, 3, true),
        (false, 0x3f, 3, true),
        (false, 0x30, 4, false),
        (false, 0xf0, 0xf, true),
    ] {
        let l1 = L1::with_l2(&[0xf4]);
        if !delivery {
            const VIRTUAL_INTERRUPT_DELIVERY: u64 = 1 << 9;
            let controls = l1.get(VmcsField::SECONDARY_CONTROLS);
            let without = controls & !VIRTUAL_INTERRUPT_DELIVERY;
            l1.set(VmcsField::SECONDARY_CONTROLS, without);
        }
        l1.set(VmcsField::TPR_THRESHOLD, threshold);
        l1.set_vapic(0x80, tpr);
        let entered = matches!(l1.begin(), Action::Run(_));
        assert_eq!(entered, enters, "{delivery} {tpr:#x} {threshold:#x}");
    }
}

#[test]
fn a_guest_state_page_that_the_host_took_back_is_its_to_supply() {
    use tdx_defs::PageLevel::Page2M;
    let l1 = L1::with_l2(&[0xf4]);
    l1.model.with(|module, platform| {
        module.tdh_mem_range_block(platform, 0, Page2M).unwrap();
    });
    l1.model.set_host(|module, platform, exit| {
        assert_eq!(exit.registers.rax, 48);
        assert_eq!(exit.registers.rcx, 0, "L1's, without a qualification");
        assert_eq!(exit.registers.r8, STATE);
        module.tdh_mem_track().unwrap();
        module.tdh_mem_range_unblock(platform, 0, Page2M).unwrap();
        Default::default()
    });
    l1.model.push_exit(HardwareExit::Hlt);
    assert_eq!(l1.enter().rax, 12, "the call is repeated");
}
