//! Numbers and layouts of *Virtual I/O Device (VIRTIO) Version 1.2* ("VIRTIO"), for both ends of a device.
//!
//! * [`status`], [`feature`]: the device status field and the feature bits that no device type owns.
//! * [`ring`]: the split virtqueue.
//! * [`pci`]: identities, capabilities and registers of the PCI transport.
//! * [`block`], [`console`], [`entropy`], [`net`], [`vsock`]: device types.
//!
//! Offsets are in bytes from the start of the structure; all fields are little-endian.
//!
//! Not here: PCI itself (`x86_defs::pci`), and any decision.
#![no_std]
#![forbid(unsafe_code)]

pub mod block;
pub mod console;
pub mod entropy;
pub mod feature;
pub mod net;
pub mod pci;
pub mod ring;
pub mod status;
pub mod vsock;
