//! `cargo xtask bench hosting`: what a hosted agent costs beyond the agent itself.
//!
//! The same agent answers in a sandbox behind the server, and on this machine alone or behind nginx. Requests are signed
//! before the clock starts: the client's work is not ours.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use clamshell_domain::{Artifact, ServerProtocol};
use clamshell_testkit::{
    Client, ServerProcess,
    hosted::{agent_runtime, host},
};
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinSet};

use crate::{Samples, create::session, echo_agent, report};

const ROUNDS: usize = 1000;
const PARALLEL: usize = 16;
const RATE_TIME: Duration = Duration::from_secs(3);
const WAKE_FILES: u32 = 100_000;
/// Enough for a 99th percentile that is not the worst of a few.
const WAKES: usize = 200;
const UNPACKS: usize = 3;
const LONG_BYTES: usize = 100_000_000;
const PROMPT: &[u8] = br#"{"prompt":"What is the weather in Lisbon today, and what should I wear?"}"#;

/// Runs the groups named, or all.
pub(crate) async fn run(binary: &Path, groups: &[String]) -> Result<()> {
    println!("# Clamshell hosting, {}", env!("CARGO_PKG_VERSION"));
    let wanted = |group: &str| groups.is_empty() || groups.iter().any(|name| name == group);
    let folder = tempfile::tempdir()?;
    if wanted("invoke") || wanted("rate") || wanted("payload") {
        let layout = echo_agent::image(folder.path(), None)?;
        let server = ServerProcess::start_measured(binary, "").await?;
        let client = hosted(&server, &layout).await?;
        if wanted("invoke") {
            invoke(&client).await.context("invoke")?;
        }
        if wanted("rate") {
            rate(&client, folder.path()).await.context("rate")?;
        }
        if wanted("payload") {
            payload(&server, &client).await.context("payload")?;
        }
    }
    if wanted("wake") {
        wake(binary).await.context("wake")?;
    }
    if wanted("unpack") {
        unpack(binary).await.context("unpack")?;
    }
    Ok(())
}

/// Puts a runtime with this image into the server's store, and gives a client of it.
async fn hosted(server: &ServerProcess, layout: &Path) -> Result<Client> {
    let image = Artifact::Oci { path: layout.to_owned(), reference: None };
    let runtime = agent_runtime("bench", image, ServerProtocol::Http)?;
    host(server.data_dir(), &server.client().await?, &runtime).await
}

/// A kept connection and how its requests are made.
struct Caller {
    sender: SendRequest<Full<Bytes>>,
    /// Signs for a session; `None`: plain requests.
    signed: Option<(Client, String)>,
    _driver: JoinSet<()>,
}

impl Caller {
    async fn open(authority: &str, signed: Option<(Client, String)>) -> Result<Self> {
        let stream = TcpStream::connect(authority).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let mut driver = JoinSet::new();
        driver.spawn(async move {
            let _ = connection.await;
        });
        Ok(Self { sender, signed, _driver: driver })
    }

    fn request(&self, body: &Bytes) -> Result<Request<Full<Bytes>>> {
        let mut request = Request::builder().method("POST");
        match &self.signed {
            None => request = request.uri("/invocations").header("host", "localhost"),
            Some((client, session)) => {
                let path = client.runtime_path("invocations");
                let headers = [("x-amzn-bedrock-agentcore-runtime-session-id", session.as_str())];
                for (name, value) in client.signed("POST", &path, &headers, body)? {
                    request = request.header(name, value);
                }
                request = request.uri(path);
            }
        }
        Ok(request.body(Full::new(body.clone()))?)
    }

    /// One request; gives its milliseconds.
    async fn once(&mut self, body: &Bytes) -> Result<f64> {
        let request = self.request(body)?;
        self.send(request, body.len()).await
    }

    /// Sends a request made before, whose answer has this length; gives its milliseconds.
    async fn send(&mut self, request: Request<Full<Bytes>>, expected: usize) -> Result<f64> {
        self.sender.ready().await?;
        let start = Instant::now();
        let response = self.sender.send_request(request).await?;
        let status = response.status();
        let mut received = response.into_body();
        let mut length = 0;
        while let Some(frame) = received.frame().await {
            if let Ok(data) = frame?.into_data() {
                length += data.len();
            }
        }
        let took = start.elapsed();
        if !status.is_success() || length != expected {
            bail!("{status}, {length} bytes");
        }
        Ok(took.as_secs_f64() * 1e3)
    }
}

/// The agent as a process of this machine.
struct Alone {
    child: Child,
    authority: String,
}

