//! One-shot commands on a warm session: the whole signed request.

use std::{path::Path, time::Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use clamshell_testkit::{Client, ServerProcess};
use clamshell_wire::event_stream::{CommandEvent, CommandEventReader};
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinSet};

use crate::{Samples, create::session, peers::Peer, report};

const ROUNDS: usize = 200;
const PEER_ROUNDS: usize = 60;

/// A kept-alive connection, as SDKs have one.
pub(crate) struct Connection {
    client: Client,
    sender: SendRequest<Full<Bytes>>,
    _driver: JoinSet<()>,
}

/// Times of one command, from before it was signed.
pub(crate) struct Times {
    pub(crate) first_output_ms: f64,
    pub(crate) whole_ms: f64,
}

impl Connection {
    pub(crate) async fn open(client: &Client) -> Result<Self> {
        let stream = TcpStream::connect(&client.authority).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            let _ = connection.await;
        });
        Ok(Self { client: client.clone(), sender, _driver: driver })
    }

    pub(crate) async fn command(&mut self, session_id: &str, command: &str) -> Result<Times> {
        let start = Instant::now();
        let path = self.client.runtime_path("commands");
        let body = serde_json::json!({ "command": command }).to_string();
        let headers = [
            ("x-amzn-bedrock-agentcore-runtime-session-id", session_id),
            ("content-type", "application/json"),
        ];
        let mut request = Request::builder().method("POST").uri(&path);
        for (name, value) in self.client.signed("POST", &path, &headers, body.as_bytes())? {
            request = request.header(name, value);
        }
        self.sender.ready().await?;
        let response = self.sender.send_request(request.body(Full::new(body.into()))?).await?;
        let status = response.status();
        let mut stream = response.into_body();
        let mut reader = CommandEventReader::new();
        let mut first = None;
        let mut raw = Vec::new();
        while let Some(frame) = stream.frame().await {
            let Ok(data) = frame?.into_data() else { continue };
            if !status.is_success() {
                raw.extend_from_slice(&data);
                continue;
            }
            for event in reader.feed(&data)? {
                match event {
                    CommandEvent::Stdout(_) => first = first.or_else(|| Some(start.elapsed())),
                    CommandEvent::Exception { name, message } => bail!("{name}: {message}"),
                    CommandEvent::Start | CommandEvent::Stderr(_) | CommandEvent::Stop { .. } => {}
                }
            }
        }
        if !status.is_success() {
            bail!("{status}: {}", String::from_utf8_lossy(&raw));
        }
        let first = first.context("command gave no output")?;
        Ok(Times {
            first_output_ms: first.as_secs_f64() * 1e3,
            whole_ms: start.elapsed().as_secs_f64() * 1e3,
        })
    }
}

pub(crate) async fn run(binary: &Path) -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = ServerProcess::start_measured(binary, "").await?;
    let client = server.client().await?;
    let mut connection = Connection::open(&client).await?;
    let session = session("warm", 0);
    for _ in 0..5 {
        connection.command(&session, "echo x").await?;
    }
    let mut crun = Peer::start("crun", "exec", folder.path());
    let mut runc = Peer::start("runc", "exec", folder.path());
    let (mut ours, mut theirs_crun, mut theirs_runc) =
        (Samples::new("clamshell: warm command"), Samples::new("crun exec"), Samples::new("runc exec"));
    for round in 0..ROUNDS {
        ours.ms.push(connection.command(&session, "echo x").await?.whole_ms);
        if round < PEER_ROUNDS {
            if let Some(peer) = &mut crun {
                theirs_crun.ms.push(peer.once()?);
            }
            if let Some(peer) = &mut runc {
                theirs_runc.ms.push(peer.once()?);
            }
        }
    }
    report("one-shot command on a warm session, whole request", &[ours, theirs_crun, theirs_runc]);
    Ok(())
}
