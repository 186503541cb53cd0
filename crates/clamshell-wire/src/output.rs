//! What an answer is made of: which members go to the body and which to headers. The types are generated.

use serde::Serialize;

use crate::operation::Operation;

/// The successful answer of an operation.
pub trait Output: Serialize {
    /// The operation it answers.
    const OPERATION: Operation;

    /// Headers of the answer, names in lower case; none for most operations.
    fn headers(&self) -> Vec<(&'static str, String)> {
        Vec::new()
    }

    /// The JSON body. Operations that answer 204 send none, and those that stream send something else.
    fn body(&self) -> Vec<u8> {
        json(self)
    }
}

/// The JSON of a generated type.
pub(crate) fn json<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    serde_json::to_vec(value).expect("generated types have text keys and no fallible serializers")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Timestamp,
        generated::{control, data},
    };

    #[test]
    fn bodies_have_the_names_of_the_model_and_no_nulls() {
        let output = control::UpdateAgentRuntimeEndpointResponse {
            agent_runtime_arn: "a".into(),
            agent_runtime_endpoint_arn: "e".into(),
            created_at: Timestamp::from_ms(0),
            last_updated_at: Timestamp::from_ms(1),
            live_version: None,
            status: control::AgentRuntimeEndpointStatus::CreateFailed,
            target_version: Some("2".into()),
        };
        assert_eq!(
            String::from_utf8(output.body()).unwrap(),
            r#"{"agentRuntimeArn":"a","agentRuntimeEndpointArn":"e","createdAt":"1970-01-01T00:00:00.000Z","#
                .to_owned()
                + r#""lastUpdatedAt":"1970-01-01T00:00:00.001Z","status":"CREATE_FAILED","targetVersion":"2"}"#
        );
        assert_eq!(output.headers(), []);
        assert_eq!(control::UpdateAgentRuntimeEndpointResponse::OPERATION.success_status(), 202);
    }

    #[test]
    fn headers_stay_out_of_bodies() {
        let output = data::StopRuntimeSessionResponse { runtime_session_id: Some("s".into()) };
        assert_eq!(output.body(), b"{}");
        let headers = [("x-amzn-bedrock-agentcore-runtime-session-id", "s".to_owned())];
        assert_eq!(output.headers(), headers);
        let card = data::GetAgentCardResponse {
            agent_card: serde_json::json!({ "name": "x" }),
            runtime_session_id: None,
        };
        assert_eq!((card.body(), card.headers()), (br#"{"name":"x"}"#.to_vec(), Vec::new()));
    }
}
