//! What the crate frees of its copies of the state is erased first.
#![allow(unsafe_code, reason = "looks at freed memory of the engine's")]
#![allow(
    clippy::indexing_slicing,
    reason = "what tests share, which clippy.toml does not take for tests"
)]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::mem;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use support::Session;
use support::command;
use tpm2_ref_sys::StateKind;

const FIRST: u32 = 0x0180_0001;
const SECOND: u32 = 0x0180_0002;

/// Stands for the seeds: where the engine's state is, this is.
const SECRET: [u8; 32] = *b"thirty-two bytes of TPM state...";

static WATCHED: AtomicBool = AtomicBool::new(false);
static LEAKS: AtomicUsize = AtomicUsize::new(0);

/// Rust's heap, with a look at what is freed. The engine's own `malloc` is another.
struct Watch;

// SAFETY: `System` does the work; looking at a block changes nothing.
unsafe impl GlobalAlloc for Watch {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if WATCHED.load(Ordering::Relaxed) {
            // SAFETY: the block is as long as that and still the caller's to free. What it never
            // wrote reads as anything.
            let byte = |at| unsafe { block.add(at).read_volatile() };
            let ends = (SECRET.len()..=layout.size())
                .filter(|end| (0..SECRET.len()).all(|i| byte(end - SECRET.len() + i) == SECRET[i]));
            LEAKS.fetch_add(ends.count(), Ordering::Relaxed);
        }
        // SAFETY: the caller's.
        unsafe { System.dealloc(block, layout) };
    }
}

#[global_allocator]
static HEAP: Watch = Watch;

/// How often the secret is in what `action` frees.
fn leaks(action: impl FnOnce()) -> usize {
    LEAKS.store(0, Ordering::Relaxed);
    WATCHED.store(true, Ordering::Relaxed);
    action();
    WATCHED.store(false, Ordering::Relaxed);
    LEAKS.load(Ordering::Relaxed)
}

#[test]
fn no_freed_copy_of_the_state_has_its_secrets() {
    let mut session = Session::started();
    session.ok(&command::nv_define(FIRST, SECRET.len() as u16));
    session.ok(&command::nv_write(FIRST, FIRST, 0, &SECRET));
    session.ok(&command::nv_define(SECOND, 4));
    assert_eq!(leaks(|| drop(black_box(SECRET.to_vec()))), 1);
    let leaked = leaks(|| {
        session.ok(&command::nv_write(SECOND, SECOND, 0, b"more"));
        let state = session.tpm.state(StateKind::Permanent).unwrap();
        session.tpm.set_state(&state, None).unwrap();
        // The caller's copy.
        mem::forget(state);
        session.tpm.reset().unwrap();
        drop(session);
    });
    assert_eq!(leaked, 0);
}
