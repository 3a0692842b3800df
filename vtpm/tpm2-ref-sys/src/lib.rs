//! The TPM 2.0 reference engine as a safe Rust value.
//!
//! [`Tpm`] owns libtpms's TPM 2.0 (the TCG's reference code) and OpenSSL's libcrypto below it, in
//! this process or in a program without an operating system; both link the same two archives.
//! Everything the engine takes from outside comes from its owner: entropy, time, and a store for
//! what must survive a power cycle.
//!
//! ```no_run
//! use tpm2_ref_sys::{Config, Ephemeral, NoEntropy, Tpm};
//!
//! fn entropy(into: &mut [u8]) -> Result<(), NoEntropy> {
//!     // From a hardware source; an error where it has none to give.
//! #   let _ = into;
//!     Err(NoEntropy)
//! }
//!
//! let mut tpm = Tpm::open(Config {
//!     entropy,
//!     clock: || 0,
//!     store: Box::new(Ephemeral),
//! })?;
//! let startup = [0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x44, 0, 0];
//! let mut response = [0; 4096];
//! let length = tpm.execute(0, &startup, &mut response)?;
//! # let _ = length;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # One engine
//!
//! All state of the engine is static, so a process has one at a time: [`Tpm::open`] fails with
//! [`OpenError::InUse`] while another `Tpm` lives. A `Tpm` is on one thread at a time. Tests of one
//! program therefore take turns, by a lock of their own.
//!
//! # Long commands
//!
//! A [`Fiber`] executes commands on a stack of its own, which it leaves when a slice of time is over, and goes back to.
//!
//! # Failing closed
//!
//! When the entropy function or the store fails, the command that needed it fails, its response is
//! thrown away, and so does every further command until [`Tpm::reset`]: see [`Fault`]. No key and
//! no random number is ever made from anything else.
//!
//! # Linking without an operating system
//!
//! The archives need these symbols of a C library; a hosted program has them, an image brings them:
//!
//! | | |
//! | --- | --- |
//! | memory | `malloc` `free` `realloc` `posix_memalign` (may fail) `memcpy` `memmove` `memset` `memcmp` `memchr` `bcmp` `__memset_chk` |
//! | strings | `strlen` `strcmp` `strncmp` `strchr` `index` `strrchr` `strstr` `strcpy` `strncpy` `strspn` `strcspn` `strdup` `strndup` `strtol` `strtoul` `__asprintf_chk` (`%s`, `%d`) |
//! | characters, glibc's table layout | `__ctype_b_loc` `__ctype_tolower_loc` |
//! | control | `abort` `__assert_fail` `__stack_chk_fail` `__errno_location` `_setjmp` `__longjmp_chk` `qsort` |
//! | time | `time` `gettimeofday` `clock_gettime` |
//! | environment | `getenv` `secure_getenv` `getpid` |
//! | entropy | `getentropy` (must fail when there is none) `syscall` (may fail) |
//! | never entered | `stat` `opendir` `readdir` `closedir` `__snprintf_chk` |
//! | only for a profile in a state (may fail) | `regcomp` `regexec` `regfree` |
//!
//! libtpms was compiled with the stack protector: the FS base must point at a thread block whose
//! canary at offset 0x28 does not change during a call, and is the same on every processor where one may go on with a
//! command that another began ([`Fiber`]). Both use SSE registers and neither uses the
//! red zone. A command needs up to 15 KB of stack (give it 64) and up to 600 KB of heap (give it
//! 4 MB).
//!
//! # Where the C code comes from
//!
//! libtpms is Debian's static archive, pinned by checksum; OpenSSL is built from the `openssl-src`
//! crate. `build/` gets both; their licences are in `licenses/`. The package is looked for in the
//! user's cache (`$XDG_CACHE_HOME/tdp-vtpm/packages`, which a download fills), in the system and in
//! apt's mirrors. Variables of the build: `TPM2_REF_LIBTPMS_A` (the archive to use),
//! `TPM2_REF_CACHE` (a folder for both results), `TPM2_REF_MIRRORS` (mirrors in place of apt's),
//! `TPM2_REF_OFFLINE` (ask none).
//!
//! # Profile
//!
//! libtpms 0.10 can leave out commands and algorithms and write its state in newer formats, by a
//! profile that is chosen when a TPM is made. None is chosen here, which is the profile `null`: the
//! commands, algorithms, keys for a seed and state of libtpms 0.9.
#![allow(unsafe_code, reason = "calls into C, and the symbols that it asks for")]
#![cfg_attr(not(test), no_std)]
#![warn(missing_docs)]

extern crate alloc;

/// [`ENGINE`] as it is found in an image by who looks for it there: between these brackets.
const MARKED: &str = concat!("[TPM engine: libtpms ", env!("TPM2_REF_TPMS_VERSION"), "]");

/// Name and version of the engine that is linked: "libtpms", and the version of Debian's package
/// whose archive this is, known by its checksum.
///
/// Debian's version, because a package may carry patches on top of the upstream version that it
/// begins with: 0.9.2-3.1+deb12u1 has those for CVE-2023-1017, CVE-2023-1018 and CVE-2025-49133.
/// A policy names the whole string.
pub const ENGINE: &str = unmarked(MARKED);

const fn unmarked(marked: &'static str) -> &'static str {
    let (_, rest) = marked.split_at("[TPM engine: ".len());
    rest.split_at(rest.len() - 1).0
}

mod engine;
mod error;
pub mod hash;
mod host;
mod objects;
mod ownership;
mod slices;
mod state;
mod tpm;

pub use error::{ExecuteError, OpenError};
pub use host::{Clock, Entropy, Ephemeral, Fault, NoEntropy, NvError, NvStore};
pub use slices::{Fiber, Stack, tsc, yield_now};
pub use state::{StateError, StateKind};
pub use tpm::{CancelHandle, Config, MAX_COMMAND, MAX_RESPONSE, NV_MEMORY_SIZE, Tpm};
