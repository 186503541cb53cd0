//! HTTP requests and event streams.

use aws_smithy_eventstream::frame::write_message_to;
use aws_smithy_types::event_stream::{Header, HeaderValue, Message};
use clamshell_wire::{
    arn::RuntimeArn,
    command::{CommandRequest, StopRequest},
    event_stream::{CommandEvent, CommandEventReader, CommandEvents, CommandStatus, OutputStream},
    headers, percent_decode, percent_encode, query,
    route::route,
    shell_request::{ShellRequest, custom_headers},
    sigv4::{self, Credentials, PayloadHash, SignedRequest},
    subprotocol::Subprotocols,
};

use super::pieces;

const NOW_MS: u64 = 1_767_225_600_000;
const REGION: &str = "us-west-2";

/// A response is read the same however it was cut.
pub(super) fn events(bytes: &[u8]) {
    let (whole, whole_failed) = read(&[bytes]);
    let (cut, cut_failed) = read(&pieces(bytes));
    assert_eq!(whole_failed, cut_failed);
    // A piece that fails gives none of its events, so the cut may have more before the failure.
    assert!(if whole_failed { cut.starts_with(&whole) } else { cut == whole });
}

fn read(pieces: &[&[u8]]) -> (Vec<CommandEvent>, bool) {
    let mut reader = CommandEventReader::new();
    let mut events = Vec::new();
    for piece in pieces {
        match reader.feed(piece) {
            Ok(more) => events.extend(more),
            Err(_) => return (events, true),
        }
    }
    (events, false)
}

pub(super) fn event_seeds() -> Vec<Vec<u8>> {
    let mut events = CommandEvents::new();
    let messages = [
        events.content_start(),
        events.deltas(OutputStream::Stdout, b"out\xff\n"),
        events.deltas(OutputStream::Stderr, "\u{1F41A}\"".as_bytes()),
        events.content_stop(3, CommandStatus::TimedOut),
        events.exception(clamshell_wire::ErrorCode::Validation, "no"),
    ];
    let mut seeds: Vec<Vec<u8>> = messages.iter().map(|message| message.to_vec()).collect();
    seeds.push(seeds.concat());
    seeds
}

/// The checksums of a message are right and its JSON is hostile: mutations of whole messages never
/// get past the checksums.
pub(super) fn event(bytes: &[u8]) {
    let header =
        |name: &'static str, value: &'static str| Header::new(name, HeaderValue::String(value.into()));
    for (kind, value) in
        [("event", ":event-type"), ("exception", ":exception-type"), ("error", ":error-code")]
    {
        let message = Message::new(bytes.to_vec())
            .add_header(header(":message-type", kind))
            .add_header(header(value, "chunk"))
            .add_header(header(":content-type", "application/json"));
        let mut stream = Vec::new();
        write_message_to(&message, &mut stream).unwrap();
        events(&stream);
    }
}

pub(super) fn event_json_seeds() -> Vec<Vec<u8>> {
    [
        r#"{"contentStart":{}}"#,
        r#"{"contentDelta":{"stdout":"a\u001b\ud83d\udc1a"}}"#,
        r#"{"contentDelta":{"stderr":"b","stdout":null}}"#,
        r#"{"contentStop":{"exitCode":-1,"status":"COMPLETED"}}"#,
        r#"{"message":"no"}"#,
    ]
    .map(|json| json.as_bytes().to_vec())
    .to_vec()
}

/// Output of a command arrives at the client as it was, whatever bytes and cuts.
pub(super) fn event_round_trip(bytes: &[u8]) {
    let mut writer = CommandEvents::new();
    let mut stream = writer.content_start().to_vec();
    let mut sent = [Vec::new(), Vec::new()];
    for (index, piece) in pieces(bytes).into_iter().enumerate() {
        let output = if index % 3 == 2 { OutputStream::Stderr } else { OutputStream::Stdout };
        sent[usize::from(output == OutputStream::Stderr)].extend_from_slice(piece);
        stream.extend_from_slice(&writer.deltas(output, piece));
    }
    stream.extend_from_slice(&writer.content_stop(7, CommandStatus::Completed));
    let cuts: Vec<&[u8]> = stream.chunks(bytes.len() % 97 + 1).collect();
    let (events, failed) = read(&cuts);
    assert!(!failed);
    let mut received = [String::new(), String::new()];
    for event in &events {
        match event {
            CommandEvent::Stdout(text) => received[0].push_str(text),
            CommandEvent::Stderr(text) => received[1].push_str(text),
            CommandEvent::Start | CommandEvent::Stop { .. } | CommandEvent::Exception { .. } => {}
        }
    }
    assert_eq!(received, sent.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()));
    assert_eq!(events.first(), Some(&CommandEvent::Start));
    assert_eq!(events.last(), Some(&CommandEvent::Stop { exit_code: 7, status: CommandStatus::Completed }));
}

