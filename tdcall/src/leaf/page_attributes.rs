//! TDG.MEM.PAGE.ATTR.RD and TDG.MEM.PAGE.ATTR.WR.

use thiserror::Error;

use crate::raw::RawTdcall;
use crate::td::Td;
use tdx_defs::Registers;
use tdx_defs::attributes::{AttrFlags, GpaAttributes, Mapping};
use tdx_defs::status::{Code, Operand, Status};
use tdx_defs::tdg;
use tdx_defs::{Gpa, PageLevel, VmIndex};

/// A page and what the L2 VMs may do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageAttributes {
    /// The page as it is mapped for L1.
    pub mapping: Mapping,
    /// Attributes for every VM.
    pub attributes: GpaAttributes,
}

/// Why page attributes were not read or did not take effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PageAttrError {
    /// The page is mapped with smaller pages than asked for: use those.
    #[error("page attributes: mapped with pages smaller than level {level}")]
    SizeMismatch {
        /// Number of the level asked for.
        level: u32,
    },
    /// The L2 VM has no page table for this page: the host must add one; retry after it did.
    #[error("page attributes: VM {vm} has no page table at level {level}")]
    L2WalkFailed {
        /// Number of the VM.
        vm: u16,
        /// Number of the level.
        level: u16,
    },
    /// The combination of attributes is not legal; `current` is what the module says of it.
    #[error("page attributes: {current:?} is not a legal combination")]
    Illegal {
        /// RDX: the offending VM's present attributes.
        current: GpaAttributes,
    },
    /// The address or the level is wrong.
    #[error("page attributes: the module refuses the address or level")]
    Address,
    /// The attributes name L1, a VM that is not there, or change one without its VALID bit.
    #[error("page attributes: the module refuses the attributes")]
    Attributes,
    /// The flags name L1 or a VM that is not there.
    #[error("page attributes: the module refuses the flags")]
    Flags,
    /// Another call held the page all the time.
    #[error("page attributes: the page stays busy")]
    Busy,
    /// A status the ABI does not list.
    #[error("page attributes: {0}")]
    Unexpected(Status),
}

impl PageAttrError {
    fn of(status: Status, rdx: u64) -> Self {
        match (status.code(), status.operand()) {
            (Code::PageSizeMismatch, _) => Self::SizeMismatch {
                level: status.details_l2(),
            },
            (Code::L2SeptWalkFailed, _) => Self::L2WalkFailed {
                vm: (status.details_l2() >> 16) as u16,
                level: status.details_l2() as u16,
            },
            (Code::PageAttrInvalid, _) => Self::Illegal {
                current: GpaAttributes(rdx),
            },
            (Code::OperandInvalid, Operand::RCX) => Self::Address,
            (Code::OperandInvalid, Operand::RDX) => Self::Attributes,
            (Code::OperandInvalid, Operand::R8) => Self::Flags,
            (Code::OperandBusy, _) => Self::Busy,
            _ => Self::Unexpected(status),
        }
    }
}

impl<R: RawTdcall> Td<R> {
    /// TDG.MEM.PAGE.ATTR.RD: how the page with `gpa` in it is mapped for L1 and for the L2 VMs.
    /// `gpa` is private.
    pub fn mem_page_attr_rd(&self, gpa: Gpa) -> Result<PageAttributes, PageAttrError> {
        self.page_attributes(Registers {
            rax: tdg::MEM_PAGE_ATTR_RD,
            rcx: gpa.0,
            ..Default::default()
        })
    }

    /// TDG.MEM.PAGE.ATTR.WR: gives L2 VMs access to a page, or takes it. `gpa` is private and
    /// aligned to `level`.
    ///
    /// Tightening needs a flush: the INVEPT bit in `flags`, [`Td::vp_invept`] or a flush at entry,
    /// on every virtual processor. Returns what is in effect now.
    pub fn mem_page_attr_wr(
        &self,
        gpa: Gpa,
        level: PageLevel,
        attributes: GpaAttributes,
        flags: AttrFlags,
    ) -> Result<PageAttributes, PageAttrError> {
        if !gpa.is_aligned(level.size()) {
            return Err(PageAttrError::Address);
        }
        self.page_attributes(Registers {
            rax: tdg::MEM_PAGE_ATTR_WR,
            rcx: Mapping::page(gpa, level).into_bits(),
            rdx: attributes.0,
            r8: flags.0,
            ..Default::default()
        })
    }

