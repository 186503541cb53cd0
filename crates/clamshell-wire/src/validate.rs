//! Holds JSON to the constraints of a shape, and says what is wrong in the words of AWS.
//!
//! Unknown members are ignored and `null` is the same as absent, as AWS has it. Lengths of text count characters.
//! Values are never repeated in messages: they may be secrets, and are as long as their sender likes.

use serde_json::{Map, Value};

use crate::{
    error::{AwsError, ValidationField, length_rule},
    model::{Kind, Length, Member, Shape},
    timestamp::Timestamp,
};

/// Most violations that are told: more help nobody, and each costs more bytes than the value that caused it.
pub const VIOLATIONS_MAX: usize = 50;
/// Deepest nesting of shapes. The deepest in the model has 9 levels, and none is recursive.
pub const DEPTH_MAX: usize = 32;

/// A value that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Where, for instance `agentRuntimeArtifact.containerConfiguration.containerUri` or `tags.2.member.key`.
    pub path: String,
    /// Which rule, for instance `Member must not be null`.
    pub rule: String,
    /// Whether it is of another JSON type, so that the request cannot be read at all.
    pub wrong_type: bool,
}

impl Violation {
    /// A value out of bounds.
    pub fn constraint(path: impl Into<String>, rule: impl Into<String>) -> Self {
        Self { path: path.into(), rule: rule.into(), wrong_type: false }
    }

    /// A value of the wrong type; `expected` is for instance `a string`.
    pub fn wrong_type(path: impl Into<String>, expected: &str) -> Self {
        Self { path: path.into(), rule: format!("Member must be {expected}"), wrong_type: true }
    }

    /// As it stands in the body of an error.
    pub fn field(&self) -> ValidationField {
        ValidationField::new(&*self.path, &*self.rule)
    }
}

/// The `ValidationException` for violations: `CannotParse` when one is a wrong type, `FieldValidationFailed` else.
pub fn aws_error(violations: &[Violation]) -> AwsError {
    let fields: Vec<_> = violations.iter().map(Violation::field).collect();
    match violations.iter().find(|violation| violation.wrong_type) {
        None => AwsError::invalid(fields),
        Some(first) => {
            let expected = first.rule.strip_prefix("Member must be ").unwrap_or(&first.rule);
            let message = format!("Member '{}' must be {expected}.", first.path);
            AwsError { field_list: fields, ..AwsError::cannot_parse(message) }
        }
    }
}

/// Checks `value` against `shape`.
///
/// # Errors
/// What is wrong, in order of the members' names, at most [`VIOLATIONS_MAX`] of them.
pub fn validate(shape: &Shape, value: &Value) -> Result<(), Vec<Violation>> {
    let mut walk = Walk { found: Vec::new() };
    walk.value("", shape, value, 0);
    if walk.found.is_empty() { Ok(()) } else { Err(walk.found) }
}

/// `value` with what `shape` does not know and what is `null` left out, so that types can be read from it.
#[must_use]
pub fn normalize(shape: &Shape, value: Value) -> Value {
    match (&shape.kind, value) {
        (Kind::Structure { members } | Kind::Union { members }, Value::Object(mut object)) => {
            let mut kept = Map::new();
            for member in *members {
                if let Some(value) = object.remove(member.name).filter(|value| !value.is_null()) {
                    kept.insert(member.name.to_owned(), normalize(member.shape, value));
                }
            }
            Value::Object(kept)
        }
        (Kind::List { member, .. }, Value::Array(items)) => {
            Value::Array(items.into_iter().map(|item| normalize(member, item)).collect())
        }
        (Kind::Map { value, .. }, Value::Object(entries)) => {
            Value::Object(entries.into_iter().map(|(key, item)| (key, normalize(value, item))).collect())
        }
        (_, value) => value,
    }
}

struct Walk {
    found: Vec<Violation>,
}

impl Walk {
    fn is_full(&self) -> bool {
        self.found.len() >= VIOLATIONS_MAX
    }

    fn add(&mut self, violation: Violation) {
        if !self.is_full() {
            self.found.push(violation);
        }
    }

