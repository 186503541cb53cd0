//! A small HTTP client for registries and object storage: one connection per request, HTTP/1.1, every step with a
//! time limit.
//!
//! It knows where it may connect to and follows redirects without carrying credentials to another host. It has no pool and
//! no proxies; a pull makes a few dozen requests at most, and the large ones are bound by the transfer.

mod tls;
mod url;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Request, StatusCode,
    header::{AUTHORIZATION, COOKIE, HOST, LOCATION, USER_AGENT},
};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

pub(crate) use self::url::is_loopback;
pub use self::{tls::TrustedRoots, url::Url};

/// Name lookup, TCP and TLS together; more only helps hosts that are down.
const CONNECT_WITHIN: Duration = Duration::from_secs(15);
/// From the request to the head of the answer; registries that make a token or look up a mirror take seconds.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// Between two pieces of a body.
const PIECE_WITHIN: Duration = Duration::from_secs(60);
/// Redirects in a row: one to a mirror and one to its storage are usual.
const REDIRECTS_MAX: usize = 5;
/// Addresses of a host that are tried.
const ADDRESSES_MAX: usize = 4;
/// Head of an answer, bytes; hyper's own bound is 400 KiB.
const HEAD_BYTES_MAX: usize = 64 << 10;

/// A request was not answered.
#[derive(Debug, Error)]
pub enum FetchError {
    /// Not a URL that is spoken here.
    #[error("malformed URL")]
    MalformedUrl,
    /// A plain `http` URL where only `https` may be.
    #[error("plain HTTP to {host} is not allowed")]
    PlainHttp {
        /// Host.
        host: String,
    },
    /// The name has no address.
    #[error("cannot resolve {host}")]
    Resolve {
        /// Host.
        host: String,
        /// Answer of the resolver.
        #[source]
        source: io::Error,
    },
    /// All addresses of the name are this machine's own or of the local link.
    #[error("{host} is an address of this machine or link, which a server elsewhere may not send us to")]
    ForbiddenAddress {
        /// Host.
        host: String,
    },
    /// No connection.
    #[error("cannot connect to {host}")]
    Connect {
        /// Host.
        host: String,
        /// Answer of the system.
        #[source]
        source: io::Error,
    },
    /// TLS failed; the certificate may not be trusted.
    #[error("no TLS with {host}")]
    Tls {
        /// Host.
        host: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The trusted roots cannot be read.
    #[error("trusted certificates cannot be read: {reason}")]
    Roots {
        /// Why.
        reason: String,
    },
    /// The other side does not speak HTTP or broke off.
    #[error("{host} broke off")]
    Broken {
        /// Host.
        host: String,
        /// Why.
        #[source]
        source: hyper::Error,
    },
    /// Nothing came for too long.
    #[error("{host} did not answer in time")]
    Timeout {
        /// Host.
        host: String,
    },
    /// The answer is longer than it may be.
    #[error("the answer of {host} is longer than {limit} bytes")]
    TooLarge {
        /// Host.
        host: String,
        /// Limit.
        limit: u64,
    },
    /// Redirects go in circles.
    #[error("too many redirects")]
    TooManyRedirects,
}

impl FetchError {
    /// Whether the same request may succeed a little later.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Resolve { .. } | Self::Connect { .. } | Self::Broken { .. } | Self::Timeout { .. }
        )
    }
}

/// What a request may do on its way.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Plain HTTP may be spoken with hosts that are asked for by an `http` URL. A redirect from `https` to `http` is refused
    /// all the same.
    pub allow_plain: bool,
    /// Whether redirects are followed; if not, the caller sees them.
    pub follow_redirects: bool,
    /// What an operator or a caller wrote; `None`: the URL asked for. Only there, or when it is this machine itself, are addresses
    /// of this machine and link taken: a server elsewhere may not send us there.
    pub origin: Option<Url>,
    /// Who is trusted.
    pub roots: TrustedRoots,
}

/// Sends requests. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Client {
    tls: Arc<tls::Connectors>,
}

