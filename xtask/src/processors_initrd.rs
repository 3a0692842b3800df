//! The initrd of guests that try their processors.

use crate::{images, odd};
use anyhow::Result;
use std::path::{Path, PathBuf};

/// Packs the usual initrd with the program that tries the processors, in a folder of `cache`.
pub(crate) fn build(cache: &Path) -> Result<PathBuf> {
    let folder = cache.join("processors");
    std::fs::create_dir_all(&folder)?;
    let program = images::build_guest_program("guest-processors")?;
    odd::initrd_with(&[], &[program], &folder)
}
