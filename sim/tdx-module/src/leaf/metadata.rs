//! TDG.VM.RD, TDG.VM.WR, TDG.VP.RD, TDG.VP.WR, TDG.SYS.RD and TDG.SYS.RDALL.

use crate::leaf::operand::{Memory, READ, WRITE};
use crate::leaf::{LeafEnd, LeafResult, invalid};
use crate::metadata::{ID_INCORRECT, is_first, require_single, sys, td, vp};
use crate::module::Module;
use crate::platform::Platform;
use alloc::vec::Vec;
use tdx_defs::Registers;
use tdx_defs::field::FieldId;
use tdx_defs::status::{Code, Operand, Status};
use tdx_defs::tdg;

/// Ends a walk that has not begun: the caller gets the first identifier.
const FIRST: Status = Status::new(Code::MetadataFirstFieldIdInContext, 0);

const LIST_SIZE: usize = 0x1000;

/// RCX selects a TD, and a guest has only itself.
fn require_self(registers: &Registers) -> Result<(), LeafEnd> {
    if registers.rcx == 0 {
        Ok(())
    } else {
        Err(invalid(Operand::RCX))
    }
}

/// A lock of the field's context.
fn require_lock(module: &mut Module, leaf: u64) -> Result<(), LeafEnd> {
    if module.faults.take_busy(leaf) {
        Err(Status::operand_busy(Operand::OP_STATE).into())
    } else {
        Ok(())
    }
}

/// TDG.VM.RD. Version 1 also walks: RDX is the next identifier. Higher ones are refused here, not
/// with those of other leaves.
pub(super) fn vm_rd(module: &mut Module, registers: &mut Registers, version: u64) -> LeafResult {
    let id = FieldId(registers.rdx);
    registers.r8 = 0;
    if version != 0 {
        registers.rdx = FieldId::NONE.0;
    }
    if version > 1 {
        return Err(invalid(Operand::RAX));
    }
    require_self(registers)?;
    require_lock(module, tdg::VM_RD)?;
    if version != 0 && is_first(id) {
        registers.rdx = td::FIRST.0;
        return Err(FIRST.into());
    }
    require_single(id)?;
    let (value, next) = td::read(module, id)?;
    registers.r8 = value;
    if version != 0 {
        registers.rdx = next.0;
    }
    Ok(())
}

/// TDG.VM.WR.
pub(super) fn vm_wr(module: &mut Module, registers: &mut Registers) -> LeafResult {
    let value = core::mem::take(&mut registers.r8);
    let id = FieldId(registers.rdx);
    require_self(registers)?;
    require_lock(module, tdg::VM_WR)?;
    require_single(id)?;
    compare(module, id)?;
    registers.r8 = td::write(module, id, value, registers.r9)?;
    Ok(())
}

/// An element of a field is written by compare-exchange: it must still be what the leaf found before it was held.
fn compare(module: &mut Module, id: FieldId) -> LeafResult {
    let now = td::read(module, id).ok().map(|(value, _)| value);
    if module.vcpu.held {
        return match module.vcpu.found == now {
            true => Ok(()),
            false => Err(Status::operand_busy(Operand::METADATA_FIELD).into()),
        };
    }
    if module.faults.take_hold(tdg::VM_WR, module.vcpu.index) {
        module.vcpu.found = now;
        return Err(LeafEnd::Held);
    }
    Ok(())
}

/// TDG.VP.RD.
pub(super) fn vp_rd<P: Platform>(
    module: &mut Module,
    platform: &mut P,
    registers: &mut Registers,
) -> LeafResult {
    let id = FieldId(registers.rdx);
    registers.r8 = 0;
    registers.rdx = FieldId::NONE.0;
    require_self(registers)?;
    require_lock(module, tdg::VP_RD)?;
    if is_first(id) {
        registers.rdx = vp::FIRST.0;
        return Err(FIRST.into());
    }
    require_single(id)?;
    let (value, next) = vp::read(module, platform, id)?;
    registers.r8 = value;
    registers.rdx = next.0;
    Ok(())
}

