//! The entropy device (VIRTIO 5.4): one queue of buffers that the device fills.

/// Device type.
pub const DEVICE_TYPE: u16 = 4;
/// Its queue.
pub const QUEUE_REQUEST: u16 = 0;
