//! Tests of inputs gathered from requests.

use std::collections::HashMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    error::ValidationReason,
    generated::{control, data},
};

const ARN: &str = "arn:aws:bedrock-agentcore:us-west-2:123456789012:runtime/demo-AbCdE12345";
const SESSION: &str = "session-0000000000000000000000001";

#[derive(Default)]
struct Request {
    path: PathParams,
    query: Vec<(String, String)>,
    headers: HashMap<&'static str, Vec<u8>>,
    body: Bytes,
}

impl Request {
    fn runtime(runtime: &str) -> Self {
        Self { path: PathParams { runtime: runtime.into(), ..PathParams::default() }, ..Self::default() }
    }

    fn query(mut self, name: &str, value: &str) -> Self {
        self.query.push((name.into(), value.into()));
        self
    }

    fn header(mut self, name: &'static str, value: &[u8]) -> Self {
        self.headers.insert(name, value.to_vec());
        self
    }

    fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    fn decode<T: Input>(&self) -> Result<T, InputError> {
        let header = |name: &str| self.headers.get(name).map(Vec::as_slice);
        decode(&RequestParts { path: &self.path, query: &self.query, header: &header, body: &self.body })
    }

    fn refused<T: Input + std::fmt::Debug>(&self, expect: &[(&str, &str)]) {
        let InputError::Invalid(found) = self.decode::<T>().unwrap_err() else { panic!("not invalid") };
        let found: Vec<_> = found.iter().map(|found| (found.path.as_str(), found.rule.as_str())).collect();
        assert_eq!(found, expect);
    }
}

