//! Reading responses: TPM 2.0 Library, part 1, "Command/Response Structure".

use super::command::{NO_SESSIONS, SESSIONS};
use super::rc;
use super::wire::{Fields, WireError};

/// TPM_RC of a response; `None` if it is shorter than its header.
pub fn response_code(response: &[u8]) -> Option<u32> {
    let code = response.get(6..10)?;
    Some(u32::from_be_bytes(code.try_into().ok()?))
}

/// Why a response is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResponseError {
    /// The command failed.
    #[error("the TPM answered {0:#x}")]
    Code(u32),
    /// It is no response: its tag or a size is wrong.
    #[error("the TPM's response has a wrong tag or size")]
    Malformed,
    /// It ends too early.
    #[error(transparent)]
    Wire(#[from] WireError),
}

/// A response of success.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    /// The handle, of a command that returns one.
    pub handle: Option<u32>,
    /// The parameter area.
    pub parameters: Fields<'a>,
}

impl<'a> Response<'a> {
    /// Of a command that returns parameters.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ResponseError> {
        Self::read(bytes, false)
    }

    /// Of a command that returns a handle and parameters.
    pub fn parse_with_handle(bytes: &'a [u8]) -> Result<Self, ResponseError> {
        Self::read(bytes, true)
    }

    fn read(bytes: &'a [u8], with_handle: bool) -> Result<Self, ResponseError> {
        let mut fields = Fields::new(bytes);
        let tag = fields.u16()?;
        let size = fields.u32()?;
        if usize::try_from(size) != Ok(bytes.len()) {
            return Err(ResponseError::Malformed);
        }
        let code = fields.u32()?;
        if code != rc::SUCCESS {
            return Err(ResponseError::Code(code));
        }
        let handle = with_handle.then(|| fields.u32()).transpose()?;
        let parameters = match tag {
            NO_SESSIONS => fields,
            SESSIONS => {
                let size = fields.u32()?;
                let size = usize::try_from(size).map_err(|_| ResponseError::Malformed)?;
                Fields::new(fields.bytes(size)?)
            }
            _ => return Err(ResponseError::Malformed),
        };
        Ok(Self { handle, parameters })
    }
}
