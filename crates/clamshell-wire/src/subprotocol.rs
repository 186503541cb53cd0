//! The WebSocket subprotocol that carries a bearer token where a browser can set no header.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::error::{AwsError, ErrorCode};
use crate::headers;

/// Name of the subprotocol; the answer to an offer of it, never with the token.
pub const BEARER_SUBPROTOCOL: &str = "base64UrlBearerAuthorization";
/// Longest encoded token. The SDK stops at 4096; twice that leaves room for other clients.
pub const TOKEN_ENCODED_BYTES_MAX: usize = 8192;
/// Most elements looked at: the pair twice over, in case a client repeats the header.
const ELEMENTS_MAX: usize = 4;

/// A bearer token. `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct BearerToken(String);

impl BearerToken {
    /// The token, to be verified.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for BearerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BearerToken")
    }
}

/// What a client offered as subprotocols.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subprotocols {
    /// The token, when one came this way.
    pub bearer: Option<BearerToken>,
    /// Whether the bare name was offered; then the answer must have `Sec-WebSocket-Protocol` with
    /// [`BEARER_SUBPROTOCOL`], or browsers fail the connection.
    pub answer: bool,
}

impl Subprotocols {
    /// Reads the `sec-websocket-protocol` headers; names are lower case.
    ///
    /// # Errors
    /// A `ValidationException` for other subprotocols, two tokens, or a token that is not base64url of visible ASCII.
    pub fn parse(headers: &[(&str, &[u8])]) -> Result<Self, AwsError> {
        let mut out = Self::default();
        let mut count = 0;
        for (_, value) in headers.iter().filter(|(name, _)| *name == headers::SEC_WEBSOCKET_PROTOCOL) {
            let text = std::str::from_utf8(value).map_err(|_| unsupported())?;
            for element in text.split(',').map(str::trim) {
                count += 1;
                if count > ELEMENTS_MAX {
                    return Err(unsupported());
                }
                match element.strip_prefix(BEARER_SUBPROTOCOL) {
                    Some("") => out.answer = true,
                    Some(rest) => {
                        let token = decode(rest.strip_prefix('.').ok_or_else(unsupported)?)?;
                        if out.bearer.as_ref().is_some_and(|first| *first != token) {
                            return Err(AwsError::new(
                                ErrorCode::Validation,
                                "Only one bearer token is allowed.",
                            ));
                        }
                        out.bearer = Some(token);
                    }
                    None => return Err(unsupported()),
                }
            }
        }
        Ok(out)
    }

    /// The offer of a client with this token, for the request header.
    pub fn offer(token: &str) -> String {
        format!("{BEARER_SUBPROTOCOL}.{}, {BEARER_SUBPROTOCOL}", URL_SAFE_NO_PAD.encode(token))
    }
}

fn decode(encoded: &str) -> Result<BearerToken, AwsError> {
    let invalid =
        || AwsError::new(ErrorCode::Validation, "The bearer token of the subprotocol is not valid.");
    if encoded.is_empty() || encoded.len() > TOKEN_ENCODED_BYTES_MAX {
        return Err(invalid());
    }
    let bytes = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| invalid())?;
    let text = String::from_utf8(bytes).map_err(|_| invalid())?;
    if text.bytes().all(|byte| byte.is_ascii_graphic()) { Ok(BearerToken(text)) } else { Err(invalid()) }
}

fn unsupported() -> AwsError {
    AwsError::new(
        ErrorCode::Validation,
        "Unsupported WebSocket subprotocol. Supported: base64UrlBearerAuthorization.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(values: &[&str]) -> Result<Subprotocols, AwsError> {
        let headers: Vec<(&str, &[u8])> =
            values.iter().map(|value| (headers::SEC_WEBSOCKET_PROTOCOL, value.as_bytes())).collect();
        Subprotocols::parse(&headers)
    }

    fn expect(token: Option<&str>, answer: bool) -> Result<Subprotocols, AwsError> {
        Ok(Subprotocols { bearer: token.map(|token| BearerToken(token.into())), answer })
    }

    #[test]
    fn vector_and_variants() {
        let element = "base64UrlBearerAuthorization.ZXlKLmFiYy5kZWY_Pg";
        let token = Some("eyJ.abc.def?>");
        assert_eq!(parse(&[]), expect(None, false));
        assert_eq!(parse(&[&format!("{element}, {BEARER_SUBPROTOCOL}")]), expect(token, true));
        assert_eq!(parse(&[&format!("{BEARER_SUBPROTOCOL},{element}")]), expect(token, true));
        assert_eq!(parse(&[element, BEARER_SUBPROTOCOL]), expect(token, true));
        assert_eq!(parse(&[element, element]), expect(token, false));
        assert_eq!(parse(&[BEARER_SUBPROTOCOL]), expect(None, true));
        assert_eq!(Subprotocols::offer("eyJ.abc.def?>"), format!("{element}, {BEARER_SUBPROTOCOL}"));
        assert_eq!(format!("{:?}", parse(&[element]).unwrap().bearer), "Some(BearerToken)");
    }

    #[test]
    fn refuses() {
        let long = format!("{BEARER_SUBPROTOCOL}.{}", "A".repeat(TOKEN_ENCODED_BYTES_MAX + 1));
        let two = format!("{BEARER_SUBPROTOCOL}.YWE, {BEARER_SUBPROTOCOL}.YWI");
        let many = [BEARER_SUBPROTOCOL; ELEMENTS_MAX + 1].join(",");
        let bad = [
            "",
            "graphql-ws",
            "base64UrlBearerAuthorization.",
            "base64UrlBearerAuthorization.Y=",
            "base64UrlBearerAuthorization.+/",
            "base64UrlBearerAuthorization.AAAA",
            "base64UrlBearerAuthorization.YSBi",
            "base64UrlBearerAuthorizationx",
            "base64UrlBearerAuthorization._w",
            &long,
            &two,
            &many,
        ];
        for value in bad {
            assert_eq!(parse(&[value]).map_err(|error| error.code.status()), Err(400), "{value}");
        }
        assert!(Subprotocols::parse(&[(headers::SEC_WEBSOCKET_PROTOCOL, b"\xff")]).is_err());
    }
}
