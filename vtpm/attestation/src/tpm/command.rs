//! Building commands: TPM 2.0 Library, part 1, "Command/Response Structure".

use super::rh;
use super::wire::Put;
use alloc::vec::Vec;

/// TPM_ST_NO_SESSIONS.
pub(super) const NO_SESSIONS: u16 = 0x8001;
/// TPM_ST_SESSIONS.
pub(super) const SESSIONS: u16 = 0x8002;
/// Bytes of a command's or response's header.
const HEADER_SIZE: usize = 10;

/// TPMS_AUTH_COMMAND: what authorizes the use of an entity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authorization<'a> {
    /// TPM_RS_PW, or the handle of a session.
    pub session: u32,
    /// The caller's nonce; empty for a password.
    pub nonce: &'a [u8],
    /// TPMA_SESSION.
    pub attributes: u8,
    /// The password, or an HMAC.
    pub hmac: &'a [u8],
}

impl<'a> Authorization<'a> {
    /// TPMA_SESSION, continueSession: the session outlives the command.
    pub const CONTINUE_SESSION: u8 = 1;

    /// A password; empty if the entity has none.
    pub const fn password(password: &'a [u8]) -> Self {
        Self {
            session: rh::PASSWORD,
            nonce: &[],
            // continueSession has no effect on a password.
            attributes: 0,
            hmac: password,
        }
    }

    /// A policy session that is kept.
    pub const fn policy(session: u32) -> Self {
        Self {
            session,
            nonce: &[],
            attributes: Self::CONTINUE_SESSION,
            hmac: &[],
        }
    }
}

/// A handle, and what authorizes the use of what it stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entity<'a> {
    /// Its handle.
    pub handle: u32,
    /// What authorizes its use.
    pub authorization: Authorization<'a>,
}

/// An entity with an empty password.
impl From<u32> for Entity<'_> {
    fn from(handle: u32) -> Self {
        Self::from((handle, [].as_slice()))
    }
}

/// An entity and its password.
impl<'a> From<(u32, &'a [u8])> for Entity<'a> {
    fn from((handle, password): (u32, &'a [u8])) -> Self {
        Self::from((handle, Authorization::password(password)))
    }
}

impl<'a> From<(u32, Authorization<'a>)> for Entity<'a> {
    fn from((handle, authorization): (u32, Authorization<'a>)) -> Self {
        Self {
            handle,
            authorization,
        }
    }
}

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

    /// The next handle, with what authorizes its use. Handles that need authorization come first.
    pub fn entity<'a>(mut self, entity: impl Into<Entity<'a>>) -> Self {
        let Entity {
            handle,
            authorization,
        } = entity.into();
        self.handles.put_u32(handle);
        self.authorizations.put_u32(authorization.session);
        self.authorizations.put_sized(authorization.nonce);
        self.authorizations.push(authorization.attributes);
        self.authorizations.put_sized(authorization.hmac);
        self
    }

    /// As [`entity`](Self::entity), with a password; empty if the entity has none.
    pub fn authorized(self, handle: u32, password: &[u8]) -> Self {
        self.entity((handle, password))
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
