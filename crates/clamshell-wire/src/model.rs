//! The service model as constant data: operations, shapes and their constraints.
//!
//! The data itself is generated into [`crate::generated`]; here are its types. What the data means for a request is
//! the business of [`crate::validate`] and [`crate::input`].

use std::{fmt, sync::OnceLock};

use regex_lite::Regex;

use crate::operation::Plane;

/// An operation as the model has it, whether it is executed here or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModeledOperation {
    /// Name.
    pub name: &'static str,
    /// Which of the two models it is from.
    pub plane: Plane,
    /// HTTP method.
    pub method: &'static str,
    /// Path with `{parameters}`.
    pub uri: &'static str,
    /// Status of success.
    pub status: u16,
    /// Names of the errors it can answer.
    pub errors: &'static [&'static str],
}

/// A named type of the model.
#[derive(Debug)]
pub struct Shape {
    /// Name in the model.
    pub name: &'static str,
    /// Whether its values are kept out of logs.
    pub sensitive: bool,
    /// What it is.
    pub kind: Kind,
}

/// What a shape is, with its constraints.
#[derive(Debug)]
pub enum Kind {
    /// Text.
    Text {
        /// Bounds in characters.
        length: Length,
        /// What the whole text must match.
        pattern: Option<Pattern>,
        /// The only values, unless empty.
        values: &'static [&'static str],
    },
    /// A number of 32 bits.
    Integer {
        /// Least value.
        min: Option<i64>,
        /// Greatest value.
        max: Option<i64>,
    },
    /// `true` or `false`.
    Boolean,
    /// A time.
    Timestamp,
    /// Bytes: base64 in JSON, as they are in a payload.
    Blob {
        /// Bounds in bytes.
        length: Length,
    },
    /// Any JSON.
    Document,
    /// A list.
    List {
        /// Shape of each item.
        member: &'static Shape,
        /// Bounds in items.
        length: Length,
    },
    /// A map.
    Map {
        /// Shape of each key, a text.
        key: &'static Shape,
        /// Shape of each value.
        value: &'static Shape,
        /// Bounds in entries.
        length: Length,
    },
    /// Named members.
    Structure {
        /// The members by name.
        members: &'static [Member],
    },
    /// Exactly one of the members.
    Union {
        /// The members by name.
        members: &'static [Member],
    },
}

impl Kind {
    /// Whether it has parts of its own.
    pub fn is_aggregate(&self) -> bool {
        matches!(self, Self::List { .. } | Self::Map { .. } | Self::Structure { .. } | Self::Union { .. })
    }
}

/// Bounds of a length, both inclusive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Length {
    /// Least; 0 means none.
    pub min: usize,
    /// Greatest.
    pub max: Option<usize>,
}

impl Length {
    /// No bounds.
    pub const ANY: Self = Self { min: 0, max: None };
}

/// A member of a structure or union.
#[derive(Debug)]
pub struct Member {
    /// Name in the model, which is its name in JSON.
    pub name: &'static str,
    /// Its shape.
    pub shape: &'static Shape,
    /// Whether it must be there.
    pub required: bool,
    /// Whether clients fill it in with a fresh value when the caller gives none.
    pub idempotency_token: bool,
    /// Where it travels.
    pub location: Location,
}

/// Where a member travels in a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Location {
    /// A member of the JSON body.
    Body,
    /// The whole body.
    Payload,
    /// The parameter of the path with this name.
    Path(&'static str),
    /// The parameters of the query with this name.
    Query(&'static str),
    /// The header with this name, in lower case.
    Header(&'static str),
}

/// A regular expression that a whole text must match; compiled when first used.
///
/// Classes such as `\s` and `\d` mean ASCII, as they do at AWS. Matching takes time linear in the text.
pub struct Pattern {
    text: &'static str,
    compiled: OnceLock<Regex>,
}

impl Pattern {
    /// A pattern as the model writes it, without anchors.
    pub const fn new(text: &'static str) -> Self {
        Self { text, compiled: OnceLock::new() }
    }

    /// As the model writes it.
    pub fn text(&self) -> &'static str {
        self.text
    }

    /// Whether the whole of `value` matches.
    pub fn matches(&self, value: &str) -> bool {
        let compiled = self.compiled.get_or_init(|| {
            Regex::new(&format!("^(?:{})$", self.text))
                .expect("a test compiles every pattern of the generated data")
        });
        compiled.is_match(value)
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({})", self.text)
    }
}

/// Stands for a sensitive value in `Debug`.
pub(crate) struct Redacted;

impl fmt::Debug for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_whole_and_ascii() {
        let check = |pattern: &'static str, text: &str, expect: bool| {
            assert_eq!(Pattern::new(pattern).matches(text), expect, "{pattern} on {text:?}");
        };
        check("a|b", "a", true);
        check("a|b", "ax", false);
        check("a|b", "xb", false);
        check("[0-9]{12}", "123456789012\n", false);
        check(r"\d", "\u{0663}", false);
        check(r"\S*", "\u{a0}", true);
        check(r"[\s\S]+", "\n", true);
        check("[A-Za-z0-9_.-:]+", "a:9/", true);
        check("[0-9a-z-:]+", "a-:", true);
    }
}
