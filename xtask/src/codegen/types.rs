//! Rust types of inputs and outputs.

use std::{collections::BTreeSet, fmt::Write as _};

use anyhow::{Context, bail};

use super::{
    model::{Reference, Service, Shape},
    names, overrides,
};

/// The `use` lines of a file.
pub(super) fn uses(service: &Service) -> anyhow::Result<String> {
    let body = types(service)?;
    let mut out = String::new();
    let mut standard = Vec::new();
    if body.contains("BTreeMap<") {
        standard.push("collections::BTreeMap");
    }
    if body.contains("fmt::") {
        standard.push("fmt");
    }
    match standard.as_slice() {
        [] => {}
        [one] => write!(out, "use std::{one};\n\n")?,
        many => write!(out, "use std::{{{}}};\n\n", many.join(", "))?,
    }
    if body.contains("Bytes") {
        out.push_str("use bytes::Bytes;\n");
    }
    out.push_str(
        "use serde::{Deserialize, Serialize};\n\nuse crate::{input::Input, model::{ModeledOperation, ",
    );
    if body.contains("Redacted") {
        out.push_str("Redacted, ");
    }
    out.push_str("Shape}, operation::{Operation, Plane}, output::Output");
    if body.contains("Timestamp") {
        out.push_str(", timestamp::Timestamp");
    }
    out.push_str("};\n\n");
    Ok(out)
}

/// All types, and which of them are inputs and outputs of which operation.
pub(super) fn types(service: &Service) -> anyhow::Result<String> {
    let mut names: BTreeSet<&str> = service.reachable(false)?;
    names.extend(service.reachable(true)?);
    let roots: Vec<&str> = service
        .chosen()?
        .into_iter()
        .filter_map(|(_, operation)| Some(operation.output.as_ref()?.shape.as_str()))
        .collect();
    let mut out = String::new();
    for name in names {
        let shape = service.shape(name)?;
        match shape.kind.as_str() {
            "string" if !shape.values.is_empty() => enumeration(&mut out, name, shape)?,
            "structure" if shape.document || shape.eventstream => {}
            "structure" if shape.union => union(&mut out, service, name, shape)?,
            "structure" => structure(&mut out, service, name, shape, roots.contains(&name))?,
            _ => {}
        }
    }
    for (name, operation) in service.chosen()? {
        if let Some(input) = &operation.input {
            implement_input(&mut out, service, name, &input.shape)?;
        }
        if let Some(output) = &operation.output {
            implement_output(&mut out, service, name, &output.shape)?;
        }
    }
    Ok(out)
}

fn enumeration(out: &mut String, name: &str, shape: &Shape) -> anyhow::Result<()> {
    let type_name = names::pascal(name);
    write!(
        out,
        "/// One of the values of `{name}`.\n\
         #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]\npub enum {type_name} {{\n"
    )?;
    for value in &shape.values {
        write!(out, "/// `{value}`.\n#[serde(rename = {value:?})]\n{},\n", names::variant(value))?;
    }
    write!(
        out,
        "}}\n\nimpl {type_name} {{\n/// As the wire has it.\npub fn as_str(self) -> &'static str {{\nmatch self {{\n"
    )?;
    for value in &shape.values {
        writeln!(out, "Self::{} => {value:?},", names::variant(value))?;
    }
    out.push_str("}\n}\n}\n\n");
    Ok(())
}

fn union(out: &mut String, service: &Service, name: &str, shape: &Shape) -> anyhow::Result<()> {
    write!(
        out,
        "/// Exactly one of the members of `{name}`.\n\
         #[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]\npub enum {} {{\n",
        names::pascal(name)
    )?;
    for (member_name, member) in &shape.members {
        if is_sensitive(service, member)? {
            bail!("{name}.{member_name}: a sensitive member of a union needs a `Debug` of its own");
        }
        let text = describe(service, member_name, member, false)?;
        write!(
            out,
            "/// {text}\n#[serde(rename = {member_name:?})]\n{}({}),\n",
            names::pascal(member_name),
            rust_type(service, &member.shape)?
        )?;
    }
    out.push_str("}\n\n");
    Ok(())
}

