//! Numbers and layouts of the UEFI Forum's specifications, and GUIDs that firmware of TDs goes by.
//!
//! * [`guid`]: GUIDs in the byte order of memory; [`hob`]: hand-off blocks of UEFI PI.
//! * [`acpi`]: registers and tables of ACPI that more than one side reads or writes.
//!
//! Not here: which list or table is made of them, and what a reader does with it.
#![no_std]
#![forbid(unsafe_code)]

pub mod acpi;
pub mod guid;
pub mod hob;

pub use guid::Guid;
