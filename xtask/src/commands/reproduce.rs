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
    let firmware = images.assemble(true)?;
    println!("firmware image {}", sha384(&firmware));
    // A build with another one is another image: to be the same, it takes the same package.
    println!(
        "engine in it   {}",
        prediction::engine(&firmware).as_deref().unwrap_or("none")
    );
    println!("a build elsewhere is the same, byte for byte");
    Ok(true)
}
