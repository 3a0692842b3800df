//! The block device (VIRTIO 5.2).

/// Device type.
pub const DEVICE_TYPE: u16 = 2;

/// VIRTIO_BLK_F_SIZE_MAX: a buffer has at most `size_max` bytes.
pub const FEATURE_SIZE_MAX: u64 = 1 << 1;
/// VIRTIO_BLK_F_RO: the device is read-only.
pub const FEATURE_RO: u64 = 1 << 5;
/// VIRTIO_BLK_F_FLUSH: there is a flush command.
pub const FEATURE_FLUSH: u64 = 1 << 9;

/// Configuration (VIRTIO 5.2.4): capacity in sectors, u64.
pub const CONFIG_CAPACITY: u32 = 0;
/// Configuration: size_max u32.
pub const CONFIG_SIZE_MAX: u32 = 8;

/// Bytes of a sector, whatever the device's block size is (VIRTIO 5.2.6).
pub const SECTOR: usize = 512;

/// Bytes of a request's header: type u32, reserved u32, sector u64 (VIRTIO 5.2.6). The data follow, then a status byte.
pub const HEADER_LENGTH: usize = 16;
/// VIRTIO_BLK_T_IN: read.
pub const TYPE_IN: u32 = 0;
/// VIRTIO_BLK_T_OUT: write.
pub const TYPE_OUT: u32 = 1;
/// VIRTIO_BLK_T_FLUSH: what was written becomes durable.
pub const TYPE_FLUSH: u32 = 4;

/// VIRTIO_BLK_S_OK.
pub const STATUS_OK: u8 = 0;
/// VIRTIO_BLK_S_IOERR.
pub const STATUS_IOERR: u8 = 1;
/// VIRTIO_BLK_S_UNSUPP: the device does not know the request.
pub const STATUS_UNSUPP: u8 = 2;