/// TDG.VP.WR.
pub(super) fn vp_wr<P: Platform>(
    module: &mut Module,
    platform: &mut P,
    registers: &mut Registers,
) -> LeafResult {
    let value = core::mem::take(&mut registers.r8);
    let id = FieldId(registers.rdx);
    require_self(registers)?;
    require_lock(module, tdg::VP_WR)?;
    require_single(id)?;
    registers.r8 = vp::write(module, platform, id, value, registers.r9)?;
    Ok(())
}

/// TDG.SYS.RD.
pub(super) fn sys_rd(module: &mut Module, registers: &mut Registers) -> LeafResult {
    let id = FieldId(registers.rdx);
    registers.r8 = 0;
    registers.rdx = FieldId::NONE.0;
    if is_first(id) {
        registers.rdx = sys::FIRST.0;
        return Err(FIRST.into());
    }
    require_single(id)?;
    let (value, next) = sys::read(module, id)?;
    registers.r8 = value;
    registers.rdx = next.0;
    Ok(())
}

/// TDG.SYS.RDALL: a metadata list of all fields from R8 on.
///
/// The list is a header (\[15:0\] bytes used, \[31:16\] number of sequences), then for each sequence
/// the identifier of its first field, with LAST_FIELD_IN_SEQUENCE, and a value for each field.
pub(super) fn sys_rdall<P: Platform>(
    module: &mut Module,
    platform: &mut P,
    registers: &mut Registers,
) -> LeafResult {
    let mut id = FieldId(registers.r8);
    let gpa = registers.rdx;
    if !gpa.is_multiple_of(LIST_SIZE as u64) {
        registers.r8 = FieldId::NONE.0;
        return Err(invalid(Operand::RDX));
    }
    let hpa = match module.operand(platform, Operand::RDX, gpa, Memory::Private, READ | WRITE) {
        Ok(hpa) => hpa,
        Err(end) => {
            registers.r8 = FieldId::NONE.0;
            return Err(end);
        }
    };
    registers.r8 = FieldId::NONE.0;
    if is_first(id) {
        id = sys::FIRST;
    }
    require_single(id)?;
    let mut list = MetadataList::new();
    while id != FieldId::NONE && list.has_room() {
        // A walk can begin at a field that the guest reads, and comes by no other.
        let (value, next) = sys::read(module, id).map_err(|_| ID_INCORRECT)?;
        list.push(id, value);
        id = next;
    }
    platform.write(hpa, list.bytes());
    registers.r8 = id.0;
    if id == FieldId::NONE {
        Ok(())
    } else {
        Err(Status::new(Code::MetadataListOverflow, 0).into())
    }
}

/// A metadata list as it grows.
struct MetadataList {
    bytes: Vec<u8>,
    /// Where the last sequence's header is, its identifier, and its number of fields.
    last: Option<(usize, FieldId, u64)>,
    sequences: u16,
}

impl MetadataList {
    const WORD: usize = size_of::<u64>();
    /// LAST_FIELD_IN_SEQUENCE: the number of fields less 1.
    const LAST_FIELD_SHIFT: u32 = 38;

    fn new() -> MetadataList {
        MetadataList {
            bytes: Vec::from([0; Self::WORD]),
            last: None,
            sequences: 0,
        }
    }

    fn has_room(&self) -> bool {
        self.bytes.len() + 2 * Self::WORD <= LIST_SIZE
    }

    /// Adds a field, to the last sequence if its identifier follows.
    fn push(&mut self, id: FieldId, value: u64) {
        match &mut self.last {
            Some((header, first, count)) if first.0 + *count == id.0 => {
                let identifier = first.0 | *count << Self::LAST_FIELD_SHIFT;
                *count += 1;
                self.bytes[*header..*header + Self::WORD]
                    .copy_from_slice(&identifier.to_le_bytes());
            }
            _ => {
                self.last = Some((self.bytes.len(), id, 1));
                self.sequences += 1;
                self.bytes.extend_from_slice(&id.0.to_le_bytes());
            }
        }
        self.bytes.extend_from_slice(&value.to_le_bytes());
    }

    /// The list with its header.
    fn bytes(&mut self) -> &[u8] {
        let used = self.bytes.len() as u16;
        self.bytes[..2].copy_from_slice(&used.to_le_bytes());
        self.bytes[2..4].copy_from_slice(&self.sequences.to_le_bytes());
        &self.bytes
    }
}

#[cfg(test)]
mod tests;
