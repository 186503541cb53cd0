//! Inputs of operations: what is taken keeps the rules of the model and reads the same again.

use clamshell_wire::{
    Input, InputError, Operation, RequestParts, decode,
    generated::{control, data},
    query,
    route::{PathParams, Route, route},
    validate::{VIOLATIONS_MAX, normalize, validate},
};

use crate::wire::Lines;

/// A request, whose method and path choose the operation.
pub(super) fn input(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let lines = Lines::new(&text);
    let Ok(Route::Operation(operation, path)) = route(lines.method, lines.raw_path) else { return };
    match operation {
        Operation::CreateAgentRuntime => check::<control::CreateAgentRuntimeRequest>(&lines, &path),
        Operation::ListAgentRuntimes => check::<control::ListAgentRuntimesRequest>(&lines, &path),
        Operation::GetAgentRuntime => check::<control::GetAgentRuntimeRequest>(&lines, &path),
        Operation::UpdateAgentRuntime => check::<control::UpdateAgentRuntimeRequest>(&lines, &path),
        Operation::DeleteAgentRuntime => check::<control::DeleteAgentRuntimeRequest>(&lines, &path),
        Operation::ListAgentRuntimeVersions => {
            check::<control::ListAgentRuntimeVersionsRequest>(&lines, &path);
        }
        Operation::CreateAgentRuntimeEndpoint => {
            check::<control::CreateAgentRuntimeEndpointRequest>(&lines, &path);
        }
        Operation::ListAgentRuntimeEndpoints => {
            check::<control::ListAgentRuntimeEndpointsRequest>(&lines, &path);
        }
        Operation::GetAgentRuntimeEndpoint => {
            check::<control::GetAgentRuntimeEndpointRequest>(&lines, &path);
        }
        Operation::UpdateAgentRuntimeEndpoint => {
            check::<control::UpdateAgentRuntimeEndpointRequest>(&lines, &path);
        }
        Operation::DeleteAgentRuntimeEndpoint => {
            check::<control::DeleteAgentRuntimeEndpointRequest>(&lines, &path);
        }
        Operation::TagResource => check::<control::TagResourceRequest>(&lines, &path),
        Operation::UntagResource => check::<control::UntagResourceRequest>(&lines, &path),
        Operation::ListTagsForResource => check::<control::ListTagsForResourceRequest>(&lines, &path),
        Operation::PutResourcePolicy => check::<control::PutResourcePolicyRequest>(&lines, &path),
        Operation::GetResourcePolicy => check::<control::GetResourcePolicyRequest>(&lines, &path),
        Operation::DeleteResourcePolicy => check::<control::DeleteResourcePolicyRequest>(&lines, &path),
        Operation::InvokeAgentRuntime => check::<data::InvokeAgentRuntimeRequest>(&lines, &path),
        Operation::GetAgentCard => check::<data::GetAgentCardRequest>(&lines, &path),
        Operation::StopRuntimeSession => check::<data::StopRuntimeSessionRequest>(&lines, &path),
        Operation::InvokeAgentRuntimeCommand => {
            check::<data::InvokeAgentRuntimeCommandRequest>(&lines, &path);
        }
        Operation::GetRuntimeProtectedResourceMetadata
        | Operation::InvokeAgentRuntimeWithWebSocketStream
        | Operation::InvokeAgentRuntimeCommandShell => {}
    }
}

fn read<T: Input>(lines: &Lines<'_>, path: &PathParams) -> Option<Result<T, InputError>> {
    let query = query::parse(lines.raw_query).ok()?;
    let header = |name: &str| {
        lines.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    };
    let body = lines.body.to_vec().into();
    Some(decode(&RequestParts { path, query: &query, header: &header, body: &body }))
}

