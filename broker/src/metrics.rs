//! Figures for Prometheus, in its text form.

use prometheus_client::encoding::{EncodeLabelSet, text::encode};
use prometheus_client::metrics::{counter::Counter, family::Family, histogram::Histogram};
use prometheus_client::registry::Registry;
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Outcome {
    outcome: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct LedgerLabels {
    request: &'static str,
    answer: String,
}

/// The figures of a server.
pub struct Metrics {
    registry: Mutex<Registry>,
    challenges: Counter,
    attestations: Family<Outcome, Counter>,
    releases: Family<Outcome, Counter>,
    ledger: Family<LedgerLabels, Counter>,
    transactions: Histogram,
    failed: Counter,
    requests: Counter<u64, AtomicU64>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("tdp_vtpm_broker");
        let challenges = Counter::default();
        let attestations = Family::default();
        let releases = Family::default();
        let ledger = Family::default();
        let transactions = Histogram::new([0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0]);
        let failed = Counter::default();
        let requests = Counter::default();
        registry.register("challenges", "Sessions begun", challenges.clone());
        registry.register(
            "attestations",
            "Evidence looked at, by what came of it",
            attestations.clone(),
        );
        registry.register(
            "releases",
            "Keys asked for, by what came of it",
            releases.clone(),
        );
        registry.register(
            "ledger_requests",
            "Requests of the ledger, by what was answered",
            ledger.clone(),
        );
        registry.register(
            "transaction_seconds",
            "Transactions of the database",
            transactions.clone(),
        );
        registry.register(
            "transactions_failed",
            "Transactions whose requests got no answer: the database is away, or the commit's end is unknown",
            failed.clone(),
        );
        registry.register(
            "transaction_requests",
            "Requests in all transactions",
            requests.clone(),
        );
        Self {
            registry: Mutex::new(registry),
            challenges,
            attestations,
            releases,
            ledger,
            transactions,
            failed,
            requests,
        }
    }
}

impl Metrics {
    pub(crate) fn challenged(&self) {
        self.challenges.inc();
    }

    pub(crate) fn attested(&self, outcome: &str) {
        let outcome = outcome.into();
        self.attestations.get_or_create(&Outcome { outcome }).inc();
    }

    pub(crate) fn released(&self, outcome: &str) {
        let outcome = outcome.into();
        self.releases.get_or_create(&Outcome { outcome }).inc();
    }

    pub(crate) fn ledger(&self, request: &'static str, answer: &str) {
        let answer = answer.into();
        self.ledger
            .get_or_create(&LedgerLabels { request, answer })
            .inc();
    }

    pub(crate) fn transaction(&self, requests: usize, took: Duration) {
        self.transactions.observe(took.as_secs_f64());
        self.requests.inc_by(requests as u64);
    }

    pub(crate) fn transaction_failed(&self) {
        self.failed.inc();
    }

    /// All of it.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let registry = self
            .registry
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        // A `String` takes everything.
        let _ = encode(&mut text, &registry);
        text
    }
}
