//! The TPM's state on a disk of the host's: its format.
//!
//! * [`record`]: what is stored, as named records ([`State`]).
//! * [`layout`]: the bytes on the disk: a label, two commit records, two slots.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod layout;
pub mod record;

pub use record::{EkTemplate, State};
