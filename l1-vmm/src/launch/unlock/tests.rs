//! Starts of a machine, on the model of the TDX module, with a broker that a test scripts and a disk that a host has.

extern crate std;

use super::*;
use crate::launch::GpaRange;
use crate::model_ram::ModelRam;
use crate::shared_buffer::Part;
use crate::trust_domain::{LaunchedTd, Parts, QuoteBuffer};
use alloc::rc::Rc;
use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;
use attestation::journal::{KeyHalves, Rollback as JournalRollback};
use broker_client::scripted::{Broker as Scripted, Lie, Script};
use broker_protocol::release::{Carry, CarrySeal, Secret};
use core::cell::{Cell, RefCell};
use core::sync::atomic::{AtomicU64, Ordering};
use init_data::{Configuration as Configured, KeySource, Machine};
use state_store::key_record::KeyRecord;
use state_store::{DeviceError, Nonce, OpenError, Refusal, State, StateKey, layout};
use tdcall::Td;
use tdx_module::test_platform::{ModelPage, ModelShared, ModelTdcall, SHARED_MEMORY};
use tdx_module::{Configuration as Platform, Platform as _, TdParams, VpEnterInput};
use zerocopy::IntoBytes;

const MACHINE: [u8; 32] = [7; 32];
const NV_SIZE: u32 = 1000;
const MEMORY: u64 = 4 << 20;
const SHARED: u64 = 0x20_0000;
const SHARED_BIT: u64 = 1 << 47;
const LOG: &[u8] = b"the CC event log";

/// A clock that goes on by a microsecond whenever it is looked at.
static CLOCK: AtomicU64 = AtomicU64::new(0);

type ModelTd = LaunchedTd<ModelTdcall, ModelPage, Part<ModelShared>, ModelRam>;

/// A disk in the host's memory.
#[derive(Clone, Debug)]
struct Disk(Rc<RefCell<Vec<u8>>>);

impl Disk {
    fn blank() -> Self {
        Self(Rc::new(RefCell::new(vec![
            0;
            layout::SECTORS_MIN as usize
                * 512
        ])))
    }

    fn copy(&self) -> Self {
        Self(Rc::new(RefCell::new(self.0.borrow().clone())))
    }
}

impl Device for Disk {
    fn sectors(&self) -> u64 {
        layout::SECTORS_MIN
    }
    fn read(&mut self, sector: u64, into: &mut [u8]) -> Result<(), DeviceError> {
        let at = sector as usize * 512;
        into.copy_from_slice(&self.0.borrow()[at..at + into.len()]);
        Ok(())
    }
    fn write(&mut self, sector: u64, from: &[u8]) -> Result<(), DeviceError> {
        let at = sector as usize * 512;
        self.0.borrow_mut()[at..at + from.len()].copy_from_slice(from);
        Ok(())
    }
    fn flush(&mut self) -> Result<(), DeviceError> {
        Ok(())
    }
}

/// What the label on a new disk says of a key.
pub(super) fn key_id(key: StateKey) -> [u8; 16] {
    let disk = Disk::blank();
    let machine = MachineId([3; 32]);
    let opened = state_store::open(
        disk.clone(),
        NoLedger,
        &key.into(),
        machine,
        NV_SIZE,
        state_store::Rollback::None,
    );
    let Ok(Opened::Fresh(mut store)) = opened else {
        panic!("a blank disk");
    };
    let _ = store.commit(&state(1), Nonce([1; 12]));
    disk.0.borrow()[48..64].try_into().unwrap()
}

fn state(byte: u8) -> State {
    State {
        engine: vec![byte; 100],
        ek_templates: Vec::new(),
        journal_epoch: 1,
        nv_size: NV_SIZE,
        policy: "p".to_string(),
        others: Vec::new(),
    }
}

/// How a host answers GetQuote.
#[derive(Clone, Copy, PartialEq)]
enum Quotes {
    /// With the REPORTDATA.
    AtOnce,
    /// Never.
    Never,
    /// That it has no service.
    None,
}

