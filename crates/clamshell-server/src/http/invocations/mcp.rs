//! Which session a client of the Model Context Protocol means (`runtime.md` 6.2).
//!
//! Its key is `Mcp-Session-Id`, because SDKs put another runtime session id on every call. The id that a client is given
//! names the runtime session, escaped, and behind a colon the id that the agent itself issued, if it did. So nothing has
//! to be remembered, a restart changes nothing, and no agent can issue an id that leads into the session of another.

use aws_lc_rs::digest;
use clamshell_domain::SessionId;
use clamshell_wire::{AwsError, percent_decode, percent_encode};
use http::{HeaderMap, HeaderValue, header};

use crate::http::{ApiError, commands::session_id};

/// Between the two ids; escaping leaves none in the first one.
const SEPARATOR: char = ':';

/// Longest id in the service model.
const ID_BYTES_MAX: usize = 1024;

/// What the ids of a request mean.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct McpSession {
    /// The runtime session.
    pub(super) session_id: SessionId,
    /// The id to be told to the agent. None when the client has none yet: an agent that issues ids would refuse one that
    /// it did not issue.
    pub(super) for_agent: Option<String>,
    /// The id as the client has it.
    known: Option<String>,
}

impl McpSession {
    /// Reads the two headers; `mcp` wins.
    ///
    /// # Errors
    /// A `ValidationException` for a runtime session id that breaks its rule.
    pub(super) fn of(runtime: Option<&str>, mcp: Option<&str>) -> Result<Self, ApiError> {
        let Some(mcp) = mcp else {
            return Ok(Self { session_id: session_id(runtime)?, for_agent: None, known: None });
        };
        let (first, issued) = match mcp.split_once(SEPARATOR) {
            Some((first, issued)) => (first, Some(issued)),
            None => (mcp, None),
        };
        let ours = percent_decode(first).ok().and_then(|id| session_id(Some(&id)).ok());
        let (session_id, for_agent) = match ours {
            Some(session_id) => (session_id, issued.unwrap_or(mcp)),
            // An id of the client's own is as good as any.
            None => (derived(mcp)?, mcp),
        };
        let for_agent = Some(for_agent.to_owned());
        Ok(Self { session_id, for_agent, known: Some(mcp.to_owned()) })
    }

    /// The id for the client, given what the agent answered.
    ///
    /// # Errors
    /// When the agent issued one that is too long to be passed on.
    pub(super) fn for_client(&self, issued: Option<&HeaderValue>) -> Result<String, ApiError> {
        let session = || percent_encode(self.session_id.as_str());
        let Some(issued) = issued.and_then(|issued| issued.to_str().ok()).filter(|issued| !issued.is_empty())
        else {
            return Ok(self.known.clone().unwrap_or_else(session));
        };
        if self.for_agent.as_deref() == Some(issued) {
            return Ok(self.known.clone().unwrap_or_else(session));
        }
        let id = format!("{}{SEPARATOR}{issued}", session());
        let too_long = || ApiError::AgentFailed { status: 502 };
        if id.len() > ID_BYTES_MAX { Err(too_long()) } else { Ok(id) }
    }
}

fn derived(id: &str) -> Result<SessionId, ApiError> {
    let hash = digest::digest(&digest::SHA256, id.as_bytes());
    let hex: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    SessionId::parse(format!("mcp-{hex}"))
        .map_err(|_| AwsError::invalid_field("mcpSessionId", "Member must be an id").into())
}

/// Whether a client takes both content types that servers of the protocol answer with. Who says nothing takes any.
pub(super) fn accepts(headers: &HeaderMap) -> bool {
    let mut named = headers.get_all(header::ACCEPT).iter().peekable();
    if named.peek().is_none() {
        return true;
    }
    let ranges: Vec<String> = named
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|range| range.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
        .collect();
    let takes = |exact: &str| {
        let family = exact.split('/').next().unwrap_or_default();
        ranges.iter().any(|range| {
            range == exact || range == "*/*" || range.strip_suffix("/*").is_some_and(|known| known == family)
        })
    };
    takes("application/json") && takes("text/event-stream")
}

#[cfg(test)]
mod tests {
    use super::*;

    const SESSION: &str = "session-of-a-client-0000000000000001";

    fn of(mcp: &str) -> McpSession {
        McpSession::of(Some("another-session-id-of-an-sdk-00000001"), Some(mcp)).unwrap()
    }

    #[test]
    fn ids_lead_back_to_their_session() {
        let first = McpSession::of(Some(SESSION), None).unwrap();
        assert_eq!((first.session_id.as_str(), first.for_agent.as_deref()), (SESSION, None));
        // The agent keeps no sessions: the platform's id is the session's.
        let id = first.for_client(None).unwrap();
        assert_eq!(id, SESSION);
        let next = of(&id);
        assert_eq!((next.session_id.as_str(), next.for_agent.as_deref()), (SESSION, Some(SESSION)));
        assert_eq!(next.for_client(None).unwrap(), id);
        // The agent issues ids.
        let id = first.for_client(Some(&HeaderValue::from_static("a:b"))).unwrap();
        assert_eq!(id, format!("{SESSION}:a:b"));
        let next = of(&id);
        assert_eq!((next.session_id.as_str(), next.for_agent.as_deref()), (SESSION, Some("a:b")));
        assert_eq!(next.for_client(Some(&HeaderValue::from_static("a:b"))).unwrap(), id);
        assert_eq!(next.for_client(None).unwrap(), id);
    }

    #[test]
    fn odd_ids_lead_somewhere() {
        let odd = "id: with %, colons and ümlauts, 33 and more";
        let first = McpSession::of(Some(odd), None).unwrap();
        let id = first.for_client(Some(&HeaderValue::from_static("x"))).unwrap();
        assert!(id.bytes().all(|byte| byte.is_ascii_graphic()), "{id}");
        assert_eq!(of(&id).session_id.as_str(), odd);
        let own = of("short");
        assert_eq!(own.for_agent.as_deref(), Some("short"));
        assert_eq!(own.session_id, of("short").session_id);
        assert_ne!(own.session_id, of("other").session_id);
        assert!(McpSession::of(Some("short"), None).is_err());
        let long = HeaderValue::from_str(&"x".repeat(1020)).unwrap();
        assert!(first.for_client(Some(&long)).is_err());
    }

    #[test]
    fn no_issued_id_leads_into_another_session() {
        let first = McpSession::of(Some(SESSION), None).unwrap();
        let other = "session-of-somebody-else-00000000000002";
        let id = first.for_client(Some(&HeaderValue::from_static(other))).unwrap();
        assert_eq!(of(&id).session_id.as_str(), SESSION);
    }

    #[test]
    fn both_content_types_are_wanted() {
        let check = |accept: &[&'static str], expect: bool| {
            let headers: HeaderMap =
                accept.iter().map(|value| (header::ACCEPT, HeaderValue::from_static(value))).collect();
            assert_eq!(accepts(&headers), expect, "{accept:?}");
        };
        check(&[], true);
        check(&["application/json, text/event-stream"], true);
        check(&["application/json;q=0.9", "Text/Event-Stream"], true);
        check(&["*/*"], true);
        check(&["application/*, text/*"], true);
        check(&["application/json"], false);
        check(&["text/event-stream"], false);
        check(&["text/html"], false);
    }
}
