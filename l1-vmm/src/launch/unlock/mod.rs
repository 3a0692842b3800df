//! The state of the TPM, unlocked before L2 exists.
//!
//! After kernel, command line and initrd are in the RTMRs, and before L2's first instruction: [`unlock`] asks the key
//! broker, derives the key and opens the state on the host's disk, as the attested configuration says. Where that fails
//! it says what the configuration wants then: no guest, or a TPM that is new. It ends within [`Bounds`], whatever the host
//! does.
//!
//! * [`Sealing`] is the TDX half of the key: what a module seals to this L1;
//! * [`Facts`] is what a relying party is told of it.
//!
//! The key is HKDF-SHA-384 over the halves that the configuration asks for, the broker's first, with the machine as salt
//! and a text for each choice of halves: whoever has the one half, or a state of another choice, has nothing. `ring` has
//! which keys a state on the disk may be sealed with, and which it is sealed with from now on.

mod attester;
mod error;
mod facts;
mod key;
mod ring;
mod sealing;
#[cfg(test)]
mod tests;

pub use error::UnlockError;
pub use facts::Facts;
pub use sealing::{HardwareTcb, Sealing, SealingError};

use alloc::boxed::Box;
use attester::TdAttester;
use broker_client::http::Client;
use broker_client::kbs::{self, Bound, Wanted};
use broker_client::ledger::BrokerLedger;
use broker_client::{Channel, Deadline};
use broker_protocol::jws::Identity;
use broker_protocol::release::Release;
use init_data::{Broker, InitData, Otherwise, PersistentState, Rollback};
use ring::KeysOf;
use state_store::{
    Collected, Device, Grant, Ledger, LedgerError, MachineId, NoLedger, Opened, Point,
};
use vtpm::TrustDomain;

/// What the host has for the state.
#[derive(Debug)]
pub struct Host<C, D> {
    /// The bytes to and from the broker, if there is a channel. Its clock is the trust domain's.
    pub channel: Option<C>,
    /// The disk of the state, if there is one.
    pub disk: Option<D>,
}

/// How long the host has, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Until the broker has released the key, with all attempts.
    pub release: u64,
    /// For one attempt.
    pub attempt: u64,
    /// For one answer of the ledger, also when L2 runs: a TPM command waits for it.
    pub ledger: u64,
}

impl Default for Bounds {
    /// 30 s, 10 s and 2 s.
    fn default() -> Self {
        const SECOND: u64 = 1_000_000_000;
        Self {
            release: 30 * SECOND,
            attempt: 10 * SECOND,
            ledger: 2 * SECOND,
        }
    }
}

/// How often the broker is asked in all, where an answer may have been lost.
const ATTEMPTS: u32 = 3;

/// What becomes of the TPM.
#[derive(Debug)]
pub enum Unlocked<C, D> {
    /// It is new. With a reason where the configuration has a state, and takes a new TPM in its place.
    Ephemeral(Option<UnlockError>),
    /// It is the one that was.
    Persistent(Box<Persistent<C, D>>),
    /// There is none, and no guest.
    Refused(UnlockError),
}

/// A state that outlives the TD.
#[derive(Debug)]
pub struct Persistent<C, D> {
    /// The state, or the place for a first one.
    pub opened: Opened<D, StateLedger<C>>,
    /// What a relying party is told.
    pub facts: Facts,
}

/// The ledger that the configuration asks for.
#[derive(Debug)]
pub enum StateLedger<C> {
    /// The broker's.
    Broker(Box<BrokerLedger<C>>),
    /// None.
    None(NoLedger),
}

impl<C: Channel> Ledger for StateLedger<C> {
    fn open(&mut self, disk: [Option<Point>; 2]) -> Result<Grant, LedgerError> {
        match self {
            Self::Broker(ledger) => ledger.open(disk),
            Self::None(ledger) => ledger.open(disk),
        }
    }

    fn commit(&mut self, point: Point) -> Result<(), LedgerError> {
        match self {
            Self::Broker(ledger) => ledger.commit(point),
            Self::None(ledger) => ledger.commit(point),
        }
    }

    fn collect(&mut self, point: Point) -> Result<Collected, LedgerError> {
        match self {
            Self::Broker(ledger) => ledger.collect(point),
            Self::None(ledger) => ledger.collect(point),
        }
    }

    fn note(&mut self, error: &str, text: &str) {
        match self {
            Self::Broker(ledger) => ledger.note(error, text),
            Self::None(ledger) => ledger.note(error, text),
        }
    }
}

