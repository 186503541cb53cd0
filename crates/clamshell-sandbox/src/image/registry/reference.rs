//! Names of images as people write them.

use std::fmt;

use thiserror::Error;

/// Longest name: AWS takes 1,024 characters for the whole reference.
const REFERENCE_BYTES_MAX: usize = 1024;
/// Longest repository, as of the distribution specification.
const REPOSITORY_BYTES_MAX: usize = 255;
/// Longest tag, as of the distribution specification.
const TAG_BYTES_MAX: usize = 128;
/// Registry of names without one.
const DEFAULT_HOST: &str = "docker.io";

/// Not the name of an image.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{shown}` is not the name of an image: {reason}")]
pub struct ReferenceError {
    /// The text, shortened.
    pub shown: String,
    /// Rule it breaks.
    pub reason: &'static str,
}

/// The name of an image in a registry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    host: String,
    repository: String,
    tag: Option<String>,
    digest: Option<String>,
}

impl Reference {
    /// Takes `[HOST[:PORT]/]REPOSITORY[:TAG][@sha256:HEX]`; without a host `docker.io` is meant, without tag and
    /// digest `latest`.
    ///
    /// # Errors
    /// [`ReferenceError`].
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        let refuse = |reason| {
            let shown = text.chars().take(120).collect::<String>().escape_debug().to_string();
            ReferenceError { shown, reason }
        };
        if text.len() > REFERENCE_BYTES_MAX {
            return Err(refuse("it is too long"));
        }
        let (name, digest) = match text.split_once('@') {
            None => (text, None),
            Some((name, digest)) => {
                let hex =
                    digest.strip_prefix("sha256:").ok_or_else(|| refuse("only sha256 digests are taken"))?;
                if hex.len() != 64 || !hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
                    return Err(refuse("a sha256 digest has 64 lower-case hexadecimal digits"));
                }
                (name, Some(digest.to_owned()))
            }
        };
        let (host, rest) = match name.split_once('/') {
            Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => (host, rest),
            _ => (DEFAULT_HOST, name),
        };
        let (repository, tag) = match rest.rsplit_once(':') {
            None => (rest, None),
            Some((repository, tag)) => (repository, Some(tag)),
        };
        if !is_host(host) {
            return Err(refuse("its host is malformed"));
        }
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(refuse("its tag is malformed"));
        }
        let host =
            if host == "index.docker.io" || host == "registry-1.docker.io" { DEFAULT_HOST } else { host };
        let repository = if host == DEFAULT_HOST && !repository.contains('/') {
            format!("library/{repository}")
        } else {
            repository.to_owned()
        };
        if repository.len() > REPOSITORY_BYTES_MAX || !repository.split('/').all(is_component) {
            return Err(refuse("its repository is malformed; only lower-case letters are taken"));
        }
        // A digest says all; a tag beside it is for people.
        let tag =
            if digest.is_some() { tag.map(str::to_owned) } else { Some(tag.unwrap_or("latest").to_owned()) };
        Ok(Self { host: host.to_ascii_lowercase(), repository, tag, digest })
    }

    /// Host and port as people write them; also the name in the configuration.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Host and port that is spoken to.
    pub fn api_host(&self) -> &str {
        if self.host == DEFAULT_HOST { "registry-1.docker.io" } else { &self.host }
    }

    /// Repository, without the host.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Tag, if there is one.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Digest, if there is one: `sha256:<hex>`.
    pub fn digest(&self) -> Option<&str> {
        self.digest.as_deref()
    }

    /// The same image by a digest.
    #[must_use]
    pub fn pinned(&self, digest: &str) -> Self {
        Self { digest: Some(digest.to_owned()), ..self.clone() }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

fn is_host(host: &str) -> bool {
    // An IPv6 address stands in brackets.
    let (name, port) = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) if address.parse::<std::net::Ipv6Addr>().is_ok() => {
            ("v6", rest.strip_prefix(':'))
        }
        Some(_) => return false,
        None => match host.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (host, None),
        },
    };
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253
        && name.split('.').all(is_label)
        && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0) && !port.starts_with('+'))
}

fn is_tag(tag: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    tag.len() <= TAG_BYTES_MAX
        && tag.bytes().next().is_some_and(is_word)
        && tag.bytes().all(|byte| is_word(byte) || matches!(byte, b'.' | b'-'))
}

/// Letters and digits in groups, between them `.`, `_`, `__` or any number of `-`.
fn is_component(component: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = component.as_bytes();
    bytes.first().copied().is_some_and(is_plain)
        && bytes.last().copied().is_some_and(is_plain)
        && component
            .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
            .all(|gap| matches!(gap, "" | "." | "_" | "__") || gap.bytes().all(|byte| byte == b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn references_are_parsed_as_everywhere() {
        let check = |text: &str, expect: &str| {
            let shown = Reference::parse(text).map(|reference| reference.to_string());
            assert_eq!(shown.unwrap_or_default(), expect, "{text}");
        };
        check("alpine", "docker.io/library/alpine:latest");
        check("alpine:3.20", "docker.io/library/alpine:3.20");
        check("a/b", "docker.io/a/b:latest");
        check("index.docker.io/alpine", "docker.io/library/alpine:latest");
        check("ghcr.io/a/b__c/d-e--f:V1.2_x", "ghcr.io/a/b__c/d-e--f:V1.2_x");
        check("localhost/a", "localhost/a:latest");
        check("localhost:5000/a:b", "localhost:5000/a:b");
        check("127.0.0.1:5000/a", "127.0.0.1:5000/a:latest");
        check("[::1]:5000/a", "[::1]:5000/a:latest");
        check("public.ecr.aws/a/b:1", "public.ecr.aws/a/b:1");
        check("Example.COM/a", "example.com/a:latest");
        check(&format!("alpine@sha256:{HEX}"), &format!("docker.io/library/alpine@sha256:{HEX}"));
        check(&format!("alpine:3@sha256:{HEX}"), &format!("docker.io/library/alpine:3@sha256:{HEX}"));
        let bad = [
            "",
            "Alpine",
            "a//b",
            "a/../b",
            "-a",
            "a-",
            "a:",
            "a:-b",
            "a___b",
            "a..b",
            "a b",
            "a\n",
            "/a",
            "a/",
            "a.b:0/c",
            "a.b:x/c",
            "a.b:65536/c",
            "a..b/c",
            "[::1/a",
            "a@sha256:12",
            "a@sha512:12",
            "a@",
            "user@host/a",
            "a.b:1:2/c",
            "a?x",
            "a#x",
            "a%2f",
        ];
        for text in bad {
            check(text, "");
        }
        check(&"a".repeat(256), "");
        check(&format!("a:{}", "b".repeat(129)), "");
    }

    #[test]
    fn docker_hub_is_spoken_to_by_its_api_host() {
        assert_eq!(Reference::parse("alpine").unwrap().api_host(), "registry-1.docker.io");
        assert_eq!(Reference::parse("ghcr.io/a/b").unwrap().api_host(), "ghcr.io");
    }
}
