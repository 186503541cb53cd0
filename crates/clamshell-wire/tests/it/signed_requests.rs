//! Requests as boto3 and the AWS SDK for JavaScript sent them, signed with the example credentials, in
//! `tests/data/signed_requests.json`: each must verify, route and parse.

use clamshell_wire::command::{CommandRequest, StopRequest};
use clamshell_wire::route::{Route, route};
use clamshell_wire::sigv4::{self, PayloadHash, SigV4Error, SignedRequest};
use clamshell_wire::{Operation, query};
use serde::Deserialize;

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const ARN: &str = "arn:aws:bedrock-agentcore:us-west-2:123456789012:runtime/demo-AbCdE12345";

#[derive(Deserialize)]
struct Recorded {
    client: String,
    operation: String,
    method: String,
    path: String,
    query: String,
    headers: Vec<(String, String)>,
    body: String,
}

fn recorded() -> Vec<Recorded> {
    serde_json::from_str(include_str!("../data/signed_requests.json")).expect("the recording is JSON")
}

#[test]
fn real_clients_verify() {
    for row in recorded() {
        let headers: Vec<(&str, &[u8])> =
            row.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        let request = SignedRequest {
            method: &row.method,
            raw_path: &row.path,
            raw_query: &row.query,
            headers: &headers,
            payload_hash: PayloadHash::Body(row.body.as_bytes()),
        };
        let what = format!("{} {}", row.client, row.operation);
        let signature = sigv4::parse(&request).unwrap().unwrap();
        assert_eq!(signature.session_token(), Some("tok/en+="), "{what}");
        let now = signature.timestamp_ms() + 1000;
        assert_eq!(signature.verify(&request, SECRET, now, "us-west-2"), Ok(()), "{what}");
        let empty = SignedRequest { payload_hash: PayloadHash::Body(b"other"), ..request };
        let error = signature.verify(&empty, SECRET, now, "us-west-2").unwrap_err();
        assert!(
            matches!(error, SigV4Error::SignatureDoesNotMatch | SigV4Error::PayloadHashMismatch),
            "{what}: {error}"
        );
    }
}

#[test]
fn real_clients_route_and_parse() {
    let rows = recorded();
    assert_eq!(rows.len(), 12);
    for row in rows {
        let what = format!("{} {}", row.client, row.operation);
        let Ok(Route::Operation(operation, params)) = route(&row.method, &row.path) else {
            panic!("{what}: no route")
        };
        assert_eq!(operation.name(), row.operation, "{what}");
        let query = query::parse(&row.query).unwrap();
        let query: Vec<(&str, &str)> =
            query.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        match operation {
            Operation::InvokeAgentRuntime => {
                assert_eq!(params.runtime, ARN);
                assert_eq!(query, [("qualifier", "DE FAULT+*'()!")], "{what}");
            }
            Operation::InvokeAgentRuntimeCommand => {
                let expect = CommandRequest { command: "ls".into(), timeout_s: 5 };
                assert_eq!(CommandRequest::parse(row.body.as_bytes()), Ok(expect), "{what}");
            }
            Operation::StopRuntimeSession => {
                let stop = StopRequest::parse(row.body.as_bytes()).unwrap();
                assert_eq!(stop.client_token.map(|token| token.len()), Some(36), "{what}");
            }
            Operation::UntagResource => {
                assert_eq!(params.resource_arn, ARN);
                let expect = [("tagKeys", "k"), ("tagKeys", "k 2+~!*'()"), ("tagKeys", "é")];
                assert_eq!(query, expect, "{what}");
            }
            Operation::ListAgentRuntimes => {
                assert_eq!(query, [("maxResults", "5"), ("nextToken", "a/b+c=")], "{what}");
            }
            Operation::DeleteAgentRuntimeEndpoint => {
                assert_eq!(
                    (params.runtime.as_str(), params.endpoint_name.as_str()),
                    ("demo-AbCdE12345", "prod")
                );
            }
            other => panic!("{what}: {other:?}"),
        }
    }
}