/// Unlocks the state that the configuration has, for an engine with `nv_size` bytes of NV memory.
///
/// `document` is the text of `init_data`, `log` the CC event log as far as it is.
pub fn unlock<T: TrustDomain + Sealing, C: Channel, D: Device>(
    init_data: &InitData,
    document: &str,
    td: &mut T,
    log: &[u8],
    host: Host<C, D>,
    nv_size: u32,
    bounds: &Bounds,
) -> Unlocked<C, D> {
    let Some(state) = &init_data.configuration.state else {
        return Unlocked::Ephemeral(None);
    };
    let unlocking = Unlocking {
        state,
        document,
        log,
        nv_size,
        bounds,
    };
    match unlocking.run(&init_data.digest, td, host) {
        Ok(persistent) => Unlocked::Persistent(persistent),
        Err(error) => match state.otherwise {
            Otherwise::Refuse => Unlocked::Refused(error),
            Otherwise::Ephemeral => Unlocked::Ephemeral(Some(error)),
        },
    }
}

struct Unlocking<'a> {
    state: &'a PersistentState,
    document: &'a str,
    log: &'a [u8],
    nv_size: u32,
    bounds: &'a Bounds,
}

impl Unlocking<'_> {
    fn run<T: TrustDomain + Sealing, C: Channel, D: Device>(
        &self,
        digest: &[u8; 48],
        td: &mut T,
        host: Host<C, D>,
    ) -> Result<Box<Persistent<C, D>>, UnlockError> {
        attester::attested(td, digest)?;
        let mut disk = host.disk.ok_or(UnlockError::NoDisk)?;
        let mut released = None;
        let mut ledger = StateLedger::None(NoLedger);
        if let Some(broker) = self.state.key.broker() {
            let channel = host.channel.ok_or(UnlockError::NoChannel)?;
            let (release, client) = self.release(broker, td, channel)?;
            if self.state.rollback != Rollback::None {
                let session = release.session.clone().ok_or(UnlockError::NoLedger)?;
                let broker =
                    BrokerLedger::new(client, release.machine, session, self.bounds.ledger);
                ledger = StateLedger::Broker(Box::new(broker));
            }
            released = Some(release);
        }
        let machine = MachineId(self.state.machine.0);
        let keys = KeysOf {
            machine,
            uses_hardware: self.state.key.uses_hardware(),
            released: released.as_ref(),
        };
        let (ring, sealed) = keys.ring(td, &mut disk)?;
        let rollback = match self.state.rollback {
            Rollback::Ledger => state_store::Rollback::Ledger,
            Rollback::Lazy => state_store::Rollback::Lazy,
            Rollback::None => state_store::Rollback::None,
        };
        let opened = state_store::open(disk, ledger, &ring, machine, self.nv_size, rollback)?;
        let policy = released.and_then(|release| release.policy.clone());
        let facts = Facts::new(self.state, policy, sealed, &opened);
        Ok(Box::new(Persistent { opened, facts }))
    }

    /// What the broker releases, in as many attempts as there is time for, and the client that it came through.
    fn release<T: TrustDomain, C: Channel>(
        &self,
        broker: &Broker,
        td: &mut T,
        channel: C,
    ) -> Result<(Release, Client<C>), UnlockError> {
        let identity = Identity::from_sec1(&broker.key).map_err(UnlockError::BrokerKey)?;
        let wanted = Wanted {
            init_data: Some(self.document),
            machine: broker_protocol::MachineId(self.state.machine.0),
            identity: &identity,
            resource: &broker.resource,
            bound: match self.state.rollback {
                Rollback::None => Bound::Machine,
                Rollback::Ledger | Rollback::Lazy => Bound::Start,
            },
        };
        let end = channel.after(self.bounds.release);
        let mut client = Client::new(channel);
        let mut attempts = 1..=ATTEMPTS;
        let mut said = None;
        loop {
            let last = attempts.next() == Some(ATTEMPTS);
            let deadline = client.channel().after(self.bounds.attempt).or(end);
            let mut attester = TdAttester {
                td: &mut *td,
                log: self.log,
            };
            let error = match kbs::obtain(&mut client, &mut attester, &wanted, deadline) {
                Ok(release) => return Ok((release, client)),
                Err(error) => error,
            };
            log::warn!("the key broker: {error}");
            let again = !last && error.is_passing() && Deadline(client.channel().now()) < end;
            let ended = !again || client.restart().is_err();
            // What follows nonsense is often silence: it is for the log, and the nonsense for the error's name.
            if !error.is_silence() || said.is_none() {
                said = Some(error);
            }
            if ended && let Some(error) = said.take() {
                return Err(error.into());
            }
        }
    }
}
