//! The control plane: calls, pages, and waiting for a runtime or an endpoint to become ready.

use std::time::Duration;

use clamshell_wire::{arn::RuntimeArn, percent_encode};
use http::Method;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::{
    client::{self, Client, RequestError},
    failure::Failure,
    output::text,
    target::{Endpoint, Place},
};

/// A list longer than this many pages is not read to its end.
const PAGES_MAX: usize = 100;
/// A local runtime is ready within milliseconds, one whose image is pulled within minutes.
const POLL: Duration = Duration::from_millis(50);
const POLL_MAX: Duration = Duration::from_secs(2);
/// Images of some gigabytes over a slow line; AWS needs some minutes for its newer platform.
const READY_TIMEOUT: Duration = Duration::from_secs(20 * 60);

/// Calls the control plane of a client's target.
#[derive(Clone, Copy)]
pub(crate) struct Control<'a> {
    client: &'a Client,
}

impl<'a> Control<'a> {
    /// The control plane beside the data plane of `client`.
    pub(crate) fn new(client: &'a Client) -> Self {
        Self { client }
    }

    /// Calls an operation, as a failure of `what`.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        what: &str,
    ) -> Result<Value, Failure> {
        let endpoint = endpoint(self.client)?;
        self.try_call(method, path, body).await.map_err(|error| error.into_failure(what, &endpoint))
    }

    /// Calls an operation.
    pub(crate) async fn try_call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value, RequestError> {
        let endpoint = endpoint(self.client).map_err(RequestError::Local)?;
        let (extra, body) = client::json_body(body);
        let answer = self.client.send_to(&endpoint, method, path, &extra, body).await?;
        client::read_json(answer).await
    }

    /// All items of a list, page after page.
    pub(crate) async fn list(&self, path: &str, member: &str, what: &str) -> Result<Vec<Value>, Failure> {
        let mut items = Vec::new();
        let mut token: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let next = token.as_deref().map(|token| format!("&nextToken={}", percent_encode(token)));
            let path = format!("{path}?maxResults=100{}", next.unwrap_or_default());
            let mut page = self.call(Method::POST, &path, Some(&json!({})), what).await?;
            items.extend(page[member].as_array_mut().map(std::mem::take).unwrap_or_default());
            token = page["nextToken"].as_str().map(str::to_owned);
            if token.is_none() {
                break;
            }
        }
        Ok(items)
    }

    /// All runtimes.
    pub(crate) async fn runtimes(&self, what: &str) -> Result<Vec<Value>, Failure> {
        self.list("/runtimes/", "agentRuntimes", what).await
    }

    /// Waits until the status of what `path` gets is final; fails with its reason when it is a failure.
    pub(crate) async fn wait_ready(&self, path: &str, what: &str) -> Result<Value, Failure> {
        let deadline = Instant::now() + READY_TIMEOUT;
        let mut pause = POLL;
        loop {
            let found = self.call(Method::GET, path, None, what).await?;
            match text(&found, "status").as_str() {
                "READY" | "ACTIVE" => return Ok(found),
                status if status.ends_with("_FAILED") => {
                    let reason = text(&found, "failureReason");
                    let why = if reason.is_empty() {
                        "no reason given".to_owned()
                    } else {
                        client::printable(&reason)
                    };
                    return Err(Failure::new(what).because(format!("{status}: {why}")));
                }
                status if Instant::now() > deadline => {
                    let limit = READY_TIMEOUT.as_secs() / 60;
                    return Err(Failure::new(what).because(format!("still {status} after {limit} minutes")));
                }
                _ => {}
            }
            sleep(pause).await;
            pause = (pause * 2).min(POLL_MAX);
        }
    }

    /// Waits until a resource is gone.
    pub(crate) async fn wait_gone(&self, path: &str, what: &str) -> Result<(), Failure> {
        let deadline = Instant::now() + READY_TIMEOUT;
        let mut pause = POLL;
        loop {
            let found = match self.try_call(Method::GET, path, None).await {
                Err(RequestError::Refused(refusal)) if refusal.status == 404 => return Ok(()),
                Err(error) => return Err(error.into_failure(what, &endpoint(self.client)?)),
                Ok(found) => found,
            };
            let status = text(&found, "status");
            if status == "DELETE_FAILED" || Instant::now() > deadline {
                let reason = client::printable(&text(&found, "failureReason"));
                return Err(Failure::new(what).because(format!("{status} {reason}").trim().to_owned()));
            }
            sleep(pause).await;
            pause = (pause * 2).min(POLL_MAX);
        }
    }

    /// The account that calls: of the local server, or what the server says of itself. `None` for AWS.
    pub(crate) async fn account_id(&self) -> Option<String> {
        let target = self.client.target();
        if let Some(arn) = target.default_runtime_arn.as_deref().and_then(|arn| RuntimeArn::parse(arn).ok()) {
            return Some(arn.account_id);
        }
        if target.is_aws() {
            return None;
        }
        let server = self.client.json(Method::GET, "/clamshell/v1/server", None).await.ok()?;
        Some(text(&server, "accountId")).filter(|id| !id.is_empty())
    }
}

/// Where the control plane of a client's target is.
pub(crate) fn endpoint(client: &Client) -> Result<Endpoint, Failure> {
    match std::env::var("AWS_ENDPOINT_URL_BEDROCK_AGENTCORE_CONTROL") {
        Ok(url) if client.target().place == Place::Named && !url.is_empty() => Endpoint::parse(&url),
        _ => Ok(client.target().endpoint.control()),
    }
}

/// Path of a runtime.
pub(crate) fn runtime_path(runtime_id: &str) -> String {
    format!("/runtimes/{}/", percent_encode(runtime_id))
}

/// Path of an endpoint of a runtime.
pub(crate) fn endpoint_path(runtime_id: &str, name: &str) -> String {
    format!("/runtimes/{}/runtime-endpoints/{}/", percent_encode(runtime_id), percent_encode(name))
}

/// `KEY=VALUE`, for clap.
pub(crate) fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("it must look like KEY=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_end_with_a_slash_as_the_model_has_them() {
        assert_eq!(runtime_path("a-AbCdE12345"), "/runtimes/a-AbCdE12345/");
        assert_eq!(endpoint_path("a-AbCdE12345", "prod"), "/runtimes/a-AbCdE12345/runtime-endpoints/prod/");
    }

    #[test]
    fn pairs_are_cut_at_the_first_equals_sign() {
        assert_eq!(key_value("A=b=c"), Ok(("A".to_owned(), "b=c".to_owned())));
        assert_eq!(key_value("A="), Ok(("A".to_owned(), String::new())));
        assert!(key_value("=b").is_err() && key_value("A").is_err());
    }
}
