//! What td-shim needs to launch the L1 VMM, and a check of a finished image.
//!
//! td-shim is ordinary firmware to its payload: nothing in it knows of TD partitioning. So what the
//! L1 VMM asks of an image is data, and lives here:
//!
//! * [`metadata`]: the TDX metadata of an image (which pages the host adds, which it measures);
//! * [`layout`]: where the parts of our own image lie, and what td-shim puts where at run time;
//! * [`hob_list`]: the HOB lists from the host to the shim and from the shim to its payload;
//! * [`td_hob`]: the list from the host, made for a memory map;
//! * [`firmware_volume`]: the wrapping in which an image carries its payload;
//! * [`ccel`]: the ACPI table of the confidential-computing event log;
//! * [`madt`]: the ACPI table by which a payload finds the other virtual processors;
//! * with feature `std`, [`image`] assembles an image, [`measurement`] computes its MRTD and
//!   [`check`] says whether a finished one fits.
//!
//! The JSON files beside this crate are the same data in the form td-shim's own tools read.
#![cfg_attr(not(feature = "std"), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod ccel;
pub mod firmware_volume;
pub mod hob_list;
pub mod layout;
pub mod madt;
pub mod metadata;
pub mod td_hob;

#[cfg(feature = "std")]
pub mod check;
#[cfg(feature = "std")]
pub mod image;
#[cfg(feature = "std")]
pub mod measurement;
#[cfg(feature = "std")]
pub mod td_params;
