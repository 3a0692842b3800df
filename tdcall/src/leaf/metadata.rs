//! TDG.VM.RD, TDG.VM.WR, TDG.VP.RD, TDG.VP.WR, TDG.SYS.RD and TDG.SYS.RDALL.

use thiserror::Error;

use crate::raw::RawTdcall;
use crate::td::Td;
use tdx_defs::Gpa;
use tdx_defs::Registers;
use tdx_defs::field::FieldId;
use tdx_defs::status::{Code, Operand, Status};
use tdx_defs::tdg;

/// Why a metadata field was not read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MetadataError {
    /// There is no such field: the identifier is wrong, or names an L2 VM the TD does not have.
    #[error("metadata: there is no such field")]
    UnknownField,
    /// No bit that was to be written is writable.
    #[error("metadata: the field is not writable")]
    NotWritable,
    /// The field is not for the guest.
    #[error("metadata: the field is not readable")]
    NotReadable,
    /// The value breaks a rule of the field, or changes a bit that is fixed.
    #[error("metadata: the module refuses the value")]
    ValueNotValid,
    /// The VMCS field was never written.
    #[error("metadata: the VMCS field is not initialized")]
    NotInitialized,
    /// An operand other than the field is wrong.
    #[error("metadata: the module refuses operand {0:?}")]
    Operand(Operand),
    /// Another call held the metadata all the time.
    #[error("metadata: operand {0:?} stays busy")]
    Busy(Operand),
    /// A status the ABI does not list.
    #[error("metadata: {0}")]
    Unexpected(Status),
}

impl MetadataError {
    fn of(status: Status) -> Self {
        match status.code() {
            Code::MetadataFieldIdIncorrect => Self::UnknownField,
            Code::MetadataFieldNotWritable => Self::NotWritable,
            Code::MetadataFieldNotReadable => Self::NotReadable,
            Code::MetadataFieldValueNotValid => Self::ValueNotValid,
            Code::TdVmcsFieldNotInitialized => Self::NotInitialized,
            Code::OperandInvalid => Self::Operand(status.operand()),
            Code::OperandBusy => Self::Busy(status.operand()),
            _ => Self::Unexpected(status),
        }
    }
}

/// A field and the one after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldValue {
    /// The value, zero-extended.
    pub value: u64,
    /// Identifier of the next field of the context, if there is one.
    pub next: Option<FieldId>,
}

/// What TDG.SYS.RDALL left to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldList {
    /// The list holds everything from the first identifier on.
    Complete,
    /// The list is full; continue with this identifier.
    ContinueAt(FieldId),
}

fn next_of(rdx: u64) -> Option<FieldId> {
    (rdx != FieldId::NONE.0).then_some(FieldId(rdx))
}

impl<R: RawTdcall> Td<R> {
    /// TDG.VM.RD: a field of the TD.
    pub fn vm_rd(&self, field: FieldId) -> Result<u64, MetadataError> {
        self.read(tdg::VM_RD, field).map(|out| out.r8)
    }

    /// TDG.VM.RD, version 1: a field of the TD, and which one follows.
    pub fn vm_rd_next(&self, field: FieldId) -> Result<FieldValue, MetadataError> {
        let out = self.read(tdg::VM_RD | 1 << tdg::VERSION_SHIFT, field)?;
        Ok(FieldValue {
            value: out.r8,
            next: next_of(out.rdx),
        })
    }

    /// TDG.VM.WR: writes the bits of `mask`; returns what was there before.
    pub fn vm_wr(&self, field: FieldId, value: u64, mask: u64) -> Result<u64, MetadataError> {
        self.write(tdg::VM_WR, field, value, mask)
    }

    /// TDG.VP.RD: a field of this virtual processor, L2 state included. A VMCS field of L2 is
    /// read from the VMCS of this virtual processor only.
    pub fn vp_rd(&self, field: FieldId) -> Result<u64, MetadataError> {
        self.read(tdg::VP_RD, field).map(|out| out.r8)
    }

    /// As [`Td::vp_rd`], and which field follows.
    pub fn vp_rd_next(&self, field: FieldId) -> Result<FieldValue, MetadataError> {
        let out = self.read(tdg::VP_RD, field)?;
        Ok(FieldValue {
            value: out.r8,
            next: next_of(out.rdx),
        })
    }

    /// TDG.VP.WR: writes the bits of `mask`; returns what was there before.
    ///
    /// A bit in `mask` that is not writable must have its present value.
    pub fn vp_wr(&self, field: FieldId, value: u64, mask: u64) -> Result<u64, MetadataError> {
        self.write(tdg::VP_WR, field, value, mask)
    }

    /// TDG.SYS.RD: a field of the module.
    pub fn sys_rd(&self, field: FieldId) -> Result<u64, MetadataError> {
        self.read(tdg::SYS_RD, field).map(|out| out.r8)
    }

    /// As [`Td::sys_rd`], and which field follows.
    pub fn sys_rd_next(&self, field: FieldId) -> Result<FieldValue, MetadataError> {
        let out = self.read(tdg::SYS_RD, field)?;
        Ok(FieldValue {
            value: out.r8,
            next: next_of(out.rdx),
        })
    }

