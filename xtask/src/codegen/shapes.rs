//! The table of operations, and the shapes of inputs as constant data.

use std::fmt::Write as _;

use anyhow::{Context, bail};

use super::{
    model::{Reference, Service, Shape},
    names, overrides,
};

/// All operations of a model.
pub(super) fn operations(service: &Service) -> String {
    let mut out = String::from(
        "/// All operations of the model by name.\n#[rustfmt::skip] // One line each.\npub const OPERATIONS: &[ModeledOperation] = &[\n",
    );
    for (name, operation) in &service.operations {
        let http = &operation.http;
        let errors: Vec<String> = operation.errors.iter().map(|error| format!("{:?}", error.shape)).collect();
        out.push_str(&format!(
            "    ModeledOperation {{ name: {name:?}, plane: Plane::{}, method: {:?}, uri: {:?}, status: {}, \
             errors: &[{}] }},\n",
            service.plane,
            http.method,
            http.request_uri,
            http.response_code,
            errors.join(", ")
        ));
    }
    out.push_str("];\n\n");
    out
}

/// The module with a static for every shape below an input.
pub(super) fn shapes(service: &Service) -> anyhow::Result<String> {
    let names = service.reachable(false)?;
    let mut body = String::new();
    for name in &names {
        let shape = service.shape(name)?;
        write!(
            body,
            "\n    /// `{name}`.\n    #[rustfmt::skip]\n    pub static {}: Shape =\n        \
             Shape {{ name: {name:?}, sensitive: {}, kind: {} }};\n",
            names::constant(name),
            shape.sensitive,
            kind(service, name, shape)?
        )?;
    }
    let uses: Vec<&str> = ["Kind", "Length", "Location", "Member", "Pattern", "Shape"]
        .into_iter()
        .filter(|name| body.contains(&format!("{name}::")) || matches!(*name, "Member" | "Shape"))
        .collect();
    Ok(format!(
        "/// Shapes of the inputs, with their constraints.\npub mod shapes {{\nuse crate::model::{{{}}};\n{body}}}\n",
        uses.join(", ")
    ))
}

fn kind(service: &Service, name: &str, shape: &Shape) -> anyhow::Result<String> {
    Ok(match shape.kind.as_str() {
        "string" => {
            let pattern =
                shape.pattern.as_ref().filter(|_| overrides::pattern_dropped(service, name).is_none());
            let pattern = match pattern {
                Some(pattern) => format!("Some(Pattern::new({}))", literal(pattern)),
                None => "None".to_owned(),
            };
            format!(
                "Kind::Text {{ length: {}, pattern: {pattern}, values: &{:?} }}",
                length(shape)?,
                shape.values
            )
        }
        "integer" => format!("Kind::Integer {{ min: {:?}, max: {:?} }}", shape.min, shape.max),
        "boolean" => "Kind::Boolean".to_owned(),
        "timestamp" => "Kind::Timestamp".to_owned(),
        "blob" => format!("Kind::Blob {{ length: {} }}", length(shape)?),
        "list" => format!("Kind::List {{ member: {}, length: {} }}", part(&shape.member)?, length(shape)?),
        "map" => format!(
            "Kind::Map {{ key: {}, value: {}, length: {} }}",
            part(&shape.key)?,
            part(&shape.value)?,
            length(shape)?
        ),
        "structure" if shape.document => "Kind::Document".to_owned(),
        "structure" => {
            let mut members = String::new();
            for (member_name, member) in &shape.members {
                writeln!(
                    members,
                    "            Member {{ name: {member_name:?}, shape: &{}, required: {}, idempotency_token: {}, \
                     location: {} }},",
                    names::constant(&member.shape),
                    shape.required.contains(member_name),
                    member.idempotency_token,
                    location(shape, member_name, member)?
                )?;
            }
            let kind = if shape.union { "Union" } else { "Structure" };
            format!("Kind::{kind} {{ members: &[\n{members}        ] }}")
        }
        other => bail!("{name}: shapes of the type {other} are not known"),
    })
}

fn location(shape: &Shape, name: &str, member: &Reference) -> anyhow::Result<String> {
    let wire = member.location_name.as_deref().unwrap_or(name);
    Ok(match member.location.as_deref() {
        Some("uri") => format!("Location::Path({wire:?})"),
        Some("querystring") => format!("Location::Query({wire:?})"),
        Some("header") => format!("Location::Header({:?})", wire.to_lowercase()),
        Some(other) => bail!("{name}: the location {other} is not known"),
        None if wire != name => bail!("{name}: another name in JSON is not supported"),
        None if shape.payload.as_deref() == Some(name) => "Location::Payload".to_owned(),
        None => "Location::Body".to_owned(),
    })
}

fn part(reference: &Option<Reference>) -> anyhow::Result<String> {
    let reference = reference.as_ref().context("a list or map without parts")?;
    Ok(format!("&{}", names::constant(&reference.shape)))
}

fn length(shape: &Shape) -> anyhow::Result<String> {
    let min = usize::try_from(shape.min.unwrap_or(0)).context("a negative length")?;
    let max = shape.max.map(usize::try_from).transpose().context("a negative length")?;
    Ok(match (min, max) {
        (0, None) => "Length::ANY".to_owned(),
        _ => format!("Length {{ min: {min}, max: {max:?} }}"),
    })
}

/// A raw string where that reads better.
fn literal(text: &str) -> String {
    if text.contains('\\') && !text.contains('"') { format!("r\"{text}\"") } else { format!("{text:?}") }
}