    fn value(&mut self, path: &str, shape: &Shape, value: &Value, depth: usize) {
        if self.is_full() {
            return;
        }
        if depth > DEPTH_MAX {
            self.add(Violation::wrong_type(path, "nested less deeply"));
            return;
        }
        match (&shape.kind, value) {
            (Kind::List { member, length }, Value::Array(items)) => {
                self.length(path, items.len(), *length);
                self.items(path, member, items, depth);
            }
            (Kind::Map { key, value, length }, Value::Object(entries)) => {
                self.length(path, entries.len(), *length);
                self.entries(path, key, value, entries, depth);
            }
            (Kind::Structure { members }, Value::Object(object)) => {
                for member in *members {
                    self.member(path, member, object.get(member.name), depth);
                }
            }
            (Kind::Union { members }, Value::Object(object)) => {
                let is_set = |member: &&Member| object.get(member.name).is_some_and(|value| !value.is_null());
                if members.iter().filter(is_set).count() != 1 {
                    self.add(Violation::constraint(path, "Member must have exactly one member set"));
                }
                for member in members.iter().filter(is_set) {
                    self.member(path, member, object.get(member.name), depth);
                }
            }
            (Kind::List { .. }, _) => self.add(Violation::wrong_type(path, "a list")),
            (Kind::Map { .. }, _) => self.add(Violation::wrong_type(path, "a map")),
            (Kind::Structure { .. } | Kind::Union { .. }, _) => {
                self.add(Violation::wrong_type(path, "a structure"));
            }
            (_, value) => match scalar(&shape.kind, value) {
                Ok(rules) => {
                    for rule in rules {
                        self.add(Violation::constraint(path, rule));
                    }
                }
                Err(expected) => self.add(Violation::wrong_type(path, expected)),
            },
        }
    }

    fn member(&mut self, path: &str, member: &Member, value: Option<&Value>, depth: usize) {
        let dot = if path.is_empty() { "" } else { "." };
        match value {
            None | Some(Value::Null) if member.required => {
                self.add(Violation::constraint(
                    format!("{path}{dot}{}", member.name),
                    "Member must not be null",
                ));
            }
            None | Some(Value::Null) => {}
            Some(value) => {
                self.value(&format!("{path}{dot}{}", member.name), member.shape, value, depth + 1);
            }
        }
    }

    fn items(&mut self, path: &str, member: &Shape, items: &[Value], depth: usize) {
        // AWS tells the place of a structure in a list, and for simple values all rules of the item once.
        let mut told = false;
        for (index, item) in items.iter().enumerate() {
            if self.is_full() {
                return;
            }
            if item.is_null() {
                let path = format!("{path}.{}.member", index + 1);
                self.add(Violation::constraint(path, "Member must not be null"));
            } else if member.kind.is_aggregate() {
                self.value(&format!("{path}.{}.member", index + 1), member, item, depth + 1);
            } else {
                match scalar(&member.kind, item) {
                    Ok(broken) if broken.is_empty() || told => {}
                    Ok(_) => {
                        told = true;
                        let rule =
                            format!("Member must satisfy constraint: [{}]", rules(&member.kind).join(", "));
                        self.add(Violation::constraint(path, rule));
                    }
                    Err(expected) => {
                        self.add(Violation::wrong_type(format!("{path}.{}.member", index + 1), expected));
                    }
                }
            }
        }
    }

    fn entries(
        &mut self,
        path: &str,
        key: &Shape,
        value: &Shape,
        entries: &Map<String, Value>,
        depth: usize,
    ) {
        let (mut key_told, mut value_told) = (false, false);
        for (name, item) in entries {
            if self.is_full() {
                return;
            }
            let broken = text(&key.kind, name);
            if !broken.is_empty() && !key_told {
                key_told = true;
                let rule = format!("Map keys must satisfy constraint: [{}]", rules(&key.kind).join(", "));
                self.add(Violation::constraint(path, rule));
            }
            if item.is_null() {
                self.add(Violation::constraint(
                    path,
                    "Map value must satisfy constraint: [Member must not be null]",
                ));
            } else if value.kind.is_aggregate() {
                self.value(&format!("{path}.value"), value, item, depth + 1);
            } else {
                match scalar(&value.kind, item) {
                    Ok(broken) if broken.is_empty() || value_told => {}
                    Ok(_) => {
                        value_told = true;
                        let rules = rules(&value.kind).join(", ");
                        let rule = format!("Map value must satisfy constraint: [{rules}]");
                        self.add(Violation::constraint(path, rule));
                    }
                    Err(expected) => self.add(Violation::wrong_type(format!("{path}.value"), expected)),
                }
            }
        }
    }

    fn length(&mut self, path: &str, count: usize, length: Length) {
        if let Some(rule) = length_rule(count, length.min, length.max.unwrap_or(usize::MAX)) {
            self.add(Violation::constraint(path, rule));
        }
    }
}

