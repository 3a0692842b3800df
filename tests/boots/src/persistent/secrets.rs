//! What of a machine's secrets the host can see: the memory that the TD shares with it, the state disk, the wire to the
//! broker and the logs, searched when a guest with secrets has powered off.

use super::memory::{Memory, count};
use super::small::{Boot, Keys, Machine, identity};
use super::state_disk::Disk;
use crate::blobs::script::{SUCCESS, Step, define_secret, seal, write_secret};
use crate::{Setup, Suite};
use aes_gcm_siv::aead::{Aead, KeyInit, Payload};
use aes_gcm_siv::{Aes256GcmSiv, Nonce};
use anyhow::{Context, Result, bail, ensure};
use broker_client::scripted;
use hkdf::Hkdf;
use sha2::Sha384;
use simulator::Run;
use state_store::key::{INFO_COMMIT, INFO_DIGEST, INFO_SLOT};
use state_store::{MachineId, NoLedger, Opened, Rollback, StateKey};
use std::collections::HashSet;
use std::fs;

/// The machine's files.
const NAME: &str = "secrets";
/// Information of HKDF for a state's key of both halves, the broker's first (`l1_vmm::launch::unlock`).
const STATE_KEY: &[u8] = b"tdp-vtpm state key 1: broker, hardware";
/// The simulator tells the hardware's half, which no host learns.
const TOLD_HALF: &str = "sealing=told";
/// What L1 says of itself to the broker with each request to the ledger: the session's name.
const TOLD: &[u8] = b"ledger-1";

/// One boot.
pub(super) fn suite(setup: &Setup) -> Suite<'_> {
    let mut suite = Suite::new();
    suite.add(move |_| {
        let name = "secrets: none is where the host can see it".into();
        vec![(name, none_is_seen(setup))]
    });
    suite
}

fn none_is_seen(setup: &Setup) -> Result<()> {
    let machine = Machine::new(setup, NAME, Keys::Scripted("require"))?;
    let scripted = machine.scripted.as_ref().context("there is no broker")?;
    let half = secret("the broker's half");
    scripted.broker().half = half;
    let (kept, sealed) = (secret("kept in NV"), secret("sealed"));
    let steps = [
        Step::SendMasked("seal", seal(&sealed), SUCCESS),
        Step::Send("define", define_secret(), SUCCESS),
        Step::SendMasked("write", write_secret(&kept), SUCCESS),
    ];
    let (disk, file) = (machine.file("state.img"), machine.file("memory"));
    let boot = Boot {
        memory: Some(&file),
        options: &[TOLD_HALF],
        ..machine.boot("secrets", &steps, &disk)
    };
    let run = machine.runs(&boot);
    let memory = run.as_ref().ok().map(|run| Memory::read(&file, run));
    fs::remove_file(&file)?;
    let run = run?;
    let mut memory = memory.context("there was no run")??;

    // What L1 tells the host is found where it was told, and what is the TD's where it is kept.
    let told = memory.count(TOLD);
    ensure!(
        told.shared > 0,
        "what L1 told the broker is not in shared memory"
    );
    let session = scripted::session_key(1).0;
    let hardware = hardware_half(&run)?;
    let state: [u8; 32] = expand(&[half, hardware].concat(), STATE_KEY)?;
    let slot: [u8; 32] = expand(&state, INFO_SLOT)?;
    let commit: [u8; 48] = expand(&state, INFO_COMMIT)?;
    let digest: [u8; 48] = expand(&state, INFO_DIGEST)?;
    let keys: [(&str, &[u8], Fate); 9] = [
        ("the secret in NV", &kept, Fate::Kept),
        ("the sealed secret", &sealed, Fate::Kept),
        ("the key of the ledger's session", &session, Fate::Kept),
        ("the key of commit records", &commit, Fate::Kept),
        ("the key of state digests", &digest, Fate::Kept),
        ("the key of slots", &slot, Fate::Kept),
        ("the state's key", &state, Fate::Erased),
        ("the hardware's half", &hardware, Fate::Erased),
        ("the broker's half", &half, Fate::Erased),
    ];
    let said = [&run.transcript.log[..], &run.transcript.console].concat();
    let said = said.join("\n");
    let mut files = [
        ("the state disk", fs::read(&disk)?),
        ("the wire", scripted.wire()),
        ("the log or the console", said.into_bytes()),
    ];
    for (what, key, fate) in keys {
        let text = key.first_chunk().map(scripted::in_texts);
        // All characters but the last follow from the first 32 bytes.
        let text = text.as_deref().and_then(|text| text.get(..42));
        let text = text.context("a key is shorter")?;
        let digits = hex::encode(key);
        for form in [key, text.as_bytes(), digits.as_bytes()] {
            let shared = memory.count(form).shared;
            ensure!(shared == 0, "{what} is in shared memory, {shared} times");
            for (place, bytes) in &files {
                ensure!(count(bytes, form) == 0, "{what} is in {place}");
            }
        }
        let private = memory.count(key).private;
        ensure!(
            (private == 0) == (fate == Fate::Erased),
            "{what} is {private} times in private memory"
        );
    }
    // Each of them would have been found.
    for (what, key, _) in keys {
        ensure!(
            memory.planted(key, |memory| memory.count(key).shared) == Some(1),
            "{what} in shared memory was not found"
        );
        for (place, bytes) in &mut files {
            let end = bytes.len();
            bytes.extend_from_slice(key);
            ensure!(count(bytes, key) == 1, "{what} in {place} was not found");
            bytes.truncate(end);
        }
    }
    let mut disk = Disk::read(&disk)?;
    opens(&slot, &mut disk)?;
    nothing_of_the_engine(&memory, &mut disk, state)
}

