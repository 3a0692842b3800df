//! What runs and tests take: installed, built, fetched.

use crate::images::{self, Images};
use crate::initrd::{self, More};
use crate::{debian, host, progress};
use anyhow::{Context, Result};
use boots::{Firmware, Setup};
use std::path::{Path, PathBuf};

/// What boots, and the programs it was made of.
pub(crate) struct Prepared {
    pub(crate) images: Images,
    pub(crate) setup: Setup,
}

/// Files to use instead of those that are built or fetched.
#[derive(Default)]
pub(crate) struct Instead<'a> {
    pub(crate) kernel: Option<&'a Path>,
    pub(crate) initrd: Option<&'a Path>,
    /// A finished td-shim image.
    pub(crate) td_shim: Option<&'a Path>,
}

/// The processors of a TD where a run or a test does not say how many. Figures are of one, unless they say it.
pub(crate) const PROCESSORS: u32 = 2;

/// Installs, builds, fetches.
pub(crate) fn prepare(instead: &Instead<'_>) -> Result<Prepared> {
    host::prepare()?;
    let folder = images::work_folder()?;
    let kernel = match instead.kernel {
        Some(path) => path.to_owned(),
        None => debian::kernel(&folder)?,
    };
    let initrd = match instead.initrd {
        Some(path) => path.to_owned(),
        None => {
            let step = progress::step("packing the guest's initrd: busybox, tpm2-tools");
            let path = guest_initrd(&More::NOTHING, &folder)?;
            step.done();
            path
        }
    };
    let images = images::build()?;
    let firmware = match instead.td_shim {
        Some(path) => {
            let image =
                std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
            Firmware {
                hole: image.clone(),
                accepted: image,
            }
        }
        None => Firmware {
            accepted: images.assemble(true)?,
            hole: images.assemble(false)?,
        },
    };
    let setup = Setup {
        simulator: images.simulator.clone(),
        l1_vmm: images.l1_vmm.clone(),
        firmware,
        kernel,
        initrd,
        pki: images::root().join("sim/quoting/pki"),
        folder,
        processors: 1,
    };
    Ok(Prepared { images, setup })
}

/// Packs the guest's initrd, with what is in it besides, into a folder.
pub(crate) fn guest_initrd(more: &More<'_>, to: &Path) -> Result<PathBuf> {
    initrd::build(&images::root().join("tests/guest"), more, to)
}
