//! Query strings: split, decode, bound. `+` is a plus, as AWS reads it.

use thiserror::Error;

use crate::percent::{PercentError, percent_decode};

/// Longest query: the `http` crate stores no longer request target, so nothing longer arrives.
pub const QUERY_BYTES_MAX: usize = 65_534;
/// Most parameters: `tagKeys` may repeat 200 times, signatures add seven.
pub const QUERY_PARAMS_MAX: usize = 256;

/// Why a query string is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum QueryError {
    /// More than [`QUERY_BYTES_MAX`] bytes.
    #[error("the query string is too long")]
    TooLong,
    /// More than [`QUERY_PARAMS_MAX`] parameters.
    #[error("the query string has too many parameters")]
    TooMany,
    /// A name or a value is not percent-encoded text.
    #[error("the query string is not percent-encoded text")]
    Encoding(#[source] PercentError),
}

/// Decodes a raw query into names and values in order of arrival; a name without `=` has an empty value.
///
/// # Errors
/// [`QueryError`] when a bound is passed or an escape is broken.
pub fn parse(raw: &str) -> Result<Vec<(String, String)>, QueryError> {
    let mut params = Vec::new();
    for (name, value) in split(raw)? {
        let decode = |text| percent_decode(text).map_err(QueryError::Encoding);
        params.push((decode(name)?, decode(value)?));
    }
    Ok(params)
}

/// The first value of a name, compared exactly.
pub fn find<'a>(params: &'a [(String, String)], name: &str) -> Option<&'a str> {
    params.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

/// Splits without decoding, after checking the bounds.
pub(crate) fn split(raw: &str) -> Result<impl Iterator<Item = (&str, &str)>, QueryError> {
    if raw.len() > QUERY_BYTES_MAX {
        return Err(QueryError::TooLong);
    }
    if raw.bytes().filter(|byte| *byte == b'&').count() >= QUERY_PARAMS_MAX {
        return Err(QueryError::TooMany);
    }
    let parts = raw.split('&').filter(|part| !part.is_empty());
    Ok(parts.map(|part| part.split_once('=').unwrap_or((part, ""))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(raw: &str, expect: &[(&str, &str)]) {
        let expect: Vec<_> = expect.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        assert_eq!(parse(raw), Ok(expect), "{raw}");
    }

    #[test]
    fn splits_and_decodes() {
        check("", &[]);
        check("a", &[("a", "")]);
        check("a=1&&b=2=3&", &[("a", "1"), ("b", "2=3")]);
        check("tagKeys=k&tagKeys=k%202", &[("tagKeys", "k"), ("tagKeys", "k 2")]);
        check("p=a+b", &[("p", "a+b")]);
    }

    #[test]
    fn refuses_what_is_out_of_bounds() {
        assert_eq!(parse(&"a".repeat(QUERY_BYTES_MAX + 1)), Err(QueryError::TooLong));
        assert_eq!(parse(&"a&".repeat(QUERY_PARAMS_MAX)), Err(QueryError::TooMany));
        assert_eq!(parse("a=%f"), Err(QueryError::Encoding(PercentError::Escape)));
    }

    #[test]
    fn finds_the_first() {
        let params = parse("q=1&q=2").unwrap();
        assert_eq!(find(&params, "q"), Some("1"));
        assert_eq!(find(&params, "Q"), None);
    }
}