    /// TDG.SYS.RDALL: writes the module's fields from `first` on as a metadata list to the
    /// private page at `list`. [`FieldId::FIRST`] starts at the beginning.
    pub fn sys_rdall(&self, list: Gpa, first: FieldId) -> Result<FieldList, MetadataError> {
        let out = self.call(Registers {
            rax: tdg::SYS_RDALL,
            rdx: list.0,
            r8: first.0,
            ..Default::default()
        });
        let status = Status(out.rax);
        match status.code() {
            Code::Success => Ok(FieldList::Complete),
            Code::MetadataListOverflow => Ok(FieldList::ContinueAt(FieldId(out.r8))),
            _ => Err(MetadataError::of(status)),
        }
    }

    fn read(&self, leaf: u64, field: FieldId) -> Result<Registers, MetadataError> {
        let out = self.call(Registers {
            rax: leaf,
            rdx: field.0,
            ..Default::default()
        });
        let status = Status(out.rax);
        match status.code() {
            Code::Success | Code::MetadataFirstFieldIdInContext => Ok(out),
            _ => Err(MetadataError::of(status)),
        }
    }

    fn write(
        &self,
        leaf: u64,
        field: FieldId,
        value: u64,
        mask: u64,
    ) -> Result<u64, MetadataError> {
        let out = self.call(Registers {
            rax: leaf,
            rdx: field.0,
            r8: value,
            r9: mask,
            ..Default::default()
        });
        let status = Status(out.rax);
        match status.code() {
            Code::Success => Ok(out.r8),
            _ => Err(MetadataError::of(status)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::Script;

    #[test]
    fn statuses_are_decoded() {
        let rows = [
            (0xC000_0C00_0000_0000, MetadataError::UnknownField),
            (0xC000_0C01_0000_0000, MetadataError::NotWritable),
            (0xC000_0C02_0000_0000, MetadataError::NotReadable),
            (0xC000_0C03_0000_0000, MetadataError::ValueNotValid),
            (0xC000_0730_0000_6800, MetadataError::NotInitialized),
            (0xC000_0100_0000_0001, MetadataError::Operand(Operand::RCX)),
            (
                0x1234_5678_9ABC_DEF0,
                MetadataError::Unexpected(Status(0x1234_5678_9ABC_DEF0)),
            ),
        ];
        for (rax, expected) in rows {
            let td = Script::status(rax);
            assert_eq!(
                Td::new(&td).vp_wr(FieldId::TD_CTLS, 0, 0),
                Err(expected),
                "{rax:#x}"
            );
        }
    }

    #[test]
    fn a_write_passes_value_and_mask_and_returns_the_old_value() {
        let script = Script::new([Registers {
            r8: 7,
            ..Default::default()
        }]);
        assert_eq!(Td::new(&script).vm_wr(FieldId::TD_CTLS, 1, 3), Ok(7));
        let call = script.only_call();
        assert_eq!((call.rax, call.rcx, call.rdx), (8, 0, FieldId::TD_CTLS.0));
        assert_eq!((call.r8, call.r9), (1, 3));
    }

    #[test]
    fn fields_are_walked_from_the_first_to_the_last() {
        let script = Script::new([
            Registers {
                rax: 0x0000_0C0B_0000_0000,
                rdx: 0x55,
                ..Default::default()
            },
            Registers {
                rdx: u64::MAX,
                r8: 9,
                ..Default::default()
            },
        ]);
        let td = Td::new(&script);
        let first = td.vp_rd_next(FieldId::FIRST).unwrap();
        assert_eq!(
            first,
            FieldValue {
                value: 0,
                next: Some(FieldId(0x55))
            }
        );
        let last = td.vp_rd_next(FieldId(0x55)).unwrap();
        assert_eq!(
            last,
            FieldValue {
                value: 9,
                next: None
            }
        );
    }

    #[test]
    fn only_the_walking_read_of_the_td_is_version_1() {
        let script = Script::new([Registers::default(); 2]);
        let td = Td::new(&script);
        td.vm_rd(FieldId::XFAM).unwrap();
        td.vm_rd_next(FieldId::XFAM).unwrap();
        let leaves: std::vec::Vec<u64> = script.calls().iter().map(|call| call.rax).collect();
        assert_eq!(leaves, [7, 0x1_0007]);
    }

    #[test]
    fn a_full_list_says_where_to_continue() {
        let script = Script::new([Registers {
            rax: 0xC000_0C04_0000_0000,
            r8: 0x77,
            ..Default::default()
        }]);
        let list = Td::new(&script).sys_rdall(Gpa(0x1000), FieldId::FIRST);
        assert_eq!(list, Ok(FieldList::ContinueAt(FieldId(0x77))));
        let list = Td::new(&Script::status(0)).sys_rdall(Gpa(0x1000), FieldId::FIRST);
        assert_eq!(list, Ok(FieldList::Complete));
    }
}
