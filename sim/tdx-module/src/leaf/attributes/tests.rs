use super::*;
use crate::TdParams;
use crate::platform::Vm;
use crate::test_platform::ModelTdcall;
use alloc::rc::Rc;
use core::cell::RefCell;
use proptest::prelude::*;

const FRAME: u64 = 0x20_0000;
const MEMORY: u64 = 2 * FRAME;

fn model(num_l2_vms: u8) -> ModelTdcall {
    let params = TdParams {
        num_l2_vms,
        ..TdParams::default()
    };
    ModelTdcall::new(&params, MEMORY)
}

fn write(model: &ModelTdcall, rcx: u64, rdx: u64, r8: u64) -> (u64, u64, u64) {
    let after = model.call(Registers {
        rax: tdg::MEM_PAGE_ATTR_WR,
        rcx,
        rdx,
        r8,
        ..Registers::default()
    });
    let after = after.unwrap();
    (after.rax, after.rcx, after.rdx)
}

fn read(model: &ModelTdcall, rcx: u64) -> (u64, u64, u64) {
    let after = model.call(Registers {
        rax: tdg::MEM_PAGE_ATTR_RD,
        rcx,
        ..Registers::default()
    });
    let after = after.unwrap();
    (after.rax, after.rcx, after.rdx)
}

const RCX: u64 = Status::operand_invalid(Operand::RCX).0;
const RDX: u64 = Status::operand_invalid(Operand::RDX).0;
const R8: u64 = Status::operand_invalid(Operand::R8).0;
const PAGE_ATTR_INVALID: u64 = 0xc000_0b11_0000_0000;

#[test]
fn operands_are_checked_vm_by_vm_before_the_page() {
    let model = model(2);
    for (rcx, rdx, r8, status) in [
        // L1 has no attributes.
        (7, 1, 0, RDX),
        (7, 0, 1, R8),
        // Nor has a VM that is not there.
        (7, 0x8000 << 48, 0, RDX),
        (7, 0, 1 << 63, R8),
        // Attributes without VALID.
        (7, 0x0007 << 16, 0, RDX),
        (7, 0x0007 << 32, 0, RDX),
        // VM 1's RDX before VM 3's R8, VM 0's R8 before VM 1's RDX.
        (7, 0x0007 << 16, 1 << 48, RDX),
        (7, 0x0007 << 16, 1, R8),
        // The page.
        (3, 0x8007 << 16, 7 << 16, RCX),
        (0x1001, 0x8007 << 16, 7 << 16, RCX),
        (1 << 47, 0x8007 << 16, 7 << 16, RCX),
        (1 << 52, 0x8007 << 16, 7 << 16, RCX),
    ] {
        let result = write(&model, rcx, rdx, r8);
        assert_eq!(result, (status, 0, 0), "{rcx:#x} {rdx:#x} {r8:#x}");
    }
    assert_eq!(read(&model, 1 << 47), (RCX, 0, 0));
}

#[test]
fn an_alias_is_made_changed_and_taken_away() {
    let model = model(1);
    let vm = VmIndex::FIRST;
    let mapped = || model.with(|_, platform| platform.pages.get(&(Vm::L2(vm), FRAME)).copied());
    let rwx = 0x8007 << 16;
    assert_eq!(read(&model, FRAME + 0x1234), (0, FRAME | 1, 0));
    assert_eq!(write(&model, FRAME | 1, rwx, 7 << 16), (0, FRAME | 1, rwx));
    assert_eq!(read(&model, FRAME + 0x1234), (0, FRAME | 1, rwx));
    assert!(mapped().is_some_and(|page| page.permissions.write));

    // Only what the mask names changes.
    let rx = 0x8005 << 16;
    assert_eq!(
        write(&model, FRAME | 1, 0x8000 << 16, 2 << 16),
        (0, FRAME | 1, rx)
    );
    assert!(mapped().is_some_and(|page| !page.permissions.write && page.permissions.read));

    // Nothing left: the alias goes.
    let removed = write(&model, FRAME | 1, 0x8000 << 16, 7 << 16);
    assert_eq!(removed, (0, FRAME | 1, 0x8000 << 16));
    assert_eq!(mapped(), None);
    assert_eq!(read(&model, FRAME), (0, FRAME | 1, 0));

    // Nothing to take away: the input comes back.
    let echoed = write(&model, FRAME | 1, 0x8007 << 16, 0);
    assert_eq!(echoed, (0, FRAME | 1, 0x8007 << 16));
    assert_eq!(read(&model, FRAME), (0, FRAME | 1, 0));
}

