//! Connections of an address: from the first byte to the last answer.

use super::places::{Place, Places};
use crate::tls::Server;
use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::rt::{Read, Write};
use hyper::server::conn::http1;
use hyper::service::{Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// Connections of one address at a time, if nothing else is said.
pub const CONNECTIONS: usize = 2048;
/// How long a handshake of TLS may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a header may take; a connection that waits for its next request is in this bound as well.
const HEADER: Duration = Duration::from_secs(600);
/// Bytes of a request's head.
const HEAD: usize = 16 * 1024;

/// Serves `router` at `listener`, by TLS where there is a certificate, to `most` connections at a time.
pub async fn serve(listener: TcpListener, tls: Option<Arc<Server>>, router: Router, most: usize) {
    let places = Places::new(most);
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, if the client is not gone already.
                tracing::warn!(%error, "a connection could not be accepted");
                places.end_longest();
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let place = Arc::new(places.take().await);
        let _ = stream.set_nodelay(true);
        let (tls, router) = (tls.clone(), router.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = place.ended() => tracing::debug!("a connection ended for another one"),
                () = converse(stream, tls.as_deref(), router, &place) => {}
            }
        });
    }
}

async fn converse(stream: TcpStream, tls: Option<&Server>, router: Router, place: &Arc<Place>) {
    let Some(tls) = tls else {
        return answer(TokioIo::new(stream), router, place).await;
    };
    let accepted = TlsAcceptor::from(tls.current()).accept(stream);
    match tokio::time::timeout(HANDSHAKE, accepted).await {
        Ok(Ok(stream)) => answer(TokioIo::new(stream), router, place).await,
        Ok(Err(error)) => tracing::debug!(%error, "a handshake failed"),
        Err(_) => tracing::debug!("a handshake took too long"),
    }
}

async fn answer(io: impl Read + Write + Unpin, router: Router, place: &Arc<Place>) {
    let router = TowerToHyperService::new(router);
    let service = service_fn(|request: hyper::Request<Incoming>| {
        let place = Arc::clone(place);
        let request = request.map(|body| Body::new(Whole::new(body, Arc::clone(&place))));
        let answered = router.call(request);
        async move {
            let answer = answered.await;
            place.waits();
            answer
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER)
        .max_buf_size(HEAD)
        .serve_connection(io, service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection ended");
    }
}

/// A request's body, which tells the connection's place when all of it is there.
struct Whole {
    body: Incoming,
    place: Arc<Place>,
}

impl Whole {
    fn new(body: Incoming, place: Arc<Place>) -> Self {
        if body.is_end_stream() {
            place.works();
        }
        Self { body, place }
    }
}

impl HttpBody for Whole {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        if let Poll::Ready(None) = polled {
            self.place.works();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