/// One start of a machine.
struct Start {
    platform: Platform,
    attributes: u64,
    configured: PersistentState,
    /// MRCONFIGID, if it is not the document's.
    mrconfigid: Option<[u8; 48]>,
    broker: Option<Rc<RefCell<Scripted>>>,
    disk: Option<Disk>,
    quotes: Quotes,
    /// What goes over the channel.
    wire: Rc<RefCell<Vec<u8>>>,
    bounds: Bounds,
    nv_size: u32,
    /// Whether L1's image is the updated one, with another MRTD.
    updated: bool,
    /// The channel's clock at the end of the last start.
    ended: RefCell<Rc<Cell<u64>>>,
}

impl Start {
    fn new(key: &str, rollback: Rollback) -> Self {
        let broker = Scripted::new(broker_protocol::MachineId(MACHINE));
        let named = Broker {
            key: broker.identity().to_sec1(),
            resource: Broker::default_resource(&Machine(MACHINE)),
        };
        let configured = PersistentState {
            machine: Machine(MACHINE),
            otherwise: Otherwise::Refuse,
            key: match key {
                "broker" => KeySource::Broker(named),
                "hardware" => KeySource::Hardware,
                _ => KeySource::Both(named),
            },
            rollback,
        };
        Self {
            platform: Platform::with_sealing(),
            attributes: TdParams::default().attributes,
            configured,
            mrconfigid: None,
            broker: Some(Rc::new(RefCell::new(broker))),
            disk: Some(Disk::blank()),
            quotes: Quotes::AtOnce,
            wire: Rc::default(),
            bounds: Bounds::default(),
            nv_size: NV_SIZE,
            updated: false,
            ended: RefCell::default(),
        }
    }

    fn lying(lie: Lie) -> Self {
        let start = Self::new("both", Rollback::Ledger);
        start.broker.as_ref().unwrap().borrow_mut().lie = lie;
        start
    }

    fn td(&self, digest: [u8; 48]) -> ModelTd {
        let params = TdParams {
            attributes: self.attributes,
            mrconfigid: self.mrconfigid.unwrap_or(digest),
            ..TdParams::default()
        };
        let updated = self.updated;
        let platform = self.platform.clone();
        let model = ModelTdcall::built_on(platform, &params, MEMORY, |module, platform| {
            let mut pages = ModelTdcall::L1_PAGES.step_by(0x1000);
            pages.try_for_each(|page| module.tdh_mem_page_add(platform, page, page, page))?;
            match updated {
                true => module.tdh_mr_extend(platform, ModelTdcall::L1_PAGES.start),
                false => Ok(()),
            }
        });
        let shared = ModelShared::new(&model, SHARED..SHARED + 0x2000);
        let quotes = self.quotes;
        model.set_host(move |_, platform, exit| {
            let buffer = SHARED_MEMORY + (exit.registers.r12 & !SHARED_BIT);
            if quotes == Quotes::AtOnce {
                let mut report_data = [0; 64];
                platform.read(buffer + 24 + 128, &mut report_data);
                platform.write(buffer + 24, &report_data);
                platform.write(buffer + 20, &64_u32.to_le_bytes());
                platform.write(buffer + 8, &0_u64.to_le_bytes());
            }
            let mut input = VpEnterInput::default();
            input.registers.r10 = match quotes {
                Quotes::None => 0x8000_0000_0000_0000,
                _ => 0,
            };
            input
        });
        LaunchedTd::new(Parts {
            td: Td::new(model.clone()),
            operands: ModelPage::new(&model, 0x1000),
            quotes: QuoteBuffer::new(Part::new(shared, 0..0x2000).unwrap(), SHARED_BIT).unwrap(),
            memory: ModelRam {
                model,
                l1_start: MEMORY,
                end: MEMORY,
            },
            log_copy: GpaRange::with_length(0x10_0000, 0x1000).unwrap(),
            random: |into| {
                // Bytes of ones alone would be no key of P-256.
                into.fill(CLOCK.fetch_add(1, Ordering::Relaxed) as u8 & 0x7F | 1);
                Ok(())
            },
            clock: || CLOCK.fetch_add(1000, Ordering::Relaxed),
        })
    }

