//! The host's virtio devices, as L1 drives them (*Virtual I/O Device (VIRTIO) Version 1.2*, "VIRTIO").
//!
//! * [`ring`]: the driver's side of a split virtqueue.
//! * [`pci`]: finding a device on the host's bus, its registers, features, queues and interrupts.
//! * [`slots`]: buffers for requests; [`buffers`]: queues of bytes; [`clock`]: bounds on waiting.
//! * [`block`], [`console`], [`vsock`]: drivers of L1's own; [`stream`]: what the latter two have in common.
//! * [`bridge`]: a device of the host's behind one of L2's.
//! * [`devices`]: all devices of the bus, and which of them are L1's own.
//!
//! The device is the host's: every index, length, register and byte of it is chosen by whoever attacks L1. Each is
//! read once, checked against what L1 knows by itself, and never taken as still the same later. What breaks a rule
//! is an error with the rule's name; nothing here panics, or goes on for longer than a bound that L1 sets.
//!
//! Not here: what the bytes mean. A device that answers every request as it should can still answer with bytes of
//! its own choice: whoever reads them has to know them again.

pub mod block;
pub mod bridge;
pub mod buffers;
pub mod clock;
pub mod console;
pub mod devices;
#[cfg(test)]
mod hostile_host;
#[cfg(test)]
pub(crate) mod model;
pub mod pci;
mod restarts;
pub mod ring;
pub mod sharing;
pub mod slots;
pub mod stream;
pub mod vsock;
