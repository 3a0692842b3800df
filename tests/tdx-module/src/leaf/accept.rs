//! TDG.MEM.PAGE.ACCEPT.

use crate::leaf::operand::ept_violation;
use crate::leaf::{LeafEnd, LeafResult, invalid};
use crate::module::Module;
use crate::platform::Platform;
use crate::td::sept::{LeafState, Walk};
use crate::transition::ExtendedQualification;
use tdcall::attributes::Mapping;
use tdcall::leaf::number;
use tdcall::status::{Code, Operand, Status};
use tdcall::{PageLevel, Registers};

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
    let extended = |found: PageLevel, state, leaf| {
        ExtendedQualification::page(EXTENDED_TYPE, level.number(), found.number(), state, leaf)
    };
    // A walk that ends above the level takes no lock.
    let leaf = match walk {
        Walk::Leaf(leaf) if leaf.level > level => {
            return Err(match leaf.state {
                LeafState::Mapped => already_accepted(leaf.level),
                state => ept_violation(gpa, extended(leaf.level, state.number(), true)),
            });
        }
        Walk::Free => return Err(ept_violation(gpa, extended(level, 0, false))),
        Walk::Leaf(leaf) => Some(leaf),
        Walk::NonLeaf => None,
    };
    if module.faults.take_busy(number::MEM_PAGE_ACCEPT) {
        return Err(Status::operand_busy(Operand::RCX).into());
    }
    let Some(leaf) = leaf else {
        return Err(Status::new(Code::PageSizeMismatch, level.number() as u32).into());
    };
    match leaf.state {
        LeafState::Mapped => return Err(already_accepted(level)),
        LeafState::Pending => {}
        state => return Err(ept_violation(gpa, extended(level, state.number(), true))),
    }
    if level != PageLevel::Page4K && module.faults.take_interrupt(number::MEM_PAGE_ACCEPT) {
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