    fn unlock(&self) -> Unlocked<Script, Disk> {
        let configuration = Configured {
            state: Some(self.configured.clone()),
            banks: None,
            mirror: None,
        };
        let document = configuration.to_document();
        let init_data = init_data::parse(document.as_bytes()).unwrap();
        let mut td = self.td(init_data.digest);
        let channel = self.broker.clone().map(|broker| {
            let wire = Rc::clone(&self.wire);
            let script = Script::new(move |sent| {
                wire.borrow_mut().extend_from_slice(sent);
                let answer = broker.borrow_mut().serve(sent);
                wire.borrow_mut().extend_from_slice(&answer);
                answer
            });
            *self.ended.borrow_mut() = script.clock();
            script
        });
        let host = Host {
            channel,
            disk: self.disk.clone(),
        };
        unlock(
            &init_data,
            &document,
            &mut td,
            LOG,
            host,
            self.nv_size,
            &self.bounds,
        )
    }

    /// The start goes well; what was opened.
    fn opened(&self) -> (Opened<Disk, StateLedger<Script>>, Facts) {
        match self.unlock() {
            Unlocked::Persistent(persistent) => (persistent.opened, persistent.facts),
            Unlocked::Ephemeral(why) => panic!("ephemeral: {why:?}"),
            Unlocked::Refused(error) => panic!("refused: {error}"),
        }
    }

    /// The start is refused; why.
    fn refused(&self) -> UnlockError {
        match self.unlock() {
            Unlocked::Refused(error) => error,
            Unlocked::Ephemeral(_) | Unlocked::Persistent(_) => panic!("it was not refused"),
        }
    }
}

fn store<D: Device, L: Ledger>(opened: Opened<D, L>) -> state_store::Store<D, L> {
    match opened {
        Opened::Stored { store, .. }
        | Opened::Unacknowledged { store, .. }
        | Opened::Fresh(store) => store,
    }
}

/// A first start, which stores a state.
fn first(start: &Start) {
    let (opened, facts) = start.opened();
    assert!(matches!(opened, Opened::Fresh(_)));
    assert_eq!(facts.journal.counter, 0);
    let commit = store(opened).commit(&state(1), Nonce([1; 12]));
    assert_eq!(commit.answer(), state_store::Answer::Response);
}

/// A later start, which finds it.
fn second(start: &Start) -> Facts {
    let (opened, facts) = start.opened();
    let (Opened::Stored { state: found, .. } | Opened::Unacknowledged { state: found, .. }) =
        opened
    else {
        panic!("there is no state");
    };
    assert_eq!(found.engine, [1; 100]);
    facts
}

#[test]
fn a_configuration_without_a_state_asks_nobody() {
    let configuration = Configured {
        state: None,
        banks: None,
        mirror: None,
    };
    let document = configuration.to_document();
    let init_data = init_data::parse(document.as_bytes()).unwrap();
    let mut td = Start::new("both", Rollback::Ledger).td([0; 48]);
    let host = Host::<Script, Disk> {
        channel: None,
        disk: None,
    };
    let bounds = Bounds::default();
    let unlocked = unlock(&init_data, &document, &mut td, LOG, host, NV_SIZE, &bounds);
    assert!(matches!(unlocked, Unlocked::Ephemeral(None)));
}

#[test]
fn the_second_start_finds_the_state_of_the_first_by_each_choice_of_halves() {
    for (key, halves) in [("broker", KeyHalves::Broker), ("both", KeyHalves::Both)] {
        for (rollback, protection) in [
            (Rollback::Ledger, JournalRollback::Ledger),
            (Rollback::Lazy, JournalRollback::Lazy),
            (Rollback::None, JournalRollback::None),
        ] {
            let start = Start::new(key, rollback);
            first(&start);
            let facts = second(&start);
            assert_eq!(facts.journal.key, halves);
            assert_eq!(facts.journal.rollback, protection);
            assert_eq!((facts.journal.epoch, facts.journal.counter), (2, 1));
            assert_eq!(facts.journal.machine, MACHINE);
            let named = start.configured.key.broker().unwrap();
            let hash = attestation::digest::Algorithm::Sha256.digest(&named.key);
            assert_eq!(facts.journal.broker.unwrap(), *hash.bytes());
            assert_eq!(facts.policy.as_deref(), Some("production"));
            assert_eq!(facts.tcb.is_some(), key == "both");
        }
    }
    let mut hardware = Start::new("hardware", Rollback::None);
    hardware.broker = None;
    first(&hardware);
    let facts = second(&hardware);
    assert_eq!(facts.journal.key, KeyHalves::Hardware);
    assert_eq!((facts.journal.broker, facts.policy), (None, None));
}

