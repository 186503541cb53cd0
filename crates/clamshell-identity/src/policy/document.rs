//! A parsed policy document. Made by [`Document::parse`] alone, so one that exists is well formed.

use super::{
    condition::Condition,
    parse::{self, ParseError},
    principal::Named,
    value::Template,
};

/// What a document is attached to, which decides the members it must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DocumentKind {
    /// To a user or role: `Resource`, no `Principal`.
    Identity,
    /// To a resource: `Resource` and `Principal`.
    Resource,
    /// To a role, saying who may assume it: `Principal`, no `Resource`.
    Trust,
}

/// Whether a statement gives or takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Gives.
    Allow,
    /// Takes, whatever else gives.
    Deny,
}

/// A policy document.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    pub(super) kind: DocumentKind,
    pub(super) statements: Vec<Statement>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Statement {
    pub(super) sid: Option<String>,
    pub(super) effect: Effect,
    pub(super) actions: Element<String>,
    /// `None` in trust policies, whose resource is the role itself.
    pub(super) resources: Option<Element<ResourcePattern>>,
    /// `None` in identity policies, whose principal is whoever they are attached to.
    pub(super) principals: Option<Element<Named>>,
    /// All must hold.
    pub(super) conditions: Vec<Condition>,
}

/// A member and its negation: `Action` or `NotAction`.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Element<T> {
    pub(super) negated: bool,
    pub(super) entries: Vec<T>,
}

/// An entry of `Resource` with the text it was written as.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ResourcePattern {
    pub(super) text: String,
    pub(super) template: Template,
}

impl Document {
    /// Greatest number of characters of a document, as the service model says.
    pub const CHARS_MAX: usize = 20_480;

    /// Parses a document of this kind.
    ///
    /// # Errors
    /// [`ParseError`], which names the place.
    pub fn parse(kind: DocumentKind, text: &str) -> Result<Self, ParseError> {
        parse::document(kind, text)
    }

    /// What the document is attached to.
    pub fn kind(&self) -> DocumentKind {
        self.kind
    }

    /// The names (`Sid`) of its statements, for audit records.
    pub fn sids(&self) -> impl Iterator<Item = &str> {
        self.statements.iter().filter_map(|statement| statement.sid.as_deref())
    }
}
