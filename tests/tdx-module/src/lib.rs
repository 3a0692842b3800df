//! The TDX module as pure logic: one partitioned TD with one virtual processor.
//!
//! [`Module`] checks operands in the order of the real module (1.5) and answers with its codes; it
//! refuses what the real module refuses. Hardware is reached only through [`Platform`], so that the
//! same logic runs under `cargo test` and, over nested virtualization, in the bench.
//!
//! What does not live here: the host (it is the caller), and any machine's way of running a VM.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod platform;

pub use platform::{Action, Exited, HardwareExit, Platform, TdExit, Vm};
