//! The form of a JWT: three parts, a header and claims. Hostile until its signature is checked.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::Algorithm;
use serde_json::{Map, Value};

use super::error::{AuthorizeError, InvalidToken};

/// Greatest length of a token. Twice what the largest clients send (8 KiB of groups and roles), and what
/// fits in a header of an ordinary HTTP server.
pub const TOKEN_BYTES_MAX: usize = 16_384;
/// Key ids are names; longer ones are noise for the cache.
const KID_BYTES_MAX: usize = 512;

/// A token taken apart, nothing verified.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token<'t> {
    pub(super) algorithm: Algorithm,
    pub(super) kid: Option<String>,
    pub(super) claims: Map<String, Value>,
    /// Header and claims as they are signed.
    pub(super) message: &'t str,
    /// In base64url.
    pub(super) signature: &'t str,
}

impl<'t> Token<'t> {
    pub(super) fn parse(text: &'t str) -> Result<Self, AuthorizeError> {
        if text.is_empty() {
            return Err(AuthorizeError::Missing);
        }
        if text.len() > TOKEN_BYTES_MAX {
            return Err(AuthorizeError::Unparseable);
        }
        let (message, signature) = text.rsplit_once('.').ok_or(AuthorizeError::Unparseable)?;
        let (header, claims) = message.split_once('.').ok_or(AuthorizeError::Unparseable)?;
        let (header, claims) = (object(header)?, object(claims)?);
        // A decodable signature is part of the form; a wrong one is a forgery.
        URL_SAFE_NO_PAD.decode(signature).map_err(|_| AuthorizeError::Unparseable)?;
        let name = header.get("alg").and_then(Value::as_str).ok_or(AuthorizeError::Unparseable)?;
        let algorithm = algorithm(name).ok_or(AuthorizeError::InvalidToken(InvalidToken::Algorithm))?;
        if header.contains_key("crit") {
            return Err(AuthorizeError::InvalidToken(InvalidToken::Critical));
        }
        let kid = match header.get("kid") {
            None => None,
            Some(Value::String(kid)) if kid.len() <= KID_BYTES_MAX => Some(kid.clone()),
            Some(_) => return Err(AuthorizeError::Unparseable),
        };
        Ok(Self { algorithm, kid, claims, message, signature })
    }

    /// Checks `exp` and `nbf` with this leeway for clocks that differ.
    pub(super) fn check_times(&self, now_ms: u64, leeway_s: u64) -> Result<(), AuthorizeError> {
        let now = std::time::Duration::from_millis(now_ms).as_secs_f64();
        let leeway = std::time::Duration::from_secs(leeway_s).as_secs_f64();
        let invalid = |why| Err(AuthorizeError::InvalidToken(why));
        match self.claims.get("exp").and_then(Value::as_f64) {
            Some(exp) if now < exp + leeway => {}
            _ => return invalid(InvalidToken::Expired),
        }
        match self.claims.get("nbf") {
            None => Ok(()),
            Some(nbf) => match nbf.as_f64() {
                Some(nbf) if nbf <= now + leeway => Ok(()),
                _ => invalid(InvalidToken::NotYetValid),
            },
        }
    }
}

fn object(part: &str) -> Result<Map<String, Value>, AuthorizeError> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| AuthorizeError::Unparseable)?;
    serde_json::from_slice(&bytes).map_err(|_| AuthorizeError::Unparseable)
}

/// The algorithms that sign with a private key, by their exact names.
pub(super) fn algorithm(name: &str) -> Option<Algorithm> {
    Some(match name {
        "RS256" => Algorithm::RS256,
        "RS384" => Algorithm::RS384,
        "RS512" => Algorithm::RS512,
        "PS256" => Algorithm::PS256,
        "PS384" => Algorithm::PS384,
        "PS512" => Algorithm::PS512,
        "ES256" => Algorithm::ES256,
        "ES384" => Algorithm::ES384,
        "EdDSA" | "Ed25519" => Algorithm::EdDSA,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token(header: &str, claims: &str) -> String {
        format!("{}.{}.c2ln", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims))
    }

    #[test]
    fn forms() {
        let check = |text: &str, expect: Result<(), AuthorizeError>| {
            assert_eq!(Token::parse(text).map(|_| ()), expect, "{}", &text[..text.len().min(80)]);
        };
        let invalid = |why| Err(AuthorizeError::InvalidToken(why));
        check("", Err(AuthorizeError::Missing));
        for text in ["x", "a.b", "a.b.c", "e30.e30.", "....", "e30.e30.c2ln", "e30.W10.c2ln", "ÿ.ÿ.ÿ"] {
            check(text, Err(AuthorizeError::Unparseable));
        }
        check(&"a".repeat(TOKEN_BYTES_MAX + 1), Err(AuthorizeError::Unparseable));
        check(&token(r#"{"alg":"RS256"}"#, "{}"), Ok(()));
        check(&token(r#"{"alg":"RS256","kid":"a"}"#, "{}"), Ok(()));
        check(&token(r#"{"alg":"RS256","kid":1}"#, "{}"), Err(AuthorizeError::Unparseable));
        check(&token(r#"{"alg":"RS256","kid":"a"}"#, "[]"), Err(AuthorizeError::Unparseable));
        for name in ["none", "None", "HS256", "HS512", "rs256", "RS256 ", "ES512", ""] {
            check(&token(&format!(r#"{{"alg":"{name}"}}"#), "{}"), invalid(InvalidToken::Algorithm));
        }
        check(&token(r#"{"alg":"RS256","crit":["b64"]}"#, "{}"), invalid(InvalidToken::Critical));
    }

    #[test]
    fn times() {
        let check = |claims: &str, now_ms: u64, expect: Option<InvalidToken>| {
            let text = token(r#"{"alg":"ES256"}"#, claims);
            let found = Token::parse(&text).unwrap().check_times(now_ms, 60);
            assert_eq!(found.err(), expect.map(AuthorizeError::InvalidToken), "{claims} at {now_ms}");
        };
        let expired = Some(InvalidToken::Expired);
        check(r#"{"exp":1000}"#, 999_000, None);
        check(r#"{"exp":1000}"#, 1_059_999, None);
        check(r#"{"exp":1000}"#, 1_060_000, expired);
        check(r#"{"exp":1000.5}"#, 1_060_000, None);
        check(r#"{}"#, 0, expired);
        check(r#"{"exp":"1000"}"#, 0, expired);
        check(r#"{"exp":1000,"nbf":160}"#, 100_000, None);
        check(r#"{"exp":1000,"nbf":161}"#, 100_000, Some(InvalidToken::NotYetValid));
        check(r#"{"exp":1000,"nbf":"0"}"#, 100_000, Some(InvalidToken::NotYetValid));
    }

    proptest! {
        #[test]
        fn hostile_texts_never_panic(text in "[a-zA-Z0-9._é-]{0,60}", header in r#"[\{\}":,a-z0-9]{0,40}"#) {
            let _ = Token::parse(&text);
            let _ = Token::parse(&token(&header, &header));
        }
    }
}
