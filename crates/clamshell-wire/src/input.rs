//! From a request to the input of its operation: members are gathered from path, query, headers and body, held to
//! the model, and read into the generated type.

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use thiserror::Error;

use crate::{
    error::AwsError,
    model::{Kind, Location, Member, Shape},
    operation::Operation,
    route::PathParams,
    validate::{self, Violation, normalize, validate},
};

/// Longest JSON body: 50 environment variables of 5100 characters each, all of them escaped as pairs of surrogates,
/// are 3 MB.
pub const INPUT_BODY_BYTES_MAX: usize = 4 << 20;

/// The input of an operation.
pub trait Input: Serialize + DeserializeOwned {
    /// The operation it is for.
    const OPERATION: Operation;

    /// Its constraints.
    fn shape() -> &'static Shape;

    /// Takes the body, when the model has it as bytes.
    fn set_payload(&mut self, _payload: Bytes) {}
}

/// What a request is made of, once it is routed and its query is parsed.
#[derive(Clone, Copy)]
pub struct RequestParts<'a> {
    /// Parameters of the path.
    pub path: &'a PathParams,
    /// Parameters of the query, decoded.
    pub query: &'a [(String, String)],
    /// The value of the header with this name, in lower case.
    pub header: &'a dyn Fn(&str) -> Option<&'a [u8]>,
    /// The body.
    pub body: &'a Bytes,
}

/// Why a request is no input of its operation.
#[derive(Debug, Error)]
pub enum InputError {
    /// The JSON body is longer than [`INPUT_BODY_BYTES_MAX`].
    #[error("the body is too long")]
    TooLong,
    /// The body is no JSON object.
    #[error("the body is not a JSON object")]
    NotAnObject,
    /// Members break the rules of the model.
    #[error("{} members break the rules of the model", .0.len())]
    Invalid(Vec<Violation>),
    /// It keeps the rules and still cannot be read: the generated types and shapes differ.
    #[error("the input cannot be read")]
    Unreadable(#[source] serde_json::Error),
}

impl InputError {
    /// The error as AWS answers it.
    pub fn aws_error(&self) -> AwsError {
        match self {
            Self::TooLong => {
                AwsError::cannot_parse(format!("The body must have at most {INPUT_BODY_BYTES_MAX} bytes."))
            }
            Self::NotAnObject => AwsError::cannot_parse("The body must be a JSON object."),
            Self::Invalid(violations) => validate::aws_error(violations),
            Self::Unreadable(_) => AwsError::cannot_parse("The request cannot be read."),
        }
    }
}

/// Reads the input of an operation.
///
/// # Errors
/// [`InputError`], which is a `ValidationException` towards clients.
pub fn decode<T: Input>(parts: &RequestParts<'_>) -> Result<T, InputError> {
    let shape = T::shape();
    let Kind::Structure { members } = &shape.kind else { return Err(InputError::NotAnObject) };
    let mut object = json_body(members, parts.body)?;
    let mut gathered = Map::new();
    let mut violations = Vec::new();
    let mut payload = None;
    for member in *members {
        let value = match member.location {
            Location::Body => object.remove(member.name),
            Location::Payload => match member.shape.kind {
                Kind::Blob { length } => {
                    let broken = validate::blob(parts.body.len(), length);
                    violations
                        .extend(broken.into_iter().map(|rule| Violation::constraint(member.name, rule)));
                    payload = Some(parts.body.clone());
                    // Bytes stay out of the JSON; the type takes them at the end.
                    continue;
                }
                _ => Some(Value::Object(std::mem::take(&mut object))),
            },
            Location::Path(name) => Some(Value::String(path_param(parts.path, name).to_owned())),
            Location::Query(name) => query_param(member.shape, parts.query, name),
            Location::Header(name) => match (parts.header)(name).map(std::str::from_utf8) {
                None => None,
                Some(Ok(text)) => Some(coerce(member.shape, text)),
                Some(Err(_)) => {
                    violations.push(Violation::constraint(member.name, "Member must be UTF-8 text"));
                    continue;
                }
            },
        };
        if let Some(value) = value {
            gathered.insert(member.name.to_owned(), value);
        }
    }
    let gathered = Value::Object(gathered);
    check(members, &gathered, &mut violations);
    if !violations.is_empty() {
        return Err(InputError::Invalid(violations));
    }
    let mut input: T = serde_json::from_value(normalize(shape, gathered)).map_err(InputError::Unreadable)?;
    if let Some(payload) = payload {
        input.set_payload(payload);
    }
    Ok(input)
}

/// Like [`validate`] on the whole, but payloads of bytes are not in the JSON and members already found wrong are
/// not missing.
fn check(members: &[Member], gathered: &Value, violations: &mut Vec<Violation>) {
    for member in members {
        let is_bytes = member.location == Location::Payload && matches!(member.shape.kind, Kind::Blob { .. });
        if is_bytes || violations.iter().any(|violation| violation.path == member.name) {
            continue;
        }
        match gathered.get(member.name).filter(|value| !value.is_null()) {
            None if member.required => {
                violations.push(Violation::constraint(member.name, "Member must not be null"));
            }
            None => {}
            Some(value) => {
                let found = validate(member.shape, value).err().unwrap_or_default();
                violations.extend(found.into_iter().map(|violation| below(member, violation)));
            }
        }
    }
    violations.truncate(validate::VIOLATIONS_MAX);
}

fn below(member: &Member, violation: Violation) -> Violation {
    let path = match violation.path.as_str() {
        "" => member.name.to_owned(),
        rest if rest.starts_with('.') => format!("{}{rest}", member.name),
        rest => format!("{}.{rest}", member.name),
    };
    Violation { path, ..violation }
}

fn json_body(members: &[Member], body: &Bytes) -> Result<Map<String, Value>, InputError> {
    let is_json = members.iter().any(|member| match member.location {
        Location::Body => true,
        Location::Payload => !matches!(member.shape.kind, Kind::Blob { .. }),
        Location::Path(_) | Location::Query(_) | Location::Header(_) => false,
    });
    if !is_json || body.trim_ascii().is_empty() {
        return Ok(Map::new());
    }
    if body.len() > INPUT_BODY_BYTES_MAX {
        return Err(InputError::TooLong);
    }
    // The parser bounds the nesting at 128.
    match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) | Err(_) => Err(InputError::NotAnObject),
    }
}

