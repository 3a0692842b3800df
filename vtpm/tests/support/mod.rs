//! What tests of the attested TPM need: a turn at the engine, a trust domain that follows a script,
//! and an independent reader of what was measured.
#![allow(dead_code, missing_docs, unreachable_pub)]
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "what tests share, which clippy.toml does not take for tests"
)]

use std::sync::{Mutex, MutexGuard, PoisonError};

use attestation::digest::Digests;
use attestation::event_log::Log;
use attestation::journal::{self, PcrMirror, Processors, Record, Unlock};
use attestation::pcr::{Bank, PcrBanks};
use attestation::tpm::{Response, response_code};
use tpm2_ref_sys::{Ephemeral, NoEntropy, NvStore, Tpm};
use vtpm::attested::{Attested, Config, IdentityTime, LaunchMeasurements, MeasuredLaunch};
use vtpm::log::MeasurementLog;
use vtpm::reference::Reference;
use vtpm::state::{Keeper, WatchedStore};
use vtpm::{Engine, Error, Locality};
use zeroize::Zeroizing;

pub mod command;
pub mod trust_domain;

pub use trust_domain::ScriptedTd;

/// The engine is one a process; tests of one program take turns.
static TURN: Mutex<()> = Mutex::new(());

/// The turn at the engine.
pub fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// State of the generator behind [`entropy`].
static SEED: Mutex<u64> = Mutex::new(1);

/// xorshift64*: not random at all.
pub fn entropy(into: &mut [u8]) -> Result<(), NoEntropy> {
    let mut state = SEED.lock().unwrap_or_else(PoisonError::into_inner);
    for byte in into {
        *state ^= *state >> 12;
        *state ^= *state << 25;
        *state ^= *state >> 27;
        *byte = (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 56) as u8;
    }
    Ok(())
}

/// A clock that stands: the engine writes its state now and then for the time alone.
pub fn still() -> u64 {
    1_000_000_000
}

pub const COMMAND_LINE: &[u8] = b"console=ttyS0 quiet";

pub fn launch() -> LaunchMeasurements {
    LaunchMeasurements {
        kernel: Digests::of(b"kernel"),
        command_line: COMMAND_LINE.to_vec(),
        initrd: Some(Digests::of(b"initrd")),
    }
}

/// An attested TPM in turn.
pub struct Session<E = Reference> {
    pub tpm: Attested<E, ScriptedTd>,
    pub td: ScriptedTd,
    pub turn: MutexGuard<'static, ()>,
}

/// Where the state is kept, and the one that is there.
pub struct Kept {
    pub state: Option<Vec<u8>>,
    pub keeper: Box<dyn Keeper + Send>,
}

pub struct Setup {
    pub td: ScriptedTd,
    pub unlock: Option<Unlock>,
    pub mirror: PcrMirror,
    pub banks: PcrBanks,
    pub identity: IdentityTime,
    pub capacity: usize,
    pub firmware_log: Option<Vec<u8>>,
    pub clock: tpm2_ref_sys::Clock,
    pub store: Box<dyn NvStore>,
    /// In place of the store.
    pub keeper: Option<Kept>,
    pub launch: LaunchMeasurements,
}

/// How many processors the machine has.
pub const PROCESSORS: Processors = match Processors::new(4, 3) {
    Some(processors) => processors,
    None => unreachable!(),
};

impl Default for Setup {
    fn default() -> Self {
        Self {
            td: ScriptedTd::default(),
            unlock: None,
            mirror: PcrMirror::Summary,
            banks: PcrBanks::ALL,
            identity: IdentityTime::Start,
            capacity: 1 << 20,
            firmware_log: None,
            clock: still,
            store: Box::new(Ephemeral),
            keeper: None,
            launch: launch(),
        }
    }
}

impl Setup {
    pub fn mirror(mirror: PcrMirror) -> Self {
        Self {
            mirror,
            ..Self::default()
        }
    }

