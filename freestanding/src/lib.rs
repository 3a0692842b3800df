//! What a program that runs without an operating system needs to be linked for the host's own
//! target, the only one a stable toolchain without extra components has.
//!
//! Three parts, for two users:
//!
//! * module `link`, without features, for build scripts: the linker settings of an image;
//! * feature `mem`, for the image itself: `memcpy` and its kin, which the compiler calls and which
//!   a hosted program gets from its C library;
//! * feature `heap`, for the image too: an allocator that erases what is freed.
#![cfg_attr(all(feature = "mem", not(test)), no_std)]

#[cfg(any(test, feature = "heap"))]
pub mod heap;
#[cfg(not(feature = "mem"))]
pub mod link;
#[cfg(feature = "mem")]
pub mod mem;