#[test]
fn an_illegal_combination_changes_no_vm() {
    let model = model(2);
    let rwx = 0x8007;
    assert_eq!(write(&model, 1, rwx << 16, 7 << 16).0, 0);
    // (attributes of VM 1, mask): W without R, PWA without R, SVE, a reserved bit.
    for (attributes, mask) in [
        (0x8000_u64, 1_u64),
        (0x8024, 0x27),
        (0x8087, 0x87),
        (0xc007, 0x4007),
    ] {
        let result = write(
            &model,
            1,
            attributes << 16 | rwx << 32,
            mask << 16 | 7 << 32,
        );
        let expected = (PAGE_ATTR_INVALID, 0, rwx << 16 | rwx << 32);
        assert_eq!(result, expected, "{attributes:#x} {mask:#x}");
        assert_eq!(read(&model, 0), (0, 1, rwx << 16));
    }
    // Of a VM that had no alias, nothing.
    let result = write(&model, 1, 0x8002 << 32, 2 << 32);
    assert_eq!(result, (PAGE_ATTR_INVALID, 0, 0));
    // Execute without read is legal.
    assert_eq!(write(&model, 1, 0x8004 << 32, 0xf << 32).0, 0);
}

#[test]
fn a_page_of_another_size_is_a_mismatch_or_the_hosts() {
    let model = model(1);
    model.augment(MEMORY, PageLevel::Page4K);
    let rwx = 0x8007 << 16;
    let mismatch = write(&model, MEMORY | 1, rwx, 7 << 16);
    assert_eq!(mismatch, (0xc000_0b0b_0000_0001, 0, 0));
    model.with(|module, _| module.faults().busy(tdg::MEM_PAGE_ATTR_WR, 1));
    assert_eq!(
        write(&model, 1, rwx, 7 << 16),
        (0x8000_0200_0000_0001, 0, 0)
    );

    let extended = Rc::new(RefCell::new(0));
    let log = Rc::clone(&extended);
    model.set_host(move |module, platform, exit| {
        *log.borrow_mut() = exit.registers.rdx;
        module
            .tdh_mem_range_block(platform, FRAME, PageLevel::Page2M)
            .and_then(|()| module.tdh_mem_track())
            .and_then(|()| module.tdh_mem_page_remove(platform, FRAME, PageLevel::Page2M))
            .and_then(|()| module.tdh_mem_page_aug(platform, FRAME, PageLevel::Page4K, FRAME))
            .unwrap();
        crate::VpEnterInput::default()
    });
    let pending = 1 << 62;
    assert_eq!(
        write(&model, FRAME, rwx, 7 << 16),
        (0, FRAME | pending, rwx)
    );
    // Type 5, requested 0, found 1, mapped, a leaf.
    assert_eq!(*extended.borrow(), 5 | 1 << 35 | 4 << 38 | 1 << 46);
}

#[test]
fn an_alias_of_a_pending_page_works_once_it_is_accepted() {
    let model = model(1);
    model.augment(MEMORY, PageLevel::Page4K);
    let key = (Vm::L2(VmIndex::FIRST), MEMORY);
    let rwx = 0x8007 << 16;
    let pending = 1 << 62;
    assert_eq!(
        write(&model, MEMORY, rwx, 7 << 16),
        (0, MEMORY | pending, rwx)
    );
    assert_eq!(read(&model, MEMORY), (0, MEMORY | pending, rwx));
    model.with(|_, platform| assert!(!platform.pages.contains_key(&key)));
    let accepted = model.call(Registers {
        rax: tdg::MEM_PAGE_ACCEPT,
        rcx: MEMORY,
        ..Registers::default()
    });
    assert_eq!(accepted.unwrap().rax, 0);
    model.with(|_, platform| assert!(platform.pages.contains_key(&key)));
    assert_eq!(read(&model, MEMORY), (0, MEMORY, rwx));
}

