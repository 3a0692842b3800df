//! What L2's machine has once, however many virtual processors it has.
//!
//! * [`devices`]: I/O APIC, UART, clock, power, PCI configuration, the TPM's window, and which of them answers where.
//! * [`host`]: the host's devices behind L2's, and L1's own interrupts.
//! * [`cpuid`]: what L2 is told of its processors.
//!
//! Not here: what each virtual processor has ([`crate::vcpu`]).

pub mod cpuid;
pub mod devices;
pub mod host;
