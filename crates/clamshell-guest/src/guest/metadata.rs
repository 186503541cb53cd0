//! The instance metadata service at 169.254.169.254, version 2 only: a token first, then questions.
//!
//! Answers what the sandbox may know about itself. The one secret here are temporary credentials of the
//! runtime's execution role, where it has one: the server gives them to the guest, which holds them in memory.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, SocketAddrV4},
    os::fd::AsFd,
};

use clamshell_protocol::{GuestConfig, RoleCredentials};
use rustix::net::{AddressFamily, SocketFlags, SocketType, accept_with, bind, listen, socket_with, sockopt};

use super::{
    buffer::Queue,
    poll::{Poller, Token, Watch},
};

/// Connections at once; more wait in the listener's queue.
const CONNECTIONS_MAX: usize = 16;

/// Longest request head: far above what any SDK sends.
const REQUEST_BYTES_MAX: usize = 8 * 1024;

/// A connection that says nothing for so long is closed.
const IDLE_MS: u64 = 5000;

/// Tokens that are valid at once. When there are more the oldest goes, so that a program that asks
/// for tokens in a loop costs others a repeated request and nothing more.
const TOKENS_MAX: usize = 256;

/// What AWS allows.
const TTL_SECONDS_MAX: u64 = 21_600;

pub(super) struct Metadata {
    listener: Watch,
    poller: Poller,
    connections: BTreeMap<u64, Client>,
    next_id: u64,
    service: Service,
}

struct Client {
    watch: Watch,
    request: Vec<u8>,
    out: Queue,
    idle_at_ms: u64,
    closing: bool,
}

impl Metadata {
    /// Listens; `None` where the address is not there, for instance outside of a sandbox.
    pub(super) fn start(config: &GuestConfig, poller: &Poller) -> Option<Self> {
        let listen_on = || -> rustix::io::Result<_> {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let fd = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None)?;
            sockopt::set_socket_reuseaddr(&fd, true)?;
            bind(&fd, &SocketAddrV4::new(Ipv4Addr::new(169, 254, 169, 254), 80))?;
            listen(&fd, 16)?;
            Ok(fd)
        };
        match listen_on() {
            Ok(fd) => {
                let listener = Watch::new(fd, poller, Token::MetadataListener);
                listener.want(true, false);
                Some(Self {
                    listener,
                    poller: poller.clone(),
                    connections: BTreeMap::new(),
                    next_id: 0,
                    service: Service::new(config),
                })
            }
            Err(errno) => {
                super::log(&format!("no metadata service: {errno}"));
                None
            }
        }
    }

    /// Gives these credentials out from now on, in place of those before.
    ///
    /// # Errors
    /// When the name of the role cannot be part of a path.
    pub(super) fn set_credentials(&mut self, credentials: &RoleCredentials) -> Result<(), &'static str> {
        self.service.set_credentials(credentials)
    }

    pub(super) fn ready(&mut self, token: Token, now_ms: u64) {
        match token {
            Token::MetadataListener => self.accept(now_ms),
            Token::Metadata(id) => self.serve(id, now_ms),
            _ => {}
        }
        self.listener.want(self.connections.len() < CONNECTIONS_MAX, false);
    }

    fn accept(&mut self, now_ms: u64) {
        while self.connections.len() < CONNECTIONS_MAX {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let Ok(fd) = accept_with(self.listener.as_fd(), flags) else { return };
            let id = self.next_id;
            self.next_id += 1;
            let watch = Watch::new(fd, &self.poller, Token::Metadata(id));
            watch.want(true, false);
            let idle_at_ms = now_ms + IDLE_MS;
            let client =
                Client { watch, request: Vec::new(), out: Queue::default(), idle_at_ms, closing: false };
            self.connections.insert(id, client);
        }
    }

    fn serve(&mut self, id: u64, now_ms: u64) {
        let Some(client) = self.connections.get_mut(&id) else { return };
        if client.serve(&mut self.service, now_ms).is_none() {
            self.connections.remove(&id);
        }
    }

    pub(super) fn next_timer(&self) -> Option<u64> {
        self.connections.values().map(|client| client.idle_at_ms).min()
    }

    pub(super) fn run_timers(&mut self, now_ms: u64) {
        let before = self.connections.len();
        self.connections.retain(|_, client| client.idle_at_ms > now_ms);
        if self.connections.len() < before {
            self.listener.want(true, false);
        }
    }
}

