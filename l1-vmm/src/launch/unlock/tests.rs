//! Starts of a machine, on the model of the TDX module, with a broker that a test scripts and a disk that a host has.

extern crate std;

mod bench;
mod updates;

pub(super) use bench::key_id;

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
use bench::{Disk, LOG, MACHINE, NV_SIZE, Quotes, Start, first, second, state, store};
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
        match start.unlock() {
            Unlocked::Refused(error) => assert_eq!(error.name(), name),
            Unlocked::Ephemeral(_) | Unlocked::Persistent(_) => panic!("{name}: not refused"),
        }
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
