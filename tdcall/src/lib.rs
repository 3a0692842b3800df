//! The guest's side of the Intel TDX module, typed: what an L1 VMM of a partitioned TD calls.
//!
//! Everything goes through one small trait, [`RawTdcall`]: a TDCALL on a set of
//! [`Registers`](tdx_defs::Registers).
//! [`hw::Hw`] is the instruction; a model of the TDX module is the other implementation. Above it,
//! [`Td`] has one method for each TDG.* leaf ([`leaf`]) and each TDVMCALL sub-function
//! ([`tdvmcall`]), with an error type that says which rule was broken. Memory that a call names by its
//! address is an [`OperandPage`] or a [`SharedBuffer`], which whoever maps it implements.
//!
//! Numbers and layouts that both sides of the interface share are in `tdx-defs`.
//!
//! What is not here: any policy. Which leaf to call when, and what to do about an error, is the
//! caller's; [`Td`] only repeats calls that were busy or interrupted, with a bound.
//!
//! Source of everything not marked otherwise: *Intel TDX Module v1.5 ABI Specification*.
#![no_std]

#[cfg(test)]
extern crate std;
#[cfg(test)]
mod script;

pub mod hw;
pub mod leaf;
mod memory;
mod raw;
mod td;
pub mod tdvmcall;

pub use leaf::{AcceptError, MetadataError, PageAttrError, VpEnterError};
pub use memory::{OperandPage, SharedBuffer};
pub use raw::RawTdcall;
pub use td::Td;
