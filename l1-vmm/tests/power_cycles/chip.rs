//! The engine with its states on a disk, as if it were a chip on a board.

use std::cell::Cell;
use std::sync::MutexGuard;

use attestation::tpm::commands::SessionType;
use attestation::tpm::{Command, Fields, Response, rc, response_code, rh};
use l1_vmm::state::StoreKeeper;
use state_store::NoLedger;
use tpm2_ref_sys::{Config, NvError, NvStore, Tpm};
use vtpm::state::Keeper;
use zeroize::Zeroizing;

use super::disk::Disk;
use super::support::{entropy, turn};

pub use attestation::journal::StartupType;
pub use attestation::tpm::commands::*;

pub const CLEAR: StartupType = StartupType::Clear;
pub const STATE: StartupType = StartupType::State;

thread_local! {
    /// Milliseconds of the world's clock: a test's own, so that none waits for another.
    static NOW: Cell<u64> = const { Cell::new(1_000) };
}

pub fn clock() -> u64 {
    NOW.get() * 1_000_000
}

/// Time passes.
pub fn wait(milliseconds: u64) {
    NOW.set(NOW.get() + milliseconds);
}

/// Gives each state to the keeper at once.
struct Kept {
    keeper: StoreKeeper<Disk, NoLedger>,
    first: Option<Zeroizing<Vec<u8>>>,
}

impl NvStore for Kept {
    fn load(&mut self) -> Result<Option<Vec<u8>>, NvError> {
        Ok(self.first.take().map(|state| state.to_vec()))
    }

    fn store(&mut self, state: &[u8]) -> Result<(), NvError> {
        self.keeper.keep(state).map_err(|_| NvError)
    }
}

fn open(disk: &Disk) -> Tpm {
    let l1_vmm::state::keeper::Kept { keeper, engine } = disk.keeper();
    Tpm::open(Config {
        entropy,
        clock,
        store: Box::new(Kept {
            keeper,
            first: engine,
        }),
    })
    .unwrap()
}

pub struct Chip {
    /// None while the power is off.
    tpm: Option<Tpm>,
    disk: Disk,
    /// What a row remembers over the power cycle.
    pub note: Vec<u8>,
    _turn: MutexGuard<'static, ()>,
}

pub fn code(response: &[u8]) -> u32 {
    response_code(response).unwrap()
}

impl Chip {
    /// A new one, started.
    pub fn new() -> Self {
        let turn = turn();
        let disk = Disk::new();
        let mut chip = Self {
            tpm: Some(open(&disk)),
            disk,
            note: Vec::new(),
            _turn: turn,
        };
        chip.ok(&startup(CLEAR));
        chip
    }

    /// Power off and on: _TPM_Init of an engine that knows nothing but its disk. It takes some time.
    pub fn power_cycle(&mut self) {
        self.tpm = None;
        wait(500);
        self.tpm = Some(open(&self.disk));
    }

    /// _TPM_Init.
    pub fn init(&mut self) {
        self.tpm.as_mut().unwrap().reset().unwrap();
    }

    /// The response; a command is sent again when the TPM asks for it.
    pub fn execute(&mut self, command: &[u8]) -> Vec<u8> {
        let mut response = [0; 4096];
        loop {
            let tpm = self.tpm.as_mut().unwrap();
            let length = tpm.execute(0, command, &mut response).unwrap();
            // As L1 does.
            tpm.commit().unwrap();
            let response = &response[..length];
            if code(response) != rc::RETRY {
                return response.to_vec();
            }
        }
    }

    /// The response code.
    pub fn code(&mut self, command: &[u8]) -> u64 {
        code(&self.execute(command)).into()
    }

    /// The parameters of a response of success.
    #[track_caller]
    pub fn ok(&mut self, command: &[u8]) -> Vec<u8> {
        let response = self.execute(command);
        match Response::parse(&response) {
            Ok(response) => response.parameters.rest().to_vec(),
            Err(error) => panic!("command {:02x?}: {error}", &command[6..10]),
        }
    }

    /// The handle and the parameters of a response of success.
    #[track_caller]
    pub fn made(&mut self, command: &[u8]) -> (u32, Vec<u8>) {
        let response = self.execute(command);
        match Response::parse_with_handle(&response) {
            Ok(response) => (
                response.handle.unwrap(),
                response.parameters.rest().to_vec(),
            ),
            Err(error) => panic!("command {:02x?}: {error}", &command[6..10]),
        }
    }

    /// A new policy session.
    pub fn policy_session(&mut self) -> u32 {
        self.made(&start_auth_session(SessionType::Policy, &[0; 32]))
            .0
    }

    /// A property of the TPM (TPM_CAP_TPM_PROPERTIES, TPM_PT).
    pub fn property(&mut self, property: u32) -> u64 {
        const CAP_TPM_PROPERTIES: u32 = 6;
        let parameters = self.ok(&get_capability(CAP_TPM_PROPERTIES, property, 1));
        let mut fields = Fields::new(&parameters);
        let _more = fields.u8().unwrap();
        assert_eq!(fields.u32().unwrap(), CAP_TPM_PROPERTIES);
        assert_eq!(fields.u32().unwrap(), 1);
        assert_eq!(fields.u32().unwrap(), property);
        fields.u32().unwrap().into()
    }
}

/// The first bytes of something as a number, to compare it by.
pub fn number(bytes: &[u8]) -> u64 {
    let mut first = [0; 8];
    for (to, from) in first.iter_mut().zip(bytes) {
        *to = *from;
    }
    u64::from_be_bytes(first)
}

/// A command by the owner with an empty password.
pub fn by_owner(command: u32) -> Command {
    Command::new(command).authorized(rh::OWNER, &[])
}
