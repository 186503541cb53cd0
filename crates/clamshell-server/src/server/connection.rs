//! One connection: TLS, then HTTP in the version that the client speaks, and an end to those who never prove who they are.

use std::{sync::Arc, time::Duration};

use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::Proof;
use crate::{app::App, http};

/// A client has this long to say its request's headers.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// Whoever has not proved by then who they are loses the connection, so that strangers cannot fill the places below.
const PROOF_TIMEOUT: Duration = Duration::from_secs(30);

/// Requests of strangers have this much longer to end, the bodies being sent included.
const STRANGER_FAREWELL: Duration = Duration::from_secs(45);

/// A TLS handshake has this long.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes that a connection of HTTP/1 holds before anybody knows whose they are: the longest target, credentials and tokens
/// that this server reads have 100 KB together. All connections at once then take 512 MiB.
const BUFFER_BYTES_MAX: usize = 128 * 1024;

/// Serves one connection to its end.
pub(super) async fn serve_stream(
    app: Arc<App>,
    tls: Option<TlsAcceptor>,
    stream: tokio::net::TcpStream,
    address: std::net::IpAddr,
) {
    let peer = http::Peer { address, secure: tls.is_some() };
    match tls {
        None => serve(app, TokioIo::new(stream), peer).await,
        Some(acceptor) => match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => serve(app, TokioIo::new(stream), peer).await,
            Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
            Err(_) => tracing::debug!("TLS handshake took too long"),
        },
    }
}

async fn serve<I>(app: Arc<App>, io: I, peer: http::Peer)
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(BUFFER_BYTES_MAX);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(256);
    let shutdown = app.shutdown.clone();
    let (spoken, proof) = (CancellationToken::new(), Proof::default());
    let (first, prove) = (spoken.clone(), proof.clone());
    let service = hyper::service::service_fn(move |mut request: ::http::Request<Incoming>| {
        first.cancel();
        request.extensions_mut().insert(prove.clone());
        request.extensions_mut().insert(peer);
        http::handle(Arc::clone(&app), request)
    });
    // The timer of HTTP/1 starts once the version is known; a client that says nothing must not hold its place for ever.
    let silent = async {
        if tokio::time::timeout(HEADER_TIMEOUT, spoken.cancelled()).await.is_ok() {
            std::future::pending::<()>().await;
        }
    };
    let connection = builder.serve_connection_with_upgrades(io, service);
    let mut connection = std::pin::pin!(connection);
    // A version of HTTP with streams lets a client wait without end, and one that reads no answers is never done either.
    let stranger = proof.missing_after(PROOF_TIMEOUT);
    let result = tokio::select! {
        result = connection.as_mut() => result,
        () = silent => return tracing::debug!("client sent no request"),
        () = stranger => {
            connection.as_mut().graceful_shutdown();
            tokio::select! {
                result = connection.as_mut() => result,
                () = proof.missing_after(STRANGER_FAREWELL) => return tracing::debug!("stranger was cut off"),
            }
        }
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = result {
        tracing::debug!(error = %error, "connection ended badly");
    }
}
