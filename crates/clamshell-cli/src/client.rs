//! One small HTTP client for Clamshell and AWS: HTTP/1.1 over TCP or TLS, signed, one connection a
//! request; WebSockets are upgrades of the same.

mod objects;

use std::{path::Path, sync::Arc, time::Duration};

use bytes::Bytes;
use clamshell_domain::{Clock, SystemClock};
use clamshell_wire::{
    headers,
    sigv4::{PayloadHash, SERVICE as AGENTCORE},
};
use futures_util::TryFutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    body::{Body, Incoming},
    upgrade::Upgraded,
};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        handshake::{client::generate_key, derive_accept_key},
        protocol::{Role, WebSocketConfig},
    },
};

pub(crate) use self::objects::{Upload, hex};
use crate::{
    credentials::Keys,
    failure::Failure,
    signing::{self, Unsigned},
    target::{Endpoint, Identity, Place, Target},
};

/// Name resolution, TCP and TLS together; a server that needs longer is down.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// First byte of an answer. A first call may make a sandbox, which may unpack an image.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(300);
/// The upgrade of a shell may make a sandbox too, but somebody is watching and retries are cheap.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(120);
/// One read of a body that is not a command's output.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// A health check is answered from memory.
const HEALTH_TIMEOUT: Duration = Duration::from_secs(2);
/// Lists of thousands of sessions fit; a hostile server cannot fill the memory.
const JSON_BYTES_MAX: usize = 32 << 20;
/// Errors are one sentence.
const ERROR_BYTES_MAX: usize = 64 << 10;

/// A stream to a server, encrypted or not.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A WebSocket and the task that drives its connection until the upgrade.
pub(crate) struct Socket {
    /// Messages.
    pub(crate) messages: WebSocketStream<TokioIo<Upgraded>>,
    /// Headers of the 101 answer.
    pub(crate) headers: HeaderMap,
    _connection: JoinSet<()>,
}

/// An answer whose body is still to be read.
pub(crate) struct Answer {
    /// Headers.
    pub(crate) headers: HeaderMap,
    /// Body.
    pub(crate) body: Incoming,
    _connection: JoinSet<()>,
}

/// A request went wrong.
#[derive(Debug, Clone)]
pub(crate) enum RequestError {
    /// No answer: network, TLS, time. Trying again may help.
    Unreachable(String),
    /// The server said no.
    Refused(Refusal),
    /// Before anything was sent.
    Local(Failure),
}

/// An error answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// Status code.
    pub(crate) status: u16,
    /// Exception, empty when the server named none.
    pub(crate) exception: String,
    /// Message of the body.
    pub(crate) message: String,
    /// `error` of the body: tells 424s of shells apart.
    pub(crate) error: Option<String>,
}

impl Refusal {
    /// One sentence for people.
    pub(crate) fn text(&self) -> String {
        let mut text =
            if self.message.is_empty() { "no reason given".to_owned() } else { self.message.clone() };
        if let Some(error) = self.error.as_ref().filter(|error| !text.contains(error.as_str())) {
            text = format!("{text} [{error}]");
        }
        if self.exception.is_empty() {
            format!("{text} ({})", self.status)
        } else {
            format!("{text} ({} {})", self.status, self.exception)
        }
    }
}

impl RequestError {
    /// As a failure of `what`.
    pub(crate) fn into_failure(self, what: &str, endpoint: &Endpoint) -> Failure {
        match self {
            Self::Local(failure) => failure,
            Self::Unreachable(why) => Failure::new(what)
                .because(format!("{endpoint} cannot be reached: {why}"))
                .hint("is the server running? `clamshell serve --detach` starts a local one"),
            Self::Refused(refusal) => {
                let failure = Failure::new(what).because(refusal.text());
                match refusal.status {
                    401 | 403 => failure.hint("`clamshell env` prints the keys of a local server"),
                    424 => {
                        failure.hint("the reason is in the server's log: server.log in its data directory")
                    }
                    _ => failure,
                }
            }
        }
    }
}

