//! Any commands to the engine, one life of a TPM an input.
//!
//! The engine is a library that is linked as it was built: a sanitizer sees what it does with the heap and with memory that is
//! copied, not its own loads and stores.

use std::sync::{Mutex, PoisonError};

use attestation::digest::{Algorithm, Digest};
use attestation::journal::StartupType;
use attestation::tpm::{NvPublic, PcrSelect, Scheme, commands, rh, template};
use tpm2_ref_sys::{Config, Ephemeral, NoEntropy, Tpm};
use vtpm::reference::Reference;
use vtpm::{Engine, Locality, MAX_RESPONSE, SavedState};

use super::input::Input;

/// Most commands of one input.
const COMMANDS: usize = 40;
/// TPM_RC_FAILURE: of a TPM in failure mode, which no command may bring about.
const FAILURE: [u8; 4] = [0, 0, 1, 1];
/// The first handles of transient objects and HMAC sessions, and a persistent one.
const TRANSIENT: u32 = 0x8000_0000;
const SESSION: u32 = 0x0200_0000;
const PERSISTENT: u32 = 0x8100_0001;
const INDEX: u32 = 0x0180_0001;

/// The TPM, and what it was when it was started.
static LIFE: Mutex<Option<Life>> = Mutex::new(None);

struct Life {
    tpm: Reference,
    started: SavedState,
}

/// The same bytes in each process: the commands choose what happens.
fn entropy(into: &mut [u8]) -> Result<(), NoEntropy> {
    static COUNT: Mutex<u64> = Mutex::new(0);
    let mut count = COUNT.lock().unwrap_or_else(PoisonError::into_inner);
    for byte in into {
        *count = count.wrapping_add(0x9E37_79B9_7F4A_7C15);
        *byte = (*count ^ *count >> 29)
            .wrapping_mul(0xBF58_476D_1CE4_E5B9)
            .to_be_bytes()[0];
    }
    Ok(())
}

impl Life {
    fn new() -> Self {
        let tpm = Tpm::open(Config {
            entropy,
            clock: || 1_000_000_000,
            store: Box::new(Ephemeral),
        });
        let mut tpm = Reference::new(tpm.expect("there is one TPM"));
        let mut response = [0; MAX_RESPONSE];
        let startup = commands::startup(StartupType::Clear);
        let answer = tpm.execute(Locality::Zero, &startup, &mut response);
        assert_eq!(answer, Ok(10));
        let started = tpm.save().expect("its state can be had");
        Self { tpm, started }
    }

    fn execute(&mut self, locality: Locality, command: &[u8]) {
        let mut response = [0; MAX_RESPONSE];
        let length = self.tpm.execute(locality, command, &mut response);
        let length = length.expect("it answers");
        assert!((10..=MAX_RESPONSE).contains(&length), "{length} bytes");
        assert_eq!(
            response[2..6],
            (length as u32).to_be_bytes(),
            "{command:x?}"
        );
        assert_ne!(response[6..10], FAILURE, "{command:x?}");
    }
}

/// Commands that reach much of the engine, and few of which take long.
fn bases() -> Vec<Vec<u8>> {
    let pcrs = |pcrs: &[u8]| PcrSelect::of(Algorithm::Sha256, pcrs.iter().copied());
    let digest = Digest::new(Algorithm::Sha256, &[1; 32]).expect("of its length");
    let index = NvPublic::new(INDEX, 0x0204_0004, 64);
    let parent = template::ek_p256();
    vec![
        commands::get_random(32),
        commands::pcr_extend(16, &[digest]),
        commands::pcr_event(9, b"event"),
        commands::pcr_read(pcrs(&[0, 16])),
        commands::pcr_reset(16),
        commands::get_capability(6, 0x100, 20),
        commands::create_primary(rh::OWNER, &parent),
        commands::read_public(TRANSIENT),
        commands::evict_control(TRANSIENT, PERSISTENT),
        commands::flush_context(TRANSIENT),
        commands::quote(TRANSIENT, b"nonce", Scheme::Null, pcrs(&[0])),
        commands::nv_define_space(rh::OWNER, &[], &index),
        commands::nv_write(INDEX, INDEX, 0, &[7; 32]),
        commands::nv_read(INDEX, INDEX, 0, 32),
        commands::nv_read_public(INDEX),
        commands::nv_undefine_space(rh::OWNER, INDEX),
        commands::event_sequence_start(),
        commands::event_sequence_complete(16, TRANSIENT, b"data"),
        commands::hierarchy_change_auth(rh::OWNER, b"owner"),
        commands::read_clock(),
        commands::policy_pcr(SESSION | 1 << 24, pcrs(&[1])),
        commands::policy_get_digest(SESSION | 1 << 24),
        commands::clear(),
        commands::shutdown(StartupType::State),
        commands::startup(StartupType::State),
    ]
}

/// One of them with a few other bytes, or bytes that are none, and the size that it has.
fn command(input: &Input, bases: &[Vec<u8>]) -> Vec<u8> {
    let choice = usize::from(input.byte());
    let mut command = match bases.get(choice % (bases.len() + 2)) {
        Some(base) => base.clone(),
        None => {
            let length = usize::from(input.byte());
            [
                &[0x80, 1 + input.byte() % 2, 0, 0, 0, 0, 0, 0][..],
                &input.bytes(2 + length),
            ]
            .concat()
        }
    };
    for _ in 0..input.byte() % 5 {
        let (at, value) = (usize::from(input.word()), input.byte());
        let length = command.len();
        // The size is set below.
        command[6 + at % (length - 6)] = value;
    }
    if input.byte() > 0xF0 {
        command.resize(10 + usize::from(input.byte()), 0xA5);
    }
    let size = (command.len() as u32).to_be_bytes();
    command[2..6].copy_from_slice(&size);
    command
}

/// The engine under any commands: each has a response that is whole, and none makes the TPM fail.
pub fn engine_commands(data: &[u8]) {
    let mut life = LIFE.lock().unwrap_or_else(PoisonError::into_inner);
    let life = life.get_or_insert_with(Life::new);
    life.tpm
        .restore(&life.started)
        .expect("it goes back to its start");
    let bases = bases();
    let input = Input::new(data);
    for _ in 0..COMMANDS {
        if input.ended() {
            break;
        }
        let options = input.byte();
        if options == 0xFF {
            life.tpm.reset().expect("it resets");
        }
        let locality = Locality::new(u32::from(options >> 4 & 3)).expect("there are four");
        let command = command(&input, &bases);
        life.execute(locality, &command);
    }
}
