//! What only the crate itself can see: the engine by itself, and what it leaves behind.

use core::sync::atomic::{AtomicBool, Ordering};
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::*;
use crate::{Ephemeral, NoEntropy};

const STARTUP: [u8; 12] = [0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x44, 0, 0];
const GET_RANDOM: [u8; 12] = [0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x7b, 0, 16];

static TURN: Mutex<()> = Mutex::new(());
static DEAD: AtomicBool = AtomicBool::new(false);

fn entropy(into: &mut [u8]) -> Result<(), NoEntropy> {
    if DEAD.load(Ordering::Relaxed) {
        return Err(NoEntropy);
    }
    into.fill(0x5a);
    Ok(())
}

/// The turn is first, so that it ends last.
fn open() -> (MutexGuard<'static, ()>, Tpm) {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    DEAD.store(false, Ordering::Relaxed);
    let tpm = Tpm::open(Config {
        entropy,
        clock: || 0,
        store: Box::new(Ephemeral),
    });
    (turn, tpm.unwrap())
}

/// [`Tpm::execute`] would not let a response out; here it is looked at.
#[test]
fn engine_by_itself_makes_nothing_without_entropy() {
    let (_turn, mut tpm) = open();
    DEAD.store(true, Ordering::Relaxed);
    for command in [STARTUP, GET_RANDOM] {
        tpm.command[..12].copy_from_slice(&command);
        assert_eq!(tpm.process(12), Ok(10));
        assert_ne!(tpm.response[6..10], [0; 4], "{command:x?}");
    }
}

#[test]
fn a_whole_state_that_the_engine_refuses_leaves_the_former_one() {
    let (_turn, mut tpm) = open();
    let former = tpm.state(StateKind::Permanent).unwrap();
    let nonsense = state::wrap(StateKind::Permanent, &[0x11; 1000]);
    let refused = tpm.set_state(&nonsense, None);
    assert!(
        matches!(refused, Err(StateError::Refused(_))),
        "{refused:?}"
    );
    let mut response = [0; MAX_RESPONSE];
    assert_eq!(
        tpm.execute(0, &STARTUP, &mut response),
        Err(ExecuteError::Fault(Fault::Start))
    );
    tpm.reset().unwrap();
    assert_eq!(tpm.state(StateKind::Permanent).unwrap(), former);
    assert_eq!(tpm.execute(0, &STARTUP, &mut response), Ok(10));
    assert_eq!(response[6..10], [0; 4]);
}

/// Words of the stack below the caller's frame, from the deepest on. Nobody has them at present:
/// they are what former calls left.
#[inline(always)]
fn below(words: usize) -> Vec<u64> {
    let mut seen = vec![0; words];
    let here = 0_u64;
    let top = black_box(&raw const here);
    for (word, back) in seen.iter_mut().zip((1..=words).rev()) {
        // SAFETY: the thread's stack reaches further down and is mapped as far as it was used.
        *word = unsafe { top.wrapping_sub(back).read_volatile() };
    }
    seen
}

/// TPM2_CreatePrimary of a P-256 storage key whose authorization value is `secret`.
fn create_primary(secret: &[u8; 32]) -> Vec<u8> {
    let mut command = vec![0x80, 0x02, 0, 0, 0, 0, 0, 0, 0x01, 0x31];
    command.extend([0x40, 0, 0, 1, 0, 0, 0, 9, 0x40, 0, 0, 9, 0, 0, 0, 0, 0]);
    command.extend([0, 36, 0, 32]);
    command.extend(secret);
    command.extend([0, 0]);
    // TPMT_PUBLIC: ECC, SHA-256, restricted decryption, AES-128-CFB, no scheme, P-256, no KDF.
    let public = [
        0, 0x23, 0, 0x0b, 0, 0x03, 0, 0x72, 0, 0, 0, 6, 0, 0x80, 0, 0x43, 0, 0x10, 0, 3, 0, 0x10,
        0, 0, 0, 0,
    ];
    command.extend((public.len() as u16).to_be_bytes());
    command.extend(public);
    command.extend([0, 0, 0, 0, 0, 0]);
    let length = command.len() as u32;
    command[2..6].copy_from_slice(&length.to_be_bytes());
    command
}

/// Words of stack that the test looks at: more than the engine uses and than is erased.
const LOOKED_AT: usize = 16 << 10;
const PAINT: u64 = 0x5555_5555_5555_5555;

#[inline(never)]
fn paint() {
    let mut frame = [PAINT; LOOKED_AT];
    black_box(&mut frame);
}

/// All eight bytes in a row, forwards and backwards: OpenSSL's numbers are little-endian.
fn eights(bytes: &[u8]) -> BTreeSet<Vec<u8>> {
    let backwards: Vec<u8> = bytes.iter().rev().copied().collect();
    let both = [bytes, &backwards];
    both.iter()
        .flat_map(|bytes| bytes.windows(8).map(<[u8]>::to_vec))
        .collect()
}

/// What the command leaves: whether that is known, by its response, or secret, is told by the
/// state, which has the new key.
#[test]
fn a_command_leaves_nothing_of_the_tpms_state_on_the_stack() {
    let (_turn, mut tpm) = open();
    let self_test = vec![0x80, 0x01, 0, 0, 0, 11, 0, 0, 0x01, 0x43, 1];
    for command in [STARTUP.to_vec(), self_test, create_primary(&[0x77; 32])] {
        tpm.command[..command.len()].copy_from_slice(&command);
        paint();
        let done = tpm.process(command.len());
        let seen = below(LOOKED_AT);
        assert_eq!(tpm.response[6..10], [0; 4], "{done:?}");

        let deepest = seen.iter().position(|word| *word != PAINT);
        let used = deepest.map_or(0, |at| (LOOKED_AT - at) * 8);
        // The frames of this test and of `process` are some hundred bytes.
        assert!(used < ENGINE_STACK + 2048, "deeper than erased: {used}");

        let public = eights(&*tpm.response);
        let state = tpm.state(StateKind::Volatile).unwrap();
        let secret = eights(&state);
        let left: Vec<u8> = seen.iter().flat_map(|word| word.to_ne_bytes()).collect();
        let found = left.windows(8).find(|eight| {
            let random = eight.iter().collect::<BTreeSet<_>>().len() > 6;
            random && secret.contains(*eight) && !public.contains(*eight)
        });
        assert_eq!(found, None, "of the state, after {command:x?}");
    }
}
