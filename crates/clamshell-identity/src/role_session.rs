//! Temporary credentials of a role: an access key whose session token carries everything about it.
//!
//! The token is sealed with AES-256-GCM-SIV by a key of the server, so that nothing needs to be stored:
//! whoever presents it shows what the server itself wrote into it, and can neither read nor change it.
//! A caller must still sign its requests with the secret: [`open`] gives it for the verification. There
//! is no way to revoke one session but to change the key or to check the grant against a list.

use std::fmt;

use aws_lc_rs::{
    aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    digest,
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use clamshell_domain::{AccessKeyId, AccountId, Clock, Entropy};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::policy::{Principal, PrincipalKind};

/// First byte of every token. 1: key id (8), nonce (12), AES-256-GCM-SIV text and tag (16).
const FORMAT_1: u8 = 1;
const KEY_ID_BYTES: usize = 8;
/// The largest grant that [`mint`] makes, in base64: two ARNs of 2048 characters, and room for the rest.
const TOKEN_CHARS_MAX: usize = 8192;
const ARN_CHARS_MAX: usize = 2048;
/// Bounds of a session's life, as STS has them: 15 minutes to 12 hours.
const DURATION_MS: std::ops::RangeInclusive<u64> = 900_000..=43_200_000;

/// The key that seals session tokens.
pub struct SealingKey {
    key: LessSafeKey,
    id: [u8; KEY_ID_BYTES],
}

impl fmt::Debug for SealingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SealingKey")
    }
}

impl SealingKey {
    /// A key of 32 random bytes. Use it for nothing else.
    pub fn new(bytes: &[u8; 32]) -> Self {
        let key = UnboundKey::new(&AES_256_GCM_SIV, bytes).expect("the cipher takes keys of 32 bytes");
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"clamshell role session key id");
        context.update(bytes);
        let mut id = [0; KEY_ID_BYTES];
        id.copy_from_slice(&context.finish().as_ref()[..KEY_ID_BYTES]);
        Self { key: LessSafeKey::new(key), id }
    }
}

/// A secret access key. Its text shows in no `Debug` output.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretAccessKey(String);

impl SecretAccessKey {
    /// The secret itself.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretAccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretAccessKey")
    }
}

/// Whose credentials to make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Account of the role.
    pub account: AccountId,
    /// ARN of the role: `arn:aws:iam::...:role/...`.
    pub role_arn: String,
    /// Name of the session, 2 to 64 characters of `[\w+=,.@-]`.
    pub session_name: String,
    /// ARN of the runtime whose sandbox gets the credentials, if one does.
    pub source_runtime_arn: Option<String>,
    /// How long they are valid: 15 minutes to 12 hours.
    pub duration_ms: u64,
}

/// Temporary credentials, as a client gets them.
#[derive(Clone, PartialEq, Eq)]
pub struct RoleSession {
    /// `ASIA` and 16 capital letters or digits.
    pub access_key_id: AccessKeyId,
    /// 40 characters.
    pub secret_access_key: SecretAccessKey,
    /// To be sent along as `X-Amz-Security-Token`; at most 8192 characters.
    pub session_token: String,
    /// Milliseconds since 1970.
    pub expires_at_ms: u64,
}

impl fmt::Debug for RoleSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RoleSession")
            .field("access_key_id", &self.access_key_id)
            .field("expires_at_ms", &self.expires_at_ms)
            .finish_non_exhaustive()
    }
}

/// What a session token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpenedSession {
    /// Account of the role.
    pub account: AccountId,
    /// ARN of the role.
    pub role_arn: String,
    /// Name of the session.
    pub session_name: String,
    /// ARN of the runtime whose sandbox got the credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_runtime_arn: Option<String>,
    /// Milliseconds since 1970.
    pub issued_at_ms: u64,
    /// Milliseconds since 1970.
    pub expires_at_ms: u64,
    /// The access key the token belongs to.
    pub access_key_id: AccessKeyId,
    /// Its secret, to verify signatures with.
    pub secret_access_key: SecretAccessKey,
}

impl OpenedSession {
    /// ARN of the session as a principal: `arn:aws:sts::<account>:assumed-role/<role>/<session>`. The
    /// path of a role is not part of it.
    pub fn principal_arn(&self) -> String {
        let partition = self.role_arn.split(':').nth(1).unwrap_or("aws");
        let role = self.role_arn.rsplit('/').next().unwrap_or_default();
        format!("arn:{partition}:sts::{}:assumed-role/{role}/{}", self.account, self.session_name)
    }

