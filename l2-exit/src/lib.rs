//! An exit of a TDX L2 VM as a value, and the instructions that L1 executes in L2's place.
//!
//! * [`Exit`] is one return of TDG.VP.ENTER: why L2 left, who brought the news, and the event
//!   whose delivery was cut short.
//! * [`mmio`] executes the instruction behind an EPT violation against a device,
//!   [`port_io`] the instruction behind an I/O exit.
//! * [`run_ahead`] executes what L2 does next, up to where it cannot.
//! * [`tdvmcall`] reads an L2's TDCALL and writes its answer.
//! * [`paging`] translates L2's linear addresses with L2's own page tables.
//! * [`Event`] is what the next entry injects.
//!
//! What is not here: devices, policy (CPUID, MSRs, control registers), and any TDCALL. The
//! crate reaches L2 through four traits only: [`Vcpu`], [`GuestMemory`], [`MmioBus`],
//! [`PortBus`].
//!
//! Everything L2 or the host can choose (registers, memory, page tables, exit information) is
//! hostile here: no value of it panics, allocates or runs without a bound. An instruction that
//! is not implemented ends in [`EmulationError`], never in a guess. The instruction decoder
//! builds its tables on the heap once; [`mmio::prepare`] does that ahead of the first exit.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod alu;
mod event;
pub mod exit;
mod guest;
mod memory;
pub mod mmio;
mod outcome;
pub mod paging;
pub mod port_io;
mod register;
mod rip;
pub mod run_ahead;
mod string;
pub mod tdvmcall;
#[cfg(test)]
mod test_vcpu;
pub mod vcpu;

pub use event::{Event, EventKind};
pub use exit::{Exit, Origin, Reason};
pub use memory::{
    GuestMemory, GuestPages, MemoryError, MmioBus, PortBus, load_copied, store_copied,
};
pub use outcome::{EmulationError, InstructionBytes, Outcome};
pub use rip::advance;
pub use tdx_defs::ghci::Width;
pub use vcpu::{Gpr, Segment, SegmentAccessRights, SegmentRegister, Vcpu};
