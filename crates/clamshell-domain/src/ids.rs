//! Typed ids. A value that exists is valid: the only way in is `parse`.

use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::Entropy;

/// Why a text is not an id. The text itself is never repeated: it may be hostile or secret.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IdError {
    /// Too few characters.
    #[error("{what} must have at least {min} characters")]
    TooShort {
        /// Name of the id.
        what: &'static str,
        /// Least number of characters.
        min: usize,
    },
    /// Too many characters.
    #[error("{what} must have at most {max} characters")]
    TooLong {
        /// Name of the id.
        what: &'static str,
        /// Greatest number of characters.
        max: usize,
    },
    /// Characters that are not allowed.
    #[error("{what} must match {pattern}")]
    Pattern {
        /// Name of the id.
        what: &'static str,
        /// The rule as the service model writes it.
        pattern: &'static str,
    },
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(String);

        impl $name {
            /// Checks `text` and makes an id of it.
            ///
            /// # Errors
            /// [`IdError`] that names the rule broken.
            pub fn parse(text: impl Into<String>) -> Result<Self, IdError> {
                let text = text.into();
                let check: fn(&str) -> Result<(), IdError> = $check;
                check(&text)?;
                Ok(Self(text))
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;

            fn try_from(text: String) -> Result<Self, IdError> {
                Self::parse(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0
            }
        }
    };
}

id!(
    /// AWS account: 12 digits.
    AccountId,
    |text| {
        let ok = text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit());
        matches(ok, "accountId", "[0-9]{12}")
    }
);

id!(
    /// AWS region, for instance `us-west-2`.
    Region,
    |text| {
        let ok = (3..=32).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        matches(ok, "region", "[a-z0-9-]{3,32}")
    }
);

id!(
    /// `agentRuntimeName`, unique in an account and region (model: `[a-zA-Z][a-zA-Z0-9_]{0,47}`).
    RuntimeName,
    |text| matches(is_name(text, 48), "agentRuntimeName", "[a-zA-Z][a-zA-Z0-9_]{0,47}")
);

id!(
    /// `agentRuntimeId`: name, hyphen, ten alphanumerics.
    RuntimeId,
    |text| {
        let ok = text.rsplit_once('-').is_some_and(|(name, suffix)| {
            is_name(name, 100) && suffix.len() == 10 && suffix.bytes().all(|byte| byte.is_ascii_alphanumeric())
        });
        matches(ok, "agentRuntimeId", "[a-zA-Z][a-zA-Z0-9_]{0,99}-[a-zA-Z0-9]{10}")
    }
);

id!(
    /// Name of a runtime endpoint, on the wire the `qualifier`; `DEFAULT` is reserved.
    EndpointName,
    |text| matches(is_name(text, 48), "qualifier", "[a-zA-Z][a-zA-Z0-9_]{0,47}")
);

id!(
    /// `runtimeSessionId`: 33 to 256 characters; the model gives requests no pattern. Control characters are refused:
    /// none fits in a header.
    SessionId,
    |text| {
        let count = text.chars().count();
        if count < 33 {
            return Err(IdError::TooShort { what: "runtimeSessionId", min: 33 });
        }
        if count > 256 {
            return Err(IdError::TooLong { what: "runtimeSessionId", max: 256 });
        }
        matches(!text.chars().any(char::is_control), "runtimeSessionId", "[^\\p{Cc}]{33,256}")
    }
);

id!(
    /// Shell id: `[a-zA-Z0-9][a-zA-Z0-9_-]{0,127}`. Safe as a file name.
    ShellId,
    |text| {
        let mut bytes = text.bytes();
        let ok = text.len() <= 128
            && bytes.next().is_some_and(|byte| byte.is_ascii_alphanumeric())
            && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
        matches(ok, "shellId", "[a-zA-Z0-9][a-zA-Z0-9_-]{0,127}")
    }
);

id!(
    /// Access key id: `AKIA` and 16 capital letters or digits, as AWS makes them.
    AccessKeyId,
    |text| {
        let ok = (16..=128).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
        matches(ok, "accessKeyId", "[\\w]{16,128}")
    }
);

