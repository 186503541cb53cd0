//! One repository of one registry: asks for parts of images and answers its challenges.

use std::time::Duration;

use bytes::Bytes;
use clamshell_domain::{Entropy, SystemEntropy};
use http::{
    HeaderMap, HeaderValue, Method, StatusCode,
    header::{ACCEPT, AUTHORIZATION, RANGE, WWW_AUTHENTICATE},
};
use serde::Deserialize;
use tokio::sync::Mutex;

use super::{
    error::RegistryError,
    login::{Login, Registries},
    reference::Reference,
};
use crate::fetch::{Client, Policy, Response, TrustedRoots, Url, is_loopback};

/// Media types of manifests, newest first.
const MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
                         application/vnd.docker.distribution.manifest.list.v2+json, \
                         application/vnd.docker.distribution.manifest.v2+json";
/// Largest manifest, index or configuration: registries stop at 4 MiB.
pub(super) const DESCRIPTION_BYTES_MAX: u64 = 4 << 20;
/// Largest answer of a token server; tokens have a few KiB.
const TOKEN_BYTES_MAX: u64 = 256 << 10;
/// Longest token sent on, below the usual 16 KiB of a server's head.
const TOKEN_LENGTH_MAX: usize = 12 << 10;
/// Longest challenge parsed.
const CHALLENGE_BYTES_MAX: usize = 8 << 10;

/// Waits before the same request is made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// Requests in all, the first included, while none makes headway.
    pub attempts_max: u32,
    /// Wait before the second; doubles with each, and a random part of up to as much is added.
    pub first_wait: Duration,
}

impl Default for Retry {
    /// Half a minute in all: a registry's restart, not its outage.
    fn default() -> Self {
        Self { attempts_max: 6, first_wait: Duration::from_millis(500) }
    }
}

impl Retry {
    /// The wait after attempt number `attempt` (from 1) failed; `None`: give up.
    pub(super) fn wait(&self, attempt: u32) -> Option<Duration> {
        if attempt >= self.attempts_max {
            return None;
        }
        let base = self.first_wait.saturating_mul(1 << attempt.saturating_sub(1).min(6));
        let mut byte = [0];
        SystemEntropy.fill(&mut byte);
        Some(base + base.mul_f64(f64::from(byte[0]) / 256.0))
    }
}

/// A repository that can be asked.
#[derive(Debug)]
pub(super) struct Remote {
    fetch: Client,
    host: String,
    base: Url,
    repository: String,
    login: Login,
    policy: Policy,
    retry: Retry,
    authorization: Mutex<Option<HeaderValue>>,
}

impl Remote {
    /// Reads configuration and credentials; asks nobody yet.
    pub(super) async fn open(
        fetch: Client,
        reference: &Reference,
        registries: &Registries,
        retry: Retry,
    ) -> Result<Self, RegistryError> {
        let host = reference.host().to_owned();
        let config = registries.host(&host);
        let name = reference.api_host();
        let bare = Url::of(true, name, "/").map(|url| is_loopback(url.bare_host())).unwrap_or_default();
        // A registry on this machine has no certificate unless somebody says which.
        let is_plain = config.insecure || (bare && config.ca_file.is_none());
        let base = Url::of(!is_plain, name, "/")
            .map_err(|source| RegistryError::Fetch { host: host.clone(), source })?;
        let (registries, asked) = (registries.clone(), host.clone());
        let login = tokio::task::spawn_blocking(move || registries.login(&asked)).await;
        let login = login.map_err(|error| RegistryError::Credentials {
            host: host.clone(),
            reason: error.to_string(),
        })??;
        let policy = Policy {
            allow_plain: is_plain,
            follow_redirects: true,
            origin: Some(base.clone()),
            roots: TrustedRoots { ca_file: config.ca_file },
        };
        let repository = reference.repository().to_owned();
        Ok(Self { fetch, host, base, repository, login, policy, retry, authorization: Mutex::new(None) })
    }

    pub(super) fn host(&self) -> &str {
        &self.host
    }

    pub(super) fn retry(&self) -> Retry {
        self.retry
    }

    /// The bytes of a manifest by tag or digest, and the digest that the registry says it has. Tried again when that may help.
    pub(super) async fn manifest(&self, name: &str) -> Result<(Vec<u8>, Option<String>), RegistryError> {
        let what = format!("manifest {name} of {}", self.repository);
        let path = format!("/v2/{}/manifests/{name}", self.repository);
        self.description(&what, &path, MANIFESTS).await
    }

    /// The bytes of a small blob.
    pub(super) async fn small_blob(&self, digest: &str) -> Result<Vec<u8>, RegistryError> {
        let what = format!("configuration {digest} of {}", self.repository);
        let (bytes, _) = self.description(&what, &self.blob_path(digest), "*/*").await?;
        Ok(bytes)
    }

    async fn description(
        &self,
        what: &str,
        path: &str,
        accept: &'static str,
    ) -> Result<(Vec<u8>, Option<String>), RegistryError> {
        let mut attempt = 1;
        loop {
            match self.description_once(what, path, accept).await {
                Err(error) if error.is_transient() => match self.retry.wait(attempt) {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => return Err(error),
                },
                answer => return answer,
            }
            attempt += 1;
        }
    }

