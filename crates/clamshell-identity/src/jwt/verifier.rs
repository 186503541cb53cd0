//! Checks bearer tokens.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use clamshell_domain::Clock;
use serde_json::{Map, Value};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use super::{
    authorizer::JwtAuthorizer,
    claims,
    error::{AuthorizeError, InvalidToken},
    fetch::{FetchError, Fetcher},
    provider::{Fetches, Loaded, Need, Provider},
    token::Token,
};

/// Leeway for clocks that differ.
const LEEWAY_S: u64 = 60;
/// Providers remembered; more runtimes than that rarely have as many. The least recently used goes.
const PROVIDERS_MAX: usize = 256;

/// Who a token speaks for.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenIdentity {
    /// `iss`, which is the provider's.
    pub issuer: String,
    /// `sub`; tokens of clients without a user may have none.
    pub subject: Option<String>,
    /// `exp` in milliseconds since 1970.
    pub expires_at_ms: u64,
    /// All claims.
    pub claims: Map<String, Value>,
}

/// Checks tokens, and keeps what it learned of their providers. Share one in the process.
pub struct Verifier {
    fetches: Arc<Fetches>,
    providers: Mutex<Providers>,
    /// Stops the fetches of a verifier that is dropped without [`Verifier::close`].
    _stop: DropGuard,
}

#[derive(Default)]
struct Providers {
    /// Discovery URL to the provider and when it was last used.
    known: HashMap<String, (Arc<Provider>, u64)>,
    uses: u64,
}

impl Verifier {
    /// A verifier that fetches with `fetcher`. Nothing is fetched yet.
    pub fn new(fetcher: Fetcher, clock: Arc<dyn Clock>) -> Self {
        let cancel = CancellationToken::new();
        let fetches = Arc::new(Fetches { fetcher, clock, tasks: TaskTracker::new(), cancel: cancel.clone() });
        Self { fetches, providers: Mutex::default(), _stop: cancel.drop_guard() }
    }

    /// Checks `token` by the rules of `authorizer`. An empty token is a missing one. Must run within
    /// the async runtime; cancel-safe.
    ///
    /// # Errors
    /// [`AuthorizeError`]; the caller makes the service's answer of it.
    pub async fn verify(
        &self,
        authorizer: &JwtAuthorizer,
        token: &str,
    ) -> Result<TokenIdentity, AuthorizeError> {
        let token = Token::parse(token)?;
        // Before anything is fetched: old tokens must not cause traffic.
        token.check_times(self.fetches.clock.now_ms(), LEEWAY_S)?;
        let provider = self.provider(authorizer.discovery_url());
        let unreachable = AuthorizeError::ProviderUnreachable;
        let mut loaded = provider.get(Need::Any, &self.fetches).await.map_err(unreachable)?;
        let mut verified = verify_with(&loaded, &token);
        if verified.is_err_and(|why| may_be_new_key(why, &token)) {
            let newer = Need::NewerThan(loaded.generation);
            let found = provider.get(newer, &self.fetches).await.map_err(unreachable)?;
            if found.generation > loaded.generation {
                loaded = found;
                verified = verify_with(&loaded, &token);
            }
        }
        verified.map_err(AuthorizeError::InvalidToken)?;
        claims::check(authorizer, &token.claims)?;
        Ok(identity(&loaded.issuer, token.claims))
    }

    /// The issuer that the provider's discovery document names.
    ///
    /// # Errors
    /// [`FetchError`] when the document cannot be had; then [`super::fallback_issuer`] is a fair guess.
    pub async fn issuer(&self, authorizer: &JwtAuthorizer) -> Result<String, FetchError> {
        let provider = self.provider(authorizer.discovery_url());
        Ok(provider.get(Need::Any, &self.fetches).await?.issuer.clone())
    }

    /// Stops all fetches and waits for their ends. Tokens of providers not known by then are refused as
    /// [`AuthorizeError::ProviderUnreachable`].
    pub async fn close(&self) {
        self.fetches.cancel.cancel();
        self.fetches.tasks.close();
        self.fetches.tasks.wait().await;
    }

    fn provider(&self, discovery_url: &str) -> Arc<Provider> {
        let mut providers = self.providers.lock().unwrap_or_else(PoisonError::into_inner);
        providers.uses += 1;
        let now = providers.uses;
        if let Some((provider, used)) = providers.known.get_mut(discovery_url) {
            *used = now;
            return Arc::clone(provider);
        }
        if providers.known.len() >= PROVIDERS_MAX {
            let oldest = providers.known.iter().min_by_key(|(_, (_, used))| *used);
            if let Some(url) = oldest.map(|(url, _)| url.clone()) {
                providers.known.remove(&url);
            }
        }
        let provider = Arc::new(Provider::new(discovery_url.to_owned()));
        providers.known.insert(discovery_url.to_owned(), (Arc::clone(&provider), now));
        provider
    }
}

/// Checks issuer and signature.
fn verify_with(loaded: &Loaded, token: &Token<'_>) -> Result<(), InvalidToken> {
    if token.claims.get("iss").and_then(Value::as_str) != Some(loaded.issuer.as_str()) {
        return Err(InvalidToken::Issuer);
    }
    loaded.keys.verify(token)
}

/// Whether the provider may have a key by now that fits: the token names one that is not known, or it
/// names none and those known do not fit.
fn may_be_new_key(why: InvalidToken, token: &Token<'_>) -> bool {
    why == InvalidToken::UnknownKey || (why == InvalidToken::Signature && token.kid.is_none())
}

fn identity(issuer: &str, claims: Map<String, Value>) -> TokenIdentity {
    let seconds = claims.get("exp").and_then(Value::as_f64).unwrap_or(0.0).clamp(0.0, 1e11);
    let expires = std::time::Duration::from_secs_f64(seconds);
    TokenIdentity {
        issuer: issuer.to_owned(),
        subject: claims.get("sub").and_then(Value::as_str).map(str::to_owned),
        expires_at_ms: u64::try_from(expires.as_millis()).unwrap_or(u64::MAX),
        claims,
    }
}

#[cfg(test)]
#[path = "verifier/tests.rs"]
mod tests;
