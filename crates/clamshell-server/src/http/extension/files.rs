//! Files of a session's workspace, also of stopped sessions. What they are is `crate::files`.

use std::{os::unix::fs::FileExt, sync::Arc, time::Duration};

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use clamshell_wire::{
    AwsError, headers, percent_encode,
    query::find,
    sigv4::{PayloadHash, SigV4Error},
};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header, request::Parts};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Body as _, Frame, Incoming};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{Ask, find_session};
use crate::{
    app::App,
    files::{self, Entry, FileError, FilePath, Reservation, Staged, Workspace, blocking, shown},
    http::{
        ApiError, BODY_TIMEOUT,
        access::Asked,
        auth::Claimed,
        discard_body,
        response::{self, Body},
        spool,
    },
    session::Session,
    time::rfc3339,
};

/// Bytes read or written at once: a step in another thread should be worth its cost.
const PIECE_BYTES: usize = 256 * 1024;

pub(super) async fn list(ask: &Ask<'_>, session_id: &str) -> Result<Response<Body>, ApiError> {
    let session = ask.session(session_id).await?;
    let path = path(&ask.query, "path", "")?;
    let folder = session.folder().clone();
    let of_path = path.clone();
    let listing = blocking(move || match Workspace::open(&folder) {
        // It is as good as empty.
        Err(FileError::NoWorkspace) if of_path.as_bytes().is_empty() => {
            Ok(files::Listing { entries: Vec::new(), truncated: false })
        }
        opened => opened?.list(&of_path),
    })
    .await?;
    let entries: Vec<Value> = listing.entries.iter().map(|entry| view(&path, entry)).collect();
    let answer = json!({
        "path": shown(&path.absolute()),
        "entries": entries,
        "truncated": listing.truncated,
    });
    Ok(response::json(StatusCode::OK, &answer))
}

