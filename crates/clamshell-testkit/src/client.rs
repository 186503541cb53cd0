//! A client that signs like the SDKs and shows what came back, byte by byte.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use clamshell_term::{frame::ShellFrame, status::Status};
use clamshell_wire::{
    event_stream::{CommandEvent, CommandEventReader},
    percent_encode,
    sigv4::{Credentials, PayloadHash, SignedRequest, sign_headers},
};
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio_tungstenite::{WebSocketStream, tungstenite::Message};

/// Signs and sends.
#[derive(Debug, Clone)]
pub struct Client {
    /// `host:port`.
    pub authority: String,
    /// Region of signatures.
    pub region: String,
    /// ARN of the runtime `default`.
    pub runtime_arn: String,
    /// Who signs.
    pub credentials: Credentials,
}

/// An answer, whole.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Status.
    pub status: StatusCode,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

impl Reply {
    /// The body as JSON; `null` when it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// A header as text, empty when it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// What a command did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandOutcome {
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// Exit code and status.
    pub stop: Option<(i32, String)>,
    /// Exception in the stream: name and message.
    pub exception: Option<(String, String)>,
}

/// What comes out of a shell's WebSocket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ShellEvent {
    /// Output.
    Output(Vec<u8>),
    /// A STATUS frame.
    Status(Status),
    /// Something for people, beside the output.
    Notice(String),
    /// A heartbeat.
    Heartbeat,
    /// A CLOSE frame.
    Close,
    /// The WebSocket was closed with this code; 1006 when it broke.
    Closed(u16),
}

/// A shell's WebSocket.
#[derive(Debug)]
pub struct ShellSocket {
    /// Headers of the 101.
    pub headers: HeaderMap,
    socket: WebSocketStream<TcpStream>,
}

impl Client {
    /// A client of the server at `endpoint` (`http://host:port`).
    pub fn new(endpoint: &str, region: &str, runtime_arn: &str, credentials: Credentials) -> Self {
        Self {
            authority: endpoint.trim_start_matches("http://").to_owned(),
            region: region.to_owned(),
            runtime_arn: runtime_arn.to_owned(),
            credentials,
        }
    }

    /// Raw path of a data-plane operation on the runtime `default`.
    pub fn runtime_path(&self, suffix: &str) -> String {
        format!("/runtimes/{}/{suffix}", percent_encode(&self.runtime_arn))
    }

