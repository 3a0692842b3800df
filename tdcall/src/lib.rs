//! The guest's side of the Intel TDX module, typed: what an L1 VMM of a partitioned TD calls.
//!
//! Everything goes through one small trait, [`RawTdcall`]: a TDCALL on a set of [`Registers`].
//! [`hw::Hw`] is the instruction; a model of the TDX module is the other implementation. Above it,
//! [`Td`] has one method for each TDG.* leaf ([`leaf`]) and each TDVMCALL sub-function
//! ([`tdvmcall`]), with an error type that says which rule was broken.
//!
//! The other modules are the definitions both sides of the interface share: completion codes
//! ([`status`]), metadata fields ([`field`]), VMCS fields ([`vmcs`]), page attributes
//! ([`attributes`]), the layouts of TDG.VP.ENTER ([`vp_enter`]) and TDG.MR.REPORT ([`report`]),
//! and the numbers of the GHCI ([`ghci`]).
//!
//! What is not here: any policy. Which leaf to call when, and what to do about an error, is the
//! caller's; [`Td`] only repeats calls that were busy or interrupted, with a bound.
//!
//! Source of everything not marked otherwise: *Intel TDX Module v1.5 ABI Specification*.
#![no_std]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::indexing_slicing
    )
)]

#[cfg(test)]
extern crate std;
#[cfg(test)]
mod script;

mod address;
pub mod attributes;
pub mod field;
pub mod ghci;
pub mod hw;
pub mod leaf;
mod registers;
pub mod report;
pub mod status;
mod td;
pub mod tdvmcall;
pub mod vmcs;
pub mod vp_enter;

pub use address::{Gpa, Gpaw, PageLevel, VmIndex};
pub use field::FieldId;
pub use leaf::{AcceptError, MetadataError, PageAttrError, VpEnterError};
pub use registers::{RawTdcall, Registers};
pub use td::Td;
