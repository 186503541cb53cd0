//! AWS errors: code, status, body. The table of codes is the whole vocabulary of this server.

use serde::Serialize;

/// Every error code that leaves the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// 400: a member breaks a rule of the model.
    Validation,
    /// 400: the body is not the JSON of this operation.
    Serialization,
    /// 401: no token, or a bad one, for a runtime with JWT.
    Unauthorized,
    /// 402: over a quota that counts things.
    ServiceQuotaExceeded,
    /// 403: no valid signature, or not permitted.
    AccessDenied,
    /// 404: no such runtime, endpoint or session.
    ResourceNotFound,
    /// 404: no such operation.
    UnknownOperation,
    /// 405: the path exists, not with this method.
    MethodNotAllowed,
    /// 409: another state or another caller forbids it; clients do not retry.
    Conflict,
    /// 409: the session is starting or ending; clients retry.
    RetryableConflict,
    /// 424: the agent or its sandbox failed.
    RuntimeClientError,
    /// 429: over a rate.
    Throttling,
    /// 500: our fault.
    InternalServer,
}

impl ErrorCode {
    /// All codes, for tables and tests.
    pub const ALL: [Self; 13] = [
        Self::Validation,
        Self::Serialization,
        Self::Unauthorized,
        Self::ServiceQuotaExceeded,
        Self::AccessDenied,
        Self::ResourceNotFound,
        Self::UnknownOperation,
        Self::MethodNotAllowed,
        Self::Conflict,
        Self::RetryableConflict,
        Self::RuntimeClientError,
        Self::Throttling,
        Self::InternalServer,
    ];

    /// HTTP status.
    pub fn status(self) -> u16 {
        match self {
            Self::Validation | Self::Serialization => 400,
            Self::Unauthorized => 401,
            Self::ServiceQuotaExceeded => 402,
            Self::AccessDenied => 403,
            Self::ResourceNotFound | Self::UnknownOperation => 404,
            Self::MethodNotAllowed => 405,
            Self::Conflict | Self::RetryableConflict => 409,
            Self::RuntimeClientError => 424,
            Self::Throttling => 429,
            Self::InternalServer => 500,
        }
    }

    /// Value of the `x-amzn-ErrorType` header.
    pub fn name(self) -> &'static str {
        match self {
            Self::Validation => "ValidationException",
            Self::Serialization => "SerializationException",
            Self::Unauthorized => "UnauthorizedException",
            Self::ServiceQuotaExceeded => "ServiceQuotaExceededException",
            Self::AccessDenied => "AccessDeniedException",
            Self::ResourceNotFound => "ResourceNotFoundException",
            Self::UnknownOperation => "UnknownOperationException",
            Self::MethodNotAllowed => "MethodNotAllowed",
            Self::Conflict => "ConflictException",
            Self::RetryableConflict => "RetryableConflictException",
            Self::RuntimeClientError => "RuntimeClientError",
            Self::Throttling => "ThrottlingException",
            Self::InternalServer => "InternalServerException",
        }
    }

    /// Member name in the command event stream. The stream models seven errors; the others take the nearest of them,
    /// because clients cannot name a member that the model lacks.
    pub fn event_stream_name(self) -> &'static str {
        match self {
            Self::Validation | Self::Serialization | Self::MethodNotAllowed => "validationException",
            Self::Unauthorized | Self::AccessDenied => "accessDeniedException",
            Self::ServiceQuotaExceeded => "serviceQuotaExceededException",
            Self::ResourceNotFound | Self::UnknownOperation => "resourceNotFoundException",
            Self::Conflict | Self::RetryableConflict | Self::RuntimeClientError => "runtimeClientError",
            Self::Throttling => "throttlingException",
            Self::InternalServer => "internalServerException",
        }
    }
}

/// `reason` of a `ValidationException`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum ValidationReason {
    /// The request cannot be read.
    CannotParse,
    /// A member breaks its rule.
    FieldValidationFailed,
    /// The token was used before with other parameters.
    IdempotentParameterMismatchException,
    /// The event belongs to another session.
    EventInOtherSession,
    /// The resource is in another state.
    ResourceConflict,
}

/// One member that broke a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ValidationField {
    /// Name of the member.
    pub name: String,
    /// The rule, for instance `Member must have length greater than or equal to 33`.
    pub message: String,
}

impl ValidationField {
    /// A member and the rule it broke.
    pub fn new(name: impl Into<String>, message: impl Into<String>) -> Self {
        Self { name: name.into(), message: message.into() }
    }
}

/// An error as AWS clients read it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", code.name())]
pub struct AwsError {
    /// Which error.
    pub code: ErrorCode,
    /// Text for people.
    pub message: String,
    /// Only on `ValidationException`, where the model requires it.
    pub reason: Option<ValidationReason>,
    /// Members at fault; left out of the body when empty.
    pub field_list: Vec<ValidationField>,
    /// The `error` member that tells apart the failures of a shell's upgrade.
    pub error: Option<String>,
}

