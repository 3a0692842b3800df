//! TDG.MEM.PAGE.ATTR.RD and TDG.MEM.PAGE.ATTR.WR: what of L1's memory the L2 VMs may use.

use crate::l2::translations;
use crate::leaf::accept::page;
use crate::leaf::operand::{READABLE_WRITABLE_EXECUTABLE, WRITE, ept_violation};
use crate::leaf::{LeafEnd, LeafResult, invalid};
use crate::locks::{Object, Request};
use crate::module::Module;
use crate::platform::Platform;
use crate::td::sept::{Leaf, LeafState, Walk, l2_vms};
use crate::transition::ExtendedQualification;
use tdx_defs::attributes::{AttrFlags, GpaAttributes, Mapping, VmAttributes};
use tdx_defs::status::{Code, Operand, Status};
use tdx_defs::tdg;
use tdx_defs::{Gpa, PageLevel, Registers, VmIndex};

/// Extended exit qualification type of TDG.MEM.PAGE.ATTR.WR.
const EXTENDED_TYPE: u64 = 5;
/// The attributes that a write may set (GUEST_L2_GPA_ATTR_MASK without VALID).
const ATTRIBUTES: u16 = 0x7f;

/// Reads the attributes of the page at a private GPA.
pub(super) fn mem_page_attr_rd<P: Platform>(
    module: &mut Module,
    platform: &mut P,
    registers: &mut Registers,
) -> LeafResult {
    let gpa = registers.rcx;
    if !module.td.is_private(gpa) {
        registers.rcx = 0;
        registers.rdx = 0;
        return Err(invalid(Operand::RCX));
    }
    let leaf = match module.td.sept.find(gpa) {
        Some(leaf) if is_guest_accessible(leaf) => *leaf,
        _ => return Err(ept_violation(gpa, 0, ExtendedQualification::NONE)),
    };
    let lock = Request {
        leaf: tdg::MEM_PAGE_ATTR_RD,
        object: Object::Entry(leaf.gpa, leaf.level),
        shared: false,
        operand: Operand::RCX,
    };
    if let Err(end) = module.lock(platform, lock) {
        if !matches!(end, LeafEnd::Held) {
            registers.rcx = 0;
            registers.rdx = 0;
        }
        return Err(end);
    }
    registers.rcx = mapping(&leaf);
    registers.rdx = l2_vms()
        .map(|vm| GpaAttributes::of(vm, leaf.alias(vm)).0)
        .fold(0, |all, vm| all | vm);
    Ok(())
}

/// Changes the attributes of a page for any of the L2 VMs, all or none.
pub(super) fn mem_page_attr_wr<P: Platform>(
    module: &mut Module,
    platform: &mut P,
    registers: &mut Registers,
) -> LeafResult {
    let end = write(module, platform, registers);
    if let Err(LeafEnd::Status(status) | LeafEnd::HostPriority(status)) = end {
        registers.rcx = 0;
        if status.code() != Code::PageAttrInvalid {
            registers.rdx = 0;
        }
    }
    end
}

/// What is to become of an alias.
#[derive(Clone, Copy)]
struct Change {
    vm: VmIndex,
    attributes: VmAttributes,
}

fn write<P: Platform>(
    module: &mut Module,
    platform: &mut P,
    registers: &mut Registers,
) -> LeafResult {
    let requested = GpaAttributes(registers.rdx);
    let flags = AttrFlags(registers.r8);
    check_attributes(module, requested, flags)?;
    let (gpa, level) = page(module, registers.rcx, PageLevel::Page1G)?;
    let leaf = find_leaf(module, platform, gpa, level)?;

    let mut changes = [None; VmIndex::MAX as usize];
    let mut result = 0;
    let mut illegal = false;
    for (vm, slot) in l2_vms().zip(&mut changes) {
        let input = requested.vm(vm);
        if !input.valid() {
            continue;
        }
        let current = leaf.alias(vm);
        let mask = flags.vm(vm).mask();
        let new = VmAttributes::from_bits(
            current.into_bits() & !mask & ATTRIBUTES | input.into_bits() & mask,
        )
        .with_valid(true);
        if !current.valid() && !new.is_present() {
            // Nothing to take away.
            result |= GpaAttributes::of(vm, input).0;
        } else if new.is_present() && !is_legal(new) {
            illegal = true;
            result |= GpaAttributes::of(vm, current).0;
        } else {
            if !current.valid() {
                require_l2_page(module, gpa, level, vm)?;
            }
            let attributes = if new.is_present() {
                new
            } else {
                VmAttributes::NONE
            };
            result |= GpaAttributes::of(vm, attributes).0;
            *slot = Some(Change {
                vm,
                attributes: new,
            });
        }
    }
    registers.rdx = result;
    if illegal {
        return Err(Status::new(Code::PageAttrInvalid, 0).into());
    }
    for Change { vm, attributes } in changes.into_iter().flatten() {
        translations::change(module, platform, &leaf, vm, attributes);
    }
    module.td.sept.update(platform, gpa, |leaf| {
        for Change { vm, attributes } in changes.into_iter().flatten() {
            let alias = if attributes.is_present() {
                attributes
            } else {
                VmAttributes::new()
            };
            leaf.set_alias(vm, alias);
        }
    });
    for vm in l2_vms() {
        if module.td.has_l2(vm) && flags.vm(vm).invept() {
            translations::flush(module, platform, vm);
        }
    }
    registers.rcx = mapping(&leaf);
    Ok(())
}