pub(super) async fn read(
    ask: &Ask<'_>,
    headers: &HeaderMap,
    session_id: &str,
) -> Result<Response<Body>, ApiError> {
    let session = ask.session(session_id).await?;
    let path = path(&ask.query, "path", "")?;
    let folder = session.folder().clone();
    let (file, entry) = blocking(move || Workspace::open(&folder)?.read(&path)).await?;
    let tag = format!("\"{}\"", entry.version);
    let (status, start, end) = match range(headers, &tag, entry.bytes) {
        Asks::All => (StatusCode::OK, 0, entry.bytes),
        Asks::Part(start, end) => (StatusCode::PARTIAL_CONTENT, start, end),
        Asks::Nothing => (StatusCode::RANGE_NOT_SATISFIABLE, 0, 0),
    };
    let file = Arc::new(file);
    let pieces = futures_util::stream::try_unfold(start, move |at| {
        let file = Arc::clone(&file);
        async move {
            if at >= end {
                return Ok(None);
            }
            let length = usize::try_from(end - at).unwrap_or(PIECE_BYTES).min(PIECE_BYTES);
            // A file that got shorter meanwhile cuts the connection, so that nobody takes a part for the whole.
            let piece = tokio::task::spawn_blocking(move || {
                let mut piece = vec![0; length];
                file.read_exact_at(&mut piece, at).map(|()| Bytes::from(piece))
            });
            let piece = piece.await??;
            let next = at + piece.len() as u64;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(Some((Frame::data(piece), next)))
        }
    });
    let mut response = Response::new(StreamBody::new(pieces).boxed_unsync());
    *response.status_mut() = status;
    let out = response.headers_mut();
    let mut put = |name: HeaderName, value: String| {
        if let Ok(value) = HeaderValue::from_str(&value) {
            out.insert(name, value);
        }
    };
    put(header::CONTENT_LENGTH, (end - start).to_string());
    put(header::CONTENT_DISPOSITION, disposition(&entry.name));
    put(header::ETAG, tag);
    match status {
        StatusCode::PARTIAL_CONTENT => {
            put(header::CONTENT_RANGE, format!("bytes {start}-{}/{}", end - 1, entry.bytes));
        }
        StatusCode::RANGE_NOT_SATISFIABLE => put(header::CONTENT_RANGE, format!("bytes */{}", entry.bytes)),
        _ => {}
    }
    // Whatever a sandbox put there: no browser shows it as a page of ours.
    for (name, value) in [
        (header::CONTENT_TYPE, "application/octet-stream"),
        (header::ACCEPT_RANGES, "bytes"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox; frame-ancestors 'none'"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        out.insert(name, HeaderValue::from_static(value));
    }
    Ok(response)
}

/// Takes a file in. Its caller is known and allowed before the first byte of it is read wherever the request says what the
/// body hashes to, or is not signed; only then it is written beside the workspace, and moved in when all of it is there.
pub(super) async fn write(
    app: &Arc<App>,
    parts: Parts,
    body: Incoming,
    asked: &Asked<'_>,
    query: &[(String, String)],
    session_id: &str,
) -> Result<Response<Body>, ApiError> {
    let hash = declared_hash(&parts.headers);
    let claimed = match Claimed::find(app, &parts, asked).await {
        Ok(claimed) => claimed,
        Err(error) => {
            discard_body(body).await;
            return Err(error);
        }
    };
    if hash.is_none() && claimed.is_signed() {
        // A client that says nothing of its body: it waits aside, as that of an invocation does.
        let (_, payload) = spool::authenticate_payload(app, &parts, body, asked).await?;
        let mut target = open(app, query, session_id, Some(payload.length())).await?;
        receive(&mut target, payload.body()).await?;
        return target.finish().await;
    }
    let admitted = async {
        let payload = hash.map_or(PayloadHash::Empty, PayloadHash::Sha256);
        claimed.admit(app, &parts, payload, &[]).await?;
        open(app, query, session_id, body.size_hint().exact()).await
    };
    let mut target = match admitted.await {
        Ok(target) => target,
        Err(error) => {
            discard_body(body).await;
            return Err(error);
        }
    };
    let found = receive(&mut target, body).await?;
    if hash.is_some_and(|hash| hash != found) {
        return Err(SigV4Error::PayloadHashMismatch.into());
    }
    target.finish().await
}

/// SHA-256 of the body, as the request says it.
fn declared_hash(headers: &HeaderMap) -> Option<[u8; 32]> {
    let text = headers.get(headers::AMZ_CONTENT_SHA256)?.to_str().ok().filter(|text| text.len() == 64)?;
    let mut hash = [0; 32];
    for (byte, digits) in hash.iter_mut().zip(text.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(hash)
}

/// Where an upload goes.
struct Upload {
    session: Arc<Session>,
    path: FilePath,
    staged: Option<Staged>,
    reservation: Reservation,
}

async fn open(
    app: &Arc<App>,
    query: &[(String, String)],
    session_id: &str,
    length: Option<u64>,
) -> Result<Upload, ApiError> {
    let (_, session) = find_session(app, query, session_id).await?;
    let session = session.ok_or(ApiError::SessionNotFound)?;
    let path = path(query, "path", "")?;
    let permit =
        app.uploads.turn().await.ok_or(ApiError::Internal("the room for uploads is never closed"))?;
    let (of_task, folder) = (Arc::clone(app), session.folder().clone());
    let limit = session.runtime().limits.workspace_bytes;
    let (staged, reservation) = blocking(move || {
        Workspace::open(&folder)?;
        let reservation = of_task.uploads.reserve(&folder, length, limit, permit)?;
        Ok((Staged::make(&folder)?, reservation))
    })
    .await?;
    Ok(Upload { session, path, staged: Some(staged), reservation })
}

/// Writes a body aside, and gives its SHA-256.
async fn receive<B>(upload: &mut Upload, mut body: B) -> Result<[u8; 32], ApiError>
where
    B: hyper::body::Body<Data = Bytes> + Unpin,
{
    let began = Instant::now();
    let mut hash = digest::Context::new(&digest::SHA256);
    let mut kept = Vec::new();
    let mut length = 0_u64;
    loop {
        let deadline = began + BODY_TIMEOUT + Duration::from_secs(length / spool::PACE_BYTES);
        let frame = tokio::time::timeout_at(deadline, body.frame()).await;
        let Some(frame) = frame.map_err(|_| ApiError::BodyIncomplete)? else { break };
        let Ok(data) = frame.map_err(|_| ApiError::BodyIncomplete)?.into_data() else { continue };
        length += data.len() as u64;
        if length > upload.reservation.bytes {
            return Err(upload.reservation.exceeded().into());
        }
        hash.update(&data);
        kept.extend_from_slice(&data);
        if kept.len() >= PIECE_BYTES {
            upload.append(std::mem::take(&mut kept)).await?;
        }
    }
    upload.append(kept).await?;
    hash.finish().as_ref().try_into().map_err(|_| ApiError::Internal("SHA-256 has 32 bytes"))
}

impl Upload {
    async fn append(&mut self, bytes: Vec<u8>) -> Result<(), ApiError> {
        let mut staged = self.staged.take().ok_or(ApiError::Internal("an upload goes on after its end"))?;
        let appended = blocking(move || {
            staged.append(&bytes)?;
            Ok(staged)
        });
        self.staged = Some(appended.await?);
        Ok(())
    }

    async fn finish(self) -> Result<Response<Body>, ApiError> {
        let staged = self.staged.ok_or(ApiError::Internal("an upload ends twice"))?;
        let (session, path, reservation) = (self.session, self.path, self.reservation);
        let of_path = path.clone();
        let entry = blocking(move || {
            let entry = Workspace::open(session.folder())?.put(staged, &of_path)?;
            drop(reservation);
            Ok(entry)
        })
        .await?;
        Ok(response::json(StatusCode::OK, &view_of(&path, &entry)))
    }
}

pub(super) async fn make_folder(ask: &Ask<'_>, session_id: &str) -> Result<Response<Body>, ApiError> {
    let session = ask.session(session_id).await?;
    let path = path(&ask.query, "path", "")?;
    let (folder, of_path) = (session.folder().clone(), path.clone());
    let entry = blocking(move || Workspace::open(&folder)?.make_folder(&folder, &of_path)).await?;
    Ok(response::json(StatusCode::CREATED, &view_of(&path, &entry)))
}

pub(super) async fn remove(ask: &Ask<'_>, session_id: &str) -> Result<Response<Body>, ApiError> {
    let session = ask.session(session_id).await?;
    let path = path(&ask.query, "path", "")?;
    let folder = session.folder().clone();
    blocking(move || Workspace::open(&folder)?.remove(&path)).await?;
    Ok(response::empty(StatusCode::NO_CONTENT))
}

pub(super) async fn rename(ask: &Ask<'_>, session_id: &str) -> Result<Response<Body>, ApiError> {
    let session = ask.session(session_id).await?;
    let (from, to) = (path(&ask.query, "path", "")?, path(&ask.query, "to", "")?);
    let folder = session.folder().clone();
    blocking(move || Workspace::open(&folder)?.rename(&from, &to)).await?;
    Ok(response::empty(StatusCode::NO_CONTENT))
}

/// A path of the query: as text, or, for names that are none, as base64 in the parameter with `Base64` behind its name.
fn path(query: &[(String, String)], name: &str, default: &str) -> Result<FilePath, ApiError> {
    let encoded = format!("{name}Base64");
    let bytes = match find(query, &encoded) {
        Some(text) => URL_SAFE_NO_PAD
            .decode(text.trim_end_matches('='))
            .map_err(|_| AwsError::invalid_field(&encoded, "Member must be base64url"))?,
        None => find(query, name).unwrap_or(default).as_bytes().to_vec(),
    };
    Ok(FilePath::parse(&bytes)?)
}

/// An entry of a folder.
fn view(folder: &FilePath, entry: &Entry) -> Value {
    view_of(&folder.join(&entry.name), entry)
}

fn view_of(path: &FilePath, entry: &Entry) -> Value {
    let mut value = json!({
        "name": shown(&entry.name),
        "kind": entry.kind.name(),
        "bytes": entry.bytes,
        "modifiedAt": rfc3339(entry.modified_at_ms),
        "mode": format!("{:04o}", entry.mode),
    });
    if std::str::from_utf8(path.as_bytes()).is_err() {
        value["pathBase64"] = json!(URL_SAFE_NO_PAD.encode(path.as_bytes()));
    }
    value
}

/// Has a browser save the file under its name (RFC 6266).
fn disposition(name: &[u8]) -> String {
    let shown = shown(name);
    let plain: String = shown
        .chars()
        .map(|c| if c.is_ascii_graphic() && !matches!(c, '"' | '\\' | '/' | '%') { c } else { '_' })
        .collect();
    format!("attachment; filename=\"{plain}\"; filename*=UTF-8''{}", percent_encode(&shown))
}

/// Which bytes a request asks for.
#[derive(Debug, PartialEq, Eq)]
enum Asks {
    All,
    /// From the first up to the second, at least one.
    Part(u64, u64),
    /// A part that is not there.
    Nothing,
}

/// RFC 9110, section 14: one range is given, of several all is given, and what is no range of bytes is passed over.
fn range(headers: &HeaderMap, tag: &str, length: u64) -> Asks {
    if headers.get(header::IF_RANGE).is_some_and(|known| known.as_bytes() != tag.as_bytes()) {
        return Asks::All;
    }
    let text = headers.get(header::RANGE).and_then(|value| value.to_str().ok());
    let Some((first, last)) = text.and_then(|text| text.strip_prefix("bytes=")?.trim().split_once('-'))
    else {
        return Asks::All;
    };
    let number = |text: &str| {
        let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        is_number.then(|| text.parse::<u64>().unwrap_or(u64::MAX))
    };
    let part = match (number(first), number(last)) {
        (Some(first), None) if last.is_empty() => (first, length),
        (Some(first), Some(last)) if first <= last => (first, last.saturating_add(1).min(length)),
        (None, Some(count)) if first.is_empty() => (length - count.min(length), length),
        _ => return Asks::All,
    };
    if part.0 < part.1 { Asks::Part(part.0, part.1) } else { Asks::Nothing }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_bytes() {
        let check = |text: &str, expect: Asks| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RANGE, HeaderValue::from_str(text).unwrap());
            assert_eq!(range(&headers, "\"t\"", 10), expect, "{text}");
        };
        check("bytes=0-0", Asks::Part(0, 1));
        check("bytes=2-5", Asks::Part(2, 6));
        check("bytes=2-", Asks::Part(2, 10));
        check("bytes=-3", Asks::Part(7, 10));
        check("bytes=-30", Asks::Part(0, 10));
        check("bytes=9-99999999999999999999", Asks::Part(9, 10));
        check("bytes=10-", Asks::Nothing);
        check("bytes=-0", Asks::Nothing);
        check("bytes=99999999999999999999-", Asks::Nothing);
        for all in ["bytes=5-2", "bytes=0-1,3-4", "bytes=a-b", "bytes=", "bytes=-", "lines=0-1", "bytes=+1-2"]
        {
            check(all, Asks::All);
        }
    }

    #[test]
    fn a_part_of_another_version_is_not_given() {
        let mut headers = HeaderMap::new();
        headers.insert(header::RANGE, HeaderValue::from_static("bytes=1-"));
        headers.insert(header::IF_RANGE, HeaderValue::from_static("\"old\""));
        assert_eq!(range(&headers, "\"new\"", 10), Asks::All);
        assert_eq!(range(&headers, "\"old\"", 10), Asks::Part(1, 10));
    }

    #[test]
    fn names_are_saved_as_they_are_and_break_no_header() {
        let check = |name: &[u8], expect: &str| assert_eq!(disposition(name), expect);
        check(b"a.txt", "attachment; filename=\"a.txt\"; filename*=UTF-8''a.txt");
        check(
            "é\"\r\nX: y".as_bytes(),
            "attachment; filename=\"____X:_y\"; filename*=UTF-8''%C3%A9%22%0D%0AX%3A%20y",
        );
        check(b"\xff", "attachment; filename=\"_FF\"; filename*=UTF-8''%25FF");
    }

    #[test]
    fn the_hash_of_a_body_is_read_from_its_header() {
        let check = |text: &str, expect: bool| {
            let mut headers = HeaderMap::new();
            headers.insert(headers::AMZ_CONTENT_SHA256, HeaderValue::from_str(text).unwrap());
            assert_eq!(declared_hash(&headers).is_some(), expect, "{text}");
        };
        check(&"0a".repeat(32), true);
        check(&"0g".repeat(32), false);
        check(&"0a".repeat(31), false);
        check("UNSIGNED-PAYLOAD", false);
    }
}