fn path_param<'a>(path: &'a PathParams, name: &str) -> &'a str {
    match name {
        "agentRuntimeId" | "agentRuntimeArn" => &path.runtime,
        "endpointName" => &path.endpoint_name,
        "resourceArn" => &path.resource_arn,
        _ => "",
    }
}

fn query_param(shape: &Shape, query: &[(String, String)], name: &str) -> Option<Value> {
    let mut values = query.iter().filter(|(key, _)| key == name).map(|(_, value)| value);
    if let Kind::List { member, .. } = &shape.kind {
        let values: Vec<_> = values.map(|value| coerce(member, value)).collect();
        return (!values.is_empty()).then_some(Value::Array(values));
    }
    values.next().map(|value| coerce(shape, value))
}

/// Text as the JSON type that `shape` asks for; what cannot be one stays text, and is refused as such.
fn coerce(shape: &Shape, text: &str) -> Value {
    let known = match &shape.kind {
        Kind::Integer { .. } => text.parse::<i64>().ok().map(Value::from),
        Kind::Boolean => text.parse::<bool>().ok().map(Value::from),
        Kind::Text { .. }
        | Kind::Timestamp
        | Kind::Blob { .. }
        | Kind::Document
        | Kind::List { .. }
        | Kind::Map { .. }
        | Kind::Structure { .. }
        | Kind::Union { .. } => None,
    };
    known.unwrap_or_else(|| Value::String(text.to_owned()))
}

#[cfg(test)]
mod tests;
