//! Starts the simulator, the program of `sim/machine`, under QEMU, and keeps what it says.
//!
//! * [`Simulation`] is what is to run, [`Run`] what came of it; [`PlainQemu`] runs the same guest
//!   without the simulator, with [`Swtpm`] as its TPM; [`KvmHost`] runs it under KVM on the same emulated machine.
//! * [`Transcript`] is the guest's console, and the simulator's log with its records and L1's: lines of
//!   `@` and a JSON object, which `docs/simulator.md` lists.
//! * [`HostDevices`] are the host's disks, and the way to a key broker.
//! * [`Gpaw`] and [`Window`] are the options that nearly every run chooses.
//!
//! Who builds the programs, and what a run must show, is not here: `xtask` and `tests/boots`.
#![forbid(unsafe_code)]

mod devices;
mod kept;
mod kvm_host;
mod names;
mod options;
mod pack;
mod plain_qemu;
mod qemu;
mod ram;
mod simulation;
mod swtpm;
mod transcript;

pub use devices::{BrokerBy, HostDevices, Models, Network, Outside};
pub use kvm_host::KvmHost;
pub use options::{Gpaw, Window};
pub use plain_qemu::PlainQemu;
pub use qemu::{Answer, BootFiles, Clock, Run, SEED};
pub use ram::td_ram;
pub use simulation::{Console, Simulation};
pub use swtpm::Swtpm;
pub use transcript::{L1Record, Phase, Step, Transcript};
