//! The console device (VIRTIO 5.3), with one port.

/// Device type.
pub const DEVICE_TYPE: u16 = 3;
/// Queue of port 0 that the device sends on.
pub const QUEUE_RECEIVE: u16 = 0;
/// Queue of port 0 that the driver sends on.
pub const QUEUE_TRANSMIT: u16 = 1;
/// VIRTIO_CONSOLE_F_MULTIPORT: several ports and a control queue.
pub const FEATURE_MULTIPORT: u64 = 1 << 1;
/// VIRTIO_CONSOLE_F_SIZE: `cols` and `rows` are the console's size.
pub const FEATURE_SIZE: u64 = 1 << 0;

/// Configuration (VIRTIO 5.3.4): bytes of cols u16 and rows u16, with which it begins.
pub const CONFIG_SIZE_LENGTH: usize = 4;
/// Bytes of the configuration.
pub const CONFIG_SIZE: usize = 12;
