//! Fetching a small document from a URL that a user chose.
//!
//! The URL may point anywhere, also at the machine's own services or a cloud's metadata address. So the
//! name is resolved here, forbidden addresses are dropped, and the connection goes to the address that
//! was checked: a name that changes its answer in between gains nothing. Redirects stay on the host,
//! time and size are bounded, and proxies of the environment are not used.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri, header, uri::Scheme};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// Providers redirect once, if at all.
const REDIRECTS_MAX: usize = 3;
/// Addresses tried of one name: the time for all of them is bounded anyway.
const ADDRESSES_MAX: usize = 4;
/// As long as any URL that is worth following.
const URL_BYTES_MAX: usize = 2048;

/// Bounds of a fetch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchLimits {
    /// Time for a connection, TLS included.
    pub connect_timeout: Duration,
    /// Time for everything; a provider's two documents share it.
    pub total_timeout: Duration,
    /// Greatest size of a document.
    pub body_bytes_max: usize,
    /// Whether addresses that are not public may be reached: the operator's own networks, loopback, and
    /// with it plain `http://` to loopback. Off by default.
    pub allow_private_addresses: bool,
}

impl Default for FetchLimits {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(5),
            total_timeout: Duration::from_secs(10),
            // The largest discovery documents and key sets have some tens of KiB.
            body_bytes_max: 1 << 20,
            allow_private_addresses: false,
        }
    }
}

/// Why a document cannot be had. Holds nothing of what the other side sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FetchError {
    /// Not a URL that may be fetched: https, or http to loopback where private addresses are allowed.
    #[error("URL is not allowed")]
    Url,
    /// The name has no address.
    #[error("host name does not resolve")]
    Resolve,
    /// All addresses are private.
    #[error("host has no public address")]
    PrivateAddress,
    /// No connection.
    #[error("connection failed")]
    Connect,
    /// The certificate or the handshake is bad.
    #[error("TLS handshake failed")]
    Tls,
    /// It took too long.
    #[error("timed out")]
    Timeout,
    /// Another status than 200.
    #[error("answered with status {0}")]
    Status(u16),
    /// A redirect to elsewhere, or one too many.
    #[error("redirected elsewhere or too often")]
    Redirect,
    /// Larger than allowed.
    #[error("document is too large")]
    TooLarge,
    /// Not HTTP, or cut off.
    #[error("HTTP exchange failed")]
    Http,
    /// Not the document expected.
    #[error("document is malformed")]
    Document,
    /// The process is shutting down.
    #[error("verifier is closed")]
    Closed,
}