    async fn description_once(
        &self,
        what: &str,
        path: &str,
        accept: &'static str,
    ) -> Result<(Vec<u8>, Option<String>), RegistryError> {
        let answer = self.get(what, path, accept, None).await?;
        let digest = answer.header("docker-content-digest").map(str::to_owned);
        let bytes = answer.bytes(DESCRIPTION_BYTES_MAX).await.map_err(|source| self.failed(source))?;
        Ok((bytes, digest))
    }

    /// Starts to read a blob from `offset`. The answer is 200 or 206.
    pub(super) async fn blob(&self, digest: &str, offset: u64) -> Result<Response, RegistryError> {
        let what = format!("layer {digest} of {}", self.repository);
        self.get(&what, &self.blob_path(digest), "*/*", (offset > 0).then_some(offset)).await
    }

    fn blob_path(&self, digest: &str) -> String {
        format!("/v2/{}/blobs/{digest}", self.repository)
    }

    pub(super) fn failed(&self, source: crate::fetch::FetchError) -> RegistryError {
        RegistryError::Fetch { host: self.host.clone(), source }
    }

    /// One request, with as many more as its challenges need.
    async fn get(
        &self,
        what: &str,
        path: &str,
        accept: &'static str,
        from: Option<u64>,
    ) -> Result<Response, RegistryError> {
        let url = self.base.join(path).map_err(|source| self.failed(source))?;
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        if let Some(from) = from {
            let range = HeaderValue::from_str(&format!("bytes={from}-"));
            headers.insert(RANGE, range.map_err(|_| self.malformed("range"))?);
        }
        // Without authorization, with a token that ran out, with a fresh one.
        for attempt in 0..3 {
            let sent = self.authorization.lock().await.clone();
            headers.remove(AUTHORIZATION);
            if let Some(value) = &sent {
                headers.insert(AUTHORIZATION, value.clone());
            }
            let answer = self.fetch.send(&Method::GET, &url, &headers, Bytes::new(), &self.policy).await;
            let answer = answer.map_err(|source| self.failed(source))?;
            match answer.status {
                StatusCode::OK | StatusCode::PARTIAL_CONTENT => return Ok(answer),
                // A storage behind a redirect must not ask for what is the registry's.
                StatusCode::UNAUTHORIZED if attempt < 2 && answer.url.same_origin(&self.base) => {
                    self.authenticate(&answer.headers, sent.as_ref()).await?;
                }
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(self.denied()),
                StatusCode::NOT_FOUND => {
                    return Err(RegistryError::NotFound { host: self.host.clone(), what: what.to_owned() });
                }
                status => {
                    let (host, status) = (self.host.clone(), status.as_u16());
                    return Err(RegistryError::Status { host, status, what: what.to_owned() });
                }
            }
        }
        Err(self.denied())
    }

    fn malformed(&self, what: &str) -> RegistryError {
        RegistryError::Malformed { host: self.host.clone(), what: what.to_owned() }
    }

    fn denied(&self) -> RegistryError {
        let hint = match &self.login {
            Login::None => format!(
                "; it may not exist, or needs a login: set username and password_file in [registries.\"{}\"]",
                self.host
            ),
            Login::Password { .. } => "; it may not exist, or the login may be wrong".to_owned(),
            Login::Helper { name } => format!(
                "; credential helpers are not run (docker-credential-{name}): set username and password_file in \
                 [registries.\"{}\"]",
                self.host
            ),
            Login::IdentityToken => format!(
                "; identity tokens are not used: set username and password_file in [registries.\"{}\"]",
                self.host
            ),
        };
        RegistryError::Denied { host: self.host.clone(), repository: self.repository.clone(), hint }
    }

    /// Finds what to send as `authorization` from now on.
    async fn authenticate(
        &self,
        headers: &HeaderMap,
        sent: Option<&HeaderValue>,
    ) -> Result<(), RegistryError> {
        let mut authorization = self.authorization.lock().await;
        // Another layer's request was faster.
        if authorization.as_ref() != sent {
            return Ok(());
        }
        let lines = headers.get_all(WWW_AUTHENTICATE).iter().filter_map(|value| value.to_str().ok());
        let challenges: Vec<Challenge> = lines.flat_map(challenges).collect();
        let of = |scheme: &str| challenges.iter().find(|challenge| challenge.scheme == scheme);
        let value = if let Some(bearer) = of("bearer") {
            let token = self.token(bearer).await?;
            format!("Bearer {token}")
        } else if of("basic").is_some() {
            self.login.basic().ok_or_else(|| self.denied())?
        } else {
            return Err(self.malformed("challenge"));
        };
        let mut value = HeaderValue::from_str(&value).map_err(|_| self.malformed("token"))?;
        value.set_sensitive(true);
        if Some(&value) == sent {
            return Err(self.denied());
        }
        *authorization = Some(value);
        Ok(())
    }