#[test]
fn a_missing_l2_page_is_an_error_or_the_hosts_as_it_chose() {
    let model = model(2);
    let rwx = 0x8007 << 32;
    model.with(|module, _| module.faults().missing_l2_sept(1));
    let missing = write(&model, 1, rwx, 7 << 32);
    assert_eq!(missing, (0xc000_0b0f_0002_0001, 0, 0));
    assert_eq!(write(&model, 1, rwx, 7 << 32), (0, 1, rwx));

    let extended = Rc::new(RefCell::new(0));
    let log = Rc::clone(&extended);
    model.set_host(move |_, _, exit| {
        *log.borrow_mut() = exit.registers.rdx;
        crate::VpEnterInput::default()
    });
    model.with(|module, _| {
        module.faults().missing_l2_sept(1);
        module.tdh_mng_wr_vm_ctls(1).unwrap();
    });
    assert_eq!(write(&model, FRAME | 1, rwx, 7 << 32), (0, FRAME | 1, rwx));
    // Type 2, level 1 requested, 2 found, VM 2.
    assert_eq!(*extended.borrow(), 2 | 1 << 32 | 2 << 35 | 2 << 47);
    model.with(|module, _| {
        let refused = module.tdh_mng_wr_vm_ctls(2);
        assert_eq!(
            refused.unwrap_err().code(),
            Code::MetadataFieldValueNotValid
        );
        module.tdh_mng_wr_vm_ctls(0).unwrap();
        module.faults().missing_l2_sept(1);
    });
    let missing = write(&model, FRAME | 1, 0x8007 << 16, 7 << 16);
    assert_eq!(missing, (0xc000_0b0f_0001_0001, 0, 0), "no exit any more");
}

/// A page that the host has blocked is the host's to give back: a TD exit, and the call again.
#[test]
fn a_blocked_page_is_the_hosts_to_give_back() {
    let rwx = 0x8007 << 16;
    type Call = fn(&ModelTdcall) -> (u64, u64, u64);
    let calls: [(Call, u64, u64); 2] = [
        (|model| read(model, FRAME), 0, 0),
        // Type 5, level 1 requested and found, a blocked leaf.
        (
            |model| write(model, FRAME | 1, 0x8007 << 16, 7 << 16),
            5 | 1 << 32 | 1 << 35 | 1 << 38 | 1 << 46,
            rwx,
        ),
    ];
    for (call, extended, attributes) in calls {
        let model = model(1);
        model.with(|module, platform| {
            let blocked = module.tdh_mem_range_block(platform, FRAME, PageLevel::Page2M);
            blocked.unwrap();
        });
        let exits = Rc::new(RefCell::new(0));
        let count = Rc::clone(&exits);
        model.set_host(move |module, platform, exit| {
            *count.borrow_mut() += 1;
            assert_eq!((exit.registers.rax, exit.registers.r8), (48, FRAME));
            assert_eq!(exit.registers.rdx, extended);
            module.tdh_mem_track().unwrap();
            let unblocked = module.tdh_mem_range_unblock(platform, FRAME, PageLevel::Page2M);
            unblocked.unwrap();
            crate::VpEnterInput::default()
        });
        assert_eq!(call(&model), (0, FRAME | 1, attributes));
        assert_eq!(*exits.borrow(), 1);
    }
}

proptest! {
    /// What ATTR.WR reports is what ATTR.RD finds and what the hardware gets, for every VM.
    #[test]
    fn attributes_are_their_history(
        writes in proptest::collection::vec((any::<[u16; 3]>(), any::<[u16; 3]>()), 1..12),
    ) {
        let model = model(3);
        let mut expected = [0_u16; 3];
        for (attributes, masks) in writes {
            let attributes = attributes.map(|a| if a & 0x8000 == 0 { 0 } else { a & 0x803f });
            let masks = masks.map(|mask| mask & 0x807f);
            let pack = |parts: [u16; 3]| {
                parts.iter().rev().fold(0, |all, &part| all << 16 | u64::from(part)) << 16
            };
            let (status, _, _) = write(&model, 1, pack(attributes), pack(masks));
            let mut next = expected;
            let mut legal = true;
            for ((next, input), mask) in next.iter_mut().zip(attributes).zip(masks) {
                if input & 0x8000 == 0 {
                    continue;
                }
                let new = *next & 0x7f & !mask | input & mask & 0x7f;
                let present = new & 0xf != 0;
                legal &= !present || new & 1 != 0 || new & 0x22 == 0;
                *next = if present { new | 0x8000 } else { 0 };
            }
            prop_assert_eq!(status == 0, legal);
            if legal {
                expected = next;
            }
            prop_assert_eq!(read(&model, 0), (0, 1, pack(expected)));
            for (vm, attributes) in l2_vms().zip(expected) {
                let page = model.with(|_, platform| {
                    platform.pages.get(&(Vm::L2(vm), 0)).copied()
                });
                prop_assert_eq!(page.is_some(), attributes != 0);
                if let Some(page) = page {
                    prop_assert_eq!(page.permissions.read, attributes & 1 != 0);
                    prop_assert_eq!(page.permissions.write, attributes & 2 != 0);
                }
            }
        }
    }
}
