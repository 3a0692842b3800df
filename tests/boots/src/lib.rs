//! Tests of the whole system: the L1 image that ships, on the simulator.
//!
//! * [`blobs`]: L2 guests of a few dozen instructions, for what no stock kernel does;
//! * [`linux`]: Debian's kernel, with every TPM step, and with other platforms below it;
//! * [`multiprocessor`]: Debian's kernel with several processors;
//! * [`restarts`]: the same kernel, which resets its machine;
//! * [`devices`]: Debian's kernel with devices on its PCI bus;
//! * [`device_lies`]: the same, where the host's devices begin to lie under it;
//! * [`throughput`]: what devices cost, by counts;
//! * [`tpm_exits`]: what TPM commands cost, by counts; [`tpm_gaps`]: for how long L2 has no processor meanwhile;
//! * [`run_ahead`]: the same for several of Debian's kernels, and that the commands are what they are without run-ahead;
//! * [`slow_host`]: what the kernel's driver waits for its TPM where a host gives little time;
//! * [`evidence`]: the round trip of evidence, [`RoundTrip`], and what must be true of it;
//! * [`compatibility`]: what users boot that is odd, and must work all the same;
//! * [`root_disk`]: a Debian root on a LUKS2 disk that only the TPM opens;
//! * [`persistent`]: a TPM that is kept across boots, with its key broker;
//! * [`bad_input`]: files and hosts that L1 must refuse, each with its own words;
//! * [`processors`]: the virtual processors of a TD that come to L1;
//! * [`micro_guests`]: the simulator's own tests of the TDX module, counted.
//!
//! A [`Setup`] is what they boot. Each of these has a function `suite`, whose [`Suite`] runs its
//! cases side by side and gives [`Checks`]: a name and a result each. Nothing here builds, fetches
//! or prints; `cargo xtask test` does.
#![forbid(unsafe_code)]
#![allow(
    clippy::indexing_slicing,
    reason = "guests and files of its own making"
)]

pub mod bad_input;
pub mod blobs;
pub mod compatibility;
pub mod device_lies;
pub mod devices;
pub mod evidence;
mod heap;
mod launch_attacks;
pub mod linux;
pub mod micro_guests;
pub mod multiprocessor;
mod parallel;
pub mod persistent;
pub mod processors;
pub mod restarts;
pub mod root_disk;
mod round_trip;
pub mod run_ahead;
mod setup;
pub mod slow_host;
mod suite;
pub mod throughput;
pub mod tpm_exits;
pub mod tpm_gaps;

pub use round_trip::{
    Collected, RoundTrip, banks_option, each_access_exits, interface_option, mirror_option,
};
pub use setup::{BASE_COMMAND_LINE, Firmware, LIMIT, Setup};
pub use suite::{Checks, Suite};