/// A request as lines: method, path, query, headers, an empty line, body.
pub(super) struct Lines<'a> {
    pub(super) method: &'a str,
    pub(super) raw_path: &'a str,
    pub(super) raw_query: &'a str,
    pub(super) headers: Vec<(&'a str, &'a [u8])>,
    pub(super) body: &'a [u8],
}

impl<'a> Lines<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let (head, body) = text.split_once("\n\n").unwrap_or((text, ""));
        let mut lines = head.split('\n');
        let mut next = || lines.next().unwrap_or_default();
        let (method, raw_path, raw_query) = (next(), next(), next());
        let headers =
            lines.filter_map(|line| line.split_once(": ")).map(|(name, value)| (name, value.as_bytes()));
        Self { method, raw_path, raw_query, headers: headers.collect(), body: body.as_bytes() }
    }

    fn signed(&self) -> SignedRequest<'_> {
        SignedRequest {
            method: self.method,
            raw_path: self.raw_path,
            raw_query: self.raw_query,
            headers: &self.headers,
            payload_hash: PayloadHash::Body(self.body),
        }
    }
}

/// Signatures are refused or read, and none verifies with a secret that it was not made with.
pub(super) fn sigv4(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let lines = Lines::new(&text);
    let request = lines.signed();
    if let Ok(Some(signature)) = sigv4::parse(&request) {
        let region = signature.region().to_owned();
        let verified = signature.verify(&request, "another secret", signature.timestamp_ms(), &region);
        assert!(verified.is_err());
    }
}

/// What the signer makes, the verifier takes; and not for another method, path or body.
pub(super) fn sigv4_round_trip(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let mut lines = Lines::new(&text);
    if lines.raw_query.to_ascii_lowercase().contains("amz") || lines.raw_query.contains('%') {
        // The query may hold a signature of its own.
        return;
    }
    let token = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    lines.headers.retain(|(name, _)| {
        let reserved = name.starts_with("x-amz-") || [headers::HOST, headers::AUTHORIZATION].contains(name)
            // A presigned request may not carry it unsigned.
            || *name == headers::SESSION_ID;
        !reserved && !name.is_empty() && name.bytes().all(token)
    });
    lines.headers.truncate(32);
    lines.headers.push((headers::HOST, b"localhost:7878"));
    let credentials = Credentials {
        access_key_id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
        secret_access_key: "secret".to_owned(),
        session_token: bytes.len().is_multiple_of(2).then(|| "token/+=".to_owned()),
    };
    let Ok(added) = sigv4::sign_headers(&lines.signed(), &credentials, REGION, NOW_MS) else { return };
    let all: Vec<(&str, &[u8])> = lines
        .headers
        .iter()
        .copied()
        .chain(added.iter().map(|(name, value)| (*name, value.as_bytes())))
        .collect();
    let request = SignedRequest { headers: &all, ..lines.signed() };
    let signature = sigv4::parse(&request).unwrap().unwrap();
    let verify = |request: &SignedRequest<'_>| signature.verify(request, "secret", NOW_MS, REGION);
    assert_eq!(verify(&request), Ok(()));
    let (method, path) = (format!("{}X", request.method), format!("{}/x", request.raw_path));
    assert!(verify(&SignedRequest { method: &method, ..request }).is_err());
    assert!(verify(&SignedRequest { raw_path: &path, ..request }).is_err());
    let body = [lines.body, b"x"].concat();
    assert!(verify(&SignedRequest { payload_hash: PayloadHash::Body(&body), ..request }).is_err());

    let Ok(query) = sigv4::presign(&lines.signed(), &credentials, REGION, NOW_MS, 300) else { return };
    let request = SignedRequest { raw_query: &query, ..lines.signed() };
    let signature = sigv4::parse(&request).unwrap().unwrap();
    assert_eq!(signature.verify(&request, "secret", NOW_MS + 299_000, REGION), Ok(()));
    assert!(signature.verify(&request, "secret", NOW_MS + 301_000, REGION).is_err());
}

