//! Signing people in at an OpenID Connect provider: discovery, the authorization code flow with PKCE (RFC 7636, S256), and the
//! check of the ID token that comes back.
//!
//! Nothing is kept of a flow: what must come back with it is in [`Flow`], which the caller gives to the browser and takes from
//! it again.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aws_lc_rs::{constant_time::verify_slices_are_equal, digest};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use clamshell_domain::{Clock, Entropy};
use serde::Deserialize;
use serde_json::{Map, Value};
use thiserror::Error;
use tokio::{sync::Semaphore, time::timeout};

use crate::{
    jwt::{
        AuthorizeError, AuthorizerError, FetchError, Fetcher, JwtAuthorizer, JwtAuthorizerInput,
        TokenIdentity, Verifier,
    },
    percent::escape,
};

/// The provider's endpoints are read again after so long.
const FRESH_MS: u64 = 5 * 60 * 1000;

/// Codes exchanged at once; others wait so long for their turn.
const EXCHANGES_MAX: usize = 4;
const TURN_PATIENCE: Duration = Duration::from_secs(10);

/// Codes and URLs of providers are shorter.
const TEXT_BYTES_MAX: usize = 4096;

/// Longest subject, by the specification.
const SUBJECT_BYTES_MAX: usize = 255;

/// Bytes of each of the three random parts of a flow.
const PART_BYTES: usize = 32;

/// Our client at a provider.
pub struct OidcClient {
    issuer: String,
    client_id: String,
    fetcher: Fetcher,
    verifier: Verifier,
    authorizer: JwtAuthorizer,
    clock: Arc<dyn Clock>,
    endpoints: Mutex<Option<(u64, Arc<Endpoints>)>>,
    turns: Semaphore,
}

