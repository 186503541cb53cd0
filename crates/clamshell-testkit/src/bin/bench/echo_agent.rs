//! The agent of the measurements: an HTTP server that echoes bodies as they come, and the image that holds it.
//!
//! It is this program itself with `--agent`, so that the same bytes answer inside a sandbox and outside of one.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// Longest head of a request.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// Serves until it is killed.
pub(crate) async fn serve(address: &str) -> Result<()> {
    let listener = TcpListener::bind(address).await?;
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await?;
        let _ = stream.set_nodelay(true);
        connections.spawn(async move {
            let _ = talk(stream).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn talk(mut stream: TcpStream) -> Result<()> {
    let mut buffer = Vec::with_capacity(HEAD_BYTES_MAX);
    loop {
        let end = loop {
            if let Some(end) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break end + 4;
            }
            if buffer.len() > HEAD_BYTES_MAX || stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        let head = String::from_utf8_lossy(&buffer[..end]).to_ascii_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length.map_or(Ok(0), |length| length.trim().parse())?;
        let is_ping = head.starts_with("get /ping");
        let answered = if is_ping { 20 } else { length };
        let answer = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {answered}\r\n\r\n{}",
            if is_ping { "{\"status\":\"Healthy\"}" } else { "" }
        );
        let here = length.min(buffer.len() - end);
        let mut first = answer.into_bytes();
        first.extend_from_slice(&buffer[end..end + here]);
        stream.write_all(&first).await?;
        buffer.drain(..end + here);
        let mut left = length - here;
        let mut piece = vec![0; if left > 0 { 256 * 1024 } else { 0 }];
        while left > 0 {
            let room = left.min(piece.len());
            let count = stream.read(&mut piece[..room]).await?;
            if count == 0 {
                return Ok(());
            }
            stream.write_all(&piece[..count]).await?;
            left -= count;
        }
    }
}

/// Makes an OCI layout in `folder`: this program, the libraries that it needs, and, when `more` is given, that folder of
/// this machine as a second layer.
pub(crate) fn image(folder: &Path, more: Option<&Path>) -> Result<PathBuf> {
    let layout = folder.join("layout");
    let blobs = layout.join("blobs/sha256");
    std::fs::create_dir_all(&blobs)?;
    let root = folder.join("root");
    std::fs::create_dir_all(&root)?;
    let own = std::env::current_exe()?;
    std::fs::copy(&own, root.join("agent"))?;
    let listed = Command::new("ldd").arg(&own).output().context("cannot run ldd")?;
    for word in
        String::from_utf8_lossy(&listed.stdout).split_whitespace().filter(|word| word.starts_with('/'))
    {
        let target = root.join(word.trim_start_matches('/'));
        std::fs::create_dir_all(target.parent().context("libraries lie in folders")?)?;
        std::fs::copy(word, target)?;
    }
    for name in ["tmp", "proc", "dev", "sys", "etc", "run", "mnt"] {
        std::fs::create_dir_all(root.join(name))?;
    }
    let mut layers = vec![layer(&root, Path::new("."), &blobs)?];
    if let Some(more) = more {
        let relative = more.strip_prefix("/").context("an absolute path")?;
        layers.push(layer(Path::new("/"), relative, &blobs)?);
    }
    let digests: Vec<&str> = layers.iter().map(|(digest, _)| digest.as_str()).collect();
    let config = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux",
        "config": { "Cmd": ["/agent", "--agent", "127.0.0.1:8080"] },
        "rootfs": { "type": "layers", "diff_ids": digests },
    });
    let config = blob(&blobs, config.to_string().as_bytes())?;
    let described: Vec<_> = layers
        .iter()
        .map(|(digest, size)| {
            json!({ "mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": digest, "size": size })
        })
        .collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": config.0, "size": config.1 },
        "layers": described,
    });
    let manifest = blob(&blobs, manifest.to_string().as_bytes())?;
    let index = json!({
        "schemaVersion": 2,
        "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": manifest.0,
            "size": manifest.1,
            "annotations": { "org.opencontainers.image.ref.name": "latest" },
        }],
    });
    std::fs::write(layout.join("index.json"), index.to_string())?;
    std::fs::write(layout.join("oci-layout"), "{\"imageLayoutVersion\":\"1.0.0\"}")?;
    Ok(layout)
}

fn layer(base: &Path, what: &Path, blobs: &Path) -> Result<(String, u64)> {
    let path = blobs.join("layer.tar");
    let made = Command::new("tar").arg("-C").arg(base).arg("-cf").arg(&path).arg(what).status()?;
    if !made.success() {
        bail!("tar failed: {made}");
    }
    name(blobs, &path)
}

fn blob(blobs: &Path, bytes: &[u8]) -> Result<(String, u64)> {
    let path = blobs.join("new");
    std::fs::write(&path, bytes)?;
    name(blobs, &path)
}

fn name(blobs: &Path, path: &Path) -> Result<(String, u64)> {
    let output = Command::new("sha256sum").arg(path).output().context("cannot run sha256sum")?;
    let text = String::from_utf8(output.stdout)?;
    let hex = text.split_whitespace().next().context("sha256sum said nothing")?;
    std::fs::rename(path, blobs.join(hex))?;
    Ok((format!("sha256:{hex}"), std::fs::metadata(blobs.join(hex))?.len()))
}
