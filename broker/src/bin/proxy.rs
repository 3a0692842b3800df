//! `tdp-vtpm-proxy`: moves bytes between a machine's channel and the broker, and nothing else.
#![forbid(unsafe_code)]

use anyhow::{Context, Result};
use broker::proxy::{Address, Channel, run};
use clap::Parser;
use std::path::PathBuf;

/// Moves bytes between a machine's channel, which is a socket of its QEMU or of the kernel, and the broker.
///
/// It needs no trust: what goes through it is signed, encrypted and counted by both ends.
#[derive(Parser)]
#[command(version)]
#[group(skip)]
struct Arguments {
    #[command(flatten)]
    channel: ChannelArguments,
    /// The broker's address: HOST:PORT, or https://HOST:PORT for TLS.
    #[arg(long, value_name = "ADDRESS")]
    broker: String,
    /// Believe certificates by the issuers in this file, PEM, and by no other; without it, those that this machine trusts.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

/// Where the channel is: one of these.
#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct ChannelArguments {
    /// Connect to this socket, at which QEMU listens.
    #[arg(long, value_name = "SOCKET")]
    connect: Option<PathBuf>,
    /// Listen at this socket, to which QEMU connects.
    #[arg(long, value_name = "SOCKET")]
    listen: Option<PathBuf>,
    /// Listen at this port of vsock, to which machines connect: 7470 for those of the L1 VMM.
    #[arg(long, value_name = "PORT")]
    vsock: Option<u32>,
}

fn main() -> Result<()> {
    tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_target(false)
        .init();
    let arguments = Arguments::parse();
    let ChannelArguments {
        connect,
        listen,
        vsock,
    } = arguments.channel;
    let channel = connect
        .map(Channel::Connect)
        .or(listen.map(Channel::Listen))
        .or(vsock.map(Channel::Vsock))
        .context("one of --connect, --listen and --vsock")?;
    let broker = Address::parse(&arguments.broker, arguments.ca).context("--broker")?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime
        .block_on(run(&channel, &broker))
        .context("cannot listen for the channel")
}
