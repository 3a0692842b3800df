//! The virtual platform of the one L2 vCPU, and the loop that runs it.
//!
//! * [`Platform`] enters L2, and answers each exit: [`Platform::run`] returns when L2 is over.
//! * [`environment`]: what the image brings (processor, memory, TPM).
//! * [`devices`]: local APIC, I/O APIC, UART, clock, power, and who answers at which address.
//! * [`policy`]: what L2 is told of the processor (CPUID, MSRs, control registers, XCR0).
//! * [`vcpu`]: L2's registers and VMCS.
//! * [`host`]: the host's devices behind L2's, and L1's own interrupts.
//!
//! An access to the TPM window costs one TDCALL, TDG.VP.ENTER, and allocates nothing.

pub mod devices;
mod end;
pub mod environment;
pub mod host;
mod platform;
pub mod policy;
mod statistics;
pub mod vcpu;

pub use end::{End, Failure, GuestError, Snapshot};
pub use environment::{
    Environment, Interrupts, L2Memory, Layout, MmioDevice, Owner, Processor, Services, VapicPage,
};
pub use platform::{Parts, Platform};
pub use statistics::Statistics;