/// Why the operating system's trust roots cannot be used.
#[derive(Debug, Error)]
pub enum TrustError {
    /// There are none.
    #[error("the system has no trust roots")]
    NoRoots,
    /// The TLS library refuses.
    #[error("TLS cannot be set up")]
    Tls(#[source] rustls::Error),
}

/// A TLS configuration that trusts what the operating system trusts. Reads files; call it once.
///
/// # Errors
/// [`TrustError`].
pub fn system_tls() -> Result<ClientConfig, TrustError> {
    let mut roots = RootCertStore::empty();
    // Single bad files do not matter as long as roots are left.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(TrustError::NoRoots);
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(TrustError::Tls)?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

/// Fetches documents.
#[derive(Clone)]
pub struct Fetcher {
    tls: TlsConnector,
    limits: FetchLimits,
}

impl Fetcher {
    /// A fetcher with this TLS configuration, for instance [`system_tls`].
    pub fn new(tls: ClientConfig, limits: FetchLimits) -> Self {
        Self { tls: TlsConnector::from(Arc::new(tls)), limits }
    }

    pub(super) fn limits(&self) -> &FetchLimits {
        &self.limits
    }

    /// The document at `url`. Cancel-safe: dropping it closes the connection. Takes no longer than the
    /// limits say.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn get(&self, url: &str) -> Result<Bytes, FetchError> {
        timeout(self.limits.total_timeout, self.follow(url)).await.map_err(|_| FetchError::Timeout)?
    }

    /// Posts a form, with the value of an `Authorization` header, and gives the document that answers it. Redirects are not
    /// followed: what is posted is secret. Cancel-safe, and in time, as [`Fetcher::get`].
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn post_form(
        &self,
        url: &str,
        form: String,
        authorization: Option<String>,
    ) -> Result<Bytes, FetchError> {
        self.send(url, &Secret { form: Some(form.into()), authorization }).await
    }

    /// The document at `url` for the value of an `Authorization` header. Redirects are not followed, as by
    /// [`Fetcher::post_form`].
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn get_authorized(&self, url: &str, authorization: String) -> Result<Bytes, FetchError> {
        self.send(url, &Secret { form: None, authorization: Some(authorization) }).await
    }

    async fn send(&self, url: &str, secret: &Secret) -> Result<Bytes, FetchError> {
        let exchange = async {
            let target = Target::parse(url, self.limits.allow_private_addresses)?;
            match self.exchange(&target, Some(secret)).await? {
                Answer::Document(bytes) => Ok(bytes),
                Answer::Redirect(_) => Err(FetchError::Redirect),
            }
        };
        timeout(self.limits.total_timeout, exchange).await.map_err(|_| FetchError::Timeout)?
    }

    async fn follow(&self, url: &str) -> Result<Bytes, FetchError> {
        let mut target = Target::parse(url, self.limits.allow_private_addresses)?;
        for _ in 0..=REDIRECTS_MAX {
            match self.exchange(&target, None).await? {
                Answer::Document(bytes) => return Ok(bytes),
                Answer::Redirect(location) => target = target.redirect(&location)?,
            }
        }
        Err(FetchError::Redirect)
    }

    async fn exchange(&self, target: &Target, secret: Option<&Secret>) -> Result<Answer, FetchError> {
        let stream = timeout(self.limits.connect_timeout, self.connect(target))
            .await
            .map_err(|_| FetchError::Timeout)??;
        if !target.tls {
            return self.ask(stream, target, secret).await;
        }
        let name = ServerName::try_from(target.host.clone()).map_err(|_| FetchError::Url)?;
        let stream = timeout(self.limits.connect_timeout, self.tls.connect(name, stream))
            .await
            .map_err(|_| FetchError::Timeout)?
            .map_err(|_| FetchError::Tls)?;
        self.ask(stream, target, secret).await
    }

    async fn connect(&self, target: &Target) -> Result<TcpStream, FetchError> {
        let found = tokio::net::lookup_host((target.host.as_str(), target.port))
            .await
            .map_err(|_| FetchError::Resolve)?;
        let addresses = allowed(found.collect(), target.tls, self.limits.allow_private_addresses)?;
        for address in addresses {
            if let Ok(stream) = TcpStream::connect(address).await {
                return Ok(stream);
            }
        }
        Err(FetchError::Connect)
    }

    async fn ask<S>(&self, stream: S, target: &Target, secret: Option<&Secret>) -> Result<Answer, FetchError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake::<_, Full<Bytes>>(TokioIo::new(stream))
                .await
                .map_err(|_| FetchError::Http)?;
        let form = secret.and_then(|secret| secret.form.as_ref());
        let mut request = Request::builder()
            .method(if form.is_some() { Method::POST } else { Method::GET })
            .uri(target.path.as_str())
            .header(header::HOST, target.authority.as_str())
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, "clamshell")
            .header(header::CONNECTION, "close");
        if form.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        }
        if let Some(authorization) = secret.and_then(|secret| secret.authorization.as_ref()) {
            request = request.header(header::AUTHORIZATION, authorization.as_str());
        }
        let body = form.cloned().unwrap_or_default();
        let request = request.body(Full::new(body)).map_err(|_| FetchError::Url)?;
        let exchange = async {
            let response = sender.send_request(request).await.map_err(|_| FetchError::Http)?;
            self.read(response).await
        };
        tokio::pin!(exchange, connection);
        // The connection moves the bytes; it may end before the last of them is read here.
        tokio::select! {
            answer = &mut exchange => answer,
            _ = &mut connection => exchange.await,
        }
    }

    async fn read(&self, response: http::Response<Incoming>) -> Result<Answer, FetchError> {
        if response.status().is_redirection() {
            let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok());
            return location.map(|url| Answer::Redirect(url.to_owned())).ok_or(FetchError::Redirect);
        }
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(response.status().as_u16()));
        }
        let mut body = response.into_body();
        let mut bytes = Vec::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| FetchError::Http)?;
            if let Some(data) = frame.data_ref() {
                if bytes.len() + data.len() > self.limits.body_bytes_max {
                    return Err(FetchError::TooLarge);
                }
                bytes.extend_from_slice(data);
            }
        }
        Ok(Answer::Document(bytes.into()))
    }
}