impl Client {
    /// `None` when the connection is over.
    fn serve(&mut self, service: &mut Service, now_ms: u64) -> Option<()> {
        if !self.closing && self.out.is_empty() {
            let mut buffer = [0; 2048];
            match self.watch.read(&mut buffer) {
                Ok(Some(0)) | Err(_) => return None,
                Ok(Some(count)) => {
                    self.idle_at_ms = now_ms + IDLE_MS;
                    self.request.extend_from_slice(&buffer[..count]);
                }
                Ok(None) => {}
            }
            // One answer at a time: the next request is looked at when this one is written.
            self.answer(service, now_ms);
        }
        loop {
            self.out.flush(&self.watch).ok()?;
            if !self.out.is_empty() {
                self.watch.want(false, true);
                return Some(());
            }
            if self.closing {
                return None;
            }
            if !self.answer(service, now_ms) {
                self.watch.want(true, false);
                return Some(());
            }
        }
    }

    /// Whether a whole request was there.
    fn answer(&mut self, service: &mut Service, now_ms: u64) -> bool {
        let Some((answer, taken, close)) = service.on_bytes(&self.request, now_ms) else { return false };
        self.request.drain(..taken.min(self.request.len()));
        self.closing |= close;
        self.out.tail().extend_from_slice(&answer);
        true
    }
}

/// The service without its sockets: bytes in, bytes out.
struct Service {
    values: BTreeMap<String, String>,
    role: Option<String>,
    /// The document that the metadata service of AWS gives of credentials.
    credentials: Option<String>,
    /// By number of issue, with the time each ends.
    tokens: BTreeMap<u64, (String, u64)>,
    issued: u64,
}

struct Answer {
    status: &'static str,
    ttl_seconds: Option<u64>,
    body: String,
}

fn answer(status: &'static str, body: impl Into<String>) -> Answer {
    Answer { status, ttl_seconds: None, body: body.into() }
}

const BAD_REQUEST: &str = "400 Bad Request";
const UNAUTHORIZED: &str = "401 Unauthorized";
const FORBIDDEN: &str = "403 Forbidden";
const NOT_FOUND: &str = "404 Not Found";

impl Service {
    fn new(config: &GuestConfig) -> Self {
        let value = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        let values = BTreeMap::from([
            value("instance-id", &config.instance_id),
            value("local-ipv4", "127.0.0.1"),
            value("ipv6", "::1"),
            value("placement/region", &config.region),
            value("placement/availability-zone-id", &config.availability_zone_id),
        ]);
        let role = config.execution_role.clone();
        Self { values, role, credentials: None, tokens: BTreeMap::new(), issued: 0 }
    }