fn structure(
    out: &mut String,
    service: &Service,
    name: &str,
    shape: &Shape,
    is_output: bool,
) -> anyhow::Result<()> {
    let type_name = names::pascal(name);
    let members = kept(service, shape)?;
    let mut sensitive = false;
    let mut has_default = true;
    for (member_name, member) in &members {
        sensitive |= is_sensitive(service, member)?;
        has_default &=
            !shape.required.contains(member_name) || default_is_there(service.shape(&member.shape)?);
    }
    let debug = if sensitive { "" } else { "Debug, " };
    let default = if has_default { "Default, " } else { "" };
    let fields = if members.is_empty() { "" } else { "#[serde(rename_all = \"camelCase\")]\n" };
    writeln!(
        out,
        "/// `{name}`.\n#[derive({debug}Clone, {default}PartialEq, Eq, Serialize, Deserialize)]\n\
         {fields}pub struct {type_name} {{"
    )?;
    for (member_name, member) in &members {
        let field = names::field(member_name);
        let required = shape.required.contains(member_name);
        writeln!(out, "/// {}", describe(service, member_name, member, required)?)?;
        let aside = is_aside(service, shape, member_name, member, is_output)?;
        if aside {
            out.push_str("#[serde(skip)]\n");
        } else {
            if names::camel(&field) != **member_name {
                writeln!(out, "#[serde(rename = {member_name:?})]")?;
            }
            if !required {
                out.push_str("#[serde(default, skip_serializing_if = \"Option::is_none\")]\n");
            }
        }
        let rust = rust_type(service, &member.shape)?;
        let rust = if required { rust } else { format!("Option<{rust}>") };
        writeln!(out, "pub {field}: {rust},")?;
    }
    out.push_str("}\n\n");
    if sensitive {
        write!(
            out,
            "impl fmt::Debug for {type_name} {{\n\
             fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {{\nf.debug_struct({type_name:?})"
        )?;
        for (member_name, member) in &members {
            let field = names::field(member_name);
            let value =
                if is_sensitive(service, member)? { "&Redacted".into() } else { format!("&self.{field}") };
            write!(out, ".field({:?}, {value})", field.trim_start_matches("r#"))?;
        }
        out.push_str(".finish()\n}\n}\n\n");
    }
    Ok(())
}

fn implement_input(out: &mut String, service: &Service, operation: &str, name: &str) -> anyhow::Result<()> {
    let shape = service.shape(name)?;
    write!(
        out,
        "impl Input for {} {{\nconst OPERATION: Operation = Operation::{operation};\n\n\
         fn shape() -> &'static Shape {{\n&shapes::{}\n}}\n",
        names::pascal(name),
        names::constant(name)
    )?;
    for (member_name, member) in &shape.members {
        if is_aside(service, shape, member_name, member, false)? {
            let field = names::field(member_name);
            let value = if shape.required.contains(member_name) { "payload" } else { "Some(payload)" };
            write!(out, "\nfn set_payload(&mut self, payload: Bytes) {{\nself.{field} = {value};\n}}\n")?;
        }
    }
    out.push_str("}\n\n");
    Ok(())
}

fn implement_output(out: &mut String, service: &Service, operation: &str, name: &str) -> anyhow::Result<()> {
    let shape = service.shape(name)?;
    write!(
        out,
        "impl Output for {} {{\nconst OPERATION: Operation = Operation::{operation};\n",
        names::pascal(name)
    )?;
    let members = kept(service, shape)?;
    let headers: Vec<_> =
        members.iter().filter(|(_, member)| member.location.as_deref() == Some("header")).collect();
    if !headers.is_empty() {
        out.push_str("\nfn headers(&self) -> Vec<(&'static str, String)> {\nlet mut headers = Vec::new();\n");
        for (member_name, member) in headers {
            let field = names::field(member_name);
            let header = member.location_name.as_ref().context("a header without a name")?.to_lowercase();
            if shape.required.contains(member_name) {
                writeln!(out, "headers.push(({header:?}, self.{field}.clone()));")?;
            } else {
                writeln!(out, "headers.extend(self.{field}.clone().map(|value| ({header:?}, value)));")?;
            }
        }
        out.push_str("headers\n}\n");
    }
    let payload = members.iter().find(|(member_name, _)| shape.payload.as_ref() == Some(*member_name));
    if let Some((member_name, _)) = payload {
        let field = names::field(member_name);
        write!(out, "\nfn body(&self) -> Vec<u8> {{\ncrate::output::json(&self.{field})\n}}\n")?;
    }
    out.push_str("}\n\n");
    Ok(())
}

