//! A registry made by hand, as raw as a test needs it.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};

use crate::image::oci::{digest::Sha256, manifest};

/// What a request said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) target: String,
    pub(super) headers: BTreeMap<String, String>,
}

/// What is answered, as raw as it needs to be.
#[derive(Debug, Clone, Default)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Vec<u8>,
    /// Bytes of the body after which the connection breaks.
    pub(super) cut: Option<usize>,
    /// No length, and zeros after the body until nobody listens.
    pub(super) endless: bool,
}

pub(super) fn ok(body: impl Into<Vec<u8>>) -> Reply {
    Reply { status: 200, body: body.into(), ..Reply::default() }
}

pub(super) fn status(status: u16) -> Reply {
    Reply { status, ..Reply::default() }
}

/// A server on this machine, for as long as the test runs.
pub(super) struct Fake {
    pub(super) address: String,
    pub(super) log: Arc<Mutex<Vec<Asked>>>,
}

impl Fake {
    pub(super) fn serve(handler: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let log = Arc::new(Mutex::new(Vec::new()));
        let (handler, kept) = (Arc::new(handler), Arc::clone(&log));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (handler, log) = (Arc::clone(&handler), Arc::clone(&kept));
                std::thread::spawn(move || answer(stream.unwrap(), handler.as_ref(), &log));
            }
        });
        Self { address, log }
    }

    pub(super) fn asked(&self, part: &str) -> Vec<Asked> {
        let log = self.log.lock().unwrap();
        log.iter().filter(|asked| asked.target.contains(part)).cloned().collect()
    }
}

fn answer(mut stream: TcpStream, handler: &dyn Fn(&Asked) -> Reply, log: &Mutex<Vec<Asked>>) {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).unwrap_or(0) == 0 {
            return;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.split("\r\n");
    let target = lines.next().unwrap().split(' ').nth(1).unwrap().to_owned();
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    let asked = Asked { target, headers };
    log.lock().unwrap().push(asked.clone());
    let reply = handler(&asked);
    let mut bytes = format!("HTTP/1.1 {} X\r\n", reply.status).into_bytes();
    for (name, value) in &reply.headers {
        bytes.extend(format!("{name}: {value}\r\n").bytes());
    }
    if !reply.endless && !reply.headers.iter().any(|(name, _)| *name == "content-length") {
        bytes.extend(format!("content-length: {}\r\n", reply.body.len()).bytes());
    }
    bytes.extend(b"\r\n");
    let kept = reply.cut.unwrap_or(reply.body.len());
    bytes.extend(&reply.body[..kept]);
    // The other side may have had enough.
    let _ = stream.write_all(&bytes);
    while reply.endless && stream.write_all(&[0; 65536]).is_ok() {}
}

pub(super) fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", Sha256::of(bytes).hex())
}

pub(super) fn layer(name: &str, content: &[u8]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    header.set_cksum();
    builder.append_data(&mut header, name, content).unwrap();
    builder.into_inner().unwrap()
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::none());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Contents of a registry: blobs and manifests by digest, manifests by tag too.
#[derive(Debug, Clone, Default)]
pub(super) struct Contents {
    pub(super) blobs: BTreeMap<String, Vec<u8>>,
    pub(super) tags: BTreeMap<String, Vec<u8>>,
}

impl Contents {
    pub(super) fn add(&mut self, bytes: &[u8]) -> Value {
        let digest = digest_of(bytes);
        self.blobs.insert(digest.clone(), bytes.to_vec());
        json!({ "mediaType": "", "digest": digest, "size": bytes.len() })
    }

    /// A manifest of these layers.
    pub(super) fn image(&mut self, tars: &[Vec<u8>]) -> Value {
        let diff_ids: Vec<_> = tars.iter().map(|tar| digest_of(tar)).collect();
        let config = json!({
            "architecture": manifest::host_architecture(), "os": "linux",
            "config": { "Cmd": ["sh"] }, "rootfs": { "diff_ids": diff_ids },
        });
        let config = self.add(config.to_string().as_bytes());
        let layers: Vec<_> = tars.iter().map(|tar| self.add(&gzip(tar))).collect();
        json!({ "schemaVersion": 2, "config": config, "layers": layers })
    }

    pub(super) fn tag(&mut self, tag: &str, manifest: &Value) -> String {
        let bytes = manifest.to_string().into_bytes();
        self.add(&bytes);
        self.tags.insert(tag.to_owned(), bytes.clone());
        digest_of(&bytes)
    }

    pub(super) fn find(&self, target: &str) -> Option<&Vec<u8>> {
        let name = target.rsplit('/').next()?;
        self.blobs.get(name).or_else(|| self.tags.get(name).filter(|_| target.contains("/manifests/")))
    }

    pub(super) fn reply(&self, asked: &Asked) -> Reply {
        let Some(bytes) = self.find(&asked.target) else { return status(404) };
        let from = asked
            .headers
            .get("range")
            .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
        match from {
            None => ok(bytes.clone()),
            Some(from) => Reply {
                status: 206,
                headers: vec![("content-range", format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len()))],
                body: bytes[from..].to_vec(),
                ..Reply::default()
            },
        }
    }
}