    fn set_credentials(&mut self, credentials: &RoleCredentials) -> Result<(), &'static str> {
        let role = &credentials.role;
        let plain = (1..=64).contains(&role.len())
            && role.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte));
        if !plain {
            return Err("the role has no name");
        }
        let document = serde_json::json!({
            "Code": "Success",
            "LastUpdated": credentials.last_updated,
            "Type": "AWS-HMAC",
            "AccessKeyId": credentials.access_key_id,
            "SecretAccessKey": credentials.secret_access_key,
            "Token": credentials.token,
            "Expiration": credentials.expiration,
        });
        self.role = Some(role.clone());
        self.credentials = Some(document.to_string());
        Ok(())
    }

    /// The answer to the first request in `bytes`, how long the request was, and whether the
    /// connection ends after it; `None` until it is whole.
    fn on_bytes(&mut self, bytes: &[u8], now_ms: u64) -> Option<(Vec<u8>, usize, bool)> {
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut request = httparse::Request::new(&mut headers);
        let (answer, taken, close) = match request.parse(bytes) {
            Ok(httparse::Status::Complete(taken)) => {
                let header = |names: &[&str]| {
                    let found =
                        request.headers.iter().find(|h| names.iter().any(|n| h.name.eq_ignore_ascii_case(n)));
                    found.map(|header| std::str::from_utf8(header.value).unwrap_or(""))
                };
                let has_body = header(&["content-length"]).is_some_and(|length| length.trim() != "0")
                    || header(&["transfer-encoding"]).is_some();
                let close = has_body
                    || request.version == Some(0)
                    || header(&["connection"]).is_some_and(|value| value.eq_ignore_ascii_case("close"));
                let (method, path) = (request.method.unwrap_or(""), request.path.unwrap_or(""));
                let ttl = header(&["x-aws-ec2-metadata-token-ttl-seconds", "x-metadata-token-ttl-seconds"]);
                let token = header(&["x-aws-ec2-metadata-token", "x-metadata-token"]);
                // A request that came through a proxy is not from the sandbox itself.
                let forwarded = header(&["x-forwarded-for"]).is_some();
                (self.answer(method, path, ttl, token, forwarded, now_ms), taken, close)
            }
            Ok(httparse::Status::Partial) if bytes.len() < REQUEST_BYTES_MAX => return None,
            Ok(httparse::Status::Partial) => {
                (answer("431 Request Header Fields Too Large", ""), bytes.len(), true)
            }
            Err(_) => (answer(BAD_REQUEST, ""), bytes.len(), true),
        };
        let ttl = answer.ttl_seconds.map(|ttl| format!("x-aws-ec2-metadata-token-ttl-seconds: {ttl}\r\n"));
        let head = format!(
            "HTTP/1.1 {}\r\nserver: EC2ws\r\ncontent-type: text/plain\r\n{}connection: {}\r\ncontent-length: {}\r\n\r\n",
            answer.status,
            ttl.unwrap_or_default(),
            if close { "close" } else { "keep-alive" },
            answer.body.len(),
        );
        Some(([head.as_bytes(), answer.body.as_bytes()].concat(), taken, close))
    }

    fn answer(
        &mut self,
        method: &str,
        path: &str,
        ttl: Option<&str>,
        token: Option<&str>,
        forwarded: bool,
        now_ms: u64,
    ) -> Answer {
        if method == "PUT" && path == "/latest/api/token" {
            if forwarded {
                return answer(FORBIDDEN, "");
            }
            let ttl = ttl
                .and_then(|ttl| ttl.trim().parse::<u64>().ok())
                .filter(|ttl| (1..=TTL_SECONDS_MAX).contains(ttl));
            let Some(ttl) = ttl else { return answer(BAD_REQUEST, "") };
            let Some(token) = fresh_token() else { return answer("503 Service Unavailable", "") };
            self.tokens.retain(|_, (_, ends_ms)| *ends_ms > now_ms);
            while self.tokens.len() >= TOKENS_MAX {
                self.tokens.pop_first();
            }
            self.issued += 1;
            self.tokens.insert(self.issued, (token.clone(), now_ms + ttl * 1000));
            return Answer { status: "200 OK", ttl_seconds: Some(ttl), body: token };
        }
        if method != "GET" {
            return answer("405 Method Not Allowed", "");
        }
        if forwarded {
            return answer(FORBIDDEN, "");
        }
        // Plain comparison: whoever could time it may simply ask for a token.
        let valid = |given: &str| self.tokens.values().any(|(token, ends)| token == given && *ends > now_ms);
        if !token.is_some_and(valid) {
            return answer(UNAUTHORIZED, "");
        }
        self.value(path)
    }

    fn value(&self, path: &str) -> Answer {
        let path = path.split('?').next().unwrap_or("");
        match path.trim_end_matches('/') {
            "/latest" => return answer("200 OK", "meta-data"),
            "/latest/meta-data" => {
                let mut top: Vec<String> = self.values.keys().map(|key| folder_or_key(key)).collect();
                top.extend(self.role.is_some().then(|| "iam/".to_owned()));
                top.sort_unstable();
                top.dedup();
                return answer("200 OK", top.join("\n"));
            }
            _ => {}
        }
        let Some(key) = path.strip_prefix("/latest/meta-data/").map(|key| key.trim_end_matches('/')) else {
            return answer(NOT_FOUND, "");
        };
        if key == "iam/security-credentials"
            && let Some(role) = &self.role
        {
            return answer("200 OK", role.as_str());
        }
        if let Some(role) = key.strip_prefix("iam/security-credentials/") {
            return match &self.credentials {
                Some(document) if self.role.as_deref() == Some(role) => answer("200 OK", document.as_str()),
                _ => answer(NOT_FOUND, ""),
            };
        }
        if key == "iam" && self.role.is_some() {
            return answer("200 OK", "security-credentials/");
        }
        if let Some(value) = self.values.get(key) {
            return answer("200 OK", value.as_str());
        }
        let prefix = format!("{key}/");
        let below: Vec<_> =
            self.values.keys().filter_map(|at| at.strip_prefix(&prefix)).map(folder_or_key).collect();
        if below.is_empty() { answer(NOT_FOUND, "") } else { answer("200 OK", below.join("\n")) }
    }
}

