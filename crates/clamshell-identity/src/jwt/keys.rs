//! A provider's public keys (JWKS), and which algorithms each may verify.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

use super::{
    error::InvalidToken,
    token::{self, Token},
};

/// Providers publish two or three; the largest known (one key per tenant) some dozens.
const KEYS_MAX: usize = 256;
/// Keys tried for a token that names none: bounds the work of a hostile token.
const TRIES_MAX: usize = 8;

/// The keys of one provider.
pub(super) struct KeySet(Vec<Key>);

struct Key {
    kid: Option<String>,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

#[derive(Deserialize)]
struct Jwks {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default)]
    alg: Option<String>,
    #[serde(default, rename = "use")]
    usage: Option<String>,
    #[serde(default)]
    key_ops: Option<Vec<String>>,
    #[serde(default)]
    crv: Option<String>,
    #[serde(default)]
    n: Option<String>,
    #[serde(default)]
    e: Option<String>,
    #[serde(default)]
    x: Option<String>,
    #[serde(default)]
    y: Option<String>,
}

impl KeySet {
    /// Parses a JWKS document. Keys that are not for signatures, or of a kind not supported, are left
    /// out: a provider may have them beside the ones that matter. `None` when it is no JWKS at all.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let jwks: Jwks = serde_json::from_slice(bytes).ok()?;
        if jwks.keys.len() > KEYS_MAX {
            return None;
        }
        Some(Self(jwks.keys.into_iter().filter_map(key).collect()))
    }

    /// Checks the signature of a token.
    pub(super) fn verify(&self, token: &Token<'_>) -> Result<(), InvalidToken> {
        let mut tried = false;
        for key in self.candidates(token).take(TRIES_MAX) {
            tried = true;
            let verified = jsonwebtoken::crypto::verify(
                token.signature,
                token.message.as_bytes(),
                &key.key,
                token.algorithm,
            );
            if verified.unwrap_or(false) {
                return Ok(());
            }
        }
        Err(if tried { InvalidToken::Signature } else { InvalidToken::UnknownKey })
    }

    /// Keys of the token's name, or all when it names none; of them those made for its algorithm.
    fn candidates<'k>(&'k self, token: &'k Token<'_>) -> impl Iterator<Item = &'k Key> {
        self.0.iter().filter(|key| {
            key.algorithms.contains(&token.algorithm)
                && token.kid.as_ref().is_none_or(|kid| key.kid.as_ref() == Some(kid))
        })
    }
}

fn key(value: Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(value).ok()?;
    let for_signatures = jwk.usage.as_deref().is_none_or(|usage| usage == "sig")
        && jwk.key_ops.as_ref().is_none_or(|ops| ops.iter().any(|op| op == "verify"));
    if !for_signatures {
        return None;
    }
    let (algorithms, key): (&[Algorithm], DecodingKey) = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) => {
            let (n, e) = (decode(jwk.n.as_deref()?)?, decode(jwk.e.as_deref()?)?);
            // The cryptography refuses moduli of less than 2048 bits and more than 8192.
            let all = &[
                Algorithm::RS256,
                Algorithm::RS384,
                Algorithm::RS512,
                Algorithm::PS256,
                Algorithm::PS384,
                Algorithm::PS512,
            ];
            (all, DecodingKey::from_rsa_raw_components(&n, &e))
        }
        ("EC", Some("P-256")) => (&[Algorithm::ES256], elliptic(&jwk, 32)?),
        ("EC", Some("P-384")) => (&[Algorithm::ES384], elliptic(&jwk, 48)?),
        ("OKP", Some("Ed25519")) => {
            let x = jwk.x.as_deref()?;
            if decode(x)?.len() != 32 {
                return None;
            }
            (&[Algorithm::EdDSA], DecodingKey::from_ed_components(x).ok()?)
        }
        _ => return None,
    };
    let algorithms = match jwk.alg.as_deref() {
        None => algorithms.to_vec(),
        // The key says for which one it is: no other then, and none if the two contradict.
        Some(name) => {
            let named = token::algorithm(name)?;
            algorithms.iter().copied().filter(|algorithm| *algorithm == named).collect()
        }
    };
    Some(Key { kid: jwk.kid, algorithms, key })
}

fn elliptic(jwk: &Jwk, bytes: usize) -> Option<DecodingKey> {
    let (x, y) = (jwk.x.as_deref()?, jwk.y.as_deref()?);
    if decode(x)?.len() != bytes || decode(y)?.len() != bytes {
        return None;
    }
    DecodingKey::from_ec_components(x, y).ok()
}

fn decode(text: &str) -> Option<Vec<u8>> {
    // Some providers pad.
    URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_keys_for_signatures_count() {
        let check = |keys: &str, expect: Option<usize>| {
            let found = KeySet::parse(format!(r#"{{"keys":[{keys}]}}"#).as_bytes());
            assert_eq!(found.map(|set| set.0.iter().map(|key| key.algorithms.len()).sum()), expect, "{keys}");
        };
        let n = URL_SAFE_NO_PAD.encode([0xff; 256]);
        let x = URL_SAFE_NO_PAD.encode([1; 32]);
        check("", Some(0));
        check(&format!(r#"{{"kty":"RSA","n":"{n}","e":"AQAB"}}"#), Some(6));
        check(&format!(r#"{{"kty":"RSA","n":"{n}","e":"AQAB","alg":"PS384","use":"sig"}}"#), Some(1));
        check(&format!(r#"{{"kty":"RSA","n":"{n}","e":"AQAB","alg":"ES256"}}"#), Some(0));
        check(&format!(r#"{{"kty":"RSA","n":"{n}","e":"AQAB","alg":"HS256"}}"#), Some(0));
        check(&format!(r#"{{"kty":"RSA","n":"{n}","e":"AQAB","use":"enc"}}"#), Some(0));
        check(&format!(r#"{{"kty":"RSA","n":"{n}","e":"AQAB","key_ops":["sign"]}}"#), Some(0));
        check(&format!(r#"{{"kty":"EC","crv":"P-256","x":"{x}","y":"{x}"}}"#), Some(1));
        check(&format!(r#"{{"kty":"EC","crv":"P-384","x":"{x}","y":"{x}"}}"#), Some(0));
        check(&format!(r#"{{"kty":"EC","crv":"secp256k1","x":"{x}","y":"{x}"}}"#), Some(0));
        check(&format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{x}"}}"#), Some(1));
        check(r#"{"kty":"oct","k":"c2VjcmV0"},{"kty":1},"x",{"kty":"RSA"}"#, Some(0));
        assert!(KeySet::parse(b"[]").is_none());
        assert!(KeySet::parse(format!(r#"{{"keys":[{}1]}}"#, "1,".repeat(KEYS_MAX)).as_bytes()).is_none());
    }
}
