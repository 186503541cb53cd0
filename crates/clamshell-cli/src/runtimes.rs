//! From a runtime's name to its ARN.

use clamshell_wire::{arn::RuntimeArn, percent_encode};
use http::Method;
use serde_json::json;

use crate::{
    client::{self, Client, RequestError},
    control,
    failure::Failure,
    output,
    target::RuntimeChoice,
};

/// A list longer than this many pages is not searched to its end.
const PAGES_MAX: usize = 100;

/// The runtime that was meant, and the endpoint name when its ARN holds one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ResolvedRuntime {
    /// ARN without an endpoint.
    pub(crate) arn: RuntimeArn,
    /// Endpoint name.
    pub(crate) qualifier: Option<String>,
}

impl ResolvedRuntime {
    fn of(arn: &RuntimeArn) -> Self {
        Self { arn: arn.runtime(), qualifier: arn.endpoint.clone() }
    }
}

/// Finds the runtime's ARN, asking the server when its name alone is known.
pub(crate) async fn resolve(client: &Client) -> Result<ResolvedRuntime, Failure> {
    let target = client.target();
    let default = target.default_runtime_arn.as_deref().and_then(|arn| RuntimeArn::parse(arn).ok());
    match &target.runtime {
        RuntimeChoice::Arn(arn) => Ok(ResolvedRuntime::of(arn)),
        RuntimeChoice::Default => match default {
            Some(arn) => Ok(ResolvedRuntime::of(&arn)),
            None => default_of_server(client).await,
        },
        RuntimeChoice::Name(name) => match default.filter(|arn| is_called(&arn.runtime_id, name)) {
            Some(arn) => Ok(ResolvedRuntime::of(&arn)),
            None => by_name(client, name).await,
        },
    }
}

/// What the extension API calls the runtime in its query; nothing when none was named.
pub(crate) fn query_name(choice: &RuntimeChoice) -> Option<String> {
    match choice {
        RuntimeChoice::Default => None,
        RuntimeChoice::Name(name) => Some(name.clone()),
        RuntimeChoice::Arn(arn) => Some(arn.runtime().to_string()),
    }
}

fn is_called(runtime_id: &str, name: &str) -> bool {
    runtime_id == name || runtime_id.rsplit_once('-').is_some_and(|(own, _)| own == name)
}

async fn default_of_server(client: &Client) -> Result<ResolvedRuntime, Failure> {
    let no_runtime = || Failure::new("no runtime was named").hint("give --runtime, or set CLAMSHELL_RUNTIME");
    if client.target().is_aws() {
        return Err(no_runtime());
    }
    match client.json(Method::GET, "/clamshell/v1/server", None).await {
        Ok(server) => RuntimeArn::parse(&output::text(&server, "defaultRuntimeArn"))
            .map(|arn| ResolvedRuntime::of(&arn))
            .map_err(|_| no_runtime()),
        // AWS and its likes know no such path.
        Err(RequestError::Refused(refusal)) if refusal.status == 404 => Err(no_runtime()),
        Err(error) => Err(error.into_failure("cannot find the default runtime", &client.target().endpoint)),
    }
}

async fn by_name(client: &Client, name: &str) -> Result<ResolvedRuntime, Failure> {
    let what = format!("cannot find the runtime `{name}`");
    let endpoint = control::endpoint(client)?;
    let failed = |error: RequestError| {
        let may_not =
            matches!(&error, RequestError::Refused(refusal) if refusal.exception == "AccessDeniedException");
        let failure = error.into_failure(&what, &endpoint);
        if may_not { failure.hint("whoever may not list runtimes names one by its ARN") } else { failure }
    };
    let mut known: Vec<String> = Vec::new();
    let mut token: Option<String> = None;
    for _ in 0..PAGES_MAX {
        let mut path = "/runtimes/?maxResults=100".to_owned();
        if let Some(token) = &token {
            path = format!("{path}&nextToken={}", percent_encode(token));
        }
        let (extra, body) = client::json_body(Some(&json!({})));
        let answer = client.send_to(&endpoint, Method::POST, &path, &extra, body).await.map_err(failed)?;
        let page = client::read_json(answer).await.map_err(failed)?;
        for runtime in page["agentRuntimes"].as_array().into_iter().flatten() {
            let (own, id) =
                (output::text(runtime, "agentRuntimeName"), output::text(runtime, "agentRuntimeId"));
            if own == name || id == name {
                let arn = output::text(runtime, "agentRuntimeArn");
                return RuntimeArn::parse(&arn)
                    .map(|arn| ResolvedRuntime::of(&arn))
                    .map_err(|error| Failure::new(what.clone()).because_of(&error));
            }
            known.push(own);
        }
        token = page["nextToken"].as_str().map(str::to_owned);
        if token.is_none() {
            break;
        }
    }
    let failure = Failure::new(what).because(format!("there is none at {endpoint}"));
    if known.is_empty() {
        return Err(failure);
    }
    known.truncate(20);
    Err(failure.hint(format!("runtimes there: {}", known.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_runtime_is_called_by_name_or_id() {
        assert!(is_called("default-AbCdE12345", "default"));
        assert!(is_called("default-AbCdE12345", "default-AbCdE12345"));
        assert!(!is_called("default-AbCdE12345", "defaul"));
    }
}