/// The sealing key that the TDX module gave L1.
fn hardware_half(run: &Run) -> Result<[u8; 32]> {
    let records = run.transcript.records.iter();
    let mut told = records.filter_map(|record| record["sealing_key"].as_str());
    let (Some(digits), None) = (told.next(), told.next()) else {
        bail!("the simulator does not tell of one sealing key");
    };
    let mut half = [0; 32];
    hex::decode_to_slice(digits, &mut half)?;
    Ok(half)
}

/// Whether this is the key of the slots on the disk (`docs/state-format.md`, "Slot").
fn opens(key: &[u8; 32], disk: &mut Disk) -> Result<()> {
    let newest = disk.newest()?;
    let (header, tag) = (&newest.bytes[..0x100], &newest.bytes[0x100..0x110]);
    let ciphertext = &newest.bytes[0x200..][..newest.length];
    let sealed = Payload {
        msg: &[ciphertext, tag].concat(),
        aad: header,
    };
    let nonce = Nonce::try_from(&header[0x48..0x54])?;
    let opened = Aes256GcmSiv::new(key.into()).decrypt(&nonce, sealed);
    let opened = opened.ok().context("the key does not open the slot")?;
    ensure!(!opened.is_empty(), "there is nothing in the slot");
    Ok(())
}

/// Nothing of the engine's state, of which its seeds are a part, is in shared memory; it is in private memory.
fn nothing_of_the_engine(memory: &Memory, disk: &mut Disk, mut key: [u8; 32]) -> Result<()> {
    let examined = state_store::examine::examine(&mut &mut *disk)?;
    let mut slots = examined.slots.iter();
    let nv_size = slots.find_map(|slot| Some(slot.slot.as_ref().ok()?.0.nv_size.get()));
    let opened = state_store::open(
        disk,
        NoLedger,
        &StateKey::take(&mut key).into(),
        MachineId(identity(NAME)),
        nv_size.context("there is no slot")?,
        Rollback::None,
    )?;
    let Opened::Stored { state, .. } = opened else {
        bail!("there is no state");
    };
    // Each secret of 31 bytes or more has one of these pieces; what is no secret has few values.
    let (pieces, _) = state.engine.as_chunks::<PIECE>();
    let is_varied = |piece: &&[u8; PIECE]| HashSet::<u8>::from_iter(**piece).len() > PIECE / 2;
    let pieces: HashSet<[u8; PIECE]> = pieces.iter().filter(is_varied).copied().collect();
    let found = memory.count_by(&|bytes| {
        let windows = bytes.windows(PIECE);
        windows.filter(|window| pieces.contains(*window)).count()
    });
    ensure!(found.private > 0, "the engine's state is not in memory");
    ensure!(
        found.shared == 0,
        "{} pieces of the engine's state are in shared memory",
        found.shared
    );
    Ok(())
}

/// Bytes of a piece of the engine's state.
const PIECE: usize = 16;

/// What L1 does with a secret.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It is in use to the end.
    Kept,
    /// It is used once, and erased.
    Erased,
}

/// HKDF-SHA-384 with the machine as salt.
fn expand<const N: usize>(key: &[u8], information: &[u8]) -> Result<[u8; N]> {
    let mut expanded = [0; N];
    let hkdf = Hkdf::<Sha384>::new(Some(&identity(NAME)), key);
    let done = hkdf.expand(information, &mut expanded);
    done.ok().context("HKDF does not make so many bytes")?;
    Ok(expanded)
}

/// Bytes that are nowhere else.
fn secret(name: &str) -> [u8; 32] {
    let digest = attestation::digest::sha384(name.as_bytes());
    let mut secret = [0; 32];
    secret.copy_from_slice(&digest[..32]);
    secret
}