/// Talks to one target.
pub(crate) struct Client {
    target: Target,
    keys: Option<Keys>,
    tls: Option<Arc<rustls::ClientConfig>>,
}

impl Client {
    /// A client with its keys and trust roots; sends nothing yet.
    pub(crate) async fn new(target: Target) -> Result<Self, Failure> {
        let keys = match &target.identity {
            Identity::Root => Some(Keys::root(&target.data_dir).await?),
            Identity::Chain => Some(Keys::chain(&target.region).await?),
            Identity::Bearer(_) => None,
        };
        let tls = if target.endpoint.tls { Some(tls_config(target.ca_path.as_deref())?) } else { None };
        Ok(Self { target, keys, tls })
    }

    /// What it talks to.
    pub(crate) fn target(&self) -> &Target {
        &self.target
    }

    /// The local server may come back at another address.
    pub(crate) fn follow_local_server(&mut self) {
        if self.target.place == Place::Local
            && let Ok(Some(info)) = crate::local::info(&self.target.data_dir)
            && let Ok(endpoint) = Endpoint::parse(&info.endpoint)
            && endpoint.tls == self.target.endpoint.tls
        {
            self.target.endpoint = endpoint;
        }
    }

    /// Sends a request and waits for the head of the answer. Errors of the server come as `Refused`.
    pub(crate) async fn send(
        &self,
        method: Method,
        path_and_query: &str,
        extra: &[(&'static str, String)],
        body: Vec<u8>,
    ) -> Result<Answer, RequestError> {
        self.send_to(&self.target.endpoint, method, path_and_query, extra, body).await
    }

    /// As `send`, to another endpoint of the same server.
    pub(crate) async fn send_to(
        &self,
        endpoint: &Endpoint,
        method: Method,
        path_and_query: &str,
        extra: &[(&'static str, String)],
        body: Vec<u8>,
    ) -> Result<Answer, RequestError> {
        let fields = named(extra);
        self.deliver(endpoint, method, path_and_query, &fields, body, ANSWER_TIMEOUT).await
    }

    /// As `send`, with any headers, and so long for the head of the answer.
    pub(crate) async fn send_long(
        &self,
        method: Method,
        path_and_query: &str,
        fields: &[(HeaderName, String)],
        body: Vec<u8>,
        limit: Duration,
    ) -> Result<Answer, RequestError> {
        self.deliver(&self.target.endpoint, method, path_and_query, fields, body, limit).await
    }

    async fn deliver(
        &self,
        endpoint: &Endpoint,
        method: Method,
        path_and_query: &str,
        fields: &[(HeaderName, String)],
        body: Vec<u8>,
        limit: Duration,
    ) -> Result<Answer, RequestError> {
        let payload = payload(&body);
        let head = self.request(AGENTCORE, endpoint, &method, path_and_query, fields, payload).await?;
        let request = head.map(|()| Full::new(Bytes::from(body)));
        self.answer(endpoint, path_and_query, request, limit).await
    }

    async fn answer<B>(
        &self,
        endpoint: &Endpoint,
        path_and_query: &str,
        request: Request<B>,
        limit: Duration,
    ) -> Result<Answer, RequestError>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let tls = if endpoint.tls == self.target.endpoint.tls {
            self.tls.clone()
        } else {
            // Objects may be elsewhere than the planes.
            Some(tls_config(self.target.ca_path.as_deref()).map_err(RequestError::Local)?)
        };
        let stream = connect(endpoint, tls.filter(|_| endpoint.tls)).await?;
        let (answer, connection) = exchange(stream, request, limit).await?;
        let (parts, body) = answer.into_parts();
        tracing::debug!(%endpoint, path = path_and_query, status = parts.status.as_u16(), "answered");
        if !parts.status.is_success() {
            return Err(RequestError::Refused(refusal(parts.status, &parts.headers, body).await));
        }
        Ok(Answer { headers: parts.headers, body, _connection: connection })
    }

    /// Sends JSON, or nothing, and reads JSON; `Null` for an empty body.
    pub(crate) async fn json(
        &self,
        method: Method,
        path_and_query: &str,
        body: Option<&Value>,
    ) -> Result<Value, RequestError> {
        let (extra, body) = json_body(body);
        let answer = self.send(method, path_and_query, &extra, body).await?;
        read_json(answer).await
    }

    /// Upgrades to a WebSocket.
    pub(crate) async fn upgrade(
        &self,
        path_and_query: &str,
        extra: &[(&'static str, String)],
    ) -> Result<Socket, RequestError> {
        let endpoint = &self.target.endpoint;
        let payload = PayloadHash::Empty;
        let head =
            self.request(AGENTCORE, endpoint, &Method::GET, path_and_query, &named(extra), payload).await?;
        let mut request = head.map(|()| Full::<Bytes>::default());
        let key = generate_key();
        let fields = [
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", &key),
        ];
        for (name, value) in fields {
            let value = HeaderValue::from_str(value).map_err(|error| local_error(&error))?;
            request.headers_mut().insert(HeaderName::from_static(name), value);
        }
        let stream = connect(endpoint, self.tls.clone()).await?;
        let (answer, connection) = exchange(stream, request, UPGRADE_TIMEOUT).await?;
        tracing::debug!(%endpoint, path = path_and_query, status = answer.status().as_u16(), "upgraded");
        if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
            let (parts, body) = answer.into_parts();
            return Err(RequestError::Refused(refusal(parts.status, &parts.headers, body).await));
        }
        let headers = answer.headers().clone();
        let accepted = headers.get("sec-websocket-accept").map(HeaderValue::as_bytes);
        if accepted != Some(derive_accept_key(key.as_bytes()).as_bytes()) {
            return Err(RequestError::Unreachable("the answer does not fit the WebSocket key".to_owned()));
        }
        let upgraded = hyper::upgrade::on(answer).await.map_err(|error| unreachable(&error))?;
        let config = WebSocketConfig::default()
            // Output comes in messages of up to 64 KiB; the buffer is allocated at once.
            .read_buffer_size(64 << 10)
            // Every frame goes out at once: a key press waits for nothing.
            .write_buffer_size(0)
            // A few input messages of 32 KiB; more means that the network takes nothing.
            .max_write_buffer_size(256 << 10)
            .max_message_size(Some(clamshell_term::frame::INCOMING_SERVER_MESSAGE_BYTES_MAX))
            .max_frame_size(Some(clamshell_term::frame::INCOMING_SERVER_MESSAGE_BYTES_MAX));
        let messages =
            WebSocketStream::from_raw_socket(TokioIo::new(upgraded), Role::Client, Some(config)).await;
        Ok(Socket { messages, headers, _connection: connection })
    }

    async fn request(
        &self,
        service: &str,
        endpoint: &Endpoint,
        method: &Method,
        path_and_query: &str,
        extra: &[(HeaderName, String)],
        payload_hash: PayloadHash<'_>,
    ) -> Result<Request<()>, RequestError> {
        let mut fields = vec![(http::header::HOST, endpoint.authority())];
        fields.extend_from_slice(extra);
        match (&self.target.identity, &self.keys) {
            (Identity::Bearer(token), _) => {
                // A shell's token travels as a subprotocol, which the caller has put there.
                if !fields.iter().any(|(name, _)| *name == headers::SEC_WEBSOCKET_PROTOCOL) {
                    fields.push((http::header::AUTHORIZATION, format!("Bearer {token}")));
                }
            }
            (Identity::Root | Identity::Chain, Some(keys)) => {
                let credentials = keys.get().await.map_err(RequestError::Local)?;
                let method = method.as_str();
                let unsigned = Unsigned { service, method, path_and_query, headers: &fields, payload_hash };
                let now_ms = SystemClock.now_ms();
                let signed = signing::sign(unsigned, &credentials, &self.target.region, now_ms)
                    .map_err(RequestError::Local)?;
                fields.extend(signed.into_iter().map(|(name, value)| (HeaderName::from_static(name), value)));
            }
            (Identity::Root | Identity::Chain, None) => {
                return Err(RequestError::Local(Failure::new("no keys to sign with")));
            }
        }
        let mut request = Request::builder().method(method).uri(path_and_query);
        for (name, value) in fields {
            request = request.header(name, value);
        }
        request
            .header("user-agent", concat!("clamshell/", env!("CARGO_PKG_VERSION")))
            .body(())
            .map_err(|error| local_error(&error))
    }
}

fn payload(body: &[u8]) -> PayloadHash<'_> {
    if body.is_empty() { PayloadHash::Empty } else { PayloadHash::Body(body) }
}

fn named(fields: &[(&'static str, String)]) -> Vec<(HeaderName, String)> {
    fields.iter().map(|(name, value)| (HeaderName::from_static(name), value.clone())).collect()
}

/// Body and headers of a JSON request.
pub(crate) fn json_body(body: Option<&Value>) -> (Vec<(&'static str, String)>, Vec<u8>) {
    match body {
        Some(value) => {
            (vec![(headers::CONTENT_TYPE, headers::JSON.to_owned())], value.to_string().into_bytes())
        }
        None => (Vec::new(), Vec::new()),
    }
}

/// The JSON body of an answer; `Null` for an empty one.
pub(crate) async fn read_json(answer: Answer) -> Result<Value, RequestError> {
    let Answer { body, _connection, .. } = answer;
    let bytes = timeout(READ_TIMEOUT, Limited::new(body, JSON_BYTES_MAX).collect())
        .await
        .map_err(|_| RequestError::Unreachable("the answer stopped".to_owned()))?
        .map_err(|error| RequestError::Unreachable(error.to_string()))?
        .to_bytes();
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(&bytes).map_err(|_| {
        RequestError::Unreachable("the answer is not JSON: is this a Clamshell server?".to_owned())
    })
}

/// Whether a Clamshell server answers there.
pub(crate) async fn is_healthy(endpoint: &Endpoint, ca_path: Option<&Path>) -> bool {
    let check = async {
        let tls = if endpoint.tls { Some(tls_config(ca_path).ok()?) } else { None };
        let request = Request::get("/clamshell/v1/health")
            .header(headers::HOST, endpoint.authority())
            .body(Full::<Bytes>::default())
            .ok()?;
        let stream = connect(endpoint, tls).await.ok()?;
        let (answer, _connection) = exchange(stream, request, HEALTH_TIMEOUT).await.ok()?;
        answer.status().is_success().then_some(())
    };
    matches!(timeout(HEALTH_TIMEOUT, check).await, Ok(Some(())))
}

async fn connect(
    endpoint: &Endpoint,
    tls: Option<Arc<rustls::ClientConfig>>,
) -> Result<Box<dyn Stream>, RequestError> {
    let open = async {
        let tcp = TcpStream::connect((endpoint.host.as_str(), endpoint.port))
            .await
            .map_err(|error| unreachable(&error))?;
        // A key press is one small packet: it must not wait for the answer to the one before.
        let _ = tcp.set_nodelay(true);
        let Some(config) = tls else {
            return Ok(Box::new(tcp) as Box<dyn Stream>);
        };
        let name = ServerName::try_from(endpoint.host.clone()).map_err(|error| unreachable(&error))?;
        tokio_rustls::TlsConnector::from(config)
            .connect(name, tcp)
            .map_ok(|stream| Box::new(stream) as Box<dyn Stream>)
            .map_err(|error| unreachable(&error))
            .await
    };
    timeout(CONNECT_TIMEOUT, open)
        .await
        .unwrap_or_else(|_| Err(RequestError::Unreachable("no connection in time".to_owned())))
}

async fn exchange<B>(
    stream: Box<dyn Stream>,
    request: Request<B>,
    limit: Duration,
) -> Result<(http::Response<Incoming>, JoinSet<()>), RequestError>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut tasks = JoinSet::new();
    let exchange = async {
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        tasks.spawn(async move {
            // An error shows up in the body or the upgraded stream as well.
            let _ = connection.with_upgrades().await;
        });
        sender.send_request(request).await
    };
    let answer = timeout(limit, exchange)
        .await
        .map_err(|_| RequestError::Unreachable("no answer in time".to_owned()))?
        .map_err(|error| unreachable(&error))?;
    Ok((answer, tasks))
}

async fn refusal(status: StatusCode, headers: &HeaderMap, body: Incoming) -> Refusal {
    let bytes = match timeout(READ_TIMEOUT, Limited::new(body, ERROR_BYTES_MAX).collect()).await {
        Ok(Ok(body)) => body.to_bytes(),
        // The status alone still tells what happened.
        _ => Bytes::new(),
    };
    let header = headers.get(headers::ERROR_TYPE).and_then(|value| value.to_str().ok());
    parse_refusal(status.as_u16(), header, &bytes)
}

fn parse_refusal(status: u16, header: Option<&str>, body: &[u8]) -> Refusal {
    let value: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let text = |names: [&str; 2]| {
        names.iter().find_map(|name| value[*name].as_str()).map(printable).filter(|text| !text.is_empty())
    };
    let exception = header.map(printable).or_else(|| text(["__type", "code"])).unwrap_or_default();
    // `aws.protocol#Name:http://...` in older services.
    let exception = exception.rsplit('#').next().unwrap_or_default();
    let exception = exception.split(':').next().unwrap_or_default().to_owned();
    let message = text(["message", "Message"]).unwrap_or_default();
    Refusal { status, exception, message, error: value["error"].as_str().map(printable) }
}

/// Text from a server, safe to print on a terminal.
pub(crate) fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(2000).collect()
}

/// A local server's own CA is enough for it; else the system's roots and what AWS clients are told to
/// trust.
fn tls_config(ca_path: Option<&Path>) -> Result<Arc<rustls::ClientConfig>, Failure> {
    let mut roots = rustls::RootCertStore::empty();
    let mut add = |path: &Path| -> Result<(), Failure> {
        let failure = || Failure::new(format!("cannot use the CA certificates in {}", path.display()));
        let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect)
            .map_err(|error: rustls::pki_types::pem::Error| failure().because(error))?;
        if roots.add_parsable_certificates(certificates).0 == 0 {
            return Err(failure().because("there is none"));
        }
        Ok(())
    };
    if let Some(path) = ca_path {
        add(path)?;
    }
    for name in ["AWS_CA_BUNDLE", "SSL_CERT_FILE"] {
        if let Some(path) = std::env::var_os(name).filter(|path| !path.is_empty()) {
            add(Path::new(&path))?;
        }
    }
    if ca_path.is_none() {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    let mut config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn unreachable(error: &(dyn std::error::Error + 'static)) -> RequestError {
    let mut text = error.to_string();
    if let Some(source) = error.source() {
        text = format!("{text}: {source}");
    }
    RequestError::Unreachable(text)
}

fn local_error(error: &dyn std::error::Error) -> RequestError {
    RequestError::Local(Failure::new("cannot make the request").because_of(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_read_from_header_and_body() {
        let refusal = parse_refusal(
            404,
            Some("ResourceNotFoundException"),
            br#"{"message":"No session\u001b[31m","error":"SHELL"}"#,
        );
        assert_eq!(refusal.text(), "No session [31m [SHELL] (404 ResourceNotFoundException)");
        let refusal = parse_refusal(403, None, br#"{"__type":"a.b#Denied:http://x","Message":"no"}"#);
        assert_eq!(refusal.text(), "no (403 Denied)");
        assert_eq!(parse_refusal(502, None, b"<html>").text(), "no reason given (502)");
    }
}