#[test]
fn a_debug_td_another_platform_and_another_half_do_not_open_it() {
    for key in ["both", "hardware"] {
        let rollback = match key {
            "hardware" => Rollback::None,
            _ => Rollback::Ledger,
        };
        let mut start = Start::new(key, rollback);
        first(&start);
        start.attributes |= 1;
        assert_eq!(start.refused().name(), "other-key", "a debug TD");
        start.attributes &= !1;
        start.platform.sealing = Some([1; 32]);
        assert_eq!(start.refused().name(), "other-key", "another platform");
        start.platform = Platform::with_sealing();
        if key == "both" {
            let broker = start.broker.clone().unwrap();
            broker.borrow_mut().half = [1; 32];
            assert_eq!(start.refused().name(), "other-key", "another broker's half");
            broker.borrow_mut().half = [0xB0; 32];
            assert_eq!(broker.borrow().entry.epoch, 1, "no attempt ended an epoch");
        }
        second(&start);
    }
}

/// A start that finds the state and commits it again, as each start does.
fn third(start: &Start) -> Facts {
    let (opened, facts) = start.opened();
    let (Opened::Stored { state: found, .. } | Opened::Unacknowledged { state: found, .. }) =
        &opened
    else {
        panic!("there is no state");
    };
    assert_eq!(found.engine, [1; 100]);
    let found = found.clone();
    let mut store = store(opened);
    for byte in 3..6 {
        let commit = store.commit(&found, Nonce([byte; 12]));
        assert_eq!(commit.answer(), state_store::Answer::Response);
        store.settle().unwrap();
    }
    assert!(!store.is_resealing());
    facts
}

#[test]
fn an_update_of_the_platform_keeps_the_state_which_is_sealed_to_it_and_refused_after_a_downgrade() {
    for (key, rollback) in [
        ("hardware", Rollback::None),
        ("both", Rollback::Ledger),
        ("both", Rollback::Lazy),
    ] {
        let mut start = Start::new(key, rollback);
        first(&start);
        let old = Platform::with_sealing();
        let mut new = old.clone();
        new.tcb.cpusvn[0] += 1;
        new.tcb.tee_tcb_svn[0] += 1;

        // Looking at it seals nothing: the old platform still has the key.
        start.platform = new.clone();
        assert_eq!(second(&start).tcb.unwrap().cpusvn, new.tcb.cpusvn);
        start.platform = old.clone();
        second(&start);

        // A commit does.
        start.platform = new.clone();
        third(&start);
        second(&start);
        start.platform = old.clone();
        let error = start.refused();
        assert_eq!(error.name(), "newer-tcb", "{key}");
        assert!(
            error.to_string().contains("is sealed to a newer TCB"),
            "{error}"
        );

        // Nothing on the disk is of the old TCB.
        start.platform = new.clone();
        let mut disk = start.disk.clone().unwrap();
        let sealed_to = state_store::key_record::sealed_to(&mut disk, MachineId(MACHINE)).unwrap();
        assert_eq!(sealed_to.len(), 1);
        assert_eq!(sealed_to[0].cpusvn, new.tcb.cpusvn);
        second(&start);
    }
}

/// The order of an update of L1, for one side of it.
fn order(seal: CarrySeal) -> Option<Carry> {
    let key = Secret([0xCA; 32]);
    Some(Carry { key, seal })
}

