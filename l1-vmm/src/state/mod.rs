//! The TPM's state on the host's disk.
//!
//! What it is sealed with, and which state counts, is `state-store`'s; here it meets the devices and the vTPM.
//!
//! * [`channel`]: a console of the host's as the bytes to and from the key broker.
//! * [`disk`]: a block device of the host's as a place for states.
//! * [`keeper`]: what the vTPM gives each of its states to.

pub mod channel;
pub mod disk;
pub mod keeper;

pub use keeper::StoreKeeper;