impl Alone {
    async fn start() -> Result<Self> {
        let authority = format!("127.0.0.1:{}", free_port()?);
        let child = Command::new(std::env::current_exe()?).args(["--agent", &authority]).spawn()?;
        let alone = Self { child, authority };
        listens(&alone.authority).await?;
        Ok(alone)
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

async fn listens(authority: &str) -> Result<()> {
    for _ in 0..500 {
        if TcpStream::connect(authority).await.is_ok() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    bail!("nothing listens on {authority}")
}

/// One invocation against one request to the agent itself, alone and sixteen at once.
async fn invoke(client: &Client) -> Result<()> {
    let alone = Alone::start().await?;
    let body = Bytes::from_static(PROMPT);
    for parallel in [1, PARALLEL] {
        let mut ours = Vec::new();
        let mut direct = Vec::new();
        for number in 0..parallel {
            let signed = Some((client.clone(), session("invoke", 0)));
            ours.push(
                Caller::open(&client.authority, signed)
                    .await
                    .with_context(|| format!("connection {number}"))?,
            );
            direct.push(Caller::open(&alone.authority, None).await?);
        }
        let (mut samples, mut theirs) =
            (Samples::new("clamshell: invocation"), Samples::new("the agent itself"));
        for _ in 0..20 {
            samples.ms = together(&mut ours, &body).await?;
            theirs.ms = together(&mut direct, &body).await?;
        }
        samples.ms.clear();
        theirs.ms.clear();
        for _ in 0..ROUNDS / parallel {
            samples.ms.extend(together(&mut ours, &body).await?);
            theirs.ms.extend(together(&mut direct, &body).await?);
        }
        let over = samples.percentile(50) - theirs.percentile(50);
        report(&format!("one invocation, {parallel} at once, whole answer"), &[samples, theirs]);
        println!("overhead p50 {over:.3} ms");
    }
    Ok(())
}

/// One request of each. All are signed before the first is sent: signing one while another waits would count for that.
async fn together(callers: &mut [Caller], body: &Bytes) -> Result<Vec<f64>> {
    let mut calls = Vec::with_capacity(callers.len());
    for caller in callers {
        let request = caller.request(body)?;
        calls.push(caller.send(request, body.len()));
    }
    futures_util::future::try_join_all(calls).await
}

/// Requests a second through one server, beside nginx in front of the same agent.
async fn rate(client: &Client, folder: &Path) -> Result<()> {
    println!("\n## invocations a second, {PARALLEL} connections");
    let alone = Alone::start().await?;
    let nginx = Nginx::start(folder, &alone.authority).await;
    let signed = (client.clone(), session("rate", 0));
    for round in 0..2 {
        let ours = per_second(&client.authority, Some(&signed)).await?;
        let direct = per_second(&alone.authority, None).await?;
        println!("round {round}: clamshell {ours:>8.0}   the agent itself {direct:>8.0}");
        match &nginx {
            Ok(nginx) => {
                let theirs = per_second(&nginx.authority, None).await?;
                println!("round {round}: nginx     {theirs:>8.0}   ours/this {:.2}", ours / theirs);
            }
            Err(reason) => println!("skipped: nginx: {reason:#}"),
        }
    }
    Ok(())
}

async fn per_second(authority: &str, signed: Option<&(Client, String)>) -> Result<f64> {
    let done = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    let mut callers = Vec::new();
    for _ in 0..PARALLEL {
        let mut caller = Caller::open(authority, signed.cloned()).await?;
        caller.once(&Bytes::from_static(PROMPT)).await?;
        callers.push(caller);
    }
    let start = Instant::now();
    for mut caller in callers {
        let done = Arc::clone(&done);
        tasks.spawn(async move {
            let body = Bytes::from_static(PROMPT);
            while start.elapsed() < RATE_TIME {
                caller.once(&body).await?;
                done.fetch_add(1, Ordering::Relaxed);
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(f64::from(u32::try_from(done.load(Ordering::Relaxed))?) / start.elapsed().as_secs_f64())
}

/// nginx as a plain reverse proxy with kept connections.
struct Nginx {
    child: Child,
    authority: String,
}

impl Nginx {
    async fn start(folder: &Path, agent: &str) -> Result<Self> {
        let authority = format!("127.0.0.1:{}", free_port()?);
        let folder = folder.join("nginx");
        std::fs::create_dir_all(&folder)?;
        let path = |name: &str| folder.join(name).display().to_string();
        let configuration = format!(
            "daemon off; worker_processes auto; pid {}; error_log stderr error; events {{ }}\n\
             http {{ access_log off; client_body_temp_path {}; proxy_temp_path {}; fastcgi_temp_path {}; \
             uwsgi_temp_path {}; scgi_temp_path {}; keepalive_requests 1000000;\n\
             upstream agent {{ server {agent}; keepalive 64; keepalive_requests 1000000; }}\n\
             server {{ listen {authority}; location / {{ proxy_pass http://agent; proxy_http_version 1.1; \
             proxy_set_header Connection \"\"; }} }} }}\n",
            path("pid"),
            path("body"),
            path("proxy"),
            path("fastcgi"),
            path("uwsgi"),
            path("scgi"),
        );
        std::fs::write(folder.join("nginx.conf"), configuration)?;
        let child = Command::new("nginx")
            .arg("-p")
            .arg(&folder)
            .arg("-c")
            .arg(folder.join("nginx.conf"))
            .stdin(Stdio::null())
            .spawn()
            .context("cannot run nginx")?;
        let nginx = Self { child, authority };
        listens(&nginx.authority).await?;
        Ok(nginx)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its workers are told by it; killing it alone would leave them.
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }
}

/// 100 MB there and back, and what the server's memory grew by meanwhile.
async fn payload(server: &ServerProcess, client: &Client) -> Result<()> {
    println!("\n## 100 MB each way");
    let pid = server.pid()?;
    let mut caller = Caller::open(&client.authority, Some((client.clone(), session("payload", 0)))).await?;
    caller.once(&Bytes::from_static(PROMPT)).await?;
    let body = Bytes::from(vec![b'x'; LONG_BYTES]);
    for round in 0..3 {
        let before = memory(pid)?;
        let over = Arc::new(AtomicBool::new(false));
        let watched = Arc::clone(&over);
        let peak = tokio::task::spawn_blocking(move || {
            let mut peak = 0;
            while !watched.load(Ordering::Relaxed) {
                peak = peak.max(memory(pid).unwrap_or(0));
                std::thread::sleep(Duration::from_millis(3));
            }
            peak
        });
        let took = caller.once(&body).await;
        over.store(true, Ordering::Relaxed);
        let (took, peak) = (took?, peak.await?);
        println!(
            "round {round}: {took:.0} ms, memory of the server {:.1} MiB before, {:.1} MiB more at its highest",
            mib(before),
            mib(peak.saturating_sub(before))
        );
    }
    Ok(())
}

/// Memory that is the process's own, in bytes.
fn memory(pid: u32) -> Result<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find(|line| line.starts_with("RssAnon:")).context("no RssAnon")?;
    let kib: u64 = line.split_whitespace().nth(1).context("no number")?.parse()?;
    Ok(kib * 1024)
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / 1_048_576.0
}

/// The next call on a stopped session whose workspace is full of files.
async fn wake(binary: &Path) -> Result<()> {
    let server = ServerProcess::start_measured(binary, "").await?;
    let client = server.client().await?;
    let mut samples = Vec::new();
    for (name, files) in [("clamshell: wake, 100,000 files", WAKE_FILES), ("clamshell: wake, no files", 0)] {
        let id = session("wake", usize::try_from(files)?);
        let fill = format!(
            "cd /mnt/workspace && for d in $(seq 0 99); do mkdir d$d; done; \
             [ {files} = 0 ] || seq {files} | awk '{{ print \"d\" $1 % 100 \"/f\" $1 }}' | xargs touch"
        );
        let filled = client.command(&id, &fill, 600).await?;
        if filled.stop.as_ref().is_none_or(|(code, _)| *code != 0) {
            bail!("{filled:?}");
        }
        let mut one = Samples::new(name);
        for _ in 0..WAKES {
            let path = client.runtime_path("stopruntimesession");
            let headers = [("x-amzn-bedrock-agentcore-runtime-session-id", id.as_str())];
            client.request("POST", &path, &headers, b"").await?;
            let start = Instant::now();
            client.command(&id, "true", 60).await?;
            one.ms.push(start.elapsed().as_secs_f64() * 1e3);
        }
        samples.push(one);
    }
    report("first command on a stopped session", &samples);
    Ok(())
}

/// The first session of a new image, beside what unpacks images elsewhere.
async fn unpack(binary: &Path) -> Result<()> {
    let more = ["/usr/lib/python3.11", "/usr/share/perl", "/usr/share"]
        .map(PathBuf::from)
        .into_iter()
        .find(|path| path.is_dir())
        .context("no folder to make an image of")?;
    let mut ours = Samples::new("clamshell: first session of an image");
    let mut again = Samples::new("clamshell: second session");
    let mut theirs = Samples::new("skopeo copy, umoci unpack");
    for round in 0..UNPACKS {
        let folder = tempfile::tempdir()?;
        let layout = echo_agent::image(folder.path(), Some(&more))?;
        let server = ServerProcess::start_measured(binary, "standby = false\n").await?;
        let client = hosted(&server, &layout).await?;
        for (samples, name) in [(&mut ours, "first"), (&mut again, "second")] {
            let signed = Some((client.clone(), session(name, round)));
            let mut caller = Caller::open(&client.authority, signed).await?;
            samples.ms.push(caller.once(&Bytes::from_static(PROMPT)).await?);
        }
        drop(server);
        let start = Instant::now();
        let source = format!("oci:{}:latest", layout.display());
        let copy = folder.path().join("copy");
        let copied = Command::new("skopeo")
            .args([
                "--insecure-policy",
                "copy",
                "--quiet",
                &source,
                &format!("oci:{}:latest", copy.display()),
            ])
            .status();
        let unpacked = Command::new("umoci")
            .args(["unpack", "--image", &format!("{}:latest", copy.display())])
            .arg(folder.path().join("bundle"))
            .stdout(Stdio::null())
            .status();
        match (copied, unpacked) {
            (Ok(copied), Ok(unpacked)) if copied.success() && unpacked.success() => {
                theirs.ms.push(start.elapsed().as_secs_f64() * 1e3);
            }
            other => println!("skipped: skopeo and umoci: {other:?}"),
        }
    }
    report(&format!("an image with {} as a layer", more.display()), &[ours, theirs, again]);
    Ok(())
}
