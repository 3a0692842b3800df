//! The initrd of guests that have devices on their PCI bus.

use crate::{debian, odd};
use anyhow::Result;
use std::path::{Path, PathBuf};

/// Packs the usual initrd with Debian's drivers of virtio devices, in a folder of `cache`.
pub(crate) fn build(cache: &Path) -> Result<PathBuf> {
    let folder = cache.join("devices");
    std::fs::create_dir_all(&folder)?;
    odd::initrd_with(&debian::device_modules(cache), &folder)
}
