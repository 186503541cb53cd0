//! Configuration of a JWT authorizer (`customJWTAuthorizer`), as the API spells it, and its rules.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

/// Longer than any provider's discovery URL; what browsers and proxies take.
const URL_CHARS_MAX: usize = 2048;
/// Entries of one list; the model has no maximum. Bounds the work per token.
const ENTRIES_MAX: usize = 200;

/// A JWT authorizer as a request states it: any values. [`JwtAuthorizer::try_from`] checks them.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct JwtAuthorizerInput {
    /// URL of the provider's discovery document.
    pub discovery_url: String,
    /// The token must be for one of these (`aud`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_audience: Option<Vec<String>>,
    /// The token must be one of these clients' (`client_id`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_clients: Option<Vec<String>>,
    /// The token must have one of these scopes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_scopes: Option<Vec<String>>,
    /// Scope to the name under which it is advertised; no part in the check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advertised_scope_mapping: Option<BTreeMap<String, String>>,
    /// Further claims, all of which must match.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom_claims: Option<Vec<CustomClaim>>,
    /// Kept and given back; has no effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_endpoint: Option<Value>,
    /// Kept and given back; has no effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub private_endpoint_overrides: Option<Value>,
    /// Kept and given back; has no effect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate_configurations: Option<Value>,
    /// Kept and given back. **Not checked by the verifier**: it speaks of the calling workload, which
    /// a token does not name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed_workload_configuration: Option<Value>,
}

/// A claim that must match.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CustomClaim {
    /// Name of the claim.
    pub inbound_token_claim_name: String,
    /// Its type in the token.
    pub inbound_token_claim_value_type: ClaimValueType,
    /// What it must be.
    pub authorizing_claim_match_value: AuthorizingClaimMatchValue,
}

/// Type of a claim's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClaimValueType {
    /// A string.
    #[serde(rename = "STRING")]
    String,
    /// A list of strings.
    #[serde(rename = "STRING_ARRAY")]
    StringArray,
}

/// How a claim is compared, and with what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuthorizingClaimMatchValue {
    /// With what.
    pub claim_match_value: ClaimMatchValue,
    /// How.
    pub claim_match_operator: ClaimMatchOperator,
}

/// What a claim is compared with; exactly one member on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClaimMatchValue {
    /// One text.
    #[serde(rename = "matchValueString")]
    String(String),
    /// Several texts.
    #[serde(rename = "matchValueStringList")]
    StringList(Vec<String>),
}

/// How a claim is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum ClaimMatchOperator {
    /// The string is the text.
    Equals,
    /// The list has the text.
    Contains,
    /// The list has one of the texts.
    ContainsAny,
}

/// A rule of the API that a configuration breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{field} {rule}")]
pub struct AuthorizerError {
    /// The member, as the API spells it.
    pub field: &'static str,
    /// What it must be.
    pub rule: &'static str,
}

/// A JWT authorizer that keeps all rules of the API.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "JwtAuthorizerInput", into = "JwtAuthorizerInput")]
pub struct JwtAuthorizer(JwtAuthorizerInput);

impl JwtAuthorizer {
    /// The configuration as it was stated.
    pub fn input(&self) -> &JwtAuthorizerInput {
        &self.0
    }

    /// URL of the provider's discovery document.
    pub fn discovery_url(&self) -> &str {
        &self.0.discovery_url
    }

    /// The scopes to tell clients about: the allowed ones under their advertised names.
    pub fn advertised_scopes(&self) -> Vec<&str> {
        let mapping = self.0.advertised_scope_mapping.as_ref();
        let scopes = self.0.allowed_scopes.iter().flatten();
        scopes.map(|scope| mapping.and_then(|mapping| mapping.get(scope)).unwrap_or(scope).as_str()).collect()
    }
}

impl From<JwtAuthorizer> for JwtAuthorizerInput {
    fn from(authorizer: JwtAuthorizer) -> Self {
        authorizer.0
    }
}

impl TryFrom<JwtAuthorizerInput> for JwtAuthorizer {
    type Error = AuthorizerError;

