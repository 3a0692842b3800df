//! `tdp-vtpm-broker serve`: two addresses, one of machines and one of the operator.

use anyhow::{Context, Result, ensure};
use broker::kbs::Kbs;
use broker::ledger::Ledger;
use broker::metrics::Metrics;
use broker::operator::{Opened, collateral};
use broker::seal::OperatorKey;
use broker::server::{self, Broker};
use broker::tls::{Certificate, Clients, Server};
use broker::writer::Writer;
use clap::Args;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What `serve` is told.
#[derive(Args)]
pub(crate) struct Options {
    /// Where machines reach the broker, through their hosts.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: String,
    /// Where the operator's page and /metrics are. For nobody else: an address that is not loopback's needs
    /// --operator-tls-client-ca.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8081")]
    operator_listen: String,
    /// Serve both addresses by TLS 1.3 with the certificate in this file, PEM, the certificates of its issuers behind it.
    /// SIGHUP has it read again.
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// The private key of the certificate, PEM.
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// Serve the operator's address to those alone who have a certificate by one of these issuers, PEM.
    #[arg(long, value_name = "FILE", requires = "tls_certificate")]
    operator_tls_client_ca: Option<PathBuf>,
    /// Serve the operator's address to everybody who reaches it: something else lets nobody but the operator there.
    #[arg(long)]
    operator_anonymous: bool,
    /// Connections of each address at a time. While there are more, those whose clients are slowest are ended.
    #[arg(long, value_name = "COUNT", default_value_t = server::CONNECTIONS)]
    connections: usize,
    /// Directory with the trusted root and its collateral, as the verifier's; Intel's root alone without it.
    #[arg(long, value_name = "DIR")]
    roots: Option<PathBuf>,
    /// Accept a root whose keys everybody has: for the simulator.
    #[arg(long)]
    accept_simulated_platform: bool,
}

/// TLS of the two addresses.
struct Tls {
    machines: Arc<Server>,
    operator: Arc<Server>,
}

impl Tls {
    fn of(options: &Options) -> Result<Option<Self>> {
        let (Some(certificate), Some(key)) = (&options.tls_certificate, &options.tls_key) else {
            return Ok(None);
        };
        let certificate = Certificate {
            chain: certificate.clone(),
            key: key.clone(),
        };
        let clients = match &options.operator_tls_client_ca {
            Some(file) => Clients::Of(file.clone()),
            None => Clients::Anybody,
        };
        Ok(Some(Self {
            machines: Arc::new(Server::read(certificate.clone(), Clients::Anybody)?),
            operator: Arc::new(Server::read(certificate, clients)?),
        }))
    }

    /// Reads the files again whenever a signal comes. What cannot be used changes nothing.
    async fn renew(&self, mut signals: Signal) {
        while signals.recv().await.is_some() {
            for (address, server) in [("machines", &self.machines), ("operator", &self.operator)] {
                match server.read_again() {
                    Ok(()) => tracing::info!(event = "certificate-read", address),
                    Err(error) => {
                        tracing::error!(event = "certificate-refused", address, %error, "the one of before stays");
                    }
                }
            }
        }
    }
}

/// Serves until a signal ends it.
pub(crate) fn serve(opened: Opened, options: &Options) -> Result<()> {
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_target(false)
        .with_writer(std::io::stderr)
        .init();
    let collateral = collateral(options.roots.as_deref(), options.accept_simulated_platform)?;
    if options.accept_simulated_platform {
        tracing::warn!(
            "evidence of a simulated platform is accepted: its keys are known to everybody"
        );
    }
    let tls = Tls::of(options)?;
    let metrics = Arc::new(Metrics::default());
    let operator: Arc<OperatorKey> = Arc::new(opened.operator);
    let writer = Writer::start(opened.storage, Arc::clone(&metrics));
    let kbs = Kbs::new(
        writer.clone(),
        Arc::clone(&operator),
        opened.identity,
        collateral,
        Arc::clone(&metrics),
    );
    let broker = Broker {
        kbs: Arc::new(kbs),
        ledger: Ledger::new(writer.clone(), operator, Arc::clone(&metrics)),
        writer,
        metrics,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let machines = bind(&options.listen).await?;
        let operator = bind(&options.operator_listen).await?;
        check_operator(operator.local_addr()?, options)?;
        let scheme = match tls {
            Some(_) => "https",
            None => "http",
        };
        // Before anybody is told that it serves: without TLS the signal ends it, as it ends any program.
        let renewed = match &tls {
            Some(tls) => Some(tls.renew(signal(SignalKind::hangup())?)),
            None => None,
        };
        let ended = end()?;
        // For whoever started it with port 0.
        println!(
            "machines {scheme}://{} operator {scheme}://{}",
            machines.local_addr()?,
            operator.local_addr()?
        );
        let most = options.connections;
        let of_machines = tls.as_ref().map(|tls| Arc::clone(&tls.machines));
        let of_operator = tls.as_ref().map(|tls| Arc::clone(&tls.operator));
        tokio::select! {
            () = server::serve(machines, of_machines, server::machines(broker.clone()), most) => {}
            () = server::serve(operator, of_operator, server::operator(broker), most) => {}
            () = async { match renewed { Some(renewed) => renewed.await, None => std::future::pending().await } } => {}
            () = ended => {}
        }
        Ok(())
    })
}

async fn bind(address: &str) -> Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen at {address}"))
}

/// The operator's page names machines, policies and what was refused: it is not for everybody in a network.
fn check_operator(address: SocketAddr, options: &Options) -> Result<()> {
    let known = options.operator_tls_client_ca.is_some() || options.operator_anonymous;
    ensure!(
        known || address.ip().to_canonical().is_loopback(),
        "--operator-listen {address} is not an address of loopback, and whoever reaches it would be taken for the operator: \
         --tls-certificate, --tls-key and --operator-tls-client-ca serve it to those with a certificate; \
         --operator-anonymous says that something else lets nobody but the operator there"
    );
    Ok(())
}

/// Waits for what ends a service. Nothing is to be brought to its end: what was acknowledged is on the disk.
fn end() -> Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
