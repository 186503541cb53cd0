//! Whether a verified token is meant for this resource: audience, client, scopes, custom claims.

use serde_json::{Map, Value};

use super::{
    authorizer::{ClaimMatchValue, ClaimValueType, CustomClaim, JwtAuthorizer},
    error::AuthorizeError,
};

/// Checks all rules of `authorizer`; every one that is set must pass.
pub(super) fn check(authorizer: &JwtAuthorizer, claims: &Map<String, Value>) -> Result<(), AuthorizeError> {
    let rules = authorizer.input();
    let mismatch = |claim: &str| Err(AuthorizeError::ClaimMismatch { claim: claim.to_owned() });
    if let Some(allowed) = &rules.allowed_audience
        && !any_of(allowed, &texts(claims.get("aud")))
    {
        return mismatch("aud");
    }
    if let Some(allowed) = &rules.allowed_clients
        && !claims
            .get("client_id")
            .and_then(Value::as_str)
            .is_some_and(|client| allowed.iter().any(|one| one == client))
    {
        return mismatch("client_id");
    }
    if let Some(allowed) = &rules.allowed_scopes {
        // `scope` is one string of words (RFC 8693), `scp` a list or such a string, by provider.
        let granted: Vec<&str> = [claims.get("scope"), claims.get("scp")]
            .into_iter()
            .flat_map(texts)
            .flat_map(str::split_ascii_whitespace)
            .collect();
        if !any_of(allowed, &granted) {
            return mismatch("scope");
        }
    }
    for rule in rules.custom_claims.iter().flatten() {
        if !matches(rule, claims.get(&rule.inbound_token_claim_name)) {
            return mismatch(&rule.inbound_token_claim_name);
        }
    }
    Ok(())
}

fn matches(rule: &CustomClaim, value: Option<&Value>) -> bool {
    let wanted: &[String] = match &rule.authorizing_claim_match_value.claim_match_value {
        ClaimMatchValue::String(text) => std::slice::from_ref(text),
        ClaimMatchValue::StringList(texts) => texts,
    };
    match (rule.inbound_token_claim_value_type, value) {
        (ClaimValueType::String, Some(Value::String(text))) => wanted.contains(text),
        (ClaimValueType::StringArray, Some(list @ Value::Array(_))) => any_of(wanted, &texts(Some(list))),
        _ => false,
    }
}

/// A string, or the strings of a list.
fn texts(value: Option<&Value>) -> Vec<&str> {
    match value {
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

fn any_of(allowed: &[String], found: &[&str]) -> bool {
    found.iter().any(|text| allowed.iter().any(|one| one == text))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check_rules(rules: Value, claims: Value, expect: Option<&str>) {
        let mut value = json!({"discoveryUrl": "https://a.example/.well-known/openid-configuration"});
        for (name, member) in rules.as_object().unwrap() {
            value[name] = member.clone();
        }
        let authorizer: JwtAuthorizer = serde_json::from_value(value).unwrap();
        let expect = expect.map(|claim| AuthorizeError::ClaimMismatch { claim: claim.to_owned() });
        assert_eq!(check(&authorizer, claims.as_object().unwrap()).err(), expect, "{rules} {claims}");
    }

    #[test]
    fn audience_client_and_scopes() {
        let audience = || json!({"allowedAudience": ["a", "b"]});
        check_rules(audience(), json!({"aud": "b"}), None);
        check_rules(audience(), json!({"aud": ["x", "a"]}), None);
        check_rules(audience(), json!({"aud": "a b"}), Some("aud"));
        check_rules(audience(), json!({"aud": {"a": 1}}), Some("aud"));
        check_rules(audience(), json!({}), Some("aud"));
        let clients = || json!({"allowedClients": ["c"]});
        check_rules(clients(), json!({"client_id": "c"}), None);
        check_rules(clients(), json!({"client_id": ["c"]}), Some("client_id"));
        check_rules(clients(), json!({"azp": "c"}), Some("client_id"));
        let scopes = || json!({"allowedScopes": ["read", "write"]});
        check_rules(scopes(), json!({"scope": "openid write"}), None);
        check_rules(scopes(), json!({"scp": ["read"]}), None);
        check_rules(scopes(), json!({"scp": "openid read"}), None);
        check_rules(scopes(), json!({"scope": "readwrite"}), Some("scope"));
        check_rules(scopes(), json!({}), Some("scope"));
        // All that are set must pass.
        let both = || json!({"allowedAudience": ["a"], "allowedClients": ["c"]});
        check_rules(both(), json!({"aud": "a", "client_id": "c"}), None);
        check_rules(both(), json!({"aud": "a"}), Some("client_id"));
        check_rules(both(), json!({"client_id": "c"}), Some("aud"));
    }

    #[test]
    fn custom_claims() {
        let rule = |kind: &str, operator: &str, value: Value| {
            json!({"customClaims": [{"inboundTokenClaimName": "role", "inboundTokenClaimValueType": kind,
                "authorizingClaimMatchValue": {"claimMatchValue": value, "claimMatchOperator": operator}}]})
        };
        let equals = || rule("STRING", "EQUALS", json!({"matchValueString": "admin"}));
        check_rules(equals(), json!({"role": "admin"}), None);
        for claims in [json!({}), json!({"role": "Admin"}), json!({"role": ["admin"]}), json!({"role": null})]
        {
            check_rules(equals(), claims, Some("role"));
        }
        let contains = || rule("STRING_ARRAY", "CONTAINS", json!({"matchValueString": "admin"}));
        check_rules(contains(), json!({"role": ["dev", "admin"]}), None);
        check_rules(contains(), json!({"role": ["dev", 1, null]}), Some("role"));
        check_rules(contains(), json!({"role": "admin"}), Some("role"));
        let any = || rule("STRING_ARRAY", "CONTAINS_ANY", json!({"matchValueStringList": ["a", "b"]}));
        check_rules(any(), json!({"role": ["x", "b"]}), None);
        check_rules(any(), json!({"role": ["x"]}), Some("role"));
        check_rules(any(), json!({"role": []}), Some("role"));
    }
}
