//! The device status field (VIRTIO 2.1). Writing 0 resets the device; reading 0 says that it was.

/// ACKNOWLEDGE: the driver's side has found the device.
pub const ACKNOWLEDGE: u8 = 1;
/// DRIVER: it knows how to drive it.
pub const DRIVER: u8 = 2;
/// DRIVER_OK: it is set up, and the device may work.
pub const DRIVER_OK: u8 = 4;
/// FEATURES_OK: the features are chosen. It reads back as 0 if the device does not accept the choice.
pub const FEATURES_OK: u8 = 8;
/// DEVICE_NEEDS_RESET: the device cannot go on.
pub const DEVICE_NEEDS_RESET: u8 = 64;
/// FAILED: the driver has given the device up.
pub const FAILED: u8 = 128;
