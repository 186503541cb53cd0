//! Passwords of people: Argon2id with the parameters that OWASP recommends, and never more than two at once.

use std::{sync::Arc, time::Duration};

use argon2::{Algorithm, Argon2, Params, Version};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use clamshell_domain::Entropy;
use tokio::sync::Semaphore;

use super::ConsoleError;

/// Memory and passes of a new hash: 19 MiB, two, in one thread.
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;

/// A stored hash may ask for as much: the parameters may grow, a damaged row must not take the machine's memory.
const MEMORY_KIB_MAX: u32 = 1 << 20;
const PASSES_MAX: u32 = 64;

/// Hashes at once: each fills a core and 19 MiB, and sandboxes need some as well.
const AT_ONCE_MAX: usize = 2;

/// Others wait so long for their turn.
const TURN_PATIENCE: Duration = Duration::from_secs(5);

const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;

/// Shortest and longest password, as NIST SP 800-63B has them for those without a second factor, and a bound.
pub(crate) const CHARS_MIN: usize = 12;
pub(crate) const BYTES_MAX: usize = 1024;

/// Hashes and checks.
#[derive(Debug)]
pub(crate) struct Passwords {
    turns: Arc<Semaphore>,
}

impl Default for Passwords {
    fn default() -> Self {
        Self { turns: Arc::new(Semaphore::new(AT_ONCE_MAX)) }
    }
}

impl Passwords {
    /// The hash of a new password, in the form of PHC strings.
    ///
    /// # Errors
    /// [`ConsoleError::Password`] for one that is too short or too long, [`ConsoleError::Busy`].
    pub(crate) async fn hash(&self, password: String, entropy: &dyn Entropy) -> Result<String, ConsoleError> {
        if password.len() > BYTES_MAX || password.chars().count() < CHARS_MIN {
            return Err(ConsoleError::Password);
        }
        let mut salt = [0; SALT_BYTES];
        entropy.fill(&mut salt);
        let made = self.blocking(move || {
            let hash = hash(&password, &salt, MEMORY_KIB, PASSES)?;
            Some(format!(
                "$argon2id$v=19$m={MEMORY_KIB},t={PASSES},p=1${}${}",
                STANDARD_NO_PAD.encode(salt),
                STANDARD_NO_PAD.encode(hash)
            ))
        });
        made.await?.ok_or(ConsoleError::Hash)
    }

