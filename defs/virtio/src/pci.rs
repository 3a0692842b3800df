//! Virtio over PCI (VIRTIO 4.1).

/// Vendor of every virtio device (VIRTIO 4.1.2).
pub const VENDOR: u16 = 0x1AF4;
/// Device ID of a device that is not transitional, less its type (VIRTIO 4.1.2).
pub const DEVICE_BASE: u16 = 0x1040;
/// Device IDs of transitional devices, which have a legacy interface beside the other: the type is the subsystem's
/// device ID (VIRTIO 4.1.2.1).
pub const TRANSITIONAL: core::ops::RangeInclusive<u16> = 0x1000..=0x103F;
/// Device IDs of devices that are not transitional.
pub const MODERN: core::ops::RangeInclusive<u16> = 0x1040..=0x107F;

/// Capability: cap_len u8 (VIRTIO 4.1.4, `struct virtio_pci_cap`).
pub const CAP_LENGTH: u8 = 2;
/// Capability: cfg_type u8.
pub const CAP_TYPE: u8 = 3;
/// Capability: bar u8.
pub const CAP_BAR: u8 = 4;
/// Capability: offset in the BAR, u32.
pub const CAP_OFFSET: u8 = 8;
/// Capability: length of the structure, u32.
pub const CAP_STRUCTURE_LENGTH: u8 = 12;
/// Bytes of a capability.
pub const CAP_SIZE: u8 = 16;
/// Notification capability: notify_off_multiplier u32 (VIRTIO 4.1.4.4).
pub const CAP_NOTIFY_MULTIPLIER: u8 = 16;
/// Bytes of a notification capability.
pub const CAP_NOTIFY_SIZE: u8 = 20;
/// PCI configuration access capability: pci_cfg_data, 4 bytes (VIRTIO 4.1.4.9).
pub const CAP_ACCESS_DATA: u8 = 16;
/// Bytes of a PCI configuration access capability.
pub const CAP_ACCESS_SIZE: u8 = 20;
/// The largest value of `bar` that is not reserved.
pub const CAP_BAR_MAX: u8 = 5;

/// cfg_type VIRTIO_PCI_CAP_COMMON_CFG.
pub const CFG_COMMON: u8 = 1;
/// cfg_type VIRTIO_PCI_CAP_NOTIFY_CFG.
pub const CFG_NOTIFY: u8 = 2;
/// cfg_type VIRTIO_PCI_CAP_ISR_CFG.
pub const CFG_ISR: u8 = 3;
/// cfg_type VIRTIO_PCI_CAP_DEVICE_CFG.
pub const CFG_DEVICE: u8 = 4;
/// cfg_type VIRTIO_PCI_CAP_PCI_CFG.
pub const CFG_PCI: u8 = 5;

/// Common configuration (VIRTIO 4.1.4.3): device_feature_select u32.
pub const COMMON_DEVICE_FEATURE_SELECT: u32 = 0x00;
/// device_feature u32.
pub const COMMON_DEVICE_FEATURE: u32 = 0x04;
/// driver_feature_select u32.
pub const COMMON_DRIVER_FEATURE_SELECT: u32 = 0x08;
/// driver_feature u32.
pub const COMMON_DRIVER_FEATURE: u32 = 0x0C;
/// config_msix_vector u16.
pub const COMMON_CONFIG_VECTOR: u32 = 0x10;
/// num_queues u16.
pub const COMMON_NUM_QUEUES: u32 = 0x12;
/// device_status u8.
pub const COMMON_STATUS: u32 = 0x14;
/// config_generation u8.
pub const COMMON_GENERATION: u32 = 0x15;
/// queue_select u16.
pub const COMMON_QUEUE_SELECT: u32 = 0x16;
/// queue_size u16.
pub const COMMON_QUEUE_SIZE: u32 = 0x18;
/// queue_msix_vector u16.
pub const COMMON_QUEUE_VECTOR: u32 = 0x1A;
/// queue_enable u16.
pub const COMMON_QUEUE_ENABLE: u32 = 0x1C;
/// queue_notify_off u16.
pub const COMMON_QUEUE_NOTIFY_OFF: u32 = 0x1E;
/// queue_desc u64, as two doublewords.
pub const COMMON_QUEUE_DESC: u32 = 0x20;
/// queue_driver u64, as two doublewords.
pub const COMMON_QUEUE_DRIVER: u32 = 0x28;
/// queue_device u64, as two doublewords.
pub const COMMON_QUEUE_DEVICE: u32 = 0x30;
/// Bytes of the part that every device has.
pub const COMMON_SIZE: u32 = 0x38;

/// VIRTIO_MSI_NO_VECTOR: no vector, or none could be had (VIRTIO 4.1.5.1.2).
pub const NO_VECTOR: u16 = 0xFFFF;

/// ISR status (VIRTIO 4.1.4.5): the used ring of a queue has changed. Reading clears it.
pub const ISR_QUEUE: u8 = 1;
/// ISR status: the configuration has changed.
pub const ISR_CONFIGURATION: u8 = 2;

/// The least revision ID of a device that is not transitional (VIRTIO 4.1.2.1).
pub const REVISION: u8 = 1;
/// The least subsystem ID that keeps the drivers of older versions away (VIRTIO 4.1.2.1).
pub const SUBSYSTEM: u16 = 0x40;
