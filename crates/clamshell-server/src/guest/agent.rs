//! What the server asks of a guest that hosts an agent.

use clamshell_protocol::{AgentInfo, AgentSpec, ErrorCode, Reply, Request};

use super::{AgentStream, GuestAddress, GuestConnection, GuestError};

impl GuestAddress {
    /// Starts the agent, unless this guest has started it already: then nothing changes and the one of before is told.
    ///
    /// # Errors
    /// [`GuestError`].
    pub(crate) async fn start_agent(&self, spec: AgentSpec) -> Result<AgentInfo, GuestError> {
        self.ask_for_agent(Request::AgentStart(Box::new(spec))).await.map(|(info, _)| info)
    }

    /// The agent; `None` when this guest has started none.
    ///
    /// # Errors
    /// [`GuestError`].
    pub(crate) async fn agent(&self) -> Result<Option<AgentInfo>, GuestError> {
        match self.ask_for_agent(Request::AgentShow).await {
            Ok((info, _)) => Ok(Some(info)),
            Err(GuestError::Refused(refusal)) if refusal.code == ErrorCode::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Follows what the agent prints, from this offset on: `Output` and `Gap` frames, and `Exit` after its end.
    ///
    /// # Errors
    /// [`GuestError`].
    pub(crate) async fn agent_log(
        &self,
        from_offset: u64,
    ) -> Result<(AgentInfo, GuestConnection), GuestError> {
        self.ask_for_agent(Request::AgentLog { from_offset }).await
    }

    /// Connects to a port that a program of the sandbox listens on, on its loopback interface.
    ///
    /// # Errors
    /// [`GuestError`]; with [`ErrorCode::Refused`] when nothing listens there.
    pub(crate) async fn connect(&self, port: u16) -> Result<AgentStream, GuestError> {
        super::agent_stream::connect(self, port).await
    }

    async fn ask_for_agent(&self, request: Request) -> Result<(AgentInfo, GuestConnection), GuestError> {
        let (reply, connection) = self.ask(request).await?;
        let Reply::Agent(info) = reply else { return Err(GuestError::Unexpected) };
        Ok((info, connection))
    }
}
