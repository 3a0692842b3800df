//! The TPM's state on a disk of the host's.
//!
//! The host stores the state. It can neither read nor alter it, and where a [`Ledger`] keeps count it cannot put
//! an older one, a copy or another machine's in its place: each attempt is an [`OpenError`] of its own.
//! `docs/state-format.md` has the format byte by byte.
//!
//! * [`record`]: what is stored, as named records ([`State`]).
//! * [`layout`]: the bytes on the disk: a label, two commit records, two slots.
//! * [`key_record`]: what has to be known before there is a key.
//! * [`key`]: one state key, and the keys for each purpose that follow from it.
//! * [`seal`]: a state as a slot, and a slot as a state or as what is wrong with it.
//! * [`device`]: the disk as a trait, and how often it is asked again.
//! * [`ledger`]: who keeps count of the commits, as a trait.
//! * [`open`](mod@open): which slot counts. [`commit`]: how the next one is made to count.
//! * [`examine`]: what can be told without the key.
//!
//! What this is not: no wire protocol, no key release, and nothing of virtio. A state is opened once at a start,
//! and then only written: L1 is the one who has it.
//!
//! The rule that everything else follows: **a damaged newest slot is no reason to take the older one.** The older
//! one is used only where the ledger says that the newer was not committed; without a ledger the commit record
//! says it, and nothing protects against a whole older disk.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod commit;
pub mod device;
pub mod examine;
pub mod key;
pub mod key_record;
pub mod layout;
pub mod ledger;
pub mod open;
pub mod record;
pub mod seal;

pub use commit::{Answer, Commit, Later, NotStored, Store};
pub use device::{Device, DeviceError};
pub use key::{KeyRing, MachineId, SealingKey, StateKey};
pub use layout::Tcb;
pub use ledger::{Collected, Grant, Ledger, LedgerError, NoLedger, Point, Refusal, Rollback};
pub use open::{OpenError, Opened, open};
pub use record::{EkTemplate, State};
pub use seal::{Nonce, SlotFault};