    /// The session as a caller for [`crate::policy::evaluate`].
    pub fn principal(&self) -> Principal {
        Principal {
            arn: self.principal_arn(),
            account: self.account.to_string(),
            kind: PrincipalKind::RoleSession { role_arn: self.role_arn.clone() },
        }
    }
}

/// Why credentials cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MintError {
    /// Not the ARN of a role of this account.
    #[error("not the ARN of a role of the account")]
    RoleArn,
    /// Not a name for a session.
    #[error("session name must match [\\w+=,.@-]{{2,64}}")]
    SessionName,
    /// An ARN that is too long.
    #[error("source ARN must have at most 2048 characters")]
    SourceArn,
    /// Shorter than 15 minutes or longer than 12 hours.
    #[error("duration must be 900 to 43200 seconds")]
    Duration,
    /// The cipher failed.
    #[error("session token could not be sealed")]
    Seal,
}

/// Why a session token is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OpenError {
    /// Not a session token, or one of an unknown format.
    #[error("session token is malformed")]
    Format,
    /// Sealed with another key.
    #[error("session token belongs to another key")]
    OtherKey,
    /// Changed, or made by someone else.
    #[error("session token does not verify")]
    Forged,
    /// It belongs to another access key than the one presented with it.
    #[error("session token belongs to another access key")]
    OtherAccessKey,
    /// Past its end.
    #[error("session token is expired")]
    Expired,
}

/// Makes credentials.
///
/// # Errors
/// [`MintError`].
pub fn mint(
    key: &SealingKey,
    grant: Grant,
    clock: &dyn Clock,
    entropy: &dyn Entropy,
) -> Result<RoleSession, MintError> {
    check(&grant)?;
    let issued_at_ms = clock.now_ms();
    let opened = OpenedSession {
        account: grant.account,
        role_arn: grant.role_arn,
        session_name: grant.session_name,
        source_runtime_arn: grant.source_runtime_arn,
        issued_at_ms,
        expires_at_ms: issued_at_ms.saturating_add(grant.duration_ms),
        access_key_id: new_access_key_id(entropy),
        secret_access_key: new_secret(entropy),
    };
    let session_token = seal(key, &opened, entropy)?;
    Ok(RoleSession {
        access_key_id: opened.access_key_id,
        secret_access_key: opened.secret_access_key,
        session_token,
        expires_at_ms: opened.expires_at_ms,
    })
}

/// Opens a session token that came with `access_key_id`.
///
/// # Errors
/// [`OpenError`].
pub fn open(
    key: &SealingKey,
    access_key_id: &str,
    session_token: &str,
    clock: &dyn Clock,
) -> Result<OpenedSession, OpenError> {
    if session_token.len() > TOKEN_CHARS_MAX {
        return Err(OpenError::Format);
    }
    let bytes = URL_SAFE_NO_PAD.decode(session_token).map_err(|_| OpenError::Format)?;
    let (format, rest) = bytes.split_first().ok_or(OpenError::Format)?;
    let (id, rest) = rest.split_first_chunk::<KEY_ID_BYTES>().ok_or(OpenError::Format)?;
    let (nonce, rest) = rest.split_first_chunk::<NONCE_LEN>().ok_or(OpenError::Format)?;
    if *format != FORMAT_1 {
        return Err(OpenError::Format);
    }
    if *id != key.id {
        return Err(OpenError::OtherKey);
    }
    let mut text = rest.to_vec();
    let text = key
        .key
        .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(aad(*format, id)), &mut text)
        .map_err(|_| OpenError::Forged)?;
    let opened: OpenedSession = serde_json::from_slice(text).map_err(|_| OpenError::Format)?;
    if opened.access_key_id.as_str() != access_key_id {
        return Err(OpenError::OtherAccessKey);
    }
    if clock.now_ms() >= opened.expires_at_ms {
        return Err(OpenError::Expired);
    }
    Ok(opened)
}

