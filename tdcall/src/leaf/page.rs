//! TDG.MEM.PAGE.ACCEPT.

use thiserror::Error;

use crate::raw::RawTdcall;
use crate::td::Td;
use tdx_defs::Registers;
use tdx_defs::attributes::Mapping;
use tdx_defs::status::{Code, Operand, Status};
use tdx_defs::tdg;
use tdx_defs::{Gpa, PageLevel};

/// Why a page was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum AcceptError {
    /// The page was accepted before. For memory that should be new this is an attack: the page
    /// was not zeroed.
    #[error("TDG.MEM.PAGE.ACCEPT: already accepted at level {level}")]
    AlreadyAccepted {
        /// Number of the level found.
        level: u32,
    },
    /// The host mapped smaller pages here: accept those.
    #[error("TDG.MEM.PAGE.ACCEPT: mapped with pages smaller than level {level}")]
    SizeMismatch {
        /// Number of the level asked for.
        level: u32,
    },
    /// The address or the level is wrong.
    #[error("TDG.MEM.PAGE.ACCEPT: the module refuses the address or level")]
    Operand,
    /// Another call held the page all the time.
    #[error("TDG.MEM.PAGE.ACCEPT: the page stays busy")]
    Busy,
    /// A status the ABI does not list.
    #[error("TDG.MEM.PAGE.ACCEPT: {0}")]
    Unexpected(Status),
}

impl<R: RawTdcall> Td<R> {
    /// TDG.MEM.PAGE.ACCEPT: zeroes a pending private page and makes it L1's. `gpa` is aligned to
    /// the level; the level is 4K or 2M.
    ///
    /// Gives no L2 VM access, but unblocks aliases made while the page was pending.
    pub fn mem_page_accept(&self, gpa: Gpa, level: PageLevel) -> Result<(), AcceptError> {
        if !gpa.is_aligned(level.size()) {
            return Err(AcceptError::Operand);
        }
        let out = self.call(Registers {
            rax: tdg::MEM_PAGE_ACCEPT,
            rcx: Mapping::page(gpa, level).into_bits(),
            ..Default::default()
        });
        let status = Status(out.rax);
        match (status.code(), status.operand()) {
            (Code::Success, _) => Ok(()),
            (Code::PageAlreadyAccepted, _) => Err(AcceptError::AlreadyAccepted {
                level: status.details_l2(),
            }),
            (Code::PageSizeMismatch, _) => Err(AcceptError::SizeMismatch {
                level: status.details_l2(),
            }),
            (Code::OperandInvalid, Operand::RCX) => Err(AcceptError::Operand),
            (Code::OperandBusy, _) => Err(AcceptError::Busy),
            _ => Err(AcceptError::Unexpected(status)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::Script;

    #[test]
    fn statuses_are_decoded_whatever_the_level_in_them() {
        let rows = [
            (0, Ok(())),
            (
                0x0000_0B0A_0000_0000,
                Err(AcceptError::AlreadyAccepted { level: 0 }),
            ),
            (
                0x0000_0B0A_0000_0001,
                Err(AcceptError::AlreadyAccepted { level: 1 }),
            ),
            (
                0xC000_0B0B_0000_0001,
                Err(AcceptError::SizeMismatch { level: 1 }),
            ),
            (0xC000_0100_0000_0001, Err(AcceptError::Operand)),
        ];
        for (rax, expected) in rows {
            let script = Script::status(rax);
            let result = Td::new(&script).mem_page_accept(Gpa(0x20_0000), PageLevel::Page2M);
            assert_eq!(result, expected, "{rax:#x}");
            assert_eq!(script.only_call().rcx, 0x20_0001);
        }
    }

    #[test]
    fn an_address_off_its_level_is_not_even_tried() {
        let script = Script::new([]);
        let result = Td::new(&script).mem_page_accept(Gpa(0x1000), PageLevel::Page2M);
        assert_eq!(result, Err(AcceptError::Operand));
    }
}