/// The rules that a value without parts breaks, or the type it should have.
fn scalar(kind: &Kind, value: &Value) -> Result<Vec<String>, &'static str> {
    match (kind, value) {
        (Kind::Text { .. }, Value::String(value)) => Ok(text(kind, value)),
        (Kind::Text { .. }, _) => Err("a string"),
        (Kind::Integer { min, max }, Value::Number(number)) if !number.is_f64() => {
            // What is no i64 is greater than all of them.
            let number = number.as_i64().unwrap_or(i64::MAX);
            match (min, max) {
                (Some(min), _) if number < *min => Ok(vec![min_rule(*min)]),
                (_, Some(max)) if number > *max => Ok(vec![max_rule(*max)]),
                _ if i32::try_from(number).is_err() => Err("an integer of 32 bits"),
                _ => Ok(Vec::new()),
            }
        }
        (Kind::Integer { .. }, _) => Err("an integer"),
        (Kind::Boolean, Value::Bool(_)) | (Kind::Document, _) => Ok(Vec::new()),
        (Kind::Boolean, _) => Err("a boolean"),
        (Kind::Timestamp, Value::String(text)) if Timestamp::parse(text).is_some() => Ok(Vec::new()),
        (Kind::Timestamp, _) => Err("a timestamp"),
        (Kind::Blob { length }, Value::String(text)) => {
            use base64::Engine as _;
            let Ok(bytes) = base64::engine::general_purpose::STANDARD.decode(text) else {
                return Err("base64");
            };
            Ok(blob(bytes.len(), *length))
        }
        (Kind::Blob { .. }, _) => Err("base64"),
        (Kind::List { .. }, _) => Err("a list"),
        (Kind::Map { .. }, _) => Err("a map"),
        (Kind::Structure { .. } | Kind::Union { .. }, _) => Err("a structure"),
    }
}

/// The rules that so many bytes break.
pub(crate) fn blob(count: usize, length: Length) -> Vec<String> {
    length_rule(count, length.min, length.max.unwrap_or(usize::MAX)).into_iter().collect()
}

fn text(kind: &Kind, value: &str) -> Vec<String> {
    let Kind::Text { length, pattern, values } = kind else { return Vec::new() };
    let mut broken = Vec::new();
    if !values.is_empty() && !values.contains(&value) {
        broken.push(enum_rule(values));
    }
    let max = length.max.unwrap_or(usize::MAX);
    // Counting stops where the answer is known.
    let count = value.chars().take(max.saturating_add(1)).count();
    broken.extend(length_rule(count, length.min, max));
    // A text that is too long is not matched, too: that bounds the work.
    if let Some(pattern) = pattern
        && count <= max
        && !pattern.matches(value)
    {
        broken.push(pattern_rule(pattern.text()));
    }
    broken
}

/// All rules of a value without parts, in the order of AWS.
fn rules(kind: &Kind) -> Vec<String> {
    let mut rules = Vec::new();
    match kind {
        Kind::Text { length, pattern, values } => {
            if !values.is_empty() {
                rules.push(enum_rule(values));
            }
            let max = length.max.unwrap_or(usize::MAX);
            if length.max.is_some() {
                rules.extend(length_rule(max.saturating_add(1), 0, max));
            }
            if let Some(under) = length.min.checked_sub(1) {
                rules.extend(length_rule(under, length.min, max));
            }
            rules.extend(pattern.as_ref().map(|pattern| pattern_rule(pattern.text())));
        }
        Kind::Integer { min, max } => {
            rules.extend(max.map(max_rule));
            rules.extend(min.map(min_rule));
        }
        Kind::Boolean
        | Kind::Timestamp
        | Kind::Blob { .. }
        | Kind::Document
        | Kind::List { .. }
        | Kind::Map { .. }
        | Kind::Structure { .. }
        | Kind::Union { .. } => {}
    }
    rules
}

fn min_rule(min: i64) -> String {
    format!("Member must have value greater than or equal to {min}")
}

fn max_rule(max: i64) -> String {
    format!("Member must have value less than or equal to {max}")
}

fn enum_rule(values: &[&str]) -> String {
    format!("Member must satisfy enum value set: [{}]", values.join(", "))
}

fn pattern_rule(pattern: &str) -> String {
    format!("Member must satisfy regular expression pattern: {pattern}")
}

#[cfg(test)]
mod tests;