    /// Headers that sign a request, with those given first.
    ///
    /// # Errors
    /// When something cannot be signed.
    pub fn signed(
        &self,
        method: &str,
        path_and_query: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Vec<(String, String)>> {
        let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
        let mut all: Vec<(String, String)> =
            headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        all.insert(0, ("host".to_owned(), self.authority.clone()));
        let borrowed: Vec<(&str, &[u8])> =
            all.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        let request = SignedRequest {
            method,
            raw_path: path,
            raw_query: query,
            headers: &borrowed,
            payload_hash: if body.is_empty() { PayloadHash::Empty } else { PayloadHash::Body(body) },
        };
        let now_ms = clamshell_domain::Clock::now_ms(&clamshell_domain::SystemClock);
        let added = sign_headers(&request, &self.credentials, &self.region, now_ms)?;
        all.extend(added.into_iter().map(|(name, value)| (name.to_owned(), value)));
        Ok(all)
    }

    /// A signed request.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn request(
        &self,
        method: &str,
        path_and_query: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Reply> {
        let headers = self.signed(method, path_and_query, headers, body)?;
        self.send(method, path_and_query, &headers, body).await
    }

    /// A request with exactly these headers.
    ///
    /// # Errors
    /// When no answer comes.
    pub async fn send(
        &self,
        method: &str,
        path_and_query: &str,
        headers: &[(String, String)],
        body: &[u8],
    ) -> Result<Reply> {
        let stream = TcpStream::connect(&self.authority).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let mut request = Request::builder().method(method).uri(path_and_query);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let request = request.body(Full::new(Bytes::copy_from_slice(body)))?;
        let exchange = async {
            let response = sender.send_request(request).await?;
            let (parts, body) = response.into_parts();
            let body = body.collect().await?.to_bytes();
            anyhow::Ok(Reply { status: parts.status, headers: parts.headers, body })
        };
        tokio::select! {
            reply = exchange => reply,
            ended = connection => { ended?; bail!("connection ended before the answer") }
        }
    }

    /// Runs a command in a session of the runtime `default`.
    ///
    /// # Errors
    /// When the answer is not an event stream.
    pub async fn command(&self, session_id: &str, command: &str, timeout_s: u32) -> Result<CommandOutcome> {
        let body = serde_json::json!({ "command": command, "timeout": timeout_s }).to_string();
        let headers = [
            ("x-amzn-bedrock-agentcore-runtime-session-id", session_id),
            ("content-type", "application/json"),
        ];
        let reply = self.request("POST", &self.runtime_path("commands"), &headers, body.as_bytes()).await?;
        if reply.status != StatusCode::OK {
            bail!("{} {}", reply.status, String::from_utf8_lossy(&reply.body));
        }
        let mut reader = CommandEventReader::new();
        let mut outcome = CommandOutcome::default();
        for event in reader.feed(&reply.body)? {
            match event {
                CommandEvent::Start => {}
                CommandEvent::Stdout(text) => outcome.stdout.push_str(&text),
                CommandEvent::Stderr(text) => outcome.stderr.push_str(&text),
                CommandEvent::Stop { exit_code, status } => {
                    outcome.stop = Some((exit_code, status.as_str().to_owned()))
                }
                CommandEvent::Exception { name, message } => outcome.exception = Some((name, message)),
            }
        }
        Ok(outcome)
    }

    /// Opens a shell as AWS clients do.
    ///
    /// # Errors
    /// When the upgrade is refused; the text has status and body.
    pub async fn shell(&self, session_id: &str, shell_id: &str) -> Result<ShellSocket> {
        let path = format!("{}?shellId={}", self.runtime_path("ws/shells"), percent_encode(shell_id));
        self.upgrade(&path, &[("x-amzn-bedrock-agentcore-runtime-session-id", session_id)]).await
    }

    /// Attaches through the extension API; `query` starts after the question mark.
    ///
    /// # Errors
    /// When the upgrade is refused.
    pub async fn attach(&self, session_id: &str, shell_id: &str, query: &str) -> Result<ShellSocket> {
        let path = format!(
            "/clamshell/v1/sessions/{}/shells/{}/attach?{query}",
            percent_encode(session_id),
            percent_encode(shell_id)
        );
        self.upgrade(&path, &[]).await
    }

    /// A signed WebSocket upgrade.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn upgrade(&self, path_and_query: &str, headers: &[(&str, &str)]) -> Result<ShellSocket> {
        let headers = self.signed("GET", path_and_query, headers, &[])?;
        let mut request = Request::builder()
            .uri(format!("ws://{}{path_and_query}", self.authority))
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        for (name, value) in &headers {
            request = request.header(name, value);
        }
        let stream = TcpStream::connect(&self.authority).await?;
        stream.set_nodelay(true)?;
        match tokio_tungstenite::client_async(request.body(())?, stream).await {
            Ok((socket, response)) => Ok(ShellSocket { headers: response.headers().clone(), socket }),
            Err(tokio_tungstenite::tungstenite::Error::Http(response)) => {
                let body = response.body().as_deref().unwrap_or_default();
                bail!("{} {}", response.status(), String::from_utf8_lossy(body))
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl ShellSocket {
    /// Types.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn input(&mut self, bytes: &[u8]) -> Result<()> {
        self.send(&ShellFrame::Stdin(bytes)).await
    }

    /// Sends any frame.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn send(&mut self, frame: &ShellFrame<'_>) -> Result<()> {
        self.message(Message::Binary(frame.encode().into())).await
    }

    /// Sends any message.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn message(&mut self, message: Message) -> Result<()> {
        Ok(self.socket.send(message).await?)
    }

    /// The next event.
    ///
    /// # Errors
    /// For messages that no server should send.
    pub async fn next(&mut self) -> Result<ShellEvent> {
        loop {
            let message = match self.socket.next().await {
                Some(Ok(message)) => message,
                Some(Err(_)) | None => return Ok(ShellEvent::Closed(1006)),
            };
            let data = match message {
                Message::Binary(data) => data,
                Message::Close(frame) => {
                    return Ok(ShellEvent::Closed(frame.map_or(1005, |frame| frame.code.into())));
                }
                Message::Ping(_) | Message::Pong(_) => continue,
                Message::Text(_) | Message::Frame(_) => bail!("server sent a text message"),
            };
            return Ok(match ShellFrame::from_server(&data)? {
                ShellFrame::Stdout(bytes) => ShellEvent::Output(bytes.to_vec()),
                ShellFrame::Status(json) => ShellEvent::Status(Status::parse(json)?),
                ShellFrame::Stderr(text) => ShellEvent::Notice(String::from_utf8_lossy(text).into_owned()),
                ShellFrame::Heartbeat => ShellEvent::Heartbeat,
                ShellFrame::Close => ShellEvent::Close,
                other => bail!("server sent {other:?}"),
            });
        }
    }

    /// The next message as it came; `None` at the end. For WebSockets of agents, which have no shell's frames.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn next_message(&mut self) -> Result<Option<Message>> {
        Ok(self.socket.next().await.transpose()?)
    }

    /// Reads output until it ends in, or contains, `text`; gives all of it.
    ///
    /// # Errors
    /// When something else than output and STATUS comes, or nothing for 20 s.
    pub async fn read_until(&mut self, text: &str) -> Result<Vec<u8>> {
        let mut seen = Vec::new();
        loop {
            let event = tokio::time::timeout(Duration::from_secs(20), self.next())
                .await
                .with_context(|| format!("no {text:?} in {:?}", String::from_utf8_lossy(&seen)))??;
            match event {
                ShellEvent::Output(bytes) => seen.extend_from_slice(&bytes),
                ShellEvent::Status(_) | ShellEvent::Notice(_) | ShellEvent::Heartbeat => {}
                other => bail!("{other:?} after {:?}", String::from_utf8_lossy(&seen)),
            }
            if seen.windows(text.len()).any(|window| window == text.as_bytes()) {
                return Ok(seen);
            }
        }
    }

    /// Breaks the connection without a word.
    pub fn cut(self) {
        drop(self);
    }
}
