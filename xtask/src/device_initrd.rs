//! The initrd of guests that have devices on their PCI bus.

use crate::{debian, images, odd};
use anyhow::Result;
use std::path::{Path, PathBuf};

/// Packs the usual initrd with Debian's drivers of virtio devices, in a folder of `cache`.
pub(crate) fn build(cache: &Path) -> Result<PathBuf> {
    let folder = cache.join("devices");
    std::fs::create_dir_all(&folder)?;
    odd::initrd_with(&debian::device_modules(cache), &[], &folder)
}

/// The same with the programs that try the devices.
pub(crate) fn build_for_tests(cache: &Path) -> Result<PathBuf> {
    let folder = cache.join("devices-tests");
    std::fs::create_dir_all(&folder)?;
    let sockets = images::build_guest_program("guest-sockets")?;
    odd::initrd_with(&debian::device_modules(cache), &[sockets], &folder)
}
