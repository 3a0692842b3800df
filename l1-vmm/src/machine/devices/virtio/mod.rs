//! Virtio devices of L2's machine (*Virtual I/O Device (VIRTIO) Version 1.2*, "VIRTIO").
//!
//! * [`queue`]: the device's side of a split virtqueue.
//! * [`device`]: status, features, queues and configuration of a device.
//! * [`function`]: its PCI function.
//! * [`backend`]: what is behind it; [`entropy`]: L1 itself is.
//!
//! Not here: the host's devices, as L1 drives them ([`crate::virtio`]).

pub mod backend;
pub mod device;
pub mod entropy;
pub mod function;
#[cfg(test)]
pub(crate) mod model;
pub mod queue;
#[cfg(test)]
mod tests;
