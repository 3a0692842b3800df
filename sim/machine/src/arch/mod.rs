//! The bare machine: everything here and in [`crate::svm`] that Rust cannot express safely, and
//! nothing else. What the modules offer is safe to use from the rest of the program.

mod boot;
pub(crate) mod clock;
pub(crate) mod cpu;
pub(crate) mod descriptors;
pub(crate) mod interrupts;
pub(crate) mod iommu;
pub(crate) mod memory;
pub(crate) mod pci;
pub(crate) mod port;
pub(crate) mod processor_state;
pub(crate) mod pvh;
pub(crate) mod serial;
