//! Logs of a runtime: what its agents printed, line by line, and what they print.

use clamshell_wire::AwsError;
use http::{HeaderValue, Response, header};
use http_body_util::BodyExt;
use tokio::sync::mpsc;

use super::{Ask, parse_session_id};
use crate::{
    app::{App, Target},
    http::{ApiError, response::Body},
    logs::LogFilter,
};

/// Pieces of 64 KiB between the files and a slow client: at most 512 KiB a reader; beyond it the files are not read.
const PIECES_MAX: usize = 8;

/// Runtime and endpoint whose log a query names.
pub(in crate::http) async fn target(app: &App, query: &[(String, String)]) -> Result<Target, ApiError> {
    let find = |name| clamshell_wire::query::find(query, name);
    let endpoint = find("endpoint").or(find("qualifier"));
    app.named_target(find("runtime").unwrap_or("default"), endpoint).await
}

/// One JSON object a line, in the order of their times, and with `follow` those that come until the client hangs up.
pub(super) async fn read(ask: &Ask<'_>) -> Result<Response<Body>, ApiError> {
    let target = target(ask.app, &ask.query).await?;
    let filter = LogFilter {
        runtime_id: target.runtime.runtime_id.clone(),
        endpoint: target.endpoint,
        session_id: ask.param("session").map(parse_session_id).transpose()?,
        since_ms: ask.param("since").map(since).transpose()?.unwrap_or(0),
        follow: matches!(ask.param("follow"), Some("true" | "1" | "")),
    };
    let (sender, receiver) = mpsc::channel(PIECES_MAX);
    let reader = ask.app.logs.read(filter);
    ask.app.tasks.spawn(reader.send_to(sender, ask.app.shutdown.clone()));
    let stream =
        futures_util::stream::unfold(receiver, async |mut receiver: mpsc::Receiver<bytes::Bytes>| {
            receiver.recv().await.map(|bytes| (Ok(hyper::body::Frame::data(bytes)), receiver))
        });
    let mut response = Response::new(http_body_util::StreamBody::new(stream).boxed_unsync());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    Ok(response)
}

/// Milliseconds since 1970, as such or as a time of RFC 3339.
fn since(text: &str) -> Result<u64, ApiError> {
    let of_time = || u64::try_from(text.parse::<jiff::Timestamp>().ok()?.as_millisecond()).ok();
    let ms = text.parse().ok().or_else(of_time);
    ms.ok_or_else(|| {
        AwsError::invalid_field("since", "Member must be milliseconds since 1970 or a time of RFC 3339")
            .into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_given_in_two_ways() {
        assert_eq!(since("1767323045000").ok(), Some(1_767_323_045_000));
        assert_eq!(since("2026-01-02T03:04:05Z").ok(), Some(1_767_323_045_000));
        for bad in ["", "yesterday", "-5", "2026-01-02"] {
            assert!(since(bad).is_err(), "{bad}");
        }
    }
}
