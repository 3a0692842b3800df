//! The C library that the TPM engine (libtpms) and its crypto (libcrypto) call: as much of it as they
//! need, by the names that objects compiled against glibc use.
//!
//! Their contracts are ISO C's and POSIX's, so each function says only what is special here. Files,
//! environment and processes do not exist; time and entropy come from `arch`. `memcpy` and its kin
//! are in the `freestanding` crate.
//!
//! The engine is the only C code. Its static state has one owner, `tpm2_ref_sys::Tpm`, and so has what
//! is static here: a call of the engine runs on one processor from its beginning to its end, under the
//! lock of that owner, and no other can run meanwhile.

mod character;
mod control;
mod environment;
mod format;
mod heap;
mod jump;
mod memory;
mod number;
mod sort;
mod string;
mod time;