id!(
    /// Our own name for a session's folder and control group: 20 lower-case letters or digits.
    StorageId,
    |text| {
        let ok = text.len() == 20
            && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        matches(ok, "storageId", "[a-z0-9]{20}")
    }
);

impl RuntimeId {
    /// A new id for a runtime of this name.
    pub fn generate(name: &RuntimeName, entropy: &dyn Entropy) -> Self {
        const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        Self(format!("{name}-{}", random_text(entropy, ALPHABET, 10)))
    }

    /// A new id for an endpoint of this name: the service gives both the same form.
    pub fn generate_for_endpoint(name: &EndpointName, entropy: &dyn Entropy) -> Self {
        const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
        Self(format!("{name}-{}", random_text(entropy, ALPHABET, 10)))
    }
}

impl EndpointName {
    /// The endpoint that every runtime has.
    pub fn default_endpoint() -> Self {
        Self("DEFAULT".to_owned())
    }
}

impl AccessKeyId {
    /// A new access key id.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        Self(format!("AKIA{}", random_text(entropy, b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567", 16)))
    }
}

impl AccountId {
    /// A new account id; never starts with 0, so that no tool takes it for a number with lost digits.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        let first = random_text(entropy, b"123456789", 1);
        Self(format!("{first}{}", random_text(entropy, b"0123456789", 11)))
    }
}

impl StorageId {
    /// A new storage id: 20 characters of 5 bits, 100 random bits.
    pub fn generate(entropy: &dyn Entropy) -> Self {
        Self(random_text(entropy, b"abcdefghijklmnopqrstuvwxyz234567", 20))
    }
}

fn random_text(entropy: &dyn Entropy, alphabet: &[u8], length: usize) -> String {
    let mut text = String::with_capacity(length);
    let limit = 256 - 256 % alphabet.len();
    let mut bytes = [0; 32];
    while text.len() < length {
        entropy.fill(&mut bytes);
        // Bytes above the last whole multiple would favour the first letters.
        for byte in bytes.iter().map(|byte| usize::from(*byte)).filter(|byte| *byte < limit) {
            if text.len() < length {
                text.push(char::from(alphabet[byte % alphabet.len()]));
            }
        }
    }
    text
}

fn is_name(text: &str, max: usize) -> bool {
    let mut bytes = text.bytes();
    text.len() <= max
        && bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic())
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn matches(ok: bool, what: &'static str, pattern: &'static str) -> Result<(), IdError> {
    if ok { Ok(()) } else { Err(IdError::Pattern { what, pattern }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SystemEntropy;

    #[test]
    fn generated_ids_are_valid() {
        for _ in 0..200 {
            let name = RuntimeName::parse("default").unwrap();
            RuntimeId::parse(RuntimeId::generate(&name, &SystemEntropy).as_str()).unwrap();
            AccessKeyId::parse(AccessKeyId::generate(&SystemEntropy).as_str()).unwrap();
            AccountId::parse(AccountId::generate(&SystemEntropy).as_str()).unwrap();
            StorageId::parse(StorageId::generate(&SystemEntropy).as_str()).unwrap();
        }
    }

    #[test]
    fn session_id_bounds_count_characters() {
        let check = |text: String, ok: bool| assert_eq!(SessionId::parse(text).is_ok(), ok);
        check("s".repeat(32), false);
        check("s".repeat(33), true);
        check("é".repeat(256), true);
        check("s".repeat(257), false);
        check(format!("{}\n", "s".repeat(40)), false);
    }

    #[test]
    fn shell_ids_are_safe_file_names() {
        let check = |text: &str, ok: bool| assert_eq!(ShellId::parse(text).is_ok(), ok, "{text}");
        check("build", true);
        check("0-_a", true);
        check("", false);
        check(".", false);
        check("..", false);
        check("-x", false);
        check("a/b", false);
        check("a\0b", false);
        check(&"x".repeat(128), true);
        check(&"x".repeat(129), false);
    }

    #[test]
    fn runtime_ids_end_in_ten_alphanumerics() {
        let check = |text: &str, ok: bool| assert_eq!(RuntimeId::parse(text).is_ok(), ok, "{text}");
        check("default-AbCdE12345", true);
        check("default-AbCdE1234", false);
        check("1default-AbCdE12345", false);
        check("de-fault-AbCdE12345", false);
    }
}
