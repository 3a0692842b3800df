//! x
use anyhow::Result;
/// x
#[derive(clap::Args)]
pub(crate) struct Options {}
pub(crate) fn run(_options: &Options) -> Result<bool> {
    Ok(true)
}
