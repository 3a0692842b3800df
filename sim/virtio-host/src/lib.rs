//! Virtio devices of a TD's host, as pure logic: what L1 finds on the host's PCI bus in the simulator.
//!
//! [`Bus`] answers configuration mechanism 1 and accesses to BARs; a [`Function`] on it is a modern virtio-pci
//! function with MSI-X (*Virtual I/O Device (VIRTIO) Version 1.2*, "VIRTIO", 4.1) around a [`Device`]: [`Block`] on a
//! [`Store`], [`Console`] on a [`Channel`], [`Network`] with a [`Station`] on it, [`Sockets`] with an echo. Devices reach memory through
//! [`Memory`] alone, which is what the TD shares; their interrupts are [`Message`]s that the bus's owner delivers.
//!
//! What a device does wrong on purpose is a [`Lie`]: the host is untrusted, and the driver's tests need a host that
//! earns it. Without lies, a device does what the specification says, and refuses a driver that does not.
//!
//! Not here: where the bytes of a disk are, what is behind a console, how an interrupt gets to L1. What there is not:
//! legacy and transitional devices, INTx, packed queues, the capability VIRTIO_PCI_CAP_PCI_CFG.
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod block;
mod bus;
mod configuration_space;
mod console;
mod device;
mod function;
mod lie;
mod memory;
mod msix;
mod net;
mod queue;
mod requests;
mod services;
mod statistics;
mod vsock;

pub use block::{Block, Store};
pub use bus::Bus;
pub use console::{Channel, Console};
pub use device::Device;
pub use function::Function;
pub use lie::{CutLoss, Lie, PlannedLie, When};
pub use memory::{Memory, NotShared};
pub use msix::Message;
pub use net::{Network, Station};
pub use queue::{Chain, Violation};
pub use requests::Requests;
pub use services::Services;
pub use statistics::Statistics;
pub use vsock::Sockets;