impl Client {
    /// Sends a request and gives the head of the answer, with the body to be read.
    ///
    /// Redirects are followed for GET and HEAD; `authorization` and `cookie` stay behind when they lead to another origin.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn send(
        &self,
        method: &Method,
        url: &Url,
        headers: &HeaderMap,
        body: Bytes,
        policy: &Policy,
    ) -> Result<Response, FetchError> {
        let mut url = url.clone();
        let mut headers = headers.clone();
        let origin = policy.origin.clone().unwrap_or_else(|| url.clone());
        for _ in 0..=REDIRECTS_MAX {
            if !url.is_https() && !policy.allow_plain {
                return Err(FetchError::PlainHttp { host: url.authority() });
            }
            let is_trusted = url.same_origin(&origin) || origin.is_loopback();
            let answer = self.once(method, &url, &headers, body.clone(), &policy.roots, is_trusted).await?;
            if !policy.follow_redirects
                || !matches!(answer.status.as_u16(), 301 | 302 | 303 | 307 | 308)
                || !matches!(*method, Method::GET | Method::HEAD)
            {
                return Ok(answer);
            }
            let Some(location) = answer.headers.get(LOCATION).and_then(|value| value.to_str().ok()) else {
                return Ok(answer);
            };
            let next = url.join(location)?;
            if url.is_https() && !next.is_https() {
                return Err(FetchError::PlainHttp { host: next.authority() });
            }
            if !next.same_origin(&url) {
                headers.remove(AUTHORIZATION);
                headers.remove(COOKIE);
            }
            url = next;
        }
        Err(FetchError::TooManyRedirects)
    }

    async fn once(
        &self,
        method: &Method,
        url: &Url,
        headers: &HeaderMap,
        body: Bytes,
        roots: &TrustedRoots,
        is_trusted: bool,
    ) -> Result<Response, FetchError> {
        let host = url.authority();
        let late = |_| FetchError::Timeout { host: url.authority() };
        let stream = timeout(CONNECT_WITHIN, self.connect(url, roots, is_trusted)).await.map_err(late)??;
        let broken = |source| FetchError::Broken { host: url.authority(), source };
        let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
            .max_buf_size(HEAD_BYTES_MAX)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(broken)?;
        // The connection ends with the response that owns it.
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let _ = connection.await;
        });
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method.clone();
        *request.uri_mut() = url.path_and_query().parse().map_err(|_| FetchError::MalformedUrl)?;
        let sent = request.headers_mut();
        *sent = headers.clone();
        sent.insert(HOST, HeaderValue::from_str(&host).map_err(|_| FetchError::MalformedUrl)?);
        sent.entry(USER_AGENT)
            .or_insert(HeaderValue::from_static(concat!("clamshell/", env!("CARGO_PKG_VERSION"))));
        let answer =
            timeout(ANSWER_WITHIN, sender.send_request(request)).await.map_err(late)?.map_err(broken)?;
        let (head, body) = answer.into_parts();
        Ok(Response {
            status: head.status,
            headers: head.headers,
            url: url.clone(),
            body,
            host,
            _connection: tasks,
        })
    }

    async fn connect(
        &self,
        url: &Url,
        roots: &TrustedRoots,
        is_trusted: bool,
    ) -> Result<Box<dyn Stream>, FetchError> {
        let host = url.host();
        let resolve = |source| FetchError::Resolve { host: host.to_owned(), source };
        let found = tokio::net::lookup_host((host, url.port())).await.map_err(resolve)?;
        let allowed: Vec<SocketAddr> =
            found.filter(|address| is_trusted || !is_own(address.ip())).take(ADDRESSES_MAX).collect();
        if allowed.is_empty() {
            return Err(FetchError::ForbiddenAddress { host: host.to_owned() });
        }
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for address in allowed {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    let _ = stream.set_nodelay(true);
                    if !url.is_https() {
                        return Ok(Box::new(stream));
                    }
                    let connector = self.tls.connector(roots).await?;
                    let name = rustls::pki_types::ServerName::try_from(url.bare_host().to_owned())
                        .map_err(|_| FetchError::MalformedUrl)?;
                    let stream = connector.connect(name, stream).await;
                    let stream =
                        stream.map_err(|source| FetchError::Tls { host: host.to_owned(), source })?;
                    return Ok(Box::new(stream));
                }
                Err(error) => last = error,
            }
        }
        Err(FetchError::Connect { host: host.to_owned(), source: last })
    }
}

/// One type for both kinds of connection, so that hyper's code is in the program once.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Addresses of this machine, of its link (where clouds keep their metadata service), or none at all.
fn is_own(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local() || v4.is_unspecified() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unspecified() || (v6.segments()[0] & 0xffc0) == 0xfe80,
    }
}

/// The head of an answer, and its body to be read.
pub struct Response {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Where it came from, after redirects.
    pub url: Url,
    body: Incoming,
    host: String,
    _connection: JoinSet<()>,
}

impl std::fmt::Debug for Response {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Response")
            .field("status", &self.status)
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

impl Response {
    /// A header as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The next piece of the body; `None` at its end. Cancel-safe.
    ///
    /// # Errors
    /// [`FetchError`] when the other side breaks off or says nothing for a minute.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, FetchError> {
        loop {
            let frame = timeout(PIECE_WITHIN, self.body.frame()).await;
            match frame.map_err(|_| FetchError::Timeout { host: self.host.clone() })? {
                None => return Ok(None),
                Some(Err(source)) => return Err(FetchError::Broken { host: self.host.clone(), source }),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data()
                        && !data.is_empty()
                    {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// The whole body, if it is not longer than `limit`.
    ///
    /// # Errors
    /// As [`Response::chunk`], and [`FetchError::TooLarge`].
    pub async fn bytes(mut self, limit: u64) -> Result<Vec<u8>, FetchError> {
        let mut bytes = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            if (bytes.len() + chunk.len()) as u64 > limit {
                return Err(FetchError::TooLarge { host: self.host, limit });
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_this_machine_are_known() {
        let check = |text: &str, expect| assert_eq!(is_own(text.parse().unwrap()), expect, "{text}");
        check("127.0.0.1", true);
        check("127.9.9.9", true);
        check("169.254.169.254", true);
        check("0.0.0.0", true);
        check("::1", true);
        check("::ffff:127.0.0.1", true);
        check("fe80::1", true);
        check("10.0.0.1", false);
        check("93.184.216.34", false);
        check("2606:2800::1", false);
    }
}