/// Members that are fields: not the status, which is the operation's, and not what is streamed.
fn kept<'a>(service: &Service, shape: &'a Shape) -> anyhow::Result<Vec<(&'a String, &'a Reference)>> {
    let mut members = Vec::new();
    for (name, member) in &shape.members {
        let of = service.shape(&member.shape)?;
        if !(member.is_status() || of.streaming || of.eventstream || of.exception) {
            members.push((name, member));
        }
    }
    Ok(members)
}

/// Whether a member is no part of the JSON: bytes that are the body, and what outputs send beside the body. Inputs
/// have all their members in one object, wherever they come from.
fn is_aside(
    service: &Service,
    shape: &Shape,
    name: &str,
    member: &Reference,
    is_output: bool,
) -> anyhow::Result<bool> {
    let is_payload = shape.payload.as_deref() == Some(name);
    let is_bytes = service.shape(&member.shape)?.kind == "blob";
    if is_bytes && !is_payload {
        bail!("{name}: bytes within JSON are not supported");
    }
    Ok(is_bytes || is_output && (member.location.is_some() || is_payload))
}

fn is_sensitive(service: &Service, member: &Reference) -> anyhow::Result<bool> {
    let shape = service.shape(&member.shape)?;
    let parts = [&shape.member, &shape.key, &shape.value];
    for part in parts.into_iter().flatten() {
        // Structures hide their own members.
        if service.shape(&part.shape)?.kind != "structure" && is_sensitive(service, part)? {
            return Ok(true);
        }
    }
    Ok(shape.sensitive)
}

fn default_is_there(shape: &Shape) -> bool {
    match shape.kind.as_str() {
        "string" => shape.values.is_empty(),
        "structure" => shape.document,
        "timestamp" => false,
        _ => true,
    }
}

fn rust_type(service: &Service, name: &str) -> anyhow::Result<String> {
    let shape = service.shape(name)?;
    let part = |part: &Option<Reference>| {
        let part = part.as_ref().context("a list or map without parts")?;
        rust_type(service, &part.shape)
    };
    Ok(match shape.kind.as_str() {
        "string" if shape.values.is_empty() => "String".to_owned(),
        "structure" if shape.document => "serde_json::Value".to_owned(),
        "string" | "structure" => names::pascal(name),
        "integer" => "i32".to_owned(),
        "boolean" => "bool".to_owned(),
        "timestamp" => "Timestamp".to_owned(),
        "blob" => "Bytes".to_owned(),
        "list" => format!("Vec<{}>", part(&shape.member)?),
        "map" => format!("BTreeMap<{}, {}>", part(&shape.key)?, part(&shape.value)?),
        other => bail!("{name}: types of the kind {other} are not known"),
    })
}

/// One line about a member: its name, where it travels, its bounds.
fn describe(service: &Service, name: &str, member: &Reference, required: bool) -> anyhow::Result<String> {
    let shape = service.shape(&member.shape)?;
    let mut facts = Vec::new();
    if required {
        facts.push("required".to_owned());
    }
    match (member.location.as_deref(), member.location_name.as_deref()) {
        (Some("uri"), _) => facts.push("in the path".to_owned()),
        (Some("querystring"), Some(wire)) => facts.push(format!("`{wire}` in the query")),
        (Some("header"), Some(wire)) => facts.push(format!("the header `{wire}`")),
        _ => {}
    }
    let unit = match shape.kind.as_str() {
        "string" => " characters",
        "blob" => " bytes",
        "list" => " items",
        "map" => " entries",
        _ => "",
    };
    match (shape.min, shape.max) {
        (Some(min), Some(max)) => facts.push(format!("{min} to {max}{unit}")),
        (Some(min), None) => facts.push(format!("at least {min}{unit}")),
        (None, Some(max)) => facts.push(format!("at most {max}{unit}")),
        (None, None) => {}
    }
    if let Some(pattern) = &shape.pattern {
        match overrides::pattern_dropped(service, &member.shape) {
            None => facts.push(format!("matches `{pattern}`")),
            Some(reason) => facts.push(format!("its pattern is not enforced: {reason}")),
        }
    }
    if member.idempotency_token {
        facts.push("idempotency token".to_owned());
    }
    Ok(if facts.is_empty() { format!("`{name}`.") } else { format!("`{name}`: {}.", facts.join("; ")) })
}
