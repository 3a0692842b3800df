//! The network device (VIRTIO 5.1), with one pair of queues.

/// Device type.
pub const DEVICE_TYPE: u16 = 1;
/// Queue that packets are received on.
pub const QUEUE_RECEIVE: u16 = 0;
/// Queue that packets are sent on.
pub const QUEUE_TRANSMIT: u16 = 1;
/// VIRTIO_NET_F_MTU: `mtu` is the largest that the driver may use.
pub const FEATURE_MTU: u64 = 1 << 3;
/// VIRTIO_NET_F_MAC: `mac` is the device's address.
pub const FEATURE_MAC: u64 = 1 << 5;
/// VIRTIO_NET_F_STATUS: `status` tells whether there is a link.
pub const FEATURE_STATUS: u64 = 1 << 16;

/// Configuration (VIRTIO 5.1.4): mac, six bytes.
pub const CONFIG_MAC: u32 = 0;
/// Configuration: status u16.
pub const CONFIG_STATUS: u32 = 6;
/// Configuration: mtu u16.
pub const CONFIG_MTU: u32 = 10;
/// Bytes of the configuration up to the MTU.
pub const CONFIG_SIZE: usize = 12;
/// Status: there is a link.
pub const STATUS_LINK_UP: u16 = 1;

/// Bytes of the header before a packet (VIRTIO 5.1.6).
pub const HEADER_LENGTH: usize = 12;
/// Header: num_buffers u16, which of a received packet is 1 without MRG_RXBUF.
pub const HEADER_NUM_BUFFERS: usize = 10;