#[test]
fn members_come_from_everywhere() {
    let request = Request::runtime("demo-AbCdE12345").query("version", "7").query("version", "8");
    let input: control::GetAgentRuntimeRequest = request.decode().unwrap();
    assert_eq!(
        (input.agent_runtime_id.as_str(), input.agent_runtime_version.as_deref()),
        ("demo-AbCdE12345", Some("7"))
    );

    let request = Request::runtime("demo-AbCdE12345").query("maxResults", "100");
    let input: control::ListAgentRuntimeVersionsRequest = request.decode().unwrap();
    assert_eq!((input.max_results, input.next_token), (Some(100), None));

    let mut request = Request::default().query("tagKeys", "a").query("x", "y").query("tagKeys", "b c");
    request.path.resource_arn = ARN.into();
    let input: control::UntagResourceRequest = request.decode().unwrap();
    assert_eq!((input.resource_arn.as_str(), input.tag_keys), (ARN, vec!["a".to_owned(), "b c".to_owned()]));

    let request = Request::runtime(ARN)
        .query("qualifier", "prod")
        .header("x-amzn-bedrock-agentcore-runtime-session-id", SESSION.as_bytes())
        .body(&br#"{"clientToken":null,"runtimeSessionId":"not from here"}"#[..]);
    let input: data::StopRuntimeSessionRequest = request.decode().unwrap();
    let expect = data::StopRuntimeSessionRequest {
        agent_runtime_arn: ARN.into(),
        client_token: None,
        qualifier: Some("prod".into()),
        runtime_session_id: SESSION.into(),
    };
    assert_eq!(input, expect);
}

#[test]
fn payloads() {
    let request = Request::runtime(ARN).header("content-type", b"text/plain").body(&b"\xff{"[..]);
    let input: data::InvokeAgentRuntimeRequest = request.decode().unwrap();
    assert_eq!((&input.payload[..], input.content_type.as_deref()), (&b"\xff{"[..], Some("text/plain")));
    assert!(format!("{input:?}").contains("payload: <redacted>"));

    let request = Request::runtime(ARN).body(&br#"{"command":"ls","timeout":5,"x":null}"#[..]);
    let input: data::InvokeAgentRuntimeCommandRequest = request.decode().unwrap();
    let body = data::InvokeAgentRuntimeCommandRequestBody { command: "ls".into(), timeout: Some(5) };
    assert_eq!(input.body, body);
    let missing = [("body.command", "Member must not be null")];
    Request::runtime(ARN).refused::<data::InvokeAgentRuntimeCommandRequest>(&missing);
}

#[test]
fn a_runtime_is_read_whole() {
    let body = json!({
        "agentRuntimeName": "demo",
        "agentRuntimeArtifact": {
            "containerConfiguration": { "containerUri": "./agent", "new": 1 },
            "codeConfiguration": null,
        },
        "roleArn": "arn:aws:iam::123456789012:role/agent",
        "networkConfiguration": { "networkMode": "PUBLIC" },
        "environmentVariables": { "TOKEN": "secret" },
        "description": "hidden",
        "allowedPorts": [{ "portRange": { "from": 8000, "to": 8005 } }],
        "agentRuntimeId": "not-a-member",
    });
    let request = Request::default().body(body.to_string());
    let input: control::CreateAgentRuntimeRequest = request.decode().unwrap();
    let container = control::ContainerConfiguration { container_uri: "./agent".into() };
    assert_eq!(
        input.agent_runtime_artifact,
        control::AgentRuntimeArtifact::ContainerConfiguration(container)
    );
    let range = control::AllowedPort::PortRange(control::PortRange { from: 8000, to: 8005 });
    assert_eq!(input.allowed_ports, Some(vec![range]));
    assert_eq!(input.network_configuration.as_ref().unwrap().network_mode.as_str(), "PUBLIC");
    let debug = format!("{input:?}");
    assert!(!debug.contains("secret") && !debug.contains("hidden"), "{debug}");
    let stored = serde_json::to_value(&input).unwrap();
    assert_eq!(
        stored["agentRuntimeArtifact"],
        json!({ "containerConfiguration": { "containerUri": "./agent" } })
    );
    assert_eq!(stored.get("tags"), None);
}

#[test]
fn what_is_refused() {
    let pattern = "Member must satisfy regular expression pattern: ";
    let id = format!("{pattern}[a-zA-Z][a-zA-Z0-9_]{{0,99}}-[a-zA-Z0-9]{{10}}");
    let version = format!("{pattern}([1-9][0-9]{{0,4}})");
    Request::runtime("x").query("version", "0").refused::<control::GetAgentRuntimeRequest>(&[
        ("agentRuntimeId", &id),
        ("agentRuntimeVersion", &version),
    ]);
    Request::default()
        .query("maxResults", "101")
        .query("nextToken", "")
        .refused::<control::ListAgentRuntimesRequest>(&[
            ("maxResults", "Member must have value less than or equal to 100"),
            ("nextToken", "Member must have length greater than or equal to 1"),
        ]);
    Request::default()
        .query("maxResults", "ten")
        .refused::<control::ListAgentRuntimesRequest>(&[("maxResults", "Member must be an integer")]);
    Request::runtime(ARN)
        .header("x-amzn-bedrock-agentcore-runtime-session-id", b"\xff")
        .refused::<data::StopRuntimeSessionRequest>(&[("runtimeSessionId", "Member must be UTF-8 text")]);
    Request::runtime(ARN)
        .refused::<data::StopRuntimeSessionRequest>(&[("runtimeSessionId", "Member must not be null")]);
    let mut request = Request::default();
    request.path.resource_arn = ARN.into();
    request.refused::<control::UntagResourceRequest>(&[("tagKeys", "Member must not be null")]);
    let keys = "Member must satisfy constraint: [Member must have length less than or equal to 128, Member must \
                have length greater than or equal to 1, Member must satisfy regular expression pattern: \
                [a-zA-Z0-9\\s._:/=+@-]*]";
    request
        .query("tagKeys", "")
        .query("tagKeys", "#")
        .refused::<control::UntagResourceRequest>(&[("tagKeys", keys)]);
    let tags = Request {
        path: PathParams { resource_arn: ARN.into(), ..PathParams::default() },
        ..Request::default()
    };
    tags.body(&br#"{"tags":{"a":1}}"#[..])
        .refused::<control::TagResourceRequest>(&[("tags.value", "Member must be a string")]);
}

#[test]
fn bodies_that_are_no_objects() {
    for body in ["[]", "1", "{", "null", "\u{feff}{}", &"[".repeat(100_000)] {
        let error = Request::default().body(body.to_owned()).decode::<control::CreateAgentRuntimeRequest>();
        let error = error.unwrap_err().aws_error();
        assert_eq!(error.reason, Some(ValidationReason::CannotParse), "{body}");
        assert_eq!(error.message, "The body must be a JSON object.");
    }
    let long = " ".repeat(INPUT_BODY_BYTES_MAX) + "{}";
    let error = Request::default().body(long).decode::<control::CreateAgentRuntimeRequest>().unwrap_err();
    assert_eq!(error.aws_error().message, "The body must have at most 4194304 bytes.");
    // Operations without a body do not look at it.
    let request = Request::default().body("nonsense");
    assert_eq!(request.decode::<control::ListAgentRuntimesRequest>().unwrap().max_results, None);
}

proptest! {
    #[test]
    fn hostile_requests_never_panic(
        runtime in ".{0,60}",
        name in "(version|maxResults|nextToken|qualifier|clientToken|tagKeys)",
        value in ".{0,60}",
        header in prop::collection::vec(any::<u8>(), 0..60),
        body in "[\\{\\}\\[\\]\":,a-z0-9\\\\-]{0,60}",
    ) {
        let request = Request::runtime(&runtime)
            .query(&name, &value)
            .header("x-amzn-bedrock-agentcore-runtime-session-id", &header)
            .body(body);
        macro_rules! each {
            ($($module:ident::$name:ident)*) => {
                $(let _ = request.decode::<$module::$name>().map_err(|error| error.aws_error());)*
            };
        }
        each!(
            control::CreateAgentRuntimeRequest
            control::GetAgentRuntimeRequest
            control::DeleteAgentRuntimeRequest
            control::ListAgentRuntimesRequest
            control::UntagResourceRequest
            control::TagResourceRequest
            data::InvokeAgentRuntimeRequest
            data::InvokeAgentRuntimeCommandRequest
            data::StopRuntimeSessionRequest
        );
    }
}
