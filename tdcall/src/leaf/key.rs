//! TDG.MR.KEY.GET.

use thiserror::Error;

use crate::raw::RawTdcall;
use crate::td::Td;
use tdx_defs::Gpa;
use tdx_defs::Registers;
use tdx_defs::status::{Code, Operand, Status};
use tdx_defs::tdg;

/// Why there is no sealing key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum KeyGetError {
    /// The module or the platform has no sealing keys: a newer module, or another source of the key.
    #[error("TDG.MR.KEY.GET: the TDX module or the platform has no sealing keys")]
    Unsupported,
    /// The TD did not ask for them: ENABLE_HW_KEYS in TD_CTLS.
    #[error("TDG.MR.KEY.GET: not enabled in TD_CTLS")]
    NotEnabled,
    /// The request's address, one of its reserved bits, its name or its key sizes.
    #[error("TDG.MR.KEY.GET: the module refuses the request (operand {0:?})")]
    Request(Operand),
    /// The key is to be one of a TCB that the platform does not have: it was sealed on a newer one.
    #[error("TDG.MR.KEY.GET: the platform's TCB is older than the one that the key is of")]
    Svn,
    /// The key is not the number of bits that was asked for.
    #[error("TDG.MR.KEY.GET: the key has {0} bits")]
    Size(u64),
    /// Another call held the RTMRs all the time.
    #[error("TDG.MR.KEY.GET: the RTMRs stay busy")]
    Busy,
    /// A status the ABI does not list.
    #[error("TDG.MR.KEY.GET: {0}")]
    Unexpected(Status),
}

impl<R: RawTdcall> Td<R> {
    /// Bits of a key that is taken.
    const KEY_BITS: u64 = 256;

    /// TDG.MR.KEY.GET for L1 itself: writes the 32-byte key of the
    /// [`TdKeyRequest`](tdx_defs::key_request::TdKeyRequest) at `request` (128-byte aligned) to `key` (32-byte aligned). Both
    /// are private, and the caller erases the key there.
    ///
    /// A key of fewer bits than 256 is an error: the rest of its 32 bytes would be no secret.
    pub fn mr_key_get(&self, request: Gpa, key: Gpa) -> Result<(), KeyGetError> {
        let out = self.call(Registers {
            rax: tdg::MR_KEY_GET,
            rcx: request.0,
            rdx: key.0,
            r8: 0,
            ..Default::default()
        });
        let status = Status(out.rax);
        match (status.code(), status.operand()) {
            (Code::Success, _) if out.r9 == Self::KEY_BITS => Ok(()),
            (Code::Success, _) => Err(KeyGetError::Size(out.r9)),
            (Code::OperandInvalid, Operand::RAX) => Err(KeyGetError::Unsupported),
            (Code::OperandInvalid, operand) => Err(KeyGetError::Request(operand)),
            (Code::MrKeyGetNotSupported, _) => Err(KeyGetError::NotEnabled),
            (Code::SvnInvalid, _) => Err(KeyGetError::Svn),
            (Code::OperandBusy, _) => Err(KeyGetError::Busy),
            _ => Err(KeyGetError::Unexpected(status)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::Script;

    fn get(rax: u64, r9: u64) -> Result<(), KeyGetError> {
        let script = Script::new([Registers {
            rax,
            r9,
            ..Default::default()
        }]);
        let got = Td::new(&script).mr_key_get(Gpa(0x80), Gpa(0x20));
        let call = script.only_call();
        assert_eq!((call.rax, call.rcx, call.rdx, call.r8), (29, 0x80, 0x20, 0));
        got
    }

    #[test]
    fn each_status_is_its_own_error() {
        let rows = [
            (0, Ok(())),
            (0xC000_0100_0000_0000, Err(KeyGetError::Unsupported)),
            (0xC000_1004_0000_0000, Err(KeyGetError::NotEnabled)),
            (
                0xC000_0100_0000_0001,
                Err(KeyGetError::Request(Operand::RCX)),
            ),
            (
                0xC000_0100_0000_0064,
                Err(KeyGetError::Request(Operand::KEYNAME)),
            ),
            (
                0xC000_0100_0000_006C,
                Err(KeyGetError::Request(Operand::KEYSIZE_BITMAP)),
            ),
            (0xC000_1006_0000_0000, Err(KeyGetError::Svn)),
            (
                0xC000_0B00_0000_0000,
                Err(KeyGetError::Unexpected(Status(0xC000_0B00_0000_0000))),
            ),
        ];
        for (rax, expected) in rows {
            assert_eq!(get(rax, 256), expected, "{rax:#x}");
        }
    }

    #[test]
    fn a_key_of_half_the_bits_is_not_taken() {
        for bits in [0, 128, 512] {
            assert_eq!(get(0, bits), Err(KeyGetError::Size(bits)));
        }
    }
}