    async fn token(&self, challenge: &Challenge) -> Result<String, RegistryError> {
        let realm = challenge.value("realm").ok_or_else(|| self.malformed("challenge"))?;
        let mut text = realm.to_owned();
        let mut add = |name: &str, value: &str| {
            text.push(if text.contains('?') { '&' } else { '?' });
            text.push_str(name);
            text.push('=');
            text.push_str(&escaped(value));
        };
        if let Some(service) = challenge.value("service") {
            add("service", service);
        }
        // Ours and not the challenge's: never more than to pull this repository.
        add("scope", &format!("repository:{}:pull", self.repository));
        let url = Url::parse(&text).map_err(|source| self.failed(source))?;
        let mut headers = HeaderMap::new();
        if let Some(basic) = self.login.basic() {
            let mut value = HeaderValue::from_str(&basic).map_err(|_| self.malformed("login"))?;
            value.set_sensitive(true);
            headers.insert(AUTHORIZATION, value);
        }
        let answer = self.fetch.send(&Method::GET, &url, &headers, Bytes::new(), &self.policy).await;
        let answer = answer.map_err(|source| self.failed(source))?;
        match answer.status {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(self.denied()),
            status => {
                let (host, status) = (self.host.clone(), status.as_u16());
                return Err(RegistryError::Status { host, status, what: "a token".to_owned() });
            }
        }
        let bytes = answer.bytes(TOKEN_BYTES_MAX).await.map_err(|source| self.failed(source))?;
        let answer: TokenAnswer = serde_json::from_slice(&bytes).map_err(|_| self.malformed("token"))?;
        let token = answer.token.filter(|token| !token.is_empty()).or(answer.access_token);
        token
            .filter(|token| {
                !token.is_empty()
                    && token.len() <= TOKEN_LENGTH_MAX
                    && token.bytes().all(|byte| byte.is_ascii_graphic())
            })
            .ok_or_else(|| self.malformed("token"))
    }
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
}

/// A way to authenticate that a server offers.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Challenge {
    scheme: String,
    values: Vec<(String, String)>,
}

impl Challenge {
    fn value(&self, name: &str) -> Option<&str> {
        self.values.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Parses `Scheme name="value", name=value, Scheme ...`; what is malformed ends the list.
fn challenges(text: &str) -> Vec<Challenge> {
    let mut found: Vec<Challenge> = Vec::new();
    if text.len() > CHALLENGE_BYTES_MAX {
        return found;
    }
    let mut rest = text.trim_start_matches([' ', '\t', ',']);
    while !rest.is_empty() {
        let end = rest.find([' ', '\t', '=', ',']).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() {
            return found;
        }
        let word = word.to_ascii_lowercase();
        if let (Some(value), Some(challenge)) = (after.strip_prefix('='), found.last_mut()) {
            let (value, after) = if let Some(quoted) = value.strip_prefix('"') {
                match unquoted(quoted) {
                    Some(parsed) => parsed,
                    None => return found,
                }
            } else {
                let end = value.find([' ', '\t', ',']).unwrap_or(value.len());
                (value[..end].to_owned(), &value[end..])
            };
            challenge.values.push((word, value));
            rest = after;
        } else {
            found.push(Challenge { scheme: word, values: Vec::new() });
            rest = after.trim_start_matches('=');
        }
        rest = rest.trim_start_matches([' ', '\t', ',']);
    }
    found
}

fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            c => value.push(c),
        }
    }
    None
}

/// Escapes a value of a query.
fn escaped(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~' | b'/' | b':') {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_parsed() {
        let check = |text: &str, expect: &[(&str, &[(&str, &str)])]| {
            let expect: Vec<_> = expect
                .iter()
                .map(|(scheme, values)| Challenge {
                    scheme: (*scheme).to_owned(),
                    values: values
                        .iter()
                        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                        .collect(),
                })
                .collect();
            assert_eq!(challenges(text), expect, "{text}");
        };
        check("", &[]);
        check("Basic realm=\"x y\"", &[("basic", &[("realm", "x y")])]);
        check(
            "Bearer realm=\"https://a/t?x=1\",service=\"a,b\", scope=pull",
            &[("bearer", &[("realm", "https://a/t?x=1"), ("service", "a,b"), ("scope", "pull")])],
        );
        check(
            "Basic realm=\"a\\\"b\", Bearer realm=c",
            &[("basic", &[("realm", "a\"b")]), ("bearer", &[("realm", "c")])],
        );
        check("Negotiate", &[("negotiate", &[])]);
        check("Bearer realm=\"open", &[("bearer", &[])]);
        check("=\"x\"", &[]);
        check(&"a ".repeat(CHALLENGE_BYTES_MAX), &[]);
    }

    #[test]
    fn waits_double_and_end() {
        let retry = Retry { attempts_max: 4, first_wait: Duration::from_millis(100) };
        for (attempt, least) in [(1, 100), (2, 200), (3, 400)] {
            let wait = retry.wait(attempt).unwrap();
            let least = Duration::from_millis(least);
            assert!(wait >= least && wait < least * 2, "{attempt}: {wait:?}");
        }
        assert_eq!(retry.wait(4), None);
    }
}