    /// Whether a password is that of a stored hash. Takes as long without one, so that nobody learns which users there are.
    ///
    /// # Errors
    /// [`ConsoleError::Busy`].
    pub(crate) async fn verify(
        &self,
        stored: Option<String>,
        password: String,
    ) -> Result<bool, ConsoleError> {
        let parsed = stored.as_deref().map(|stored| parse(stored).ok_or(ConsoleError::Hash)).transpose()?;
        let is_there = parsed.is_some();
        let stored = parsed.unwrap_or_else(Stored::dummy);
        // Longer ones than can be are no password; they take the same time.
        let fits = password.len() <= BYTES_MAX;
        let password = if fits { password } else { String::new() };
        let same = self.blocking(move || {
            let hash = hash(&password, &stored.salt, stored.memory_kib, stored.passes)?;
            Some(verify_slices_are_equal(&hash, &stored.hash).is_ok())
        });
        Ok(same.await?.ok_or(ConsoleError::Hash)? && is_there && fits)
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, ConsoleError> {
        let turn = tokio::time::timeout(TURN_PATIENCE, Arc::clone(&self.turns).acquire_owned()).await;
        let turn = turn.map_err(|_| ConsoleError::Busy)?.map_err(|_| ConsoleError::Busy)?;
        let done = tokio::task::spawn_blocking(move || {
            let done = work();
            // Not before the work is done, although nobody may wait for it any more.
            drop(turn);
            done
        });
        done.await.map_err(|_| ConsoleError::Hash)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Stored {
    memory_kib: u32,
    passes: u32,
    salt: Vec<u8>,
    hash: Vec<u8>,
}

impl Stored {
    /// Of no password: nobody finds one that hashes to all zeros.
    fn dummy() -> Self {
        let (salt, hash) = (vec![0; SALT_BYTES], vec![0; HASH_BYTES]);
        Self { memory_kib: MEMORY_KIB, passes: PASSES, salt, hash }
    }
}

fn parse(text: &str) -> Option<Stored> {
    let mut parts = text.strip_prefix("$argon2id$v=19$")?.split('$');
    let (parameters, salt, hash) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let mut parameters = parameters.split(',');
    let mut number =
        |name: &str| parameters.next()?.strip_prefix(name)?.strip_prefix('=')?.parse::<u32>().ok();
    let (memory_kib, passes, lanes) = (number("m")?, number("t")?, number("p")?);
    let stored = Stored {
        memory_kib,
        passes,
        salt: STANDARD_NO_PAD.decode(salt).ok()?,
        hash: STANDARD_NO_PAD.decode(hash).ok()?,
    };
    let bounded = lanes == 1
        && memory_kib <= MEMORY_KIB_MAX
        && (1..=PASSES_MAX).contains(&passes)
        && stored.hash.len() == HASH_BYTES;
    bounded.then_some(stored)
}

fn hash(password: &str, salt: &[u8], memory_kib: u32, passes: u32) -> Option<[u8; HASH_BYTES]> {
    let parameters = Params::new(memory_kib, passes, 1, Some(HASH_BYTES)).ok()?;
    let mut hash = [0; HASH_BYTES];
    let argon = Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters);
    argon.hash_password_into(password.as_bytes(), salt, &mut hash).ok()?;
    Some(hash)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clamshell_domain::SystemEntropy;

    #[tokio::test]
    async fn a_password_is_known_again_and_another_is_not() {
        let passwords = Passwords::default();
        let password = "correct horse battery";
        let stored = passwords.hash(password.to_owned(), &SystemEntropy).await.unwrap();
        assert!(stored.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{stored}");
        assert!(!stored.contains(password));
        let verify = async |stored: Option<&str>, password: &str| {
            passwords.verify(stored.map(str::to_owned), password.to_owned()).await.unwrap()
        };
        assert!(verify(Some(&stored), password).await);
        assert!(!verify(Some(&stored), "correct horse batterz").await);
        assert!(!verify(Some(&stored), "").await);
        assert!(!verify(Some(&stored), &"x".repeat(BYTES_MAX + 1)).await);
        assert!(!verify(None, password).await);
        assert!(!verify(None, "").await);
        let again = passwords.hash(password.to_owned(), &SystemEntropy).await.unwrap();
        assert_ne!(stored, again, "each has a salt");
    }

    #[tokio::test]
    async fn short_and_endless_ones_are_refused() {
        let passwords = Passwords::default();
        for password in ["", "elevenchars", &"é".repeat(11), &"x".repeat(BYTES_MAX + 1)] {
            let refused = passwords.hash(password.to_owned(), &SystemEntropy).await.unwrap_err();
            assert!(matches!(refused, ConsoleError::Password));
        }
    }

    #[test]
    fn damaged_hashes_are_none() {
        let (salt, hash) = ("A".repeat(22), "A".repeat(43));
        let check = |text: String, expect: bool| assert_eq!(parse(&text).is_some(), expect, "{text}");
        check(format!("$argon2id$v=19$m=19456,t=2,p=1${salt}${hash}"), true);
        for parameters in
            ["m=4294967295,t=2,p=1", "m=19456,t=0,p=1", "m=19456,t=2,p=2", "t=2,m=19456,p=1", "m=1"]
        {
            check(format!("$argon2id$v=19${parameters}${salt}${hash}"), false);
        }
        check(format!("$argon2id$v=19$m=19456,t=2,p=1${salt}${hash}$"), false);
        check(format!("$argon2id$v=19$m=19456,t=2,p=1${salt}$AAAA"), false);
        check(format!("$argon2i$v=19$m=19456,t=2,p=1${salt}${hash}"), false);
        check(String::new(), false);
    }
}
