//! Building commands with password sessions: TPM 2.0 Library, part 1, "Command/Response Structure".

use super::rh;
use super::wire::Put;
use alloc::vec::Vec;

/// TPM_ST_NO_SESSIONS.
pub(super) const NO_SESSIONS: u16 = 0x8001;
/// TPM_ST_SESSIONS.
pub(super) const SESSIONS: u16 = 0x8002;
/// Bytes of a command's or response's header.
const HEADER_SIZE: usize = 10;

/// A command that is being put together; parts may be added in any order.
#[derive(Clone, Debug)]
pub struct Command {
    code: u32,
    handles: Vec<u8>,
    authorizations: Vec<u8>,
    parameters: Vec<u8>,
}

impl Command {
    /// A command of a TPM_CC, with no handle, authorization or parameter yet.
    pub fn new(code: u32) -> Self {
        Self {
            code,
            handles: Vec::new(),
            authorizations: Vec::new(),
            parameters: Vec::new(),
        }
    }

    /// The next handle, which needs no authorization.
    pub fn handle(mut self, handle: u32) -> Self {
        self.handles.put_u32(handle);
        self
    }

    /// The next handle, authorized with a password (TPM_RS_PW; empty if the entity has none).
    /// Handles that need authorization come first.
    pub fn authorized(mut self, handle: u32, password: &[u8]) -> Self {
        self.handles.put_u32(handle);
        self.authorizations.put_u32(rh::PASSWORD);
        // No nonce.
        self.authorizations.put_u16(0);
        // continueSession: has no effect on a password.
        self.authorizations.push(0);
        self.authorizations.put_sized(password);
        self
    }

    /// BYTE parameter.
    pub fn u8(mut self, parameter: u8) -> Self {
        self.parameters.push(parameter);
        self
    }

    /// UINT16 parameter.
    pub fn u16(mut self, parameter: u16) -> Self {
        self.parameters.put_u16(parameter);
        self
    }

    /// UINT32 parameter.
    pub fn u32(mut self, parameter: u32) -> Self {
        self.parameters.put_u32(parameter);
        self
    }

    /// TPM2B parameter: a size and the bytes.
    pub fn sized(mut self, parameter: &[u8]) -> Self {
        self.parameters.put_sized(parameter);
        self
    }

    /// A parameter that is already as on the wire.
    pub fn bytes(mut self, parameter: &[u8]) -> Self {
        self.parameters.extend(parameter);
        self
    }

    /// The whole command.
    pub fn to_bytes(&self) -> Vec<u8> {
        let area = |length: usize| u32::try_from(length).unwrap_or(u32::MAX);
        let mut body = self.handles.clone();
        let tag = if self.authorizations.is_empty() {
            NO_SESSIONS
        } else {
            body.put_u32(area(self.authorizations.len()));
            body.extend(&self.authorizations);
            SESSIONS
        };
        body.extend(&self.parameters);
        let mut bytes = Vec::with_capacity(HEADER_SIZE + body.len());
        bytes.put_u16(tag);
        bytes.put_u32(area(HEADER_SIZE + body.len()));
        bytes.put_u32(self.code);
        bytes.extend(body);
        bytes
    }
}
