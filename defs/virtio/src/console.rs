//! The console device (VIRTIO 5.3), with one port.

/// Device type.
pub const DEVICE_TYPE: u16 = 3;
/// Queue of port 0 that the device sends on.
pub const QUEUE_RECEIVE: u16 = 0;
/// Queue of port 0 that the driver sends on.
pub const QUEUE_TRANSMIT: u16 = 1;
/// VIRTIO_CONSOLE_F_MULTIPORT: several ports and a control queue.
pub const FEATURE_MULTIPORT: u64 = 1 << 1;
