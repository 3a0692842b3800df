//! What the L1 VMM decides, apart from the machine it runs on.
//!
//! * [`entropy`]: random numbers under health tests.
//! * [`paging`]: L1's own page tables.
//! * [`launch`]: from td-shim's hand-off to a Linux kernel in L2's memory: memory plan, L2's pages,
//!   the files from the host, boot protocol, ACPI tables.
//! * [`machine`]: what L2's machine has once; [`vcpu`]: what each of its virtual processors has.
//! * [`record`]: its figures in the log, for programs.
//! * [`run`]: the loop that runs L2, and its end.
//! * [`trust_domain`]: measurement registers, reports and quotes, as the vTPM wants them.
//! * [`shared_buffer`]: parts of the memory shared with the host.
//! * [`state`]: the TPM's state on the host's disk.
//! * [`virtio`]: the host's virtio devices, driven by L1.
//!
//! The image (the package `l1-image`, in `image/`) brings what needs the machine: entry code, page tables, interrupt and #VE
//! handlers, the heap, the C runtime of the TPM engine, access to physical memory. The library has no
//! `unsafe` and runs under `cargo test`: it reaches the TDX module through [`tdcall::RawTdcall`], and
//! memory through traits that the image implements.
//!
//! Everything the host or L2 can choose is hostile here: copied once, checked, never a panic.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod entropy;
pub mod launch;
pub mod machine;
#[cfg(test)]
mod model_ram;
pub mod paging;
pub mod record;
pub mod run;
pub mod shared_buffer;
pub mod state;
pub mod trust_domain;
pub mod vcpu;
pub mod virtio;