fn check(grant: &Grant) -> Result<(), MintError> {
    let parts: Vec<&str> = grant.role_arn.splitn(6, ':').collect();
    let role = match parts[..] {
        ["arn", partition, "iam", "", account, rest]
            if partition.starts_with("aws") && account == grant.account.as_str() =>
        {
            rest.strip_prefix("role/")
        }
        _ => None,
    };
    let name = role.and_then(|role| role.rsplit('/').next()).unwrap_or_default();
    let graphic = grant.role_arn.chars().all(|char| char.is_ascii_graphic());
    if name.is_empty() || !graphic || grant.role_arn.len() > ARN_CHARS_MAX {
        return Err(MintError::RoleArn);
    }
    let session = &grant.session_name;
    let session_ok = (2..=64).contains(&session.len())
        && session.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte));
    if !session_ok {
        return Err(MintError::SessionName);
    }
    let source_ok = grant
        .source_runtime_arn
        .as_ref()
        .is_none_or(|arn| arn.len() <= ARN_CHARS_MAX && arn.bytes().all(|byte| byte.is_ascii_graphic()));
    if !source_ok {
        return Err(MintError::SourceArn);
    }
    if DURATION_MS.contains(&grant.duration_ms) { Ok(()) } else { Err(MintError::Duration) }
}

fn seal(key: &SealingKey, opened: &OpenedSession, entropy: &dyn Entropy) -> Result<String, MintError> {
    let mut text = serde_json::to_vec(opened).map_err(|_| MintError::Seal)?;
    let mut nonce = [0; NONCE_LEN];
    entropy.fill(&mut nonce);
    let tag = key
        .key
        .seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(aad(FORMAT_1, &key.id)),
            &mut text,
        )
        .map_err(|_| MintError::Seal)?;
    let sealed = [&[FORMAT_1][..], &key.id, &nonce, &text, tag.as_ref()].concat();
    let token = URL_SAFE_NO_PAD.encode(sealed);
    if token.len() > TOKEN_CHARS_MAX { Err(MintError::Seal) } else { Ok(token) }
}

/// Binds the text to what stands before it in the clear, and to this use of the key.
fn aad(format: u8, id: &[u8; KEY_ID_BYTES]) -> Vec<u8> {
    [b"clamshell role session", &[format][..], id].concat()
}

fn new_access_key_id(entropy: &dyn Entropy) -> AccessKeyId {
    let text = random_text(entropy, b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 16);
    AccessKeyId::parse(format!("ASIA{text}")).expect("letters and digits make an access key id")
}

fn new_secret(entropy: &dyn Entropy) -> SecretAccessKey {
    // 64 characters: every byte maps evenly. 40 of them are 240 random bits.
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    SecretAccessKey(random_text(entropy, alphabet, 40))
}

