//! TDG.MEM.PAGE.ACCEPT.

use crate::leaf::operand::{WRITE, ept_violation};
use crate::leaf::{LeafEnd, LeafResult, invalid};
use crate::locks::{Object, Request};
use crate::module::Module;
use crate::platform::Platform;
use crate::td::sept::{LeafState, Walk};
use crate::transition::ExtendedQualification;
use tdx_defs::attributes::Mapping;
use tdx_defs::status::{Code, Operand, Status};
use tdx_defs::tdg;
use tdx_defs::{PageLevel, Registers};

/// Extended exit qualification type of this leaf.
const EXTENDED_TYPE: u64 = 1;

/// The level and first GPA in RCX of a page leaf: \[2:0\] level, \[51:12\] GPA, the rest 0.
pub(super) fn page(
    module: &Module,
    rcx: u64,
    highest: PageLevel,
) -> Result<(u64, PageLevel), LeafEnd> {
    let mapping = Mapping::from_bits(rcx);
    let gpa = mapping.gpa();
    match mapping.level() {
        Some(level)
            if level <= highest
                && rcx == Mapping::page(gpa, level).into_bits()
                && gpa.is_aligned(level.size())
                && module.td.is_private(gpa.0) =>
        {
            Ok((gpa.0, level))
        }
        _ => Err(invalid(Operand::RCX)),
    }
}

/// Accepts a pending page: it becomes L1's, all zero.
pub(super) fn mem_page_accept<P: Platform>(
    module: &mut Module,
    platform: &mut P,
    registers: &Registers,
) -> LeafResult {
    let (gpa, level) = page(module, registers.rcx, PageLevel::Page2M)?;
    let walk = module.td.sept.walk(gpa, level);
    let extended = |found, state, leaf| {
        ExtendedQualification::page(EXTENDED_TYPE, level.number(), found, state, leaf)
    };
    // A walk that ends above the level takes no lock.
    let leaf = match walk {
        Walk::Leaf(leaf) if leaf.level > level => {
            return Err(match leaf.state {
                LeafState::Mapped => already_accepted(leaf.level),
                state => {
                    let found = leaf.level.number();
                    ept_violation(gpa, WRITE, extended(found, state.number(), true))
                }
            });
        }
        Walk::Free(found) => return Err(ept_violation(gpa, WRITE, extended(found, 0, false))),
        Walk::Leaf(leaf) => Some(leaf),
        Walk::NonLeaf => None,
    };
    let lock = Request {
        leaf: tdg::MEM_PAGE_ACCEPT,
        object: Object::Entry(gpa, level),
        shared: false,
        operand: Operand::RCX,
    };
    module.lock(platform, lock)?;
    let Some(leaf) = leaf else {
        return Err(Status::new(Code::PageSizeMismatch, level.number() as u32).into());
    };
    match leaf.state {
        LeafState::Mapped => return Err(already_accepted(level)),
        LeafState::Pending => {}
        state => {
            let extended = extended(level.number(), state.number(), true);
            return Err(ept_violation(gpa, WRITE, extended));
        }
    }
    if level != PageLevel::Page4K && module.faults.take_interrupt(tdg::MEM_PAGE_ACCEPT) {
        return Err(LeafEnd::Interrupted);
    }
    platform.zero(leaf.hpa, level.size());
    module
        .td
        .sept
        .update(platform, gpa, |leaf| leaf.state = LeafState::Mapped);
    Ok(())
}