/// What goes to one server and no other.
struct Secret {
    /// What is posted; `None` gets.
    form: Option<Bytes>,
    authorization: Option<String>,
}

enum Answer {
    Document(Bytes),
    Redirect(String),
}

/// A URL taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    tls: bool,
    /// As in the URL, with the port if it names one: for `Host`.
    authority: String,
    /// Without brackets.
    host: String,
    port: u16,
    /// With the query.
    path: String,
}

impl Target {
    fn parse(url: &str, allow_http: bool) -> Result<Self, FetchError> {
        if url.len() > URL_BYTES_MAX {
            return Err(FetchError::Url);
        }
        let uri: Uri = url.parse().map_err(|_| FetchError::Url)?;
        let tls = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(scheme) if *scheme == Scheme::HTTP && allow_http => false,
            _ => return Err(FetchError::Url),
        };
        let authority = uri.authority().ok_or(FetchError::Url)?;
        // A user in the URL is a disguise for another host, or a secret in a place for none.
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return Err(FetchError::Url);
        }
        Ok(Self {
            tls,
            authority: authority.as_str().to_owned(),
            host: authority.host().trim_start_matches('[').trim_end_matches(']').to_owned(),
            port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
        })
    }

    /// Where a `Location` leads: an absolute path, or a URL of the same scheme, host and port.
    fn redirect(&self, location: &str) -> Result<Self, FetchError> {
        if location.starts_with('/') && !location.starts_with("//") {
            let scheme = if self.tls { "https" } else { "http" };
            return Self::parse(&format!("{scheme}://{}{location}", self.authority), !self.tls);
        }
        let target = Self::parse(location, !self.tls).map_err(|_| FetchError::Redirect)?;
        let same = target.tls == self.tls
            && target.host.eq_ignore_ascii_case(&self.host)
            && target.port == self.port;
        if same { Ok(target) } else { Err(FetchError::Redirect) }
    }
}

/// The addresses of a name that may be connected to. Without TLS only the machine itself is close
/// enough to be trusted with what it answers.
fn allowed(found: Vec<SocketAddr>, tls: bool, private: bool) -> Result<Vec<SocketAddr>, FetchError> {
    if found.is_empty() {
        return Err(FetchError::Resolve);
    }
    let fit = |address: &SocketAddr| match address.ip().to_canonical() {
        ip if !tls => private && ip.is_loopback(),
        ip => private || is_public(ip),
    };
    let kept: Vec<SocketAddr> = found.into_iter().filter(fit).take(ADDRESSES_MAX).collect();
    match kept.is_empty() {
        true if tls => Err(FetchError::PrivateAddress),
        true => Err(FetchError::Url),
        false => Ok(kept),
    }
}

/// Whether an address belongs to a host on the internet. What is reserved for anything else is not.
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            let reserved = ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_documentation()
                || a == 0
                || (a == 100 && (64..128).contains(&b))
                || (a == 192 && b == 0 && c == 0)
                || (a == 192 && b == 88 && c == 99)
                || (a == 198 && (b == 18 || b == 19))
                || a >= 224;
            !reserved
        }
        IpAddr::V6(ip) => {
            let [a, b, ..] = ip.segments();
            // Global unicast only; of it neither documentation, nor the special-purpose block, nor
            // 6to4, which carries any IPv4 address inside.
            (0x2000..0x4000).contains(&a)
                && !(a == 0x2001 && (b == 0x0db8 || b < 0x0200))
                && a != 0x2002
                && !(a == 0x3fff && b < 0x1000)
        }
    }
}

#[cfg(test)]
#[path = "fetch/tests.rs"]
mod tests;