impl AwsError {
    /// An error with a message and nothing else.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        let reason = (code == ErrorCode::Validation).then_some(ValidationReason::FieldValidationFailed);
        Self { code, message: message.into(), reason, field_list: Vec::new(), error: None }
    }

    /// A `ValidationException` for members that broke rules, with the text AWS generates.
    pub fn invalid(fields: Vec<ValidationField>) -> Self {
        let message = validation_message(&fields);
        Self { field_list: fields, ..Self::new(ErrorCode::Validation, message) }
    }

    /// A `ValidationException` for one member.
    pub fn invalid_field(name: &str, rule: &str) -> Self {
        Self::invalid(vec![ValidationField::new(name, rule)])
    }

    /// A `ValidationException` for a request that cannot be read.
    pub fn cannot_parse(message: impl Into<String>) -> Self {
        Self { reason: Some(ValidationReason::CannotParse), ..Self::new(ErrorCode::Validation, message) }
    }

    /// Adds the `error` member.
    #[must_use]
    pub fn with_error(mut self, error: impl Into<String>) -> Self {
        self.error = Some(error.into());
        self
    }

    /// The JSON body.
    pub fn body(&self) -> Vec<u8> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Body<'a> {
            message: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            reason: Option<ValidationReason>,
            #[serde(skip_serializing_if = "<[_]>::is_empty")]
            field_list: &'a [ValidationField],
            #[serde(skip_serializing_if = "Option::is_none")]
            error: Option<&'a str>,
        }
        // The model requires a reason on validation errors and knows none on others.
        let reason = (self.code == ErrorCode::Validation)
            .then_some(self.reason.unwrap_or(ValidationReason::FieldValidationFailed));
        let body = Body {
            message: &self.message,
            reason,
            field_list: &self.field_list,
            error: self.error.as_deref(),
        };
        serde_json::to_vec(&body).expect("a struct of strings always serializes")
    }
}

/// `N validation error(s) detected: Value at '<field>' failed to satisfy constraint: <rule>; ...`.
pub fn validation_message(fields: &[ValidationField]) -> String {
    let plural = if fields.len() == 1 { "" } else { "s" };
    let mut text = format!("{} validation error{plural} detected: ", fields.len());
    for (index, field) in fields.iter().enumerate() {
        let separator = if index == 0 { "" } else { "; " };
        text.push_str(separator);
        text.push_str(&format!("Value at '{}' failed to satisfy constraint: {}", field.name, field.message));
    }
    text
}

/// The two length rules as AWS words them; `None` when the count is within bounds.
pub fn length_rule(count: usize, min: usize, max: usize) -> Option<String> {
    if count < min {
        Some(format!("Member must have length greater than or equal to {min}"))
    } else if count > max {
        Some(format!("Member must have length less than or equal to {max}"))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_per_code() {
        let table: String = ErrorCode::ALL
            .iter()
            .map(|code| {
                let body = AwsError::new(*code, "m").body();
                let body = String::from_utf8(body).unwrap();
                format!("{} {} {} {body}\n", code.status(), code.name(), code.event_stream_name())
            })
            .collect();
        expect_test::expect![[r#"
            400 ValidationException validationException {"message":"m","reason":"FieldValidationFailed"}
            400 SerializationException validationException {"message":"m"}
            401 UnauthorizedException accessDeniedException {"message":"m"}
            402 ServiceQuotaExceededException serviceQuotaExceededException {"message":"m"}
            403 AccessDeniedException accessDeniedException {"message":"m"}
            404 ResourceNotFoundException resourceNotFoundException {"message":"m"}
            404 UnknownOperationException resourceNotFoundException {"message":"m"}
            405 MethodNotAllowed validationException {"message":"m"}
            409 ConflictException runtimeClientError {"message":"m"}
            409 RetryableConflictException runtimeClientError {"message":"m"}
            424 RuntimeClientError runtimeClientError {"message":"m"}
            429 ThrottlingException throttlingException {"message":"m"}
            500 InternalServerException internalServerException {"message":"m"}
        "#]]
        .assert_eq(&table);
    }

    #[test]
    fn validation_texts() {
        let one = AwsError::invalid_field("runtimeSessionId", &length_rule(5, 33, 256).unwrap());
        assert_eq!(
            String::from_utf8(one.body()).unwrap(),
            "{\"message\":\"1 validation error detected: Value at 'runtimeSessionId' failed to satisfy constraint: \
             Member must have length greater than or equal to 33\",\"reason\":\"FieldValidationFailed\",\
             \"fieldList\":[{\"name\":\"runtimeSessionId\",\
             \"message\":\"Member must have length greater than or equal to 33\"}]}"
        );
        let two = [ValidationField::new("a", "R1"), ValidationField::new("b", "R2")];
        assert_eq!(
            validation_message(&two),
            "2 validation errors detected: Value at 'a' failed to satisfy constraint: R1; \
             Value at 'b' failed to satisfy constraint: R2"
        );
        assert_eq!(length_rule(256, 33, 256), None);
    }

    #[test]
    fn shell_errors_carry_the_error_member() {
        let error = AwsError::new(ErrorCode::RuntimeClientError, "m").with_error("ShellLimit");
        assert_eq!(String::from_utf8(error.body()).unwrap(), r#"{"message":"m","error":"ShellLimit"}"#);
        assert_eq!(error.to_string(), "RuntimeClientError: m");
    }
}
