//! Numbers and layouts of the Intel TDX module's interfaces, as both sides of them use: L1 and the
//! simulated module, the host's role and the verifier.
//!
//! * [`tdg`]: numbers of the TDG.* leaves; [`Registers`]: what a TDCALL reads and writes.
//! * [`status`]: completion codes; [`field`]: metadata field identifiers and their values.
//! * [`vmcs`]: fields of an L2 VMCS; [`vp_enter`]: TDG.VP.ENTER; [`attributes`]: page attributes.
//! * [`report`]: TDREPORT; [`quote`]: TD quotes.
//! * [`ghci`]: TDVMCALLs; [`get_quote`]: the buffer of one of them.
//!
//! Not here: the instruction and what its errors mean (`tdcall`), and any decision.
//!
//! Source of everything not marked otherwise: *Intel TDX Module v1.5 ABI Specification*.
#![no_std]
#![forbid(unsafe_code)]

mod address;
pub mod attributes;
pub mod field;
pub mod get_quote;
pub mod ghci;
pub mod key_request;
pub mod quote;
mod registers;
pub mod report;
pub mod status;
pub mod tdg;
pub mod vmcs;
pub mod vp_enter;

pub use address::{Gpa, Gpaw, PageLevel, VmIndex};
pub use field::FieldId;
pub use registers::Registers;