#[test]
fn an_update_of_l1_carries_the_state_over_by_the_brokers_order() {
    for rollback in [Rollback::Ledger, Rollback::Lazy, Rollback::None] {
        let mut start = Start::new("both", rollback);
        let broker = start.broker.clone().unwrap();
        first(&start);
        // Without an order the updated L1 has another half.
        start.updated = true;
        assert_eq!(start.refused().name(), "other-key");
        // Nor does the order help before the old one has followed it.
        broker.borrow_mut().carry = order(CarrySeal::Own);
        assert_eq!(start.refused().name(), "other-key");

        start.updated = false;
        broker.borrow_mut().carry = order(CarrySeal::Carry);
        let facts = third(&start);
        assert_eq!((facts.journal.key, facts.tcb), (KeyHalves::Carried, None));
        // It may start again meanwhile.
        second(&start);

        start.updated = true;
        broker.borrow_mut().carry = order(CarrySeal::Own);
        let facts = third(&start);
        assert_eq!(facts.journal.key, KeyHalves::Both);
        assert!(facts.tcb.is_some());

        // The update is over: the new one needs no order, and neither the old one nor the broker alone has the state.
        broker.borrow_mut().carry = None;
        second(&start);
        start.updated = false;
        for carry in [None, order(CarrySeal::Carry), order(CarrySeal::Own)] {
            broker.borrow_mut().carry = carry;
            assert_ne!(start.refused().name(), "records");
        }
    }
}

/// What the host kept of the time of the update is an older state, and the ledger says so; and without this update's key
/// it is nothing.
#[test]
fn a_disk_of_the_time_of_the_update_is_an_older_one() {
    let mut start = Start::new("both", Rollback::Ledger);
    let broker = start.broker.clone().unwrap();
    first(&start);
    broker.borrow_mut().carry = order(CarrySeal::Carry);
    third(&start);
    let kept = start.disk.as_ref().unwrap().copy();
    start.updated = true;
    broker.borrow_mut().carry = order(CarrySeal::Own);
    third(&start);
    let last = start.disk.replace(kept);
    assert_eq!(start.refused().name(), "rolled-back");
    broker.borrow_mut().carry = Some(Carry {
        key: Secret([0xCB; 32]),
        seal: CarrySeal::Own,
    });
    assert_eq!(start.refused().name(), "other-key");
    start.disk = last;
    broker.borrow_mut().carry = None;
    second(&start);
}

/// A machine whose key the hardware has no part in needs no update of its state, and an order changes nothing.
#[test]
fn an_order_is_nothing_to_a_key_of_the_broker_alone() {
    let mut start = Start::new("broker", Rollback::Ledger);
    first(&start);
    let broker = start.broker.clone().unwrap();
    for seal in [CarrySeal::Carry, CarrySeal::Own] {
        broker.borrow_mut().carry = order(seal);
        assert_eq!(third(&start).journal.key, KeyHalves::Broker);
    }
    broker.borrow_mut().carry = None;
    start.updated = true;
    second(&start);
}

#[test]
fn without_sealing_the_module_says_so() {
    let mut start = Start::new("both", Rollback::Ledger);
    start.platform = Platform::default();
    let error = start.refused();
    assert_eq!(error.name(), "no-sealing-key");
    assert!(error.to_string().contains("`key = \"broker\"`"), "{error}");
    start.configured = Start::new("broker", Rollback::Ledger).configured;
    first(&start);
}

