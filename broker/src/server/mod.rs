//! HTTP: one address for machines, another for the operator.
//!
//! The first is the one that hosts reach: KBS, the ledger, `/healthz`. The second shows what the broker knows, and is for
//! nobody else: the status page, `/metrics`, `/healthz`. Neither changes anything that the operator decides; that is done
//! by the command, on the database.
//!
//! Connections, headers, bodies and time are bounded (`connections`, `places`).

mod connections;
mod places;

pub use connections::{CONNECTIONS, serve};

use crate::kbs::Kbs;
use crate::ledger::Ledger;
use crate::metrics::Metrics;
use crate::refused::Refused;
use crate::status;
use crate::store::About;
use crate::writer::Writer;
use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use broker_protocol::kbs::{COOKIE, ErrorInformation, PATH_ATTEST, PATH_AUTH, session_of};
use broker_protocol::{ledger, limits};
use std::sync::Arc;
use std::time::Duration;

/// How long a request may take, its body's way included.
const REQUEST: Duration = Duration::from_secs(30);

/// What the routes need.
#[derive(Clone)]
pub struct Broker {
    /// The KBS protocol.
    pub kbs: Arc<Kbs>,
    /// The ledger.
    pub ledger: Ledger,
    /// The database.
    pub writer: Writer,
    /// The figures.
    pub metrics: Arc<Metrics>,
}

/// What machines reach.
pub fn machines(broker: Broker) -> Router {
    Router::new()
        .route(PATH_AUTH, post(auth))
        .route(
            PATH_ATTEST,
            post(attest).layer(DefaultBodyLimit::max(limits::ATTEST_BODY)),
        )
        .route("/kbs/v0/resource/{repository}/{type}/{tag}", get(resource))
        .route(ledger::PATH, post(commit))
        .route("/healthz", get(healthz))
        .layer(DefaultBodyLimit::max(limits::BODY))
        .layer(middleware::from_fn(bounded))
        .with_state(broker)
}

/// What the operator looks at.
pub fn operator(broker: Broker) -> Router {
    Router::new()
        .route("/", get(page))
        .route("/metrics", get(metrics))
        .route("/healthz", get(healthz))
        .layer(middleware::from_fn(bounded))
        .with_state(broker)
}

async fn bounded(request: Request, next: Next) -> Response {
    match tokio::time::timeout(REQUEST, next.run(request)).await {
        Ok(response) => response,
        Err(_) => StatusCode::REQUEST_TIMEOUT.into_response(),
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let kind = self.kind();
        let status = StatusCode::from_u16(kind.status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
        if status.is_server_error() {
            tracing::error!(name = self.name(), error = %self);
        }
        // What is wrong inside is the operator's to know.
        let detail = match status.is_server_error() {
            true => "the broker cannot answer now".into(),
            false => self.to_string(),
        };
        let body = serde_json::to_vec(&ErrorInformation::new(kind.name, &detail));
        (status, JSON, body.unwrap_or_default()).into_response()
    }
}

const JSON: [(header::HeaderName, &str); 1] = [(header::CONTENT_TYPE, "application/json")];

fn session(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .find_map(|cookies| session_of(cookies.to_str().ok()?))
}

async fn auth(State(broker): State<Broker>, body: Bytes) -> Result<Response, Refused> {
    let (session, challenge) = broker.kbs.auth(&body)?;
    broker.metrics.challenged();
    let cookie = [(header::SET_COOKIE, format!("{COOKIE}={session}"))];
    Ok((JSON, cookie, challenge).into_response())
}

async fn attest(
    State(broker): State<Broker>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refused> {
    let token = broker.kbs.attest(session(&headers), &body).await?;
    Ok((JSON, token).into_response())
}

async fn resource(
    State(broker): State<Broker>,
    headers: HeaderMap,
    uri: Uri,
) -> Result<Response, Refused> {
    let jwe = broker.kbs.resource(session(&headers), uri.path()).await?;
    Ok((JSON, jwe).into_response())
}

async fn commit(
    State(broker): State<Broker>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refused> {
    let code = headers.get(ledger::MAC_HEADER);
    let code = code.and_then(|code| code.to_str().ok()).unwrap_or_default();
    let answer = broker.ledger.answer(&body, code).await?;
    let code = [(ledger::MAC_HEADER, ledger::code_text(&answer.code))];
    Ok((JSON, code, answer.body).into_response())
}

/// The broker is healthy if its database takes a transaction.
async fn healthz(State(broker): State<Broker>) -> Result<&'static str, Refused> {
    broker
        .writer
        .run(About::Anything, |transaction| {
            transaction.fact("identity").map(drop)
        })
        .await?;
    Ok("ok\n")
}

async fn metrics(State(broker): State<Broker>) -> Response {
    let kind = [(
        header::CONTENT_TYPE,
        "application/openmetrics-text; version=1.0.0; charset=utf-8",
    )];
    (kind, broker.metrics.text()).into_response()
}

async fn page(State(broker): State<Broker>) -> Result<Response, Refused> {
    let (machines, events) = broker
        .writer
        .run(About::Anything, |transaction| {
            Ok((transaction.machines()?, transaction.events(None, 50)?))
        })
        .await?;
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'unsafe-inline'",
        ),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, status::page(&machines, &events)).into_response())
}