/// `alphabet` must have 32 or 64 characters, so that no character is likelier than another.
fn random_text(entropy: &dyn Entropy, alphabet: &[u8], length: usize) -> String {
    let mut bytes = vec![0; length];
    entropy.fill(&mut bytes);
    bytes.iter().map(|byte| char::from(alphabet[usize::from(*byte) % alphabet.len()])).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use clamshell_domain::SystemEntropy;

    use super::*;

    struct At(AtomicU64);

    impl Clock for At {
        fn now_ms(&self) -> u64 {
            self.0.load(Ordering::Relaxed)
        }
    }

    fn at(ms: u64) -> At {
        At(AtomicU64::new(ms))
    }

    fn grant() -> Grant {
        Grant {
            account: AccountId::parse("111122223333").unwrap(),
            role_arn: "arn:aws:iam::111122223333:role/path/agent".to_owned(),
            session_name: "demo-1".to_owned(),
            source_runtime_arn: Some(
                "arn:aws:bedrock-agentcore:us-west-2:111122223333:runtime/demo-AbCdE12345".to_owned(),
            ),
            duration_ms: 3_600_000,
        }
    }

    #[test]
    fn minted_credentials_open_to_what_was_granted() {
        let key = SealingKey::new(&[7; 32]);
        let session = mint(&key, grant(), &at(1000), &SystemEntropy).unwrap();
        assert!(session.access_key_id.as_str().starts_with("ASIA"));
        assert_eq!(session.access_key_id.as_str().len(), 20);
        assert_eq!(session.secret_access_key.expose().len(), 40);
        assert_eq!(session.expires_at_ms, 3_601_000);
        let opened =
            open(&key, session.access_key_id.as_str(), &session.session_token, &at(3_600_999)).unwrap();
        let expect = OpenedSession {
            account: grant().account,
            role_arn: grant().role_arn,
            session_name: grant().session_name,
            source_runtime_arn: grant().source_runtime_arn,
            issued_at_ms: 1000,
            expires_at_ms: 3_601_000,
            access_key_id: session.access_key_id.clone(),
            secret_access_key: session.secret_access_key.clone(),
        };
        assert_eq!(opened, expect);
        assert_eq!(opened.principal_arn(), "arn:aws:sts::111122223333:assumed-role/agent/demo-1");
        let kind = PrincipalKind::RoleSession { role_arn: opened.role_arn.clone() };
        let principal = Principal { arn: opened.principal_arn(), account: "111122223333".to_owned(), kind };
        assert_eq!(opened.principal(), principal);
        // Neither the debug output nor the token shows the secret.
        let shown = format!("{session:?}{opened:?}{key:?}{}", session.session_token);
        assert!(!shown.contains(session.secret_access_key.expose()), "{shown}");
        let other = mint(&key, grant(), &at(1000), &SystemEntropy).unwrap();
        assert_ne!(other.access_key_id, session.access_key_id);
        assert_ne!(other.secret_access_key, session.secret_access_key);
    }

    #[test]
    fn tokens_that_are_refused() {
        let key = SealingKey::new(&[7; 32]);
        let session = mint(&key, grant(), &at(1000), &SystemEntropy).unwrap();
        let check = |key: &SealingKey, id: &str, token: &str, now: u64, expect: OpenError| {
            assert_eq!(open(key, id, token, &at(now)), Err(expect), "{token}");
        };
        let id = session.access_key_id.as_str();
        let token = session.session_token.as_str();
        check(&key, id, token, 3_601_000, OpenError::Expired);
        check(&SealingKey::new(&[8; 32]), id, token, 1000, OpenError::OtherKey);
        check(&key, "ASIAAAAAAAAAAAAAAAAA", token, 1000, OpenError::OtherAccessKey);
        for text in ["", "AA", "not base64!", "AQ", &"A".repeat(8193)] {
            check(&key, id, text, 1000, OpenError::Format);
        }
        // Any changed byte is noticed, wherever it is.
        let bytes = URL_SAFE_NO_PAD.decode(token).unwrap();
        for index in 0..bytes.len() {
            let mut bytes = bytes.clone();
            bytes[index] ^= 1;
            let expect = match index {
                0 => OpenError::Format,
                1..=8 => OpenError::OtherKey,
                _ => OpenError::Forged,
            };
            check(&key, id, &URL_SAFE_NO_PAD.encode(bytes), 1000, expect);
        }
        let short = URL_SAFE_NO_PAD.encode(&bytes[..bytes.len() - 1]);
        check(&key, id, &short, 1000, OpenError::Forged);
    }

    #[test]
    fn grants_that_are_refused() {
        let check = |change: fn(&mut Grant), expect: MintError| {
            let mut grant = grant();
            change(&mut grant);
            let minted = mint(&SealingKey::new(&[7; 32]), grant, &at(0), &SystemEntropy);
            assert_eq!(minted, Err(expect));
        };
        check(|grant| grant.role_arn = "arn:aws:iam::444455556666:role/agent".to_owned(), MintError::RoleArn);
        check(|grant| grant.role_arn = "arn:aws:iam::111122223333:user/agent".to_owned(), MintError::RoleArn);
        check(|grant| grant.role_arn = "arn:aws:iam::111122223333:role/".to_owned(), MintError::RoleArn);
        check(|grant| grant.role_arn.push_str(&"x".repeat(2048)), MintError::RoleArn);
        check(|grant| grant.session_name = "a".to_owned(), MintError::SessionName);
        check(|grant| grant.session_name = "a/b".to_owned(), MintError::SessionName);
        check(|grant| grant.source_runtime_arn = Some("x".repeat(2049)), MintError::SourceArn);
        check(|grant| grant.duration_ms = 899_999, MintError::Duration);
        check(|grant| grant.duration_ms = 43_200_001, MintError::Duration);
    }

    #[test]
    fn the_largest_grant_fits() {
        let mut grant = grant();
        grant.role_arn = format!("arn:aws:iam::111122223333:role/{}", "r".repeat(2017));
        grant.source_runtime_arn = Some("s".repeat(2048));
        grant.session_name = "n".repeat(64);
        let session = mint(&SealingKey::new(&[7; 32]), grant, &at(0), &SystemEntropy).unwrap();
        assert!(session.session_token.len() <= TOKEN_CHARS_MAX);
    }
}
