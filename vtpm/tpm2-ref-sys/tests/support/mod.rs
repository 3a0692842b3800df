//! What every test of the engine needs: a turn at it, a seeded TPM, and commands by name.
#![allow(dead_code, missing_docs, unreachable_pub)]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "what tests share, which clippy.toml does not take for tests"
)]

use std::sync::{Mutex, MutexGuard, PoisonError};

use attestation::tpm::{rc, response_code};
use tpm2_ref_sys::{Config, Ephemeral, ExecuteError, NoEntropy, NvError, NvStore, Tpm};

pub mod command;

/// The engine is one a process; tests of one program take turns.
static TURN: Mutex<()> = Mutex::new(());

/// State of the generator behind [`seeded`].
static SEED: Mutex<u64> = Mutex::new(0);

/// xorshift64*: the same bytes for the same seed. Reseed with [`seed`].
pub fn seeded(into: &mut [u8]) -> Result<(), NoEntropy> {
    let mut state = SEED.lock().unwrap_or_else(PoisonError::into_inner);
    for byte in into {
        *state ^= *state >> 12;
        *state ^= *state << 25;
        *state ^= *state >> 27;
        *byte = (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 56) as u8;
    }
    Ok(())
}

pub fn seed(seed: u64) {
    *SEED.lock().unwrap_or_else(PoisonError::into_inner) = seed;
}

pub fn dead(_into: &mut [u8]) -> Result<(), NoEntropy> {
    Err(NoEntropy)
}

/// A clock that stands at one second.
pub fn still() -> u64 {
    1_000_000_000
}

/// Waits until no other test has the engine.
pub fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

pub fn config() -> Config {
    Config {
        entropy: seeded,
        clock: still,
        store: Box::new(Ephemeral),
    }
}

/// A store in memory that outlives its TPM.
#[derive(Clone, Default)]
pub struct Shared(pub std::sync::Arc<Mutex<Option<Vec<u8>>>>);

impl NvStore for Shared {
    fn load(&mut self) -> Result<Option<Vec<u8>>, NvError> {
        Ok(self.0.lock().unwrap().clone())
    }

    fn store(&mut self, state: &[u8]) -> Result<(), NvError> {
        *self.0.lock().unwrap() = Some(state.to_vec());
        Ok(())
    }
}

/// A TPM in turn, with the entropy of a fixed seed.
pub struct Session {
    pub tpm: Tpm,
    _turn: MutexGuard<'static, ()>,
}

impl Session {
    /// Powered on; the first command is TPM2_Startup.
    pub fn open() -> Self {
        Self::with(1, config())
    }

    pub fn with(number: u64, config: Config) -> Self {
        Self::in_turn(turn(), number, config)
    }

    /// For a configuration whose statics must be set in turn, too.
    pub fn in_turn(turn: MutexGuard<'static, ()>, number: u64, config: Config) -> Self {
        seed(number);
        Self {
            tpm: Tpm::open(config).expect("the engine opens"),
            _turn: turn,
        }
    }

    /// Powered on and started.
    pub fn started() -> Self {
        let mut session = Self::open();
        session.ok(&command::startup(command::CLEAR));
        session
    }

    /// The response of locality 0.
    pub fn try_run(&mut self, command: &[u8]) -> Result<Vec<u8>, ExecuteError> {
        self.try_run_at(0, command)
    }

    pub fn try_run_at(&mut self, locality: u8, command: &[u8]) -> Result<Vec<u8>, ExecuteError> {
        let mut response = [0; tpm2_ref_sys::MAX_RESPONSE];
        let length = self.tpm.execute(locality, command, &mut response)?;
        Ok(response[..length].to_vec())
    }

    pub fn run(&mut self, command: &[u8]) -> Vec<u8> {
        self.try_run(command).expect("the engine responds")
    }

    /// The response of a command that must succeed; sent again when the TPM asks for that.
    #[track_caller]
    pub fn ok(&mut self, command: &[u8]) -> Vec<u8> {
        let mut response = self.run(command);
        if code(&response) == rc::RETRY {
            response = self.run(command);
        }
        assert_eq!(
            code(&response),
            0,
            "command {:#x} failed",
            u32_at(command, 6)
        );
        response
    }

    #[track_caller]
    pub fn fails(&mut self, command: &[u8], expected: u32) {
        let response = self.run(command);
        assert_eq!(code(&response), expected, "{:#x}", code(&response));
    }
}

pub fn code(response: &[u8]) -> u32 {
    response_code(response).expect("a response")
}

pub fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes(bytes[at..at + 2].try_into().unwrap())
}

pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap())
}

/// The TPM2B at `at`, without its size.
pub fn sized(bytes: &[u8], at: usize) -> &[u8] {
    &bytes[at + 2..at + 2 + usize::from(u16_at(bytes, at))]
}