#[test]
fn each_failure_is_refused_or_ephemeral_as_the_configuration_wants_within_its_bounds() {
    type Spoil = fn(&mut Start);
    let rows: [(Spoil, &str); 20] = [
        (|s| s.disk = None, "no-disk"),
        (|s| s.broker = None, "no-channel"),
        (|s| s.mrconfigid = Some([9; 48]), "other-configuration"),
        (|s| s.quotes = Quotes::None, "no-evidence"),
        (|s| s.quotes = Quotes::Never, "no-evidence"),
        (|s| broken(s, Lie::OtherIdentity), "signature"),
        (|s| broken(s, Lie::OtherMachine), "other-machine"),
        (|s| broken(s, Lie::OldNonce), "other-nonce"),
        (|s| broken(s, Lie::OtherTee), "other-tee-key"),
        (|s| broken(s, Lie::Unbound), "unbound"),
        (|s| broken(s, Lie::OtherRecipient), "other-recipient"),
        (|s| broken(s, Lie::OtherVersion), "broker-refused"),
        (|s| broken(s, Lie::RefusedEvidence), "broker-refused"),
        (|s| broken(s, Lie::NoCookie), "broker-nonsense"),
        (|s| broken(s, Lie::Mebibyte), "broker-nonsense"),
        (|s| broken(s, Lie::Cut), "broker-unreachable"),
        (|s| broken(s, Lie::Silence), "broker-unreachable"),
        (|s| broken(s, Lie::NoLedger), "no-ledger"),
        (|s| broken(s, Lie::WrongCode), "ledger-unreachable"),
        (
            |s| {
                s.disk.as_ref().unwrap().0.borrow_mut()[5000] = 1;
            },
            "not-a-state-disk",
        ),
    ];
    for (spoil, name) in rows {
        let mut start = Start::new("both", Rollback::Ledger);
        start.bounds = Bounds {
            release: 3_000_000,
            attempt: 1_000_000,
            ledger: 1_000_000,
        };
        spoil(&mut start);
        assert_eq!(start.refused().name(), name);
        let took = start.ended.borrow().get();
        let Bounds {
            release, ledger, ..
        } = start.bounds;
        let most = release + u64::from(state_store::ledger::ATTEMPTS) * ledger;
        assert!(took <= most, "{name}: {took} ns of {most}");
        start.configured.otherwise = Otherwise::Ephemeral;
        match start.unlock() {
            Unlocked::Ephemeral(Some(error)) => assert_eq!(error.name(), name),
            _ => panic!("{name}"),
        }
    }
}

/// A stream that is started again after a long answer may bring nothing for a while.
#[test]
fn what_a_broker_said_names_the_error_and_not_the_silence_behind_it() {
    let mut start = Start::new("both", Rollback::Ledger);
    start.bounds = Bounds {
        release: 3_000_000,
        attempt: 1_000_000,
        ledger: 1_000_000,
    };
    broken(&mut start, Lie::MebibyteOnce);
    let error = start.refused();
    assert_eq!(error.name(), "broker-nonsense");
    assert!(error.to_string().contains("longer than"), "{error}");
}

fn broken(start: &mut Start, lie: Lie) {
    start.broker.as_ref().unwrap().borrow_mut().lie = lie;
}

#[test]
fn a_broker_that_is_slow_to_come_up_is_asked_again_and_one_that_says_no_is_not() {
    let start = Start::new("both", Rollback::Ledger);
    let broker = start.broker.clone().unwrap();
    broker.borrow_mut().dropped = 1;
    let (_, facts) = start.opened();
    assert_eq!(facts.journal.epoch, 1);
    assert_eq!(broker.borrow().answered.len(), 1 + 3 + 1);
    let no = Start::lying(Lie::RefusedEvidence);
    let _ = no.refused();
    let answered = no.broker.as_ref().unwrap().borrow().answered.len();
    assert_eq!(answered, 2, "auth and attest, once");
}

#[test]
fn an_older_disk_a_copy_and_another_machines_are_refused_by_name() {
    let mut start = Start::new("both", Rollback::Ledger);
    first(&start);
    let older = start.disk.clone().unwrap().copy();
    let (opened, _) = start.opened();
    let mut twin = store(opened);
    let stored = twin.commit(&state(2), Nonce([2; 12]));
    assert_eq!(stored.answer(), state_store::Answer::Response);
    let last = start.disk.replace(older).unwrap();
    let error = start.refused();
    assert_eq!(error.name(), Refusal::RolledBack.name());
    start.disk = Some(Disk::blank());
    assert_eq!(start.refused().name(), Refusal::StateMissing.name());
    // A copy of the last disk is started beside the machine that has it.
    start.disk = Some(last.copy());
    let (opened, facts) = start.opened();
    assert_eq!(facts.journal.epoch, 3);
    let mut newer = store(opened);
    let stored = newer.commit(&state(3), Nonce([3; 12]));
    assert_eq!(stored.answer(), state_store::Answer::Response);
    // The older twin learns of it at its next commit, and never stores again.
    let state_store::Commit::NotStored { why, .. } = twin.commit(&state(4), Nonce([4; 12])) else {
        panic!("the older twin goes on");
    };
    let fenced = state_store::LedgerError::Refused(Refusal::Fenced);
    assert_eq!(why, state_store::commit::NotStored::Ledger(fenced));
}

