//! Times of signatures: ISO 8601 basic format, or the formats of a `Date` header.

use jiff::civil::DateTime;
use jiff::tz::Offset;
use jiff::{Timestamp, fmt::rfc2822};

/// `YYYYMMDDTHHMMSSZ` of a time in milliseconds.
pub(super) fn format(ms: u64) -> String {
    let ms = i64::try_from(ms).unwrap_or(i64::MAX);
    let timestamp = Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX);
    basic(Offset::UTC.to_datetime(timestamp))
}

/// Parses the basic format; `None` for anything else.
pub(super) fn parse_basic(text: &str) -> Option<u64> {
    let bytes: &[u8; 16] = text.as_bytes().try_into().ok()?;
    if bytes[8] != b'T' || bytes[15] != b'Z' {
        return None;
    }
    let number = |from: usize, to: usize| {
        bytes[from..to].iter().try_fold(0_i16, |sum, byte| {
            byte.is_ascii_digit().then(|| sum.checked_mul(10)?.checked_add(i16::from(byte - b'0')))?
        })
    };
    let small = |from: usize| i8::try_from(number(from, from + 2)?).ok();
    let date =
        DateTime::new(number(0, 4)?, small(4)?, small(6)?, small(9)?, small(11)?, small(13)?, 0).ok()?;
    to_ms(Offset::UTC.to_timestamp(date).ok()?)
}

/// Parses a `Date` header: basic format or that of e-mail. Gives the basic format and milliseconds.
pub(super) fn parse_date_header(text: &str) -> Option<(String, u64)> {
    if let Some(ms) = parse_basic(text) {
        return Some((text.to_owned(), ms));
    }
    // A longer text is no date; the parser need not see it.
    if text.len() > 64 {
        return None;
    }
    let timestamp = rfc2822::parse(text).ok()?.timestamp();
    Some((basic(Offset::UTC.to_datetime(timestamp)), to_ms(timestamp)?))
}

fn to_ms(timestamp: Timestamp) -> Option<u64> {
    u64::try_from(timestamp.as_millisecond()).ok()
}

fn basic(date: DateTime) -> String {
    format!(
        "{:04}{:02}{:02}T{:02}{:02}{:02}Z",
        date.year(),
        date.month(),
        date.day(),
        date.hour(),
        date.minute(),
        date.second()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_and_parses() {
        assert_eq!(format(1_767_323_045_678), "20260102T030405Z");
        assert_eq!(parse_basic("20260102T030405Z"), Some(1_767_323_045_000));
        let bad = [
            "",
            "20260102T030405",
            "20260102t030405Z",
            "2026-1-2T030405Z",
            "20261302T030405Z",
            "+0260102T030405Z",
            "20260102T030465Z",
            "19600102T030405Z",
            "é260102T030405Z",
        ];
        for text in bad {
            assert_eq!(parse_basic(text), None, "{text}");
        }
        let expect = Some(("20260102T030405Z".to_owned(), 1_767_323_045_000));
        assert_eq!(parse_date_header("Fri, 02 Jan 2026 03:04:05 GMT"), expect);
        assert_eq!(parse_date_header("20260102T030405Z"), expect);
        assert_eq!(parse_date_header("yesterday"), None);
        assert!(format(u64::MAX).starts_with("9999"));
    }
}
