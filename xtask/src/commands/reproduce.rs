//! `cargo xtask reproduce`: is a build elsewhere the same?

use crate::reproducible::{self, Scope, sha384};
use crate::{images, progress};
use anyhow::Result;

/// Options of the task.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Build OpenSSL anew as well, which takes minutes.
    #[arg(long)]
    libraries: bool,
}

/// Builds twice and compares; prints the digests.
pub(crate) fn run(options: &Options) -> Result<bool> {
    crate::host::prepare()?;
    let images = images::build()?;
    let step = progress::step("building the images again elsewhere");
    let scope = if options.libraries {
        Scope::Libraries
    } else {
        Scope::Programs
    };
    reproducible::check(&images, scope)?;
    step.done();
    println!("l1-vmm         {}", sha384(&images.payload));
    println!("shim           {}", sha384(&std::fs::read(&images.shim)?));
    println!(
        "simulator      {}",
        sha384(&std::fs::read(&images.simulator)?)
    );
    println!("firmware image {}", sha384(&images.assemble(true)?));
    println!("a build elsewhere is the same, byte for byte");
    Ok(true)
}