fn already_accepted(level: PageLevel) -> LeafEnd {
    Status::new(Code::PageAlreadyAccepted, level.number() as u32).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TdParams;
    use crate::platform::{Permissions, Vm};
    use crate::test_platform::ModelTdcall;
    use alloc::rc::Rc;
    use alloc::vec;
    use core::cell::RefCell;

    const FRAME: u64 = 0x20_0000;

    fn accept(model: &ModelTdcall, rcx: u64) -> Status {
        let after = model.call(Registers {
            rax: tdg::MEM_PAGE_ACCEPT,
            rcx,
            ..Registers::default()
        });
        Status(after.unwrap().rax)
    }

    #[test]
    fn rcx_is_an_aligned_private_page_of_4k_or_2m() {
        let model = ModelTdcall::new(&TdParams::default(), 0);
        for rcx in [
            FRAME | 2,
            FRAME | 7,
            FRAME | 1 << 3,
            FRAME | 1 << 11,
            FRAME | 1 << 52,
            FRAME | 1 << 62,
            0x1001,
            1 << 47,
            1 << 48,
        ] {
            let invalid = Status::operand_invalid(Operand::RCX);
            assert_eq!(accept(&model, rcx), invalid, "{rcx:#x}");
        }
    }

    #[test]
    fn a_pending_page_becomes_zero_and_l1s_own() {
        let model = ModelTdcall::new(&TdParams::default(), 0);
        model.augment(FRAME, PageLevel::Page2M);
        model.write(FRAME + 0x1234, b"what the host left");
        model.with(|_, platform| assert!(!platform.pages.contains_key(&(Vm::L1, FRAME))));
        assert_eq!(accept(&model, FRAME | 1), Status::SUCCESS);
        let mut bytes = [0xff; 18];
        model.read(FRAME + 0x1234, &mut bytes);
        assert_eq!(bytes, [0; 18]);
        model.with(|_, platform| {
            let page = platform.pages[&(Vm::L1, FRAME)];
            assert_eq!(page.permissions, Permissions::ALL);
            assert!(!platform.pages.contains_key(&(Vm::L2(VM), FRAME)));
        });
    }

    const VM: tdx_defs::VmIndex = tdx_defs::VmIndex::FIRST;

    #[test]
    fn what_is_there_already_is_told_with_its_level() {
        let model = ModelTdcall::new(&TdParams::default(), FRAME);
        model.augment(FRAME, PageLevel::Page4K);
        for (rcx, status) in [
            (0x1, 0x0000_0b0a_0000_0001),
            (0x5000, 0x0000_0b0a_0000_0001),
            (FRAME | 1, 0xc000_0b0b_0000_0001),
            (FRAME, 0),
            (FRAME, 0x0000_0b0a_0000_0000),
        ] {
            assert_eq!(accept(&model, rcx), Status(status), "{rcx:#x}");
        }
    }

    #[test]
    fn a_busy_entry_comes_before_its_state() {
        let model = ModelTdcall::new(&TdParams::default(), FRAME);
        model.with(|module, _| module.faults().busy(tdg::MEM_PAGE_ACCEPT, 1));
        assert_eq!(accept(&model, 1), Status(0x8000_0200_0000_0001));
        assert_eq!(accept(&model, 1), Status(0x0000_0b0a_0000_0001));
    }

    #[test]
    fn what_is_missing_is_the_hosts_to_supply() {
        let model = ModelTdcall::new(&TdParams::default(), 0);
        let seen = Rc::new(RefCell::new(vec![]));
        let log = Rc::clone(&seen);
        model.set_host(move |module, platform, exit| {
            log.borrow_mut().push(exit.registers);
            let gpa = exit.registers.r8;
            module
                .tdh_mem_page_aug(platform, gpa, PageLevel::Page4K, gpa)
                .unwrap();
            crate::VpEnterInput::default()
        });
        assert_eq!(accept(&model, 0x3000), Status::SUCCESS);
        let seen = seen.borrow();
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0].rax, 48);
        assert_eq!(seen[0].r8, 0x3000);
        // A write; type 1, requested 0; the entry of level 2 is free.
        assert_eq!((seen[0].rcx, seen[0].rdx), (2, 1 | 2 << 35));
    }

    #[test]
    fn a_page_pending_only_at_a_larger_level_is_no_success() {
        let model = ModelTdcall::new(&TdParams::default(), 0);
        model.augment(FRAME, PageLevel::Page2M);
        let seen = Rc::new(RefCell::new(0));
        let log = Rc::clone(&seen);
        model.set_host(move |module, platform, exit| {
            *log.borrow_mut() = exit.registers.rdx;
            // Demote, as a host would: take the page away and give a small one.
            module
                .tdh_mem_range_block(platform, FRAME, PageLevel::Page2M)
                .and_then(|()| module.tdh_mem_track())
                .and_then(|()| module.tdh_mem_page_remove(platform, FRAME, PageLevel::Page2M))
                .and_then(|()| module.tdh_mem_page_aug(platform, FRAME, PageLevel::Page4K, FRAME))
                .unwrap();
            crate::VpEnterInput::default()
        });
        assert_eq!(accept(&model, FRAME), Status::SUCCESS);
        // Type 1, requested 0, found 1, pending, a leaf.
        assert_eq!(*seen.borrow(), 1 | 1 << 35 | 2 << 38 | 1 << 46);
    }
}
