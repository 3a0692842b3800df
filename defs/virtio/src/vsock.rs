//! The socket device (VIRTIO 5.10).

/// Device type.
pub const DEVICE_TYPE: u16 = 19;
/// Queue that packets are received on.
pub const QUEUE_RECEIVE: u16 = 0;
/// Queue that packets are sent on.
pub const QUEUE_TRANSMIT: u16 = 1;
/// Queue that events are received on.
pub const QUEUE_EVENT: u16 = 2;
/// VIRTIO_VSOCK_F_STREAM: stream sockets.
pub const FEATURE_STREAM: u64 = 1;
/// VIRTIO_VSOCK_F_SEQPACKET: sockets that keep the borders of messages.
pub const FEATURE_SEQPACKET: u64 = 1 << 1;

/// Configuration (VIRTIO 5.10.4): guest_cid u64, of which the upper half is zero.
pub const CONFIG_GUEST_CID: u32 = 0;
/// Bytes of the configuration.
pub const CONFIG_SIZE: usize = 8;
/// The context identifier of the host (VIRTIO 5.10.4).
pub const HOST_CID: u64 = 2;
/// The first one that a guest may have: those below are reserved, or the host's.
pub const FIRST_GUEST_CID: u64 = 3;
/// The one that stands for any, behind the last that a guest may have.
pub const ANY_CID: u64 = 0xFFFF_FFFF;

/// Bytes of the header before each packet (VIRTIO 5.10.6, `virtio_vsock_hdr`).
pub const HEADER_LENGTH: usize = 44;
/// Header: src_cid u64.
pub const HEADER_SOURCE_CID: usize = 0;
/// Header: dst_cid u64.
pub const HEADER_DESTINATION_CID: usize = 8;
/// Header: src_port u32.
pub const HEADER_SOURCE_PORT: usize = 16;
/// Header: dst_port u32.
pub const HEADER_DESTINATION_PORT: usize = 20;
/// Header: len u32, bytes behind the header.
pub const HEADER_DATA_LENGTH: usize = 24;
/// Header: type u16.
pub const HEADER_TYPE: usize = 28;
/// Header: op u16.
pub const HEADER_OPERATION: usize = 30;
/// Header: flags u32.
pub const HEADER_FLAGS: usize = 32;
/// Header: buf_alloc u32, bytes that the sender of the packet holds for this connection.
pub const HEADER_ALLOCATED: usize = 36;
/// Header: fwd_cnt u32, bytes of the connection that the sender of the packet has taken from them so far.
pub const HEADER_FORWARDED: usize = 40;

/// VIRTIO_VSOCK_TYPE_STREAM.
pub const TYPE_STREAM: u16 = 1;

/// VIRTIO_VSOCK_OP_REQUEST: make a connection.
pub const OPERATION_REQUEST: u16 = 1;
/// VIRTIO_VSOCK_OP_RESPONSE: it is made.
pub const OPERATION_RESPONSE: u16 = 2;
/// VIRTIO_VSOCK_OP_RST: it is refused, or gone.
pub const OPERATION_RESET: u16 = 3;
/// VIRTIO_VSOCK_OP_SHUTDOWN: one way or both will not be used any more, as the flags say.
pub const OPERATION_SHUTDOWN: u16 = 4;
/// VIRTIO_VSOCK_OP_RW: bytes of the connection.
pub const OPERATION_DATA: u16 = 5;
/// VIRTIO_VSOCK_OP_CREDIT_UPDATE: nothing but the header's counts.
pub const OPERATION_CREDIT_UPDATE: u16 = 6;
/// VIRTIO_VSOCK_OP_CREDIT_REQUEST: asks for them.
pub const OPERATION_CREDIT_REQUEST: u16 = 7;

/// VIRTIO_VSOCK_SHUTDOWN_F_RECEIVE: the sender will receive no more.
pub const SHUTDOWN_RECEIVE: u32 = 1;
/// VIRTIO_VSOCK_SHUTDOWN_F_SEND: the sender will send no more.
pub const SHUTDOWN_SEND: u32 = 1 << 1;

/// Bytes of an event (VIRTIO 5.10.6.7): id u32.
pub const EVENT_LENGTH: usize = 4;
/// VIRTIO_VSOCK_EVENT_TRANSPORT_RESET: all connections are gone.
pub const EVENT_TRANSPORT_RESET: u32 = 0;