    pub fn try_start(self) -> Result<Session, Error> {
        self.try_start_behind(|engine| engine)
    }

    /// With something between the TPM and its engine.
    pub fn try_start_behind<E: Engine>(
        self,
        wrap: impl FnOnce(Reference) -> E,
    ) -> Result<Session<E>, Error> {
        let turn = turn();
        let (keeper, (store, commits)) = match self.keeper {
            Some(Kept { state, keeper }) => {
                let state = state.map(Zeroizing::new);
                (Some(keeper), WatchedStore::kept_elsewhere(state))
            }
            None => (None, WatchedStore::new(self.store)),
        };
        let engine = Tpm::open(tpm2_ref_sys::Config {
            entropy,
            clock: self.clock,
            store: Box::new(store),
        })
        .expect("the engine opens");
        let log = MeasurementLog::continuing(self.firmware_log.as_deref(), self.capacity)
            .expect("the firmware's log can be continued");
        let config = Config {
            engine: tpm2_ref_sys::ENGINE,
            interface: vtpm::ptp::fifo::NAME,
            processors: PROCESSORS,
            unlock: self.unlock,
            mirror: self.mirror,
            banks: self.banks,
            identity: self.identity,
            commits: Some(commits),
            keeper,
        };
        let engine = wrap(Reference::new(engine));
        let measured = MeasuredLaunch::new(self.td.clone(), log, "1.2.3", &self.launch)?;
        let tpm = Attested::start(engine, measured, config)?;
        Ok(Session {
            tpm,
            td: self.td,
            turn,
        })
    }

    pub fn start(self) -> Session {
        self.try_start().expect("the TPM starts")
    }
}

impl<E: Engine> Session<E> {
    pub fn execute(&mut self, command: &[u8]) -> Vec<u8> {
        let mut response = [0; 4096];
        let length = self
            .tpm
            .execute(Locality::Zero, command, &mut response)
            .expect("the engine answers");
        response[..length].to_vec()
    }

    /// The response code.
    pub fn code(&mut self, command: &[u8]) -> u32 {
        response_code(&self.execute(command)).unwrap()
    }

    /// The parameters of the response of a command that must succeed.
    #[track_caller]
    pub fn ok(&mut self, command: &[u8]) -> Vec<u8> {
        let response = self.execute(command);
        match Response::parse(&response) {
            Ok(response) => response.parameters.rest().to_vec(),
            Err(error) => panic!("command {:02x?}: {error}", &command[6..10]),
        }
    }

    /// The records of the journal so far, read from the log. That the log is the whole truth is
    /// checked on the way.
    #[track_caller]
    pub fn journal(&self) -> Vec<Record> {
        let bytes = self.tpm.log().bytes();
        let log = Log::parse(bytes).expect("the log can be read");
        assert_eq!(log.length, bytes.len());
        let rtmrs = attestation::event_log::replay_rtmrs(&log.events).expect("a log of RTMRs");
        assert_eq!(rtmrs, self.td.rtmrs(), "the log explains the registers");
        assert_eq!(self.td.published(), bytes, "L2's copy is up to date");
        log.events
            .iter()
            .filter(|event| event.register == u32::from(journal::RTMR) + 1)
            .map(|event| {
                let record = journal::unwrap(event.data).expect("a tagged event");
                Record::from_cbor(record).expect("a record")
            })
            .collect()
    }

    /// The records that `action` makes.
    pub fn records_of(&mut self, action: impl FnOnce(&mut Self)) -> Vec<Record> {
        let before = self.journal().len();
        action(self);
        self.journal().split_off(before)
    }

    /// All PCRs, as the TPM tells them.
    pub fn banks(&mut self) -> Vec<Bank> {
        command::banks(self)
    }

    pub fn nv_read(&mut self, index: u32) -> Vec<u8> {
        command::nv_read_whole(self, index)
    }
}
