//! The block device (VIRTIO 5.2).

/// Device type.
pub const DEVICE_TYPE: u16 = 2;

/// VIRTIO_BLK_F_SIZE_MAX: a buffer has at most `size_max` bytes.
pub const FEATURE_SIZE_MAX: u64 = 1 << 1;
/// VIRTIO_BLK_F_SEG_MAX: a request has at most `seg_max` buffers of data.
pub const FEATURE_SEG_MAX: u64 = 1 << 2;
/// VIRTIO_BLK_F_RO: the device is read-only.
pub const FEATURE_RO: u64 = 1 << 5;
/// VIRTIO_BLK_F_BLK_SIZE: `blk_size` is the size of the device's own blocks.
pub const FEATURE_BLK_SIZE: u64 = 1 << 6;
/// VIRTIO_BLK_F_FLUSH: there is a flush command.
pub const FEATURE_FLUSH: u64 = 1 << 9;
/// VIRTIO_BLK_F_DISCARD: there is a discard command.
pub const FEATURE_DISCARD: u64 = 1 << 13;
/// VIRTIO_BLK_F_WRITE_ZEROES: there is a command that writes zeroes.
pub const FEATURE_WRITE_ZEROES: u64 = 1 << 14;

/// Configuration (VIRTIO 5.2.4): capacity in sectors, u64.
pub const CONFIG_CAPACITY: u32 = 0;
/// Configuration: size_max u32.
pub const CONFIG_SIZE_MAX: u32 = 8;
/// Configuration: seg_max u32.
pub const CONFIG_SEG_MAX: u32 = 12;
/// Configuration: blk_size u32.
pub const CONFIG_BLK_SIZE: u32 = 20;
/// Configuration: max_discard_sectors u32.
pub const CONFIG_MAX_DISCARD_SECTORS: u32 = 36;
/// Configuration: max_discard_seg u32.
pub const CONFIG_MAX_DISCARD_SEG: u32 = 40;
/// Configuration: discard_sector_alignment u32.
pub const CONFIG_DISCARD_SECTOR_ALIGNMENT: u32 = 44;
/// Configuration: max_write_zeroes_sectors u32.
pub const CONFIG_MAX_WRITE_ZEROES_SECTORS: u32 = 48;
/// Configuration: max_write_zeroes_seg u32.
pub const CONFIG_MAX_WRITE_ZEROES_SEG: u32 = 52;
/// Configuration: write_zeroes_may_unmap u8.
pub const CONFIG_WRITE_ZEROES_MAY_UNMAP: u32 = 56;
/// Bytes of the configuration up to WRITE_ZEROES.
pub const CONFIG_SIZE: usize = 60;

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
/// VIRTIO_BLK_T_GET_ID: the device's name, [`ID_LENGTH`] bytes.
pub const TYPE_GET_ID: u32 = 8;
/// VIRTIO_BLK_T_DISCARD: sectors are no longer needed.
pub const TYPE_DISCARD: u32 = 11;
/// VIRTIO_BLK_T_WRITE_ZEROES: sectors become zero.
pub const TYPE_WRITE_ZEROES: u32 = 13;

/// Bytes of the device's name, filled up with zeroes (VIRTIO 5.2.6).
pub const ID_LENGTH: usize = 20;
/// Bytes of a segment of DISCARD and WRITE_ZEROES: sector u64, num_sectors u32, flags u32 (VIRTIO 5.2.6).
pub const SEGMENT_LENGTH: usize = 16;
/// Flags of a segment: unmap, for WRITE_ZEROES only.
pub const SEGMENT_UNMAP: u32 = 1;

/// VIRTIO_BLK_S_OK.
pub const STATUS_OK: u8 = 0;
/// VIRTIO_BLK_S_IOERR.
pub const STATUS_IOERR: u8 = 1;
/// VIRTIO_BLK_S_UNSUPP: the device does not know the request.
pub const STATUS_UNSUPP: u8 = 2;
