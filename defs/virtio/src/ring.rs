//! The split virtqueue (VIRTIO 2.7): three areas of a queue of N descriptors.

/// N is at most this, and a power of two (VIRTIO 2.7).
pub const SIZE_MAX: u16 = 32768;

/// Bytes of a descriptor: address u64, length u32, flags u16, next u16 (VIRTIO 2.7.5).
pub const DESCRIPTOR_LENGTH: usize = 16;
/// Alignment of the descriptor table (VIRTIO 2.7).
pub const DESCRIPTOR_TABLE_ALIGNMENT: u64 = 16;
/// VIRTQ_DESC_F_NEXT: the chain goes on at `next`.
pub const DESCRIPTOR_NEXT: u16 = 1;
/// VIRTQ_DESC_F_WRITE: the buffer is for the device to write; else it is for it to read.
pub const DESCRIPTOR_WRITE: u16 = 2;
/// VIRTQ_DESC_F_INDIRECT: the buffer is a table of descriptors.
pub const DESCRIPTOR_INDIRECT: u16 = 4;

/// Available ring, which the driver writes (VIRTIO 2.7.6): flags u16.
pub const AVAILABLE_FLAGS: usize = 0;
/// Available ring: idx u16.
pub const AVAILABLE_INDEX: usize = 2;
/// Available ring: N heads of chains, u16 each; used_event u16 is behind them.
pub const AVAILABLE_RING: usize = 4;
/// Bytes of a head in the available ring.
pub const AVAILABLE_ELEMENT_LENGTH: usize = 2;
/// Alignment of the available ring (VIRTIO 2.7).
pub const AVAILABLE_ALIGNMENT: u64 = 2;
/// VIRTQ_AVAIL_F_NO_INTERRUPT: the device may leave out interrupts; without EVENT_IDX only.
pub const AVAILABLE_NO_INTERRUPT: u16 = 1;

/// Used ring, which the device writes (VIRTIO 2.7.8): flags u16.
pub const USED_FLAGS: usize = 0;
/// Used ring: idx u16.
pub const USED_INDEX: usize = 2;
/// Used ring: N elements; avail_event u16 is behind them.
pub const USED_RING: usize = 4;
/// Bytes of an element of the used ring: id u32, len u32.
pub const USED_ELEMENT_LENGTH: usize = 8;
/// Alignment of the used ring (VIRTIO 2.7).
pub const USED_ALIGNMENT: u64 = 4;
/// VIRTQ_USED_F_NO_NOTIFY: the driver may leave out notifications; without EVENT_IDX only.
pub const USED_NO_NOTIFY: u16 = 1;

/// Bytes of used_event and avail_event (VIRTIO 2.7.7, 2.7.10).
pub const EVENT_LENGTH: usize = 2;
