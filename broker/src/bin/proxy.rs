//! `tdp-vtpm-proxy`: moves bytes between a machine's channel and the broker, and nothing else.
#![forbid(unsafe_code)]

use anyhow::Result;
use broker::proxy::{Channel, run};
use clap::Parser;
use std::path::PathBuf;

/// Moves bytes between a machine's channel, which is a socket of its QEMU, and the broker.
///
/// It needs no trust: what goes through it is signed, encrypted and counted by both ends.
#[derive(Parser)]
#[command(version)]
#[group(skip)]
struct Arguments {
    /// Connect to this socket, at which QEMU listens.
    #[arg(
        long,
        value_name = "SOCKET",
        required_unless_present = "listen",
        conflicts_with = "listen"
    )]
    connect: Option<PathBuf>,
    /// Listen at this socket, to which QEMU connects.
    #[arg(long, value_name = "SOCKET")]
    listen: Option<PathBuf>,
    /// The broker's address: host and port.
    #[arg(long, value_name = "ADDRESS")]
    broker: String,
}

fn main() -> Result<()> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_target(false)
        .init();
    let arguments = Arguments::parse();
    let channel = match (arguments.connect, arguments.listen) {
        (Some(path), _) => Channel::Connect(path),
        (None, Some(path)) => Channel::Listen(path),
        (None, None) => anyhow::bail!("--connect or --listen"),
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    Ok(runtime.block_on(run(&channel, &arguments.broker))?)
}
