//! Virtio devices of L2's machine (*Virtual I/O Device (VIRTIO) Version 1.2*, "VIRTIO").
//!
//! * [`queue`]: the device's side of a split virtqueue.
//!
//! Not here: the host's devices, as L1 drives them ([`crate::virtio`]).

#[cfg(test)]
pub(crate) mod model;
pub mod queue;