    fn try_from(input: JwtAuthorizerInput) -> Result<Self, AuthorizerError> {
        let fail = |field, rule| Err(AuthorizerError { field, rule });
        if !is_discovery_url(&input.discovery_url) {
            return fail(
                "discoveryUrl",
                "must match https?://[^\\s?#]+/\\.well-known/(openid-configuration|oauth-authorization-server)(/[^\\s?#]+)?",
            );
        }
        list("allowedAudience", input.allowed_audience.as_deref(), |text| !text.is_empty())?;
        list("allowedClients", input.allowed_clients.as_deref(), |text| !text.is_empty())?;
        list("allowedScopes", input.allowed_scopes.as_deref(), is_scope)?;
        if let Some(mapping) = &input.advertised_scope_mapping {
            let ok = (1..=50).contains(&mapping.len())
                && mapping.iter().all(|(from, to)| is_scope(from) && is_scope(to));
            if !ok {
                return fail("advertisedScopeMapping", "must map 1 to 50 scopes to scopes");
            }
        }
        if let Some(claims) = &input.custom_claims {
            if !(1..=ENTRIES_MAX).contains(&claims.len()) {
                return fail("customClaims", "must have 1 to 200 entries");
            }
            claims.iter().try_for_each(check_claim)?;
        }
        let rules = input.allowed_audience.is_some()
            || input.allowed_clients.is_some()
            || input.allowed_scopes.is_some()
            || input.custom_claims.is_some();
        if !rules {
            return fail(
                "customJWTAuthorizer",
                "must have at least one of allowedAudience, allowedClients, allowedScopes and customClaims",
            );
        }
        Ok(Self(input))
    }
}

fn check_claim(claim: &CustomClaim) -> Result<(), AuthorizerError> {
    let fail = |field, rule| Err(AuthorizerError { field, rule });
    let name = &claim.inbound_token_claim_name;
    if !(1..=255).contains(&name.chars().count()) || name.chars().any(char::is_control) {
        return fail("inboundTokenClaimName", "must have 1 to 255 characters");
    }
    let matching = &claim.authorizing_claim_match_value;
    match (claim.inbound_token_claim_value_type, matching.claim_match_operator) {
        (ClaimValueType::String, ClaimMatchOperator::Equals)
        | (ClaimValueType::StringArray, ClaimMatchOperator::Contains | ClaimMatchOperator::ContainsAny) => {}
        (ClaimValueType::String, _) => return fail("claimMatchOperator", "must be EQUALS for STRING"),
        (ClaimValueType::StringArray, _) => {
            return fail("claimMatchOperator", "must be CONTAINS or CONTAINS_ANY for STRING_ARRAY");
        }
    }
    match (&matching.claim_match_value, matching.claim_match_operator) {
        (ClaimMatchValue::String(text), ClaimMatchOperator::Equals | ClaimMatchOperator::Contains) => {
            if is_match_value(text) {
                Ok(())
            } else {
                fail("matchValueString", "must match [A-Za-z0-9_.-]{1,255}")
            }
        }
        (ClaimMatchValue::StringList(texts), ClaimMatchOperator::ContainsAny) => {
            list("matchValueStringList", Some(texts), is_match_value)
        }
        (_, ClaimMatchOperator::ContainsAny) => {
            fail("claimMatchValue", "must be matchValueStringList for CONTAINS_ANY")
        }
        (_, ClaimMatchOperator::Equals | ClaimMatchOperator::Contains) => {
            fail("claimMatchValue", "must be matchValueString for EQUALS and CONTAINS")
        }
    }
}

fn list(
    field: &'static str,
    entries: Option<&[String]>,
    ok: impl Fn(&str) -> bool,
) -> Result<(), AuthorizerError> {
    let Some(entries) = entries else {
        return Ok(());
    };
    if !(1..=ENTRIES_MAX).contains(&entries.len()) {
        return Err(AuthorizerError { field, rule: "must have 1 to 200 entries" });
    }
    if entries.iter().all(|entry| entry.len() <= URL_CHARS_MAX && ok(entry)) {
        Ok(())
    } else {
        Err(AuthorizerError {
            field,
            rule: "has an entry that is empty, too long or has other characters than it may",
        })
    }
}

/// `[\x21\x23-\x5B\x5D-\x7E]{1,255}`.
fn is_scope(text: &str) -> bool {
    (1..=255).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\')
}