fn check<T: Input>(lines: &Lines<'_>, path: &PathParams) {
    match read::<T>(lines, path) {
        None => {}
        Some(Ok(input)) => {
            let value = serde_json::to_value(&input).unwrap();
            // Bytes that are the body are in the type, not in its JSON.
            let found = validate(T::shape(), &value).err().unwrap_or_default();
            assert!(found.iter().all(|violation| violation.path == "payload"), "{found:?}");
            assert_eq!(normalize(T::shape(), value.clone()), value);
            let again: T = serde_json::from_value(value.clone()).unwrap();
            assert_eq!(serde_json::to_value(again).unwrap(), value);
        }
        Some(Err(error)) => {
            assert!(!matches!(error, InputError::Unreadable(_)), "types are narrower than shapes: {error:?}");
            let error = error.aws_error();
            assert!(error.code.status() == 400 && error.field_list.len() <= VIOLATIONS_MAX, "{error}");
        }
    }
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let create = r#"{"agentRuntimeName":"demo","roleArn":"arn:aws:iam::123456789012:role/r","agentRuntimeArtifact":
{"containerConfiguration":{"containerUri":"localhost/agent"}},"networkConfiguration":{"networkMode":"PUBLIC"},
"environmentVariables":{"A":"b"},"protocolConfiguration":{"serverProtocol":"HTTP","port":8080},"tags":{"k":"v"},
"allowedPorts":[{"port":8000},{"portRange":{"from":9000,"to":9001}}],"filesystemConfigurations":
[{"sessionStorage":{"mountPath":"/mnt/workspace"}}],"lifecycleConfiguration":{"maxLifetime":60}}"#;
    let jwt = r#"{"roleArn":"arn:aws:iam::123456789012:role/r","agentRuntimeArtifact":{"codeConfiguration":
{"code":{"s3":{"bucket":"abc","prefix":"p"}},"runtime":"PYTHON_3_13","entryPoint":["main.py"]}},
"authorizerConfiguration":{"customJWTAuthorizer":{"discoveryUrl":
"https://idp/.well-known/openid-configuration","allowedScopes":["a"],"customClaims":[{"inboundTokenClaimName":
"c","inboundTokenClaimValueType":"STRING","authorizingClaimMatchValue":{"claimMatchOperator":"EQUALS",
"claimMatchValue":{"matchValueString":"x"}}}]}}}"#;
    let session = "x-amzn-bedrock-agentcore-runtime-session-id: 0123456789012345678901234567890123456789";
    let arn = "arn:aws:bedrock-agentcore:us-west-2:123456789012:runtime/demo-AbCdE12345";
    [
        format!("PUT\n/runtimes/\nq=1\nhost: h\n\n{create}"),
        format!("PUT\n/runtimes/demo-AbCdE12345/\nq=1\nhost: h\n\n{jwt}"),
        "POST\n/runtimes/\nmaxResults=10&nextToken=x\nhost: h\n\n".to_owned(),
        "GET\n/runtimes/demo-AbCdE12345/\nversion=1\nhost: h\n\n".to_owned(),
        format!("DELETE\n/tags/{arn}\ntagKeys=a&tagKeys=b\nhost: h\n\n"),
        format!("POST\n/runtimes/{arn}/commands\nq=1\n{session}\n\n{{\"command\":\"ls\",\"timeout\":5}}"),
        format!("POST\n/runtimes/{arn}/invocations\nqualifier=DEFAULT\n{session}\naccept: */*\n\n{{}}"),
        format!("POST\n/runtimes/{arn}/stopruntimesession\nq=1\n{session}\n\n{{\"clientToken\":null}}"),
    ]
    .into_iter()
    .map(String::into_bytes)
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mutations of good inputs get far; those of bad ones stop at the door.
    #[test]
    fn seeds_are_good() {
        let seeds: Vec<_> = seeds().into_iter().map(|seed| String::from_utf8(seed).unwrap()).collect();
        let good = |index: usize| {
            let lines = Lines::new(&seeds[index]);
            let Ok(Route::Operation(_, path)) = route(lines.method, lines.raw_path) else { return false };
            match index {
                0 => read::<control::CreateAgentRuntimeRequest>(&lines, &path).unwrap().is_ok(),
                1 => read::<control::UpdateAgentRuntimeRequest>(&lines, &path).unwrap().is_ok(),
                2 => read::<control::ListAgentRuntimesRequest>(&lines, &path).unwrap().is_ok(),
                3 => read::<control::GetAgentRuntimeRequest>(&lines, &path).unwrap().is_ok(),
                4 => read::<control::UntagResourceRequest>(&lines, &path).unwrap().is_ok(),
                5 => read::<data::InvokeAgentRuntimeCommandRequest>(&lines, &path).unwrap().is_ok(),
                6 => read::<data::InvokeAgentRuntimeRequest>(&lines, &path).unwrap().is_ok(),
                _ => read::<data::StopRuntimeSessionRequest>(&lines, &path).unwrap().is_ok(),
            }
        };
        let bad: Vec<_> = (0..seeds.len()).filter(|index| !good(*index)).collect();
        assert_eq!(bad, [0; 0]);
    }
}