fn folder_or_key(key: &str) -> String {
    match key.split_once('/') {
        Some((folder, _)) => format!("{folder}/"),
        None => key.to_owned(),
    }
}

/// 32 random bytes as text.
fn fresh_token() -> Option<String> {
    let mut bytes = [0_u8; 32];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty()).ok()?;
    (filled == bytes.len()).then(|| bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service() -> Service {
        let config = GuestConfig { instance_id: "ai-1".to_owned(), ..GuestConfig::default() };
        Service::new(&config)
    }

    fn ask(service: &mut Service, request: &str, now_ms: u64) -> (String, String) {
        let (bytes, taken, _) = service.on_bytes(request.as_bytes(), now_ms).unwrap();
        assert_eq!(taken, request.len());
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        (head.lines().next().unwrap()[9..12].to_owned(), body.to_owned())
    }

    fn token(service: &mut Service, ttl: &str, now_ms: u64) -> (String, String) {
        ask(service, &format!("PUT /latest/api/token HTTP/1.1\r\nHost: x\r\nX-{ttl}\r\n\r\n"), now_ms)
    }

    #[test]
    fn credentials_are_those_given_last() {
        let mut service = service();
        let (_, token) = token(&mut service, "metadata-token-ttl-seconds: 600", 1000);
        let get = |service: &mut Service, path: &str, with: &str| {
            ask(service, &format!("GET /latest/meta-data/iam{path} HTTP/1.1\r\n{with}\r\n\r\n"), 2000)
        };
        let with = format!("X-aws-ec2-metadata-token: {token}");
        let mut given = RoleCredentials {
            role: "agent".to_owned(),
            access_key_id: "ASIA1".to_owned(),
            secret_access_key: "s3cr3t".to_owned(),
            token: "t".to_owned(),
            last_updated: "2027-01-15T08:00:00Z".to_owned(),
            expiration: "2027-01-15T09:00:00Z".to_owned(),
        };
        assert!(!format!("{given:?}").contains("s3cr3t"));
        assert_eq!(get(&mut service, "/security-credentials/", &with).0, "404");
        service.set_credentials(&given).unwrap();
        given.access_key_id = "ASIA2".to_owned();
        service.set_credentials(&given).unwrap();
        let names = [("", "security-credentials/"), ("/security-credentials/", "agent")];
        for (path, expect) in names {
            assert_eq!(get(&mut service, path, &with), ("200".to_owned(), expect.to_owned()));
        }
        let (status, body) = get(&mut service, "/security-credentials/agent", &with);
        let document: serde_json::Value = serde_json::from_str(&body).unwrap();
        let expect = serde_json::json!({
            "Code": "Success", "LastUpdated": "2027-01-15T08:00:00Z", "Type": "AWS-HMAC", "AccessKeyId": "ASIA2",
            "SecretAccessKey": "s3cr3t", "Token": "t", "Expiration": "2027-01-15T09:00:00Z",
        });
        assert_eq!((status.as_str(), document), ("200", expect));
        // Of another role, without a token, through a proxy.
        for (path, with, status) in [
            ("/security-credentials/other", with.clone(), "404"),
            ("/security-credentials/agent", "Host: x".to_owned(), "401"),
            ("/security-credentials/agent", format!("{with}\r\nX-Forwarded-For: 10.0.0.1"), "403"),
        ] {
            assert_eq!(get(&mut service, path, &with), (status.to_owned(), String::new()), "{path}");
        }
        given.role = "../x".to_owned();
        assert!(service.set_credentials(&given).is_err());
    }

    #[test]
    fn values_need_a_token_that_has_not_ended() {
        let mut service = service();
        let (status, first) = token(&mut service, "metadata-token-ttl-seconds: 10", 1000);
        assert_eq!((status.as_str(), first.len()), ("200", 64));
        let mut get = |path: &str, header: &str, now| {
            ask(&mut service, &format!("GET /latest/meta-data/{path} HTTP/1.1\r\n{header}\r\n\r\n"), now)
        };
        let with = format!("X-aws-ec2-metadata-token: {first}");
        let ok = |body: &str| ("200".to_owned(), body.to_owned());
        let refused = |status: &str| (status.to_owned(), String::new());
        assert_eq!(get("instance-id", &with, 2000), ok("ai-1"));
        assert_eq!(get("placement/region", &format!("x-metadata-token: {first}"), 2000), ok("us-east-1"));
        assert_eq!(get("placement/", &with, 2000), ok("availability-zone-id\nregion"));
        assert_eq!(get("", &with, 2000), ok("instance-id\nipv6\nlocal-ipv4\nplacement/"));
        assert_eq!(get("iam/security-credentials/", &with, 2000), refused("404"));
        assert_eq!(get("instance-id", "Host: x", 2000), refused("401"));
        assert_eq!(get("instance-id", "X-metadata-token: nonsense", 2000), refused("401"));
        assert_eq!(get("instance-id", &format!("{with}\r\nX-Forwarded-For: 10.0.0.1"), 2000), refused("403"));
        assert_eq!(get("instance-id", &with, 11_000), refused("401"));
    }

    #[test]
    fn tokens_are_bounded_in_time_and_number() {
        let mut service = service();
        for ttl in ["0", "21601", "x", "-1"] {
            assert_eq!(
                token(&mut service, &format!("aws-ec2-metadata-token-ttl-seconds: {ttl}"), 0).0,
                "400"
            );
        }
        for _ in 0..TOKENS_MAX + 10 {
            assert_eq!(token(&mut service, "aws-ec2-metadata-token-ttl-seconds: 21600", 0).0, "200");
        }
        assert_eq!(service.tokens.len(), TOKENS_MAX);
    }

    #[test]
    fn hostile_requests_end_the_connection() {
        let mut service = service();
        let head = |bytes: Option<(Vec<u8>, usize, bool)>| {
            bytes.map(|(bytes, _, close)| (String::from_utf8_lossy(&bytes[9..12]).into_owned(), close))
        };
        assert_eq!(head(service.on_bytes(b"GET / HT", 0)), None);
        assert_eq!(head(service.on_bytes(b"\x00\x01\x02\r\n\r\n", 0)), Some(("400".to_owned(), true)));
        let long = [b"GET / HTTP/1.1\r\na: ".as_slice(), &vec![b'x'; REQUEST_BYTES_MAX]].concat();
        assert_eq!(head(service.on_bytes(&long, 0)), Some(("431".to_owned(), true)));
        assert_eq!(
            head(service.on_bytes(b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", 0)),
            Some(("405".to_owned(), true))
        );
    }
}
