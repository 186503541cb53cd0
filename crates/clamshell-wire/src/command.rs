//! Bodies of InvokeAgentRuntimeCommand and StopRuntimeSession, and the rule of session ids.
//!
//! Unknown members are ignored and `null` is absent, as the SDKs expect. Maxima are checked here, because clients
//! check minima only.

use serde_json::{Map, Value};

use crate::error::{AwsError, ValidationField, length_rule};

/// Longest command in bytes.
pub const COMMAND_BYTES_MAX: usize = 65_536;
/// Longest timeout in seconds.
pub const TIMEOUT_S_MAX: u32 = 3600;
/// Timeout when the caller names none, in seconds.
pub const TIMEOUT_S_DEFAULT: u32 = 300;
/// Longest body: a command all of whose bytes are escaped as `\u0000`, and room for the other members.
pub const COMMAND_BODY_BYTES_MAX: usize = 6 * COMMAND_BYTES_MAX + 16_384;
/// Longest body of StopRuntimeSession, which holds one token.
pub const STOP_BODY_BYTES_MAX: usize = 16_384;

/// A command to run in a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandRequest {
    /// Text for the shell.
    pub command: String,
    /// Seconds until the command is killed.
    pub timeout_s: u32,
}

/// The body of StopRuntimeSession.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StopRequest {
    /// Idempotency token.
    pub client_token: Option<String>,
}

impl CommandRequest {
    /// Parses and checks a body.
    ///
    /// # Errors
    /// A `ValidationException`: `CannotParse` for what is not such an object, `FieldValidationFailed` for members
    /// out of bounds.
    pub fn parse(body: &[u8]) -> Result<Self, AwsError> {
        let mut members = object(body, COMMAND_BODY_BYTES_MAX)?;
        let command = text(&mut members, "command")?;
        let timeout = match members.remove("timeout") {
            None | Some(Value::Null) => None,
            Some(Value::Number(number)) if !number.is_f64() => Some(number.as_i64().unwrap_or(i64::MAX)),
            Some(_) => return Err(wrong_type("timeout", "an integer")),
        };
        let mut fields = Vec::new();
        match &command {
            None => fields.push(ValidationField::new("command", "Member must not be null")),
            Some(command) => {
                let rule = length_rule(command.len(), 1, COMMAND_BYTES_MAX);
                fields.extend(rule.map(|rule| ValidationField::new("command", rule)));
                // No program argument can hold it.
                if command.contains('\0') {
                    fields.push(ValidationField::new("command", "Member must not contain a NUL character"));
                }
            }
        }
        let timeout = timeout.unwrap_or(i64::from(TIMEOUT_S_DEFAULT));
        let timeout_s = u32::try_from(timeout.clamp(0, i64::from(u32::MAX))).unwrap_or(u32::MAX);
        if timeout < 1 {
            fields.push(ValidationField::new("timeout", "Member must have value greater than or equal to 1"));
        } else if timeout_s > TIMEOUT_S_MAX {
            fields.push(ValidationField::new("timeout", "Member must have value less than or equal to 3600"));
        }
        match command {
            Some(command) if fields.is_empty() => Ok(Self { command, timeout_s }),
            _ => Err(AwsError::invalid(fields)),
        }
    }

    /// The body to send.
    pub fn to_body(&self) -> Vec<u8> {
        serde_json::json!({ "command": self.command, "timeout": self.timeout_s }).to_string().into_bytes()
    }
}

impl StopRequest {
    /// Parses and checks a body, which may be empty.
    ///
    /// # Errors
    /// A `ValidationException`, as for commands.
    pub fn parse(body: &[u8]) -> Result<Self, AwsError> {
        if body.trim_ascii().is_empty() {
            return Ok(Self::default());
        }
        let mut members = object(body, STOP_BODY_BYTES_MAX)?;
        let client_token = text(&mut members, "clientToken")?;
        if let Some(token) = &client_token {
            check_client_token(token)?;
        }
        Ok(Self { client_token })
    }
}

/// Checks a `clientToken`: 33 to 256 letters, digits and hyphens, no hyphen at either end.
///
/// # Errors
/// A `ValidationException`.
pub fn check_client_token(token: &str) -> Result<(), AwsError> {
    if let Some(rule) = length_rule(token.chars().count(), 33, 256) {
        return Err(AwsError::invalid_field("clientToken", &rule));
    }
    let plain = token.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if !plain || token.starts_with('-') || token.ends_with('-') {
        let rule = "Member must satisfy regular expression pattern: [a-zA-Z0-9](-*[a-zA-Z0-9]){0,256}";
        return Err(AwsError::invalid_field("clientToken", rule));
    }
    Ok(())
}

/// Checks a `runtimeSessionId`: 33 to 256 characters, none of them a control character.
///
/// # Errors
/// A `ValidationException` in the words of AWS.
pub fn check_session_id(id: &str) -> Result<(), AwsError> {
    let rule = length_rule(id.chars().count(), 33, 256).or_else(|| {
        id.chars().any(char::is_control).then(|| "Member must not contain control characters".to_owned())
    });
    rule.map_or(Ok(()), |rule| Err(AwsError::invalid_field("runtimeSessionId", &rule)))
}

fn object(body: &[u8], bytes_max: usize) -> Result<Map<String, Value>, AwsError> {
    if body.len() > bytes_max {
        return Err(AwsError::cannot_parse(format!("The body must have at most {bytes_max} bytes.")));
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(members)) => Ok(members),
        Ok(_) | Err(_) => Err(AwsError::cannot_parse("The body must be a JSON object.")),
    }
}