/// Why somebody was not signed in. Holds nothing secret.
#[derive(Debug, Error)]
pub enum OidcError {
    /// The issuer cannot be one.
    #[error("issuer cannot be used")]
    Issuer(#[source] AuthorizerError),
    /// The provider's own description cannot be had.
    #[error("discovery document of the provider cannot be had")]
    Discovery(#[source] FetchError),
    /// It is of another provider, or lacks an endpoint.
    #[error("discovery document is not that of the issuer, or incomplete")]
    Endpoints,
    /// What came back with the browser is not what it was sent with.
    #[error("state is another one")]
    State,
    /// The provider does not take the code.
    #[error("code was not exchanged")]
    Exchange(#[source] FetchError),
    /// Its answer has no ID token.
    #[error("answer to the code has no ID token")]
    NoToken,
    /// The ID token is not good.
    #[error("ID token is refused")]
    Token(#[source] AuthorizeError),
    /// A claim of it is not what it must be.
    #[error("claim {0} of the ID token is missing or another one")]
    Claim(&'static str),
    /// The provider does not say more of the person.
    #[error("claims of the person cannot be had")]
    UserInfo(#[source] FetchError),
    /// Too many sign in at once.
    #[error("too many codes at once")]
    Busy,
}

/// What a browser takes along on its way to the provider and back.
#[derive(Clone, PartialEq, Eq)]
pub struct Flow {
    state: String,
    nonce: String,
    verifier: String,
}

#[derive(Deserialize)]
struct Endpoints {
    issuer: String,
    authorization_endpoint: String,
    token_endpoint: String,
    userinfo_endpoint: Option<String>,
    #[serde(default)]
    authorization_response_iss_parameter_supported: bool,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Exchanged {
    id_token: Option<String>,
    access_token: Option<String>,
}

impl std::fmt::Debug for Flow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flow").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for OidcClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OidcClient").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

impl Flow {
    /// A new one.
    pub fn new(entropy: &dyn Entropy) -> Self {
        let part = || {
            let mut bytes = [0; PART_BYTES];
            entropy.fill(&mut bytes);
            URL_SAFE_NO_PAD.encode(bytes)
        };
        Self { state: part(), nonce: part(), verifier: part() }
    }

    /// For a cookie: letters, digits, `-`, `_` and dots.
    pub fn encode(&self) -> String {
        format!("{}.{}.{}", self.state, self.nonce, self.verifier)
    }

    /// Reads what [`Flow::encode`] wrote.
    pub fn decode(text: &str) -> Option<Self> {
        let mut parts = text.split('.').map(|part| {
            let plain = part.len() == 43
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
            plain.then(|| part.to_owned())
        });
        let flow = Self { state: parts.next()??, nonce: parts.next()??, verifier: parts.next()?? };
        parts.next().is_none().then_some(flow)
    }
}

impl OidcClient {
    /// A client that fetches with `fetcher`. Nothing is fetched yet. `issuer` has no slash at its end.
    ///
    /// # Errors
    /// [`OidcError::Issuer`].
    pub fn new(
        issuer: &str,
        client_id: &str,
        fetcher: Fetcher,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, OidcError> {
        let input = JwtAuthorizerInput {
            discovery_url: format!("{issuer}/.well-known/openid-configuration"),
            allowed_audience: Some(vec![client_id.to_owned()]),
            ..JwtAuthorizerInput::default()
        };
        Ok(Self {
            issuer: issuer.to_owned(),
            client_id: client_id.to_owned(),
            verifier: Verifier::new(fetcher.clone(), Arc::clone(&clock)),
            authorizer: JwtAuthorizer::try_from(input).map_err(OidcError::Issuer)?,
            fetcher,
            clock,
            endpoints: Mutex::default(),
            turns: Semaphore::new(EXCHANGES_MAX),
        })
    }

    /// Where to send the browser.
    ///
    /// # Errors
    /// [`OidcError::Discovery`], [`OidcError::Endpoints`].
    pub async fn begin(
        &self,
        flow: &Flow,
        redirect_uri: &str,
        scopes: &[String],
    ) -> Result<String, OidcError> {
        let endpoints = self.endpoints().await?;
        let challenge = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, flow.verifier.as_bytes()));
        let query = form(&[
            ("response_type", "code"),
            ("client_id", &self.client_id),
            ("redirect_uri", redirect_uri),
            ("scope", &scopes.join(" ")),
            ("state", &flow.state),
            ("nonce", &flow.nonce),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ]);
        let url = &endpoints.authorization_endpoint;
        let mark = if url.contains('?') { '&' } else { '?' };
        Ok(format!("{url}{mark}{query}"))
    }

    /// Checks that the browser came back from where it was sent: `state`, and the issuer where the provider names itself, which
    /// it must if it says that it does (RFC 9207, 2.4).
    ///
    /// # Errors
    /// [`OidcError::State`], and as [`OidcClient::begin`].
    pub async fn came_back(&self, flow: &Flow, state: &str, issuer: Option<&str>) -> Result<(), OidcError> {
        let same = verify_slices_are_equal(flow.state.as_bytes(), state.as_bytes()).is_ok();
        if !same {
            return Err(OidcError::State);
        }
        let own = match issuer {
            Some(issuer) => issuer.trim_end_matches('/') == self.issuer,
            None => !self.endpoints().await?.authorization_response_iss_parameter_supported,
        };
        if own { Ok(()) } else { Err(OidcError::State) }
    }

    /// Exchanges the code for an ID token and checks that: signature, issuer, audience, party, times and nonce. Where the ID
    /// token lacks a `wanted` claim and the provider has more at its UserInfo endpoint, as those that follow the specification
    /// to the letter do (OpenID Connect Core, 5.4), what is there is added.
    ///
    /// # Errors
    /// [`OidcError`].
    pub async fn finish(
        &self,
        flow: &Flow,
        code: &str,
        redirect_uri: &str,
        client_secret: Option<&str>,
        wanted: &[&str],
    ) -> Result<TokenIdentity, OidcError> {
        if code.is_empty() || code.len() > TEXT_BYTES_MAX {
            return Err(OidcError::State);
        }
        let turn = timeout(TURN_PATIENCE, self.turns.acquire()).await;
        let _turn = turn.map_err(|_| OidcError::Busy)?.map_err(|_| OidcError::Busy)?;
        let endpoints = self.endpoints().await?;
        let mut fields = vec![
            ("grant_type", "authorization_code"),
            ("code", code),
            ("redirect_uri", redirect_uri),
            ("code_verifier", &flow.verifier),
        ];
        let mut authorization = None;
        match client_secret {
            Some(secret) if endpoints.takes_basic() => {
                let pair = format!("{}:{}", escape(&self.client_id), escape(secret));
                authorization = Some(format!("Basic {}", STANDARD.encode(pair)));
            }
            secret => {
                fields.push(("client_id", &self.client_id));
                fields.extend(secret.map(|secret| ("client_secret", secret)));
            }
        }
        let posted = self.fetcher.post_form(&endpoints.token_endpoint, form(&fields), authorization);
        let answer = posted.await.map_err(OidcError::Exchange)?;
        let exchanged: Exchanged = serde_json::from_slice(&answer).map_err(|_| OidcError::NoToken)?;
        let token = exchanged.id_token.ok_or(OidcError::NoToken)?;
        let mut identity = self.verifier.verify(&self.authorizer, &token).await.map_err(OidcError::Token)?;
        self.check(&identity, &flow.nonce)?;
        if let (Some(url), Some(access)) = (&endpoints.userinfo_endpoint, exchanged.access_token)
            && wanted.iter().any(|name| lacks(&identity.claims, name))
        {
            let told = self.fetcher.get_authorized(url, format!("Bearer {access}")).await;
            add_claims(&mut identity, &told.map_err(OidcError::UserInfo)?)?;
        }
        Ok(identity)
    }

    /// What the verifier does not know of: OpenID Connect Core, 3.1.3.7.
    fn check(&self, identity: &TokenIdentity, nonce: &str) -> Result<(), OidcError> {
        let claim = |name: &str| identity.claims.get(name);
        let is_own_nonce = claim("nonce")
            .and_then(Value::as_str)
            .is_some_and(|found| verify_slices_are_equal(found.as_bytes(), nonce.as_bytes()).is_ok());
        if !is_own_nonce {
            return Err(OidcError::Claim("nonce"));
        }
        let several = claim("aud").and_then(Value::as_array).is_some_and(|audience| audience.len() > 1);
        match claim("azp") {
            Some(party) if party.as_str() == Some(self.client_id.as_str()) => {}
            None if !several => {}
            _ => return Err(OidcError::Claim("azp")),
        }
        let subject = identity.subject.as_deref().unwrap_or_default();
        if subject.is_empty() || subject.len() > SUBJECT_BYTES_MAX {
            return Err(OidcError::Claim("sub"));
        }
        Ok(())
    }

    async fn endpoints(&self) -> Result<Arc<Endpoints>, OidcError> {
        let now_ms = self.clock.now_ms();
        let lock = || self.endpoints.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((read_at_ms, known)) = &*lock()
            && now_ms.checked_sub(*read_at_ms).is_some_and(|age| age < FRESH_MS)
        {
            return Ok(Arc::clone(known));
        }
        let document =
            self.fetcher.get(self.authorizer.discovery_url()).await.map_err(OidcError::Discovery)?;
        let found: Endpoints = serde_json::from_slice(&document).map_err(|_| OidcError::Endpoints)?;
        let is_url = |url: &str| {
            url.len() <= TEXT_BYTES_MAX
                && url.bytes().all(|byte| byte.is_ascii_graphic())
                && !url.contains('#')
                && (url.starts_with("https://") || url.starts_with("http://"))
        };
        let own = found.issuer.trim_end_matches('/') == self.issuer;
        let urls = [
            Some(&found.authorization_endpoint),
            Some(&found.token_endpoint),
            found.userinfo_endpoint.as_ref(),
        ];
        if !own || !urls.into_iter().flatten().all(|url| is_url(url)) {
            return Err(OidcError::Endpoints);
        }
        let found = Arc::new(found);
        *lock() = Some((now_ms, Arc::clone(&found)));
        Ok(found)
    }
}

impl Endpoints {
    /// The default of the specification, and preferred where there are several.
    fn takes_basic(&self) -> bool {
        let known = self.token_endpoint_auth_methods_supported.as_ref();
        known.is_none_or(|known| {
            known.iter().any(|method| method == "client_secret_basic")
                || !known.iter().any(|method| method == "client_secret_post")
        })
    }
}

/// Whether claims lack one by its name, or the first part of one with dots.
fn lacks(claims: &Map<String, Value>, name: &str) -> bool {
    !claims.contains_key(name) && name.split('.').next().is_none_or(|first| !claims.contains_key(first))
}

/// Adds what the UserInfo endpoint says to what the ID token says, which counts where both say something: that one is signed,
/// and for us. It must be of the same person (OpenID Connect Core, 5.3.2).
fn add_claims(identity: &mut TokenIdentity, told: &[u8]) -> Result<(), OidcError> {
    let told: Map<String, Value> =
        serde_json::from_slice(told).map_err(|_| OidcError::UserInfo(FetchError::Document))?;
    let subject = told.get("sub").and_then(Value::as_str);
    if subject.is_none() || subject != identity.subject.as_deref() {
        return Err(OidcError::Claim("sub"));
    }
    for (name, value) in told {
        identity.claims.entry(name).or_insert(value);
    }
    Ok(())
}

fn form(fields: &[(&str, &str)]) -> String {
    let pairs: Vec<String> =
        fields.iter().map(|(name, value)| format!("{}={}", escape(name), escape(value))).collect();
    pairs.join("&")
}

#[cfg(test)]
mod tests {
    use super::*;
    use clamshell_domain::SystemEntropy;
    use serde_json::json;

    #[test]
    fn flows_come_back_as_they_went() {
        let flow = Flow::new(&SystemEntropy);
        let text = flow.encode();
        assert!(Flow::decode(&text) == Some(flow.clone()));
        assert_ne!(flow.state, flow.nonce);
        for bad in [
            "",
            "a.b.c",
            &text[1..],
            &format!("{text}."),
            &format!("{text}.{}", flow.state),
            &text.replace('.', "="),
        ] {
            assert!(Flow::decode(bad).is_none(), "{bad}");
        }
        assert!(!format!("{flow:?}").contains(&flow.verifier));
    }

    #[test]
    fn forms_escape_what_could_mean_something() {
        assert_eq!(form(&[("a", "b c&d=e"), ("f", "é/+")]), "a=b%20c%26d%3De&f=%C3%A9%2F%2B");
    }

    #[test]
    fn more_of_a_person_is_added_and_replaces_nothing() {
        let claims = |value: Value| value.as_object().unwrap().clone();
        let own = json!({ "sub": "a", "iss": "i", "groups": [], "email": null });
        let check = |told: &str, expect: Option<Value>| {
            let mut identity = TokenIdentity {
                issuer: "i".to_owned(),
                subject: Some("a".to_owned()),
                expires_at_ms: 1,
                claims: claims(own.clone()),
            };
            let added = add_claims(&mut identity, told.as_bytes());
            assert_eq!(added.is_ok(), expect.is_some(), "{told}");
            assert_eq!(identity.claims, claims(expect.unwrap_or_else(|| own.clone())), "{told}");
        };
        let told = r#"{"sub":"a","iss":"other","groups":["ops"],"email":"a@b","name":"n"}"#;
        check(told, Some(json!({ "sub": "a", "iss": "i", "groups": [], "email": null, "name": "n" })));
        for bad in ["", "[]", "{}", r#"{"sub":"b","name":"n"}"#, r#"{"sub":["a"],"name":"n"}"#] {
            check(bad, None);
        }
        let own = claims(own);
        assert!(
            !lacks(&own, "groups") && !lacks(&own, "groups.x") && lacks(&own, "roles") && lacks(&own, "r.x")
        );
    }

    #[test]
    fn secrets_go_where_the_provider_takes_them() {
        let check = |methods: Option<&[&str]>, expect: bool| {
            let methods = methods.map(|methods| methods.iter().map(|method| (*method).to_owned()).collect());
            let endpoints = Endpoints {
                issuer: String::new(),
                authorization_endpoint: String::new(),
                token_endpoint: String::new(),
                userinfo_endpoint: None,
                authorization_response_iss_parameter_supported: false,
                token_endpoint_auth_methods_supported: methods,
            };
            assert_eq!(endpoints.takes_basic(), expect);
        };
        check(None, true);
        check(Some(&[]), true);
        check(Some(&["client_secret_post"]), false);
        check(Some(&["client_secret_post", "client_secret_basic"]), true);
        check(Some(&["private_key_jwt"]), true);
    }
}