/// Paths, queries, headers, bodies and ARNs are refused or taken; what is taken is written back the same.
pub(super) fn request(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    assert_eq!(percent_decode(&percent_encode(&text)).as_deref(), Ok(&*text));
    let _ = percent_decode(&text);
    for line in text.lines() {
        if let Ok(arn) = RuntimeArn::parse(line) {
            assert_eq!(arn.to_string(), line);
        }
    }
    let lines = Lines::new(&text);
    let _ = route(lines.method, lines.raw_path);
    if let Ok(params) = query::parse(lines.raw_query) {
        assert!(params.len() <= query::QUERY_PARAMS_MAX);
    }
    let _ = ShellRequest::parse(lines.raw_query, &lines.headers);
    let _ = custom_headers(lines.raw_query);
    let _ = Subprotocols::parse(&lines.headers);
    for body in [lines.body, bytes] {
        if let Ok(command) = CommandRequest::parse(body) {
            assert_eq!(CommandRequest::parse(&command.to_body()).as_ref(), Ok(&command));
        }
        let _ = StopRequest::parse(body);
    }
}

pub(super) fn request_seeds() -> Vec<Vec<u8>> {
    const ARN: &str =
        "arn%3Aaws%3Abedrock-agentcore%3Aus-west-2%3A123456789012%3Aruntime%2Fdefault-AbCdE12345";
    let credentials = Credentials {
        access_key_id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
        secret_access_key: "secret".to_owned(),
        session_token: None,
    };
    let session = "0123456789012345678901234567890123456789";
    let command = format!("/runtimes/{ARN}/commands");
    let body = r#"{"command":"echo hi","timeout":30}"#;
    let host: (&str, &[u8]) = (headers::HOST, b"localhost:7878");
    let plain = SignedRequest {
        method: "POST",
        raw_path: &command,
        raw_query: "qualifier=DEFAULT&accountId=123456789012",
        headers: &[host, (headers::SESSION_ID, session.as_bytes())],
        payload_hash: PayloadHash::Body(body.as_bytes()),
    };
    let mut head = format!("POST\n{command}\n{}\nhost: localhost:7878\n", plain.raw_query);
    head.push_str(&format!("{}: {session}\n", headers::SESSION_ID));
    for (name, value) in sigv4::sign_headers(&plain, &credentials, REGION, NOW_MS).unwrap() {
        head.push_str(&format!("{name}: {value}\n"));
    }
    let shell = format!("/runtimes/{ARN}/ws/shells");
    let upgrade = SignedRequest {
        method: "GET",
        raw_path: &shell,
        raw_query: "qualifier=DEFAULT&shellId=build",
        headers: &[host],
        payload_hash: PayloadHash::Empty,
    };
    let presigned = sigv4::presign(&upgrade, &credentials, REGION, NOW_MS, 300).unwrap();
    let offer = Subprotocols::offer("header.payload.signature");
    vec![
        format!("{head}\n{body}").into_bytes(),
        format!("GET\n{shell}\n{presigned}\nhost: localhost:7878\n").into_bytes(),
        format!("GET\n{shell}\nshellId=a%2Fb\nsec-websocket-protocol: {offer}\nhost: h\n").into_bytes(),
        b"arn:aws:bedrock-agentcore:us-west-2:123456789012:runtime/a-AbCdE12345/runtime-endpoint/DEFAULT".to_vec(),
        b"GET\n/clamshell/v1/sessions\na=b&a=%zz&&=\nx: y\n\n{\"clientToken\":\"0123456789012345678901234567890123\"}".to_vec(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mutations of good inputs get far into a parser; those of bad ones stop at its door.
    #[test]
    fn seeds_are_good() {
        let seeds: Vec<String> =
            request_seeds().into_iter().map(|seed| String::from_utf8(seed).unwrap()).collect();
        for seed in &seeds[..2] {
            let lines = Lines::new(seed);
            let signature = sigv4::parse(&lines.signed()).unwrap().unwrap();
            assert_eq!(signature.verify(&lines.signed(), "secret", NOW_MS, REGION), Ok(()));
            assert!(route(lines.method, lines.raw_path).is_ok());
        }
        assert!(CommandRequest::parse(Lines::new(&seeds[0]).body).is_ok());
        let shell = Lines::new(&seeds[2]);
        assert!(Subprotocols::parse(&shell.headers).is_ok());
        assert!(RuntimeArn::parse(&seeds[3]).is_ok());
        for (seed, json) in event_seeds().iter().zip(event_json_seeds()) {
            let (events, failed) = read(&[seed]);
            assert!(!failed && !events.is_empty());
            event(&json);
        }
    }
}