/// VM by VM, RDX before R8: nothing for L1 or for a VM that is not there, and no attribute of a VM
/// that is not to be changed.
fn check_attributes(
    module: &Module,
    requested: GpaAttributes,
    flags: AttrFlags,
) -> Result<(), LeafEnd> {
    for number in 0..4 {
        let vm = VmIndex::new(number).filter(|&vm| module.td.has_l2(vm));
        let attributes = (requested.0 >> (16 * number)) as u16;
        let flags = (flags.0 >> (16 * number)) as u16;
        match vm {
            None if attributes != 0 => return Err(invalid(Operand::RDX)),
            None if flags != 0 => return Err(invalid(Operand::R8)),
            None => {}
            Some(_) => {
                let attributes = VmAttributes::from_bits(attributes);
                if !attributes.valid() && attributes.into_bits() != 0 {
                    return Err(invalid(Operand::RDX));
                }
            }
        }
    }
    Ok(())
}

/// L1's own page at exactly this level.
fn find_leaf<P: Platform>(
    module: &mut Module,
    platform: &mut P,
    gpa: u64,
    level: PageLevel,
) -> Result<Leaf, LeafEnd> {
    let extended = |found, state, leaf| {
        ExtendedQualification::page(EXTENDED_TYPE, level.number(), found, state, leaf)
    };
    let leaf = match module.td.sept.walk(gpa, level) {
        Walk::NonLeaf => {
            return Err(Status::new(Code::PageSizeMismatch, level.number() as u32).into());
        }
        Walk::Free(found) => return Err(ept_violation(gpa, WRITE, extended(found, 0, false))),
        Walk::Leaf(leaf) if leaf.level > level => {
            let extended = extended(leaf.level.number(), leaf.state.number(), true);
            let allowed = match leaf.state {
                LeafState::Mapped => READABLE_WRITABLE_EXECUTABLE,
                _ => 0,
            };
            return Err(ept_violation(gpa, WRITE | allowed, extended));
        }
        Walk::Leaf(leaf) => leaf,
    };
    let lock = Request {
        leaf: tdg::MEM_PAGE_ATTR_WR,
        object: Object::Entry(gpa, level),
        shared: false,
        operand: Operand::RCX,
    };
    module.lock(platform, lock)?;
    if !is_guest_accessible(&leaf) {
        let extended = extended(level.number(), leaf.state.number(), true);
        return Err(ept_violation(gpa, WRITE, extended));
    }
    Ok(leaf)
}

/// A new alias needs a page of the L2 secure EPT, which only the host can add.
fn require_l2_page(
    module: &mut Module,
    gpa: u64,
    level: PageLevel,
    vm: VmIndex,
) -> Result<(), LeafEnd> {
    if !module.faults.take_missing_l2_sept() {
        return Ok(());
    }
    let found = level.number() + 1;
    if module.td.l2_walk_failure_exits {
        let extended = ExtendedQualification::l2_walk(vm.get(), level.number(), found);
        return Err(ept_violation(gpa, 0, extended));
    }
    let details = u32::from(vm.get()) << 16 | level.number() as u32;
    Err(Status::new(Code::L2SeptWalkFailed, details).into())
}

/// The rules of GPA_ATTR for an alias that is present.
fn is_legal(attributes: VmAttributes) -> bool {
    attributes.into_bits() & !ATTRIBUTES & 0x7fff == 0
        && (attributes.read() || !attributes.write() && !attributes.paging_write())
}

fn is_guest_accessible(leaf: &Leaf) -> bool {
    matches!(leaf.state, LeafState::Mapped | LeafState::Pending)
}

fn mapping(leaf: &Leaf) -> u64 {
    Mapping::page(Gpa(leaf.gpa), leaf.level)
        .with_pending(leaf.state == LeafState::Pending)
        .into_bits()
}

#[cfg(test)]
mod tests;
