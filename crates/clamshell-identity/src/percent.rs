//! Percent-encoding of what stands in a path, a query or a form.

/// Encodes all but the unreserved characters, as clients encode the ARN in the path.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unreserved_characters_stay() {
        assert_eq!(escape("Az09-._~"), "Az09-._~");
        assert_eq!(escape("a b/é:%"), "a%20b%2F%C3%A9%3A%25");
    }
}