#[test]
fn another_machines_disk_is_refused() {
    let theirs = Start::new("hardware", Rollback::None);
    first(&theirs);
    let mut ours = Start::new("hardware", Rollback::None);
    ours.configured.machine = Machine([8; 32]);
    ours.disk = theirs.disk;
    assert_eq!(ours.refused().name(), "other-machine");
}

#[test]
fn no_key_is_on_the_wire_or_on_the_disk() {
    let start = Start::new("both", Rollback::Ledger);
    first(&start);
    second(&start);
    let halves = [[0xB0; 32]];
    let host = [
        start.wire.borrow().clone(),
        start.disk.unwrap().0.borrow().clone(),
    ]
    .concat();
    for half in halves {
        assert!(!host.windows(32).any(|bytes| bytes == half));
        let text = broker_client::scripted::in_texts(&half);
        let text = text.as_bytes();
        assert!(!host.windows(text.len()).any(|bytes| bytes == text));
    }
    // What the engine gave is there in no form.
    assert!(!host.windows(32).any(|bytes| bytes == [1; 32]));
}

#[test]
fn a_disk_that_names_an_older_tcb_does_not_get_a_first_state_sealed_to_it() {
    let start = Start::new("hardware", Rollback::None);
    let disk = start.disk.clone().unwrap();
    let mut old = Platform::default().tcb.cpusvn;
    old[0] -= 1;
    // As version 1 had it.
    let record = KeyRecord::new(old, Platform::default().tcb.tee_tcb_svn);
    disk.0.borrow_mut()[512..1024].copy_from_slice(record.as_bytes());
    first(&start);
    let facts = second(&start);
    assert_eq!(facts.tcb.unwrap().cpusvn, Platform::default().tcb.cpusvn);
}

/// A label says no more than whose disk it is, and the host has that of the machine's older disk.
#[test]
fn a_label_without_a_state_does_not_get_a_first_state_sealed_to_an_older_tcb() {
    let mut start = Start::new("hardware", Rollback::None);
    first(&start);
    let labelled = Disk::blank();
    labelled.0.borrow_mut()[..0x1000]
        .copy_from_slice(&start.disk.as_ref().unwrap().0.borrow()[..0x1000]);
    start.disk = Some(labelled);
    // What a power cut may leave.
    let (opened, _) = start.opened();
    assert!(matches!(opened, Opened::Fresh(_)));
    start.platform.tcb.cpusvn[0] += 1;
    // The key of the label's TCB is not even asked for.
    let error = start.refused();
    assert_eq!(error.name(), "other-key");
}

#[test]
fn the_broker_learns_what_l1_refused() {
    let start = Start::new("both", Rollback::Ledger);
    first(&start);
    let disk = start.disk.clone().unwrap();
    // A state that nobody but L1 can tell from the last one: its header is whole, its ciphertext is not what it says.
    let slot = layout::Slot::Odd.sector() as usize * 512;
    let damage = |disk: &Disk| disk.0.borrow_mut()[slot + 512] ^= 1;
    damage(&disk);
    let error = start.refused();
    let noted = start.broker.as_ref().unwrap().borrow().noted.clone();
    match noted.first() {
        Some((name, _)) => assert_eq!(name, error.name()),
        // The ledger saw it first.
        None => assert!(matches!(
            error,
            UnlockError::Open(OpenError::Refused { .. })
        )),
    }
    damage(&disk);
    // Another size of the engine's memory is for L1 alone to see.
    let mut larger = start;
    larger.nv_size = NV_SIZE + 1;
    assert_eq!(larger.refused().name(), "other-nv-size");
    let noted = larger.broker.as_ref().unwrap().borrow().noted.clone();
    assert_eq!(noted.last().unwrap().0, "other-nv-size");
}
