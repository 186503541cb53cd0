//! The endpoint behind `clamshell web`: shells are opened as `exec --it` does, with the same credentials.

use std::sync::Arc;

use clamshell_domain::{BoxFuture, SessionId};
use clamshell_server::{ShellAsk, Upstream, UpstreamError, UpstreamInfo, UpstreamShell};
use clamshell_wire::{headers, percent_encode};
use http::Method;

use super::{
    Access, HintFlags, Wish,
    connection::{self, ConnectError, Route},
};
use crate::{
    client::{Client, RequestError},
    failure::Failure,
};

/// A runtime at an endpoint.
pub(crate) struct Endpoint {
    client: Arc<Client>,
    info: UpstreamInfo,
}

impl Endpoint {
    /// Shells of this runtime.
    pub(crate) fn new(client: Client, info: UpstreamInfo) -> Self {
        Self { client: Arc::new(client), info }
    }

    fn wish(&self, ask: &ShellAsk) -> Wish {
        Wish {
            arn: self.info.runtime_arn.clone(),
            qualifier: self.info.qualifier.clone(),
            session_id: ask.session_id.to_string(),
            shell_id: Some(ask.shell_id.to_string()),
            access: Access::Write,
            keep: false,
            detach_key: String::new(),
            hint_flags: HintFlags::default(),
        }
    }
}

impl Upstream for Endpoint {
    fn info(&self) -> &UpstreamInfo {
        &self.info
    }

    fn connect<'a>(&'a self, ask: &'a ShellAsk) -> BoxFuture<'a, Result<UpstreamShell, UpstreamError>> {
        Box::pin(async move {
            let wish = self.wish(ask);
            let connected = connection::connect(&self.client, &wish, &Route::Aws, ask.size).await;
            let connection = connected.map_err(|error| match error {
                ConnectError::Gone => UpstreamError::Refused { message: "the shell has ended".to_owned() },
                ConnectError::Fatal(failure) => UpstreamError::Refused { message: text(&failure) },
                ConnectError::Closed(code, message) => UpstreamError::Closed { code, message },
            })?;
            Ok(UpstreamShell {
                socket: connection.socket.messages,
                reconnected: connection.reconnected,
                offset: connection.offset,
                early: connection.early,
            })
        })
    }

    fn stop<'a>(&'a self, session_id: &'a SessionId) -> BoxFuture<'a, Result<(), UpstreamError>> {
        Box::pin(async move {
            let path = format!(
                "/runtimes/{}/stopruntimesession?qualifier={}",
                percent_encode(&self.info.runtime_arn),
                percent_encode(&self.info.qualifier)
            );
            let extra = [(headers::SESSION_ID, session_id.to_string())];
            match self.client.send(Method::POST, &path, &extra, Vec::new()).await {
                Ok(_) => Ok(()),
                Err(RequestError::Refused(refusal)) => {
                    Err(UpstreamError::Refused { message: refusal.text() })
                }
                Err(RequestError::Unreachable(message)) => Err(UpstreamError::Closed { code: None, message }),
                Err(RequestError::Local(failure)) => Err(UpstreamError::Refused { message: text(&failure) }),
            }
        })
    }
}

fn text(failure: &Failure) -> String {
    failure.message()
}
