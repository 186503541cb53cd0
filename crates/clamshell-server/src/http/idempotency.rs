//! Calls with a client token (`runtime.md` 2.3): the same call again gets the first answer and changes nothing.

use aws_lc_rs::digest::{SHA256, digest};
use clamshell_store::Receipt;
use clamshell_wire::{AwsError, ErrorCode, Input, Output, ValidationReason};
use http::{Response, StatusCode};
use serde_json::Value;

use super::{
    ApiError,
    response::{self, Body},
};
use crate::app::App;

/// How long answers are remembered.
pub(crate) const ANSWER_MS: u64 = 86_400_000;

/// A call that may have a token.
pub(super) struct Once {
    operation: clamshell_wire::Operation,
    token: Option<String>,
    digest: Vec<u8>,
}

impl Once {
    /// The call that has this input.
    pub(super) fn new<T: Input>(input: &T, token: Option<&str>) -> Result<Self, ApiError> {
        let mut parameters =
            serde_json::to_value(input).map_err(|_| ApiError::Internal("an input is not JSON"))?;
        if let Value::Object(members) = &mut parameters {
            members.remove("clientToken");
        }
        Ok(Self {
            operation: T::OPERATION,
            token: token.map(str::to_owned),
            digest: digest(&SHA256, parameters.to_string().as_bytes()).as_ref().to_vec(),
        })
    }

    /// The answer that this call got before. To be asked, and the change to be made, in one turn of the control plane.
    ///
    /// # Errors
    /// A `ValidationException` when the token came with other parameters.
    pub(super) async fn answered(&self, app: &App) -> Result<Option<Response<Body>>, ApiError> {
        let Some(token) = &self.token else { return Ok(None) };
        let since_ms = app.now_ms().saturating_sub(ANSWER_MS);
        let Some(stored) = app.store.stored_answer(self.operation.name(), token, since_ms).await? else {
            return Ok(None);
        };
        if stored.digest != self.digest {
            let message = "The client token was used before with other parameters";
            return Err(ApiError::Wire(AwsError {
                reason: Some(ValidationReason::IdempotentParameterMismatchException),
                ..AwsError::new(ErrorCode::Validation, message)
            }));
        }
        Ok(Some(response::bytes(status(self.operation), clamshell_wire::headers::JSON, stored.answer)))
    }

    /// What is stored with the change, so that the call is known when it comes again.
    pub(super) fn receipt<T: Output>(&self, answer: &T, now_ms: u64) -> Option<Receipt> {
        Some(Receipt {
            operation: self.operation.name(),
            token: self.token.clone()?,
            digest: self.digest.clone(),
            answer: String::from_utf8_lossy(&answer.body()).into_owned(),
            now_ms,
        })
    }
}

/// The successful answer of an operation.
pub(super) fn answer<T: Output>(value: &T) -> Response<Body> {
    match status(T::OPERATION) {
        StatusCode::NO_CONTENT => response::empty(StatusCode::NO_CONTENT),
        status => response::bytes(status, clamshell_wire::headers::JSON, value.body()),
    }
}

fn status(operation: clamshell_wire::Operation) -> StatusCode {
    StatusCode::from_u16(operation.success_status()).unwrap_or(StatusCode::OK)
}
