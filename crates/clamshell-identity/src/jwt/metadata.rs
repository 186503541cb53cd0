//! What a client is told about the identity provider: the metadata of RFC 9728 and the challenge in
//! `WWW-Authenticate`. Pure functions.

use serde_json::{Value, json};

use super::{authorizer::JwtAuthorizer, error::AuthorizeError};
use crate::percent::escape;

/// URL of a runtime's protected resource metadata. `base`: scheme and host of the data plane, without
/// a slash at the end; `arn`: not escaped.
pub fn metadata_url(base: &str, arn: &str, qualifier: &str) -> String {
    format!(
        "{}?qualifier={}",
        invocation_url(base, arn) + "/.well-known/oauth-protected-resource",
        escape(qualifier)
    )
}

/// The metadata document: resource, provider and scopes.
pub fn protected_resource_metadata(
    base: &str,
    arn: &str,
    qualifier: &str,
    issuer: &str,
    authorizer: &JwtAuthorizer,
) -> Value {
    let mut body = json!({
        "resource": format!("{}?qualifier={}", invocation_url(base, arn), escape(qualifier)),
        "authorization_servers": [issuer],
        "bearer_methods_supported": ["header"],
    });
    let scopes = authorizer.advertised_scopes();
    if !scopes.is_empty() {
        body["scopes_supported"] = json!(scopes);
    }
    body
}

/// Value of `WWW-Authenticate` for a refusal with status 401; `None` where the service sends none.
pub fn www_authenticate(
    error: &AuthorizeError,
    metadata_url: &str,
    authorizer: &JwtAuthorizer,
) -> Option<String> {
    match error {
        AuthorizeError::Missing | AuthorizeError::ClaimMismatch { .. } => {
            let mut value = format!("Bearer resource_metadata=\"{}\"", quotable(metadata_url));
            let scopes = authorizer.advertised_scopes();
            if !scopes.is_empty() {
                value.push_str(&format!(", scope=\"{}\"", scopes.join(" ")));
            }
            Some(value)
        }
        AuthorizeError::InvalidToken(_) => Some("Bearer error=\"invalid_token\"".to_owned()),
        AuthorizeError::Unparseable | AuthorizeError::ProviderUnreachable(_) => None,
    }
}

/// The issuer that a discovery URL implies, for when the provider cannot be asked: the URL without its
/// well-known part.
pub fn fallback_issuer(discovery_url: &str) -> String {
    match discovery_url.split_once("/.well-known/") {
        // RFC 8414 puts the issuer's path behind the well-known part.
        Some((origin, rest)) => match rest.split_once('/') {
            Some((_, path)) => format!("{origin}/{path}"),
            None => origin.to_owned(),
        },
        None => discovery_url.to_owned(),
    }
}

fn invocation_url(base: &str, arn: &str) -> String {
    format!("{base}/runtimes/{}/invocations", escape(arn))
}

/// Drops what would end a quoted string or a header: the base may hold a client's `Host`.
fn quotable(text: &str) -> String {
    text.chars().filter(|char| char.is_ascii_graphic() && *char != '"' && *char != '\\').collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jwt::{FetchError, InvalidToken};

    const ARN: &str = "arn:aws:bedrock-agentcore:us-west-2:111122223333:runtime/demo-AbCdE12345";
    const ESCAPED: &str =
        "arn%3Aaws%3Abedrock-agentcore%3Aus-west-2%3A111122223333%3Aruntime%2Fdemo-AbCdE12345";

    fn authorizer(members: Value) -> JwtAuthorizer {
        let mut value = json!({"discoveryUrl": "https://a.example/.well-known/openid-configuration"});
        for (name, member) in members.as_object().unwrap() {
            value[name] = member.clone();
        }
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn metadata_names_resource_provider_and_scopes() {
        let body = |members| {
            protected_resource_metadata(
                "https://h",
                ARN,
                "DEFAULT",
                "https://a.example",
                &authorizer(members),
            )
        };
        let resource = format!("https://h/runtimes/{ESCAPED}/invocations?qualifier=DEFAULT");
        assert_eq!(
            body(json!({"allowedClients": ["c"]})),
            json!({"resource": resource, "authorization_servers": ["https://a.example"],
                   "bearer_methods_supported": ["header"]})
        );
        assert_eq!(
            body(json!({"allowedScopes": ["a", "b"], "advertisedScopeMapping": {"a": "x/a"}}))["scopes_supported"],
            json!(["x/a", "b"])
        );
    }

    #[test]
    fn challenges() {
        let url = metadata_url("https://h", ARN, "my ep");
        assert_eq!(
            url,
            format!(
                "https://h/runtimes/{ESCAPED}/invocations/.well-known/oauth-protected-resource?qualifier=my%20ep"
            )
        );
        let plain = authorizer(json!({"allowedClients": ["c"]}));
        let check = |error: AuthorizeError, expect: Option<String>| {
            assert_eq!(www_authenticate(&error, &url, &plain), expect);
        };
        let challenge = format!("Bearer resource_metadata=\"{url}\"");
        check(AuthorizeError::Missing, Some(challenge.clone()));
        check(AuthorizeError::ClaimMismatch { claim: "aud".to_owned() }, Some(challenge.clone()));
        check(
            AuthorizeError::InvalidToken(InvalidToken::Expired),
            Some("Bearer error=\"invalid_token\"".to_owned()),
        );
        check(AuthorizeError::Unparseable, None);
        check(AuthorizeError::ProviderUnreachable(FetchError::Timeout), None);
        let scoped = authorizer(json!({"allowedScopes": ["a", "b"]}));
        assert_eq!(
            www_authenticate(&AuthorizeError::Missing, &url, &scoped),
            Some(format!("{challenge}, scope=\"a b\""))
        );
        let hostile = www_authenticate(&AuthorizeError::Missing, "https://h\"\r\nX: y\\", &plain);
        assert_eq!(hostile.as_deref(), Some("Bearer resource_metadata=\"https://hX:y\""));
    }

    #[test]
    fn issuers_of_discovery_urls() {
        for (url, expect) in [
            ("https://a.example/.well-known/openid-configuration", "https://a.example"),
            ("https://a.example/r/x/.well-known/openid-configuration", "https://a.example/r/x"),
            ("https://a.example/.well-known/oauth-authorization-server/t", "https://a.example/t"),
        ] {
            assert_eq!(fallback_issuer(url), expect);
        }
    }
}
