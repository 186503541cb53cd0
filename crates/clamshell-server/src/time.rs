//! Times as clients read them.

use jiff::Timestamp;

/// RFC 3339 in UTC with milliseconds, as AWS bodies carry it (`runtime.md` 2.1).
pub(crate) fn rfc3339(ms: u64) -> String {
    let timestamp = i64::try_from(ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok());
    format!("{:.3}", timestamp.unwrap_or(Timestamp::UNIX_EPOCH))
}

#[cfg(test)]
mod tests {
    #[test]
    fn milliseconds_are_always_there() {
        assert_eq!(super::rfc3339(1_767_323_045_000), "2026-01-02T03:04:05.000Z");
        assert_eq!(super::rfc3339(1_767_323_045_789), "2026-01-02T03:04:05.789Z");
    }
}
