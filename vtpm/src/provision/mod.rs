//! The engine, as the platform around it uses it: L1's own commands.
//!
//! They run between two commands of the guest, at locality 0, authorized by passwords, so that they
//! take none of its sessions. Key creation takes a transient slot for the time it runs and gives it
//! back. Two things of the guest's they do touch, as any firmware's commands do: an exclusive audit
//! session ends, and command audit counts the commands that the owner chose to have counted.

mod identity;
mod keys;
mod nv;
mod pcr;

use alloc::boxed::Box;
use alloc::vec;

use attestation::journal::StartupType;
use attestation::tpm::{Command, Response, ResponseError, WireError, cc, rc, rh};

use crate::{Engine, EngineFailure, Locality, MAX_RESPONSE};

pub(crate) use self::identity::{CommandKind, NvUse};
pub(crate) use self::nv::NvAttributes;

/// Why a command of L1's own has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// The engine is out of service.
    #[error(transparent)]
    Engine(#[from] EngineFailure),
    /// The TPM refused, or what it answered is no response.
    #[error("command {command:#x}: {error}")]
    Response {
        /// TPM_CC.
        command: u32,
        /// What it answered.
        error: ResponseError,
    },
}

impl CommandError {
    /// Whether the command gave up because it was asked to.
    pub(crate) fn is_canceled(&self) -> bool {
        let Self::Response { error, .. } = self else {
            return false;
        };
        *error == ResponseError::Code(rc::CANCELED)
    }
}

/// Bytes of the platform's authorization value.
pub(crate) const AUTHORIZATION: usize = 32;

/// The engine and the platform's authorization for it.
pub(crate) struct Provisioner<E> {
    engine: E,
    response: Box<[u8]>,
    /// platformAuth; empty until the hierarchy is closed.
    authorization: Option<[u8; AUTHORIZATION]>,
}

impl<E: Engine> Provisioner<E> {
    /// `engine` has had its _TPM_Init.
    pub(crate) fn new(engine: E) -> Self {
        Self {
            engine,
            response: vec![0; MAX_RESPONSE].into_boxed_slice(),
            authorization: None,
        }
    }

    /// The engine, for the guest's commands.
    pub(crate) fn engine(&self) -> &E {
        &self.engine
    }

    /// As [`engine`](Self::engine), to use it.
    pub(crate) fn engine_mut(&mut self) -> &mut E {
        &mut self.engine
    }

    /// _TPM_Init. The platform hierarchy is open after the next startup.
    pub(crate) fn reset(&mut self) -> Result<(), EngineFailure> {
        self.authorization = None;
        self.engine.reset()
    }

    /// TPM2_Startup(CLEAR).
    pub(crate) fn startup(&mut self) -> Result<(), CommandError> {
        self.run(cc::STARTUP, |command| {
            command.u16(StartupType::Clear.code())
        })
        .map(drop)
    }

    /// TPM2_HierarchyChangeAuth: nobody else uses the platform hierarchy until the next startup.
    pub(crate) fn close(&mut self, authorization: [u8; AUTHORIZATION]) -> Result<(), CommandError> {
        let former = self.authorization;
        self.run(cc::HIERARCHY_CHANGE_AUTH, |command| {
            command
                .authorized(rh::PLATFORM, password(&former))
                .sized(&authorization)
        })?;
        self.authorization = Some(authorization);
        Ok(())
    }

    /// Runs a command that returns no handle.
    fn run(
        &mut self,
        code: u32,
        build: impl FnOnce(Command) -> Command,
    ) -> Result<Response<'_>, CommandError> {
        let response = self.execute(&build(Command::new(code)))?;
        Response::parse(response).map_err(|error| refused(code, error))
    }

    /// As [`run`](Self::run), for one that returns a handle.
    fn run_for_handle(
        &mut self,
        code: u32,
        build: impl FnOnce(Command) -> Command,
    ) -> Result<Response<'_>, CommandError> {
        let response = self.execute(&build(Command::new(code)))?;
        Response::parse_with_handle(response).map_err(|error| refused(code, error))
    }

    fn execute(&mut self, command: &Command) -> Result<&[u8], CommandError> {
        let mut command = command.to_bytes();
        let mut length = 0;
        // The engine asks for a command again when it had to prepare for it first.
        for _ in 0..3 {
            length = self
                .engine
                .execute(Locality::Zero, &command, &mut self.response)?;
            let code = self.response.get(6..10);
            if code != Some(&rc::RETRY.to_be_bytes()) {
                break;
            }
        }
        // It may hold authorization values.
        command.fill(0);
        Ok(self.response.get(..length).unwrap_or_default())
    }
}

fn password(authorization: &Option<[u8; AUTHORIZATION]>) -> &[u8] {
    authorization.as_ref().map_or(&[], |value| value.as_slice())
}

fn refused(command: u32, error: ResponseError) -> CommandError {
    CommandError::Response { command, error }
}

fn unreadable(command: u32) -> impl Fn(WireError) -> CommandError {
    move |error| refused(command, error.into())
}
