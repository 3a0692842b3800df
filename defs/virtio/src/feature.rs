//! Feature bits that no device type owns (VIRTIO chapter 6), as masks.

/// VIRTIO_F_INDIRECT_DESC: a descriptor may name a table of descriptors.
pub const INDIRECT_DESC: u64 = 1 << 28;
/// VIRTIO_F_EVENT_IDX: notifications are suppressed by indices instead of flags.
pub const EVENT_IDX: u64 = 1 << 29;
/// VIRTIO_F_VERSION_1: the device follows version 1 or later.
pub const VERSION_1: u64 = 1 << 32;
/// VIRTIO_F_ACCESS_PLATFORM: the device's access to memory is what the platform grants it, not all of it.
pub const ACCESS_PLATFORM: u64 = 1 << 33;
/// VIRTIO_F_RING_PACKED: the packed virtqueue.
pub const RING_PACKED: u64 = 1 << 34;
/// VIRTIO_F_IN_ORDER: buffers are used in the order in which they were made available.
pub const IN_ORDER: u64 = 1 << 35;
/// VIRTIO_F_RING_RESET: one queue can be reset.
pub const RING_RESET: u64 = 1 << 40;
