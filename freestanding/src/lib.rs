//! What a program that runs without an operating system needs to be linked for the host's own
//! target, the only one a stable toolchain without extra components has.
//!
//! Two halves, for two users:
//!
//! * module `link`, without features, for build scripts: the linker settings of an image;
//! * feature `mem`, for the image itself: `memcpy` and its kin, which the compiler calls and which
//!   a hosted program gets from its C library.
#![cfg_attr(feature = "mem", no_std)]

#[cfg(not(feature = "mem"))]
pub mod link;
#[cfg(feature = "mem")]
pub mod mem;
