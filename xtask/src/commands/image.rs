//! `cargo xtask image`: the firmware image as a file.

use crate::images;
use crate::reproducible::sha384;
use anyhow::{Context, Result};
use std::path::PathBuf;
use tdshim_config::measurement::mrtd;
use tdshim_config::metadata::Metadata;

/// Options of the task.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Where to write it.
    #[arg(long, default_value = "target/xtask/tdp-vtpm.fd")]
    output: PathBuf,
    /// Ask the host to back the TPM window with private pages.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set)]
    back_tpm_window: bool,
}

/// Builds and writes the image; prints its size, digest and MRTD.
pub(crate) fn run(options: &Options) -> Result<bool> {
    crate::host::prepare()?;
    let image = images::build()?.assemble(options.back_tpm_window)?;
    std::fs::write(&options.output, &image)
        .with_context(|| options.output.display().to_string())?;
    let metadata = Metadata::find(&image)?;
    println!("{}: {} bytes", options.output.display(), image.len());
    println!("SHA-384 {}", sha384(&image));
    println!("MRTD    {}", hex::encode(mrtd(&image, &metadata)));
    Ok(true)
}
