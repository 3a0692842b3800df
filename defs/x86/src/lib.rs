//! Numbers and layouts of the x86 processor and of the PC around it.
//!
//! * [`cr0`], [`cr4`], [`efer`], [`rflags`], [`xcr0`], [`debugctl`]: bits of registers; [`msr`]: numbers of MSRs.
//! * [`exception`]: vectors; [`exit_reason`]: why a virtual machine exits, and the names of that.
//! * [`paging`]: entries of page tables; [`apic`], [`ioapic`]: registers of the interrupt controllers.
//! * [`iommu`]: registers and tables of an IOMMU; [`pc`]: ports and windows; [`pci`]: configuration space and MSI-X; [`e820`]: the memory map.
//!
//! Not here: VMCS fields, which L1 reaches through the TDX module only (`tdx-defs`), and any decision.
//!
//! Sources: *Intel 64 and IA-32 Architectures Software Developer's Manual* ("SDM"), where nothing else is named.
#![no_std]
#![forbid(unsafe_code)]

pub mod apic;
mod control;
pub mod e820;
pub mod exception;
pub mod exit_reason;
pub mod ioapic;
pub mod iommu;
pub mod msr;
pub mod paging;
pub mod pc;
pub mod pci;

pub use control::{cr0, cr4, debugctl, efer, rflags, xcr0};