fn text(members: &mut Map<String, Value>, name: &str) -> Result<Option<String>, AwsError> {
    match members.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(wrong_type(name, "a string")),
    }
}

fn wrong_type(name: &str, expected: &str) -> AwsError {
    let field = ValidationField::new(name, format!("Member must be {expected}"));
    AwsError {
        field_list: vec![field],
        ..AwsError::cannot_parse(format!("Member '{name}' must be {expected}."))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::error::ValidationReason;

    fn ok(body: &str, command: &str, timeout_s: u32) {
        let expect = CommandRequest { command: command.into(), timeout_s };
        assert_eq!(CommandRequest::parse(body.as_bytes()), Ok(expect), "{body}");
    }

    fn refused(body: &str, reason: ValidationReason, part: &str) {
        let error = CommandRequest::parse(body.as_bytes()).unwrap_err();
        assert_eq!(error.reason, Some(reason), "{body}");
        assert!(error.message.contains(part), "{}", error.message);
    }

    #[test]
    fn commands() {
        ok(r#"{"command":"ls"}"#, "ls", 300);
        ok(r#"{"command":"ls","timeout":null,"more":{"a":[1]}}"#, "ls", 300);
        ok(r#"{"command":"ls","timeout":1}"#, "ls", 1);
        ok(r#"{"timeout":3600,"command":"\u00e9"}"#, "é", 3600);
        let long = "é".repeat(COMMAND_BYTES_MAX / 2);
        ok(&format!(r#"{{"command":"{long}"}}"#), &long, 300);
        let request = CommandRequest { command: "a\n\"".into(), timeout_s: 5 };
        assert_eq!(CommandRequest::parse(&request.to_body()), Ok(request));
    }

    #[test]
    fn refused_commands() {
        use ValidationReason::{CannotParse, FieldValidationFailed};
        for body in ["", "{", "[]", "null", r#"{"command":"\ud800"}"#] {
            refused(body, CannotParse, "JSON object");
        }
        refused(r#"{"command":1}"#, CannotParse, "'command' must be a string");
        refused(r#"{"command":"a","timeout":"5"}"#, CannotParse, "'timeout' must be an integer");
        refused(r#"{"command":"a","timeout":1.5}"#, CannotParse, "'timeout' must be an integer");
        refused(
            "{}",
            FieldValidationFailed,
            "Value at 'command' failed to satisfy constraint: Member must not be null",
        );
        refused(r#"{"command":""}"#, FieldValidationFailed, "greater than or equal to 1");
        refused(r#"{"command":"a\u0000b"}"#, FieldValidationFailed, "NUL");
        refused(r#"{"command":"a","timeout":0}"#, FieldValidationFailed, "'timeout'");
        refused(r#"{"command":"a","timeout":-9}"#, FieldValidationFailed, "'timeout'");
        refused(r#"{"command":"a","timeout":3601}"#, FieldValidationFailed, "less than or equal to 3600");
        refused(r#"{"command":"a","timeout":18446744073709551615}"#, FieldValidationFailed, "'timeout'");
        refused(r#"{"timeout":0}"#, FieldValidationFailed, "2 validation errors detected: ");
        let long = "a".repeat(COMMAND_BYTES_MAX + 1);
        refused(&format!(r#"{{"command":"{long}"}}"#), FieldValidationFailed, "less than or equal to 65536");
        refused(&" ".repeat(COMMAND_BODY_BYTES_MAX + 1), CannotParse, "at most");
        refused(&"[".repeat(10_000), CannotParse, "JSON object");
    }

    #[test]
    fn stops() {
        let token = "a-".repeat(20) + "a";
        for body in ["", " \n", "{}", r#"{"clientToken":null}"#, r#"{"x":1}"#] {
            assert_eq!(StopRequest::parse(body.as_bytes()), Ok(StopRequest::default()), "{body}");
        }
        let body = format!(r#"{{"clientToken":"{token}"}}"#);
        assert_eq!(StopRequest::parse(body.as_bytes()), Ok(StopRequest { client_token: Some(token) }));
        let bad = [
            "\"short\"".to_owned(),
            "5".to_owned(),
            format!("\"-{}\"", "a".repeat(40)),
            format!("\"{}\"", "_".repeat(40)),
        ];
        for token in bad {
            let body = format!(r#"{{"clientToken":{token}}}"#);
            assert!(StopRequest::parse(body.as_bytes()).is_err(), "{body}");
        }
        assert!(StopRequest::parse(b"x").is_err());
    }

    #[test]
    fn session_ids() {
        assert_eq!(check_session_id(&"s".repeat(33)), Ok(()));
        assert_eq!(check_session_id(&"é".repeat(256)), Ok(()));
        let text = |id: &str| check_session_id(id).unwrap_err().message;
        let prefix =
            "1 validation error detected: Value at 'runtimeSessionId' failed to satisfy constraint: ";
        assert_eq!(text("short"), format!("{prefix}Member must have length greater than or equal to 33"));
        assert_eq!(
            text(&"s".repeat(257)),
            format!("{prefix}Member must have length less than or equal to 256")
        );
        assert_eq!(text(&"\u{7}".repeat(40)), format!("{prefix}Member must not contain control characters"));
    }

    proptest! {
        #[test]
        fn hostile_bodies_never_panic(body in "[\\{\\}\\[\\]\":,a-z0-9\\\\-]{0,60}") {
            let _ = CommandRequest::parse(body.as_bytes());
            let _ = StopRequest::parse(body.as_bytes());
        }
    }
}