fn is_match_value(text: &str) -> bool {
    (1..=255).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

fn is_discovery_url(url: &str) -> bool {
    const PLACES: [&str; 2] =
        ["/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"];
    let Some(rest) = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://")) else {
        return false;
    };
    let clean = !url.chars().any(|char| char.is_whitespace() || char.is_control() || "?#".contains(char));
    url.len() <= URL_CHARS_MAX
        && clean
        && PLACES.iter().any(|place| {
            rest.match_indices(place).any(|(at, _)| {
                let after = &rest[at + place.len()..];
                at > 0 && (after.is_empty() || (after.starts_with('/') && after.len() > 1))
            })
        })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const URL: &str = "https://idp.example.com/.well-known/openid-configuration";

    fn check(members: Value, expect: Option<&str>) {
        let mut value = json!({"discoveryUrl": URL, "allowedClients": ["c"]});
        for (name, member) in members.as_object().unwrap() {
            value[name] = member.clone();
        }
        let input: JwtAuthorizerInput = serde_json::from_value(value.clone()).unwrap();
        let found = JwtAuthorizer::try_from(input);
        assert_eq!(found.as_ref().err().map(|error| error.field), expect, "{value}");
        if let Ok(authorizer) = found {
            assert_eq!(serde_json::to_value(&authorizer).unwrap(), value, "given back as it came");
        }
    }

    fn claim(kind: &str, operator: &str, value: Value) -> Value {
        json!({"customClaims": [{"inboundTokenClaimName": "role", "inboundTokenClaimValueType": kind,
            "authorizingClaimMatchValue": {"claimMatchValue": value, "claimMatchOperator": operator}}]})
    }

    #[test]
    fn rules_of_the_api() {
        check(json!({}), None);
        check(json!({"privateEndpoint": {"x": 1}, "certificateConfigurations": []}), None);
        check(json!({"allowedScopes": ["a", "b:c"], "advertisedScopeMapping": {"a": "x/a"}}), None);
        check(json!({"allowedScopes": ["a b"]}), Some("allowedScopes"));
        check(json!({"allowedScopes": []}), Some("allowedScopes"));
        check(json!({"allowedAudience": [""]}), Some("allowedAudience"));
        check(json!({"allowedClients": []}), Some("allowedClients"));
        check(json!({"advertisedScopeMapping": {}}), Some("advertisedScopeMapping"));
        let one = json!({"matchValueString": "admin"});
        let many = json!({"matchValueStringList": ["admin", "dev"]});
        check(claim("STRING", "EQUALS", one.clone()), None);
        check(claim("STRING_ARRAY", "CONTAINS", one.clone()), None);
        check(claim("STRING_ARRAY", "CONTAINS_ANY", many.clone()), None);
        check(claim("STRING", "CONTAINS", one.clone()), Some("claimMatchOperator"));
        check(claim("STRING_ARRAY", "EQUALS", one.clone()), Some("claimMatchOperator"));
        check(claim("STRING_ARRAY", "CONTAINS_ANY", one), Some("claimMatchValue"));
        check(claim("STRING", "EQUALS", many), Some("claimMatchValue"));
        check(claim("STRING", "EQUALS", json!({"matchValueString": "a b"})), Some("matchValueString"));
        let none: JwtAuthorizerInput = serde_json::from_value(json!({"discoveryUrl": URL})).unwrap();
        assert_eq!(JwtAuthorizer::try_from(none).unwrap_err().field, "customJWTAuthorizer");
        assert!(serde_json::from_value::<JwtAuthorizer>(json!({"discoveryUrl": URL})).is_err());
    }

    #[test]
    fn discovery_urls() {
        for (url, ok) in [
            (URL, true),
            ("http://127.0.0.1:8080/realms/x/.well-known/openid-configuration", true),
            ("https://a.example/.well-known/oauth-authorization-server/tenant", true),
            ("https:///.well-known/openid-configuration", false),
            ("https://a.example/.well-known/openid-configuration/", false),
            ("https://a.example/.well-known/openid-configurationx", false),
            ("https://a.example/.well-known/openid-configuration?x", false),
            ("https://a.example/well-known/openid-configuration", false),
            ("ftp://a.example/.well-known/openid-configuration", false),
            ("a.example/.well-known/openid-configuration", false),
        ] {
            assert_eq!(is_discovery_url(url), ok, "{url}");
        }
    }

    #[test]
    fn advertised_scopes_are_mapped() {
        let authorizer: JwtAuthorizer = serde_json::from_value(json!({
            "discoveryUrl": URL, "allowedScopes": ["a", "b"], "advertisedScopeMapping": {"a": "api/a", "z": "q"}
        }))
        .unwrap();
        assert_eq!(authorizer.advertised_scopes(), ["api/a", "b"]);
    }
}
