//! Percent encoding by the rules of AWS signatures: all but `A-Z a-z 0-9 - _ . ~` is escaped, hex in capitals, and
//! `+` is a plus, never a space.
//!
//! Output is at most three times (encoding) or once (decoding) the input, which callers bound.

use std::borrow::Cow;

use thiserror::Error;

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// Why a text cannot be percent-decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PercentError {
    /// A `%` without two hexadecimal digits behind it.
    #[error("a percent sign is not followed by two hexadecimal digits")]
    Escape,
    /// The decoded bytes are not UTF-8.
    #[error("the decoded bytes are not UTF-8")]
    Utf8,
}

/// Escapes all but unreserved characters; `/` becomes `%2F`.
pub fn percent_encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    encode_to(text.as_bytes(), false, |piece| out.push_str(piece));
    out
}

/// Undoes [`percent_encode`]; lower-case hexadecimal digits are taken too.
///
/// # Errors
/// [`PercentError`] when an escape is cut short or the result is not UTF-8.
pub fn percent_decode(text: &str) -> Result<String, PercentError> {
    if !text.contains('%') {
        return Ok(text.to_owned());
    }
    String::from_utf8(decode_bytes(text.as_bytes())?).map_err(|_| PercentError::Utf8)
}

/// Feeds the encoded form to `sink` piece by piece, so that no string is built.
pub(crate) fn encode_to(bytes: &[u8], keep_slash: bool, mut sink: impl FnMut(&str)) {
    let plain = |byte: u8| is_unreserved(byte) || (keep_slash && byte == b'/');
    let mut rest = bytes;
    while !rest.is_empty() {
        let run = rest.iter().position(|byte| !plain(*byte)).unwrap_or(rest.len());
        let (head, tail) = rest.split_at(run);
        // Unreserved bytes are ASCII, so the conversion cannot fail; an empty run writes nothing.
        sink(std::str::from_utf8(head).unwrap_or_default());
        if let Some((byte, after)) = tail.split_first() {
            let escape = [b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]];
            sink(std::str::from_utf8(&escape).unwrap_or_default());
            rest = after;
        } else {
            rest = tail;
        }
    }
}

/// The one canonical spelling of an encoded text; borrowed when it has that spelling already.
pub(crate) fn canonical(text: &str) -> Result<Cow<'_, str>, PercentError> {
    if is_canonical(text.as_bytes()) {
        return Ok(Cow::Borrowed(text));
    }
    let mut out = String::with_capacity(text.len() + 16);
    encode_to(&decode_bytes(text.as_bytes())?, false, |piece| out.push_str(piece));
    Ok(Cow::Owned(out))
}

fn is_canonical(mut bytes: &[u8]) -> bool {
    while let Some((first, rest)) = bytes.split_first() {
        if is_unreserved(*first) {
            bytes = rest;
            continue;
        }
        match (first, rest) {
            (b'%', [high, low, after @ ..]) => {
                let capital = !high.is_ascii_lowercase() && !low.is_ascii_lowercase();
                match (hex_digit(*high), hex_digit(*low)) {
                    (Some(high), Some(low)) if capital && !is_unreserved(high << 4 | low) => bytes = after,
                    _ => return false,
                }
            }
            _ => return false,
        }
    }
    true
}

fn decode_bytes(mut bytes: &[u8]) -> Result<Vec<u8>, PercentError> {
    let mut out = Vec::with_capacity(bytes.len());
    while let Some((first, rest)) = bytes.split_first() {
        if *first != b'%' {
            out.push(*first);
            bytes = rest;
            continue;
        }
        let [high, low, after @ ..] = rest else { return Err(PercentError::Escape) };
        let (Some(high), Some(low)) = (hex_digit(*high), hex_digit(*low)) else {
            return Err(PercentError::Escape);
        };
        out.push(high << 4 | low);
        bytes = after;
    }
    Ok(out)
}

fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~')
}

pub(crate) fn hex_digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn encodes_all_but_unreserved() {
        assert_eq!(percent_encode("a-_.~Z9:/ +é"), "a-_.~Z9%3A%2F%20%2B%C3%A9");
    }

    #[test]
    fn decodes_and_refuses() {
        assert_eq!(percent_decode("a%3a%2F+%C3%A9"), Ok("a:/+é".to_owned()));
        for bad in ["%", "%2", "%zz", "a%4"] {
            assert_eq!(percent_decode(bad), Err(PercentError::Escape), "{bad}");
        }
        assert_eq!(percent_decode("%ff"), Err(PercentError::Utf8));
    }

    #[test]
    fn canonical_spelling() {
        assert!(matches!(canonical("a%3A"), Ok(Cow::Borrowed("a%3A"))));
        assert_eq!(canonical("a%3a+%41:").as_deref(), Ok("a%3A%2BA%3A"));
        assert_eq!(canonical("%4"), Err(PercentError::Escape));
    }

    proptest! {
        #[test]
        fn round_trip(text in ".{0,60}") {
            let encoded = percent_encode(&text);
            prop_assert!(is_canonical(encoded.as_bytes()));
            prop_assert_eq!(percent_decode(&encoded), Ok(text));
        }

        #[test]
        fn hostile_text_never_panics(text in ".{0,60}") {
            let _ = percent_decode(&text);
            let _ = canonical(&text);
        }
    }
}