    fn page_attributes(&self, operands: Registers) -> Result<PageAttributes, PageAttrError> {
        let out = self.call(operands);
        let status = Status(out.rax);
        match status.code() {
            Code::Success => Ok(PageAttributes {
                mapping: Mapping::from_bits(out.rcx),
                attributes: GpaAttributes(out.rdx),
            }),
            _ => Err(PageAttrError::of(status, out.rdx)),
        }
    }
}

impl PageAttributes {
    /// Whether `vm` has an alias of the page with any access.
    pub const fn is_present(&self, vm: VmIndex) -> bool {
        let attributes = self.attributes.vm(vm);
        attributes.valid() && attributes.is_present()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::Script;
    use tdx_defs::attributes::VmAttributes;

    const VM: VmIndex = VmIndex::FIRST;

    fn give(script: &Script) -> Result<PageAttributes, PageAttrError> {
        Td::new(script).mem_page_attr_wr(
            Gpa(0x4000_0000),
            PageLevel::Page2M,
            GpaAttributes::of(VM, VmAttributes::RWX),
            AttrFlags::permissions(VM),
        )
    }

    #[test]
    fn a_write_passes_mapping_attributes_and_flags() {
        let script = Script::new([Registers {
            rcx: 0x4000_0001,
            rdx: 0x8007_0000,
            ..Default::default()
        }]);
        let result = give(&script).unwrap();
        assert!(result.is_present(VM));
        assert_eq!(result.mapping.level(), Some(PageLevel::Page2M));
        let call = script.only_call();
        assert_eq!(
            (call.rax, call.rcx, call.rdx, call.r8),
            (24, 0x4000_0001, 0x8007_0000, 0xF_0000)
        );
    }

    #[test]
    fn statuses_are_decoded() {
        let rows = [
            (
                0xC000_0B0B_0000_0001,
                PageAttrError::SizeMismatch { level: 1 },
            ),
            (
                0xC000_0B0F_0002_0001,
                PageAttrError::L2WalkFailed { vm: 2, level: 1 },
            ),
            (
                0xC000_0B11_0000_0000,
                PageAttrError::Illegal {
                    current: GpaAttributes(0),
                },
            ),
            (0xC000_0100_0000_0001, PageAttrError::Address),
            (0xC000_0100_0000_0002, PageAttrError::Attributes),
            (0xC000_0100_0000_0008, PageAttrError::Flags),
            (
                0xFFFF_0000_0000_0000,
                PageAttrError::Unexpected(Status(0xFFFF_0000_0000_0000)),
            ),
        ];
        for (rax, expected) in rows {
            assert_eq!(give(&Script::status(rax)), Err(expected), "{rax:#x}");
        }
    }

    #[test]
    fn a_busy_write_keeps_its_operands() {
        // A busy call returns RCX = RDX = 0; feeding them back would end in OPERAND_INVALID.
        let busy = Registers {
            rax: 0x8000_0200_0000_0001,
            ..Default::default()
        };
        let done = Registers {
            rcx: 0x4000_0001,
            rdx: 0x8007_0000,
            ..Default::default()
        };
        let script = Script::new([busy, done]);
        give(&script).unwrap();
        let calls = script.calls();
        assert_eq!(calls[0], calls[1]);
    }

    #[test]
    fn an_alias_is_present_if_it_is_valid_and_allows_anything() {
        for (bits, present) in [
            (0, false),
            (0x8000, false),
            (0x0007, false),
            (0x8001, true),
            (0x8004, true),
            (0x8007, true),
        ] {
            let script = Script::new([Registers {
                rdx: bits << 16,
                ..Default::default()
            }]);
            let page = Td::new(&script).mem_page_attr_rd(Gpa(0x1000)).unwrap();
            assert_eq!(page.is_present(VM), present, "{bits:#x}");
            assert!(!page.is_present(VmIndex::new(2).unwrap()));
        }
    }
}
