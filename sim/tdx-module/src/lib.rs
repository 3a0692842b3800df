//! The TDX module as pure logic: one partitioned TD and its virtual processors, on one logical processor.
//!
//! [`Module`] checks operands in the order of the real module (1.5) and answers with its codes; it
//! refuses what the real module refuses. Hardware is reached only through [`Platform`], so that the
//! same logic runs under `cargo test` and, over nested virtualization, in the simulator.
//!
//! The host role calls the `tdh_*` functions, which are the SEAMCALLs. [`Module::tdh_vp_enter`]
//! and [`Module::handle_exit`] say in an [`Action`] what to do next: run a VM, or act as the host. Both are about the
//! virtual processor that [`Module::take_up_vcpu`] named last; the host chooses.
//!
//! What does not live here: the host, and any machine's way of running a VM. What the model does
//! not have: migration, service and debug TDs, the pages of the
//! secure EPT itself, vector registers in TDVMCALLs (they are left as they are), and the linear
//! address in a #VE for a data access to a pending page.
#![no_std]
#![forbid(unsafe_code)]
#![allow(
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a simulator: its tables are its own, and a wrong index ends a test"
)]

extern crate alloc;

mod faults;
mod instruction;
mod l1;
mod l2;
mod leaf;
mod locks;
mod measurement;
mod memory;
mod metadata;
mod module;
mod paging;
pub mod platform;
mod report;
mod statistics;
pub mod td;
pub mod test_platform;
mod transition;
mod vcpu;

pub use faults::Faults;
pub use measurement::{Measurement, RTMR_COUNT};
pub use module::{Configuration, Module};
pub use platform::{Action, Exited, HardwareExit, Platform, TdExit, Vm};
pub use report::Tcb;
pub use statistics::{Route, Statistics, VcpuStatistics};
pub use td::params::TdParams;
pub use transition::VpEnterInput;
