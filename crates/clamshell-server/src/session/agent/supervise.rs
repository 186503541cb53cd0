//! Starts an agent, watches over it, and ends its compute when it is of no use any more.

use std::{sync::Arc, time::Duration};

use clamshell_domain::StopReason;
use clamshell_protocol::{AgentInfo, Exit};
use tokio::{sync::oneshot, time::Instant};

use super::{
    Agent, AgentError, State,
    collect::Collector,
    health::{self, Ping},
    start::{self, Place},
};
use crate::{
    guest::GuestError,
    session::{Compute, Registry, Session},
};

/// How often a running agent is asked for its health.
const INTERVAL: Duration = Duration::from_secs(5);

/// A guest below another kernel has a clock that is set by that one.
const CLOCKS_DIFFER_MS: u64 = 100;

/// So many questions without a good answer mean that it will not answer the next one either.
const MISSES_MAX: u32 = 3;

/// Pause before a guest is asked again that cannot be reached.
const PAUSE: Duration = Duration::from_millis(200);

/// Why an agent is of no use.
struct End {
    error: AgentError,
    reason: StopReason,
    /// For the runtime's log.
    message: String,
}

impl Registry {
    /// Has the agent of a compute started, unless it runs, and watched over until the compute ends. Returns at once.
    pub(in crate::session) fn host_agent(
        self: &Arc<Self>,
        session: &Arc<Session>,
        compute: &Compute,
        generation: u64,
    ) {
        let Some(agent) = compute.agent.clone() else { return };
        let (registry, session, compute) = (Arc::clone(self), Arc::clone(session), compute.clone());
        self.tasks.spawn(async move {
            let ended = compute.ended.clone();
            let end = tokio::select! {
                biased;
                () = ended.cancelled() => {
                    agent.over(AgentError::Ended);
                    return;
                }
                // The agent goes on; what it is being asked may end meanwhile.
                () = registry.shutdown.cancelled() => return agent.pool.close(),
                end = async {
                    if let Some(reason) = registry.keep_credentials(&session, &compute).await {
                        agent.log.note(reason);
                    }
                    registry.watch_agent(&session, compute, &agent).await
                } => end,
            };
            agent.over(end.error);
            tracing::info!(session = %session.key().session_id, reason = end.message, "agent is over");
            agent.log.note(end.message);
            registry.end_of_generation(&session, generation, end.reason).await;
        });
    }

    async fn watch_agent(&self, session: &Arc<Session>, compute: Compute, agent: &Agent) -> End {
        let info = match self.start_agent(session, agent).await {
            Ok(info) => info,
            Err(reason) => {
                let message = format!("agent could not be started: {reason}");
                return End {
                    error: AgentError::StartFailed { reason },
                    reason: StopReason::StartFailed,
                    message,
                };
            }
        };
        tracing::debug!(session = %session.key().session_id, pid = info.pid, "agent was started");
        let (told, exited) = oneshot::channel();
        let collector = Collector {
            session: Arc::clone(session),
            compute,
            log: Arc::clone(&agent.log),
            shutdown: self.shutdown.clone(),
            second: (Instant::now(), 0),
        };
        self.tasks.spawn(collector.run(told));
        tokio::select! {
            Ok(exit) = exited => ended(exit),
            end = self.ask_for_health(session, agent) => end,
        }
    }

    async fn start_agent(&self, session: &Session, agent: &Agent) -> Result<AgentInfo, String> {
        let runtime = session.runtime();
        let hosting = runtime.hosting.as_ref().ok_or("the runtime hosts no agent")?;
        let image = session.driver().image_config(&runtime.artifact).await;
        let place = Place {
            key: session.key(),
            region: &self.region,
            account_id: &self.account_id,
            endpoint: self.endpoint.get().map(String::as_str),
        };
        let spec = start::spec(&runtime, hosting, image, &place)?;
        let asked_at_ms = self.now_ms();
        loop {
            match agent.guest.start_agent(spec.clone()).await {
                Ok(info) => {
                    // An agent that a server before this one started was told of by that one.
                    let is_new = info.started_at_ms.saturating_add(CLOCKS_DIFFER_MS) >= asked_at_ms;
                    if let Some(note) = start::missing_network(&runtime).filter(|_| is_new) {
                        agent.log.note(note.to_owned());
                    }
                    return Ok(info);
                }
                Err(GuestError::Refused(refusal)) => return Err(refusal.message),
                Err(error) if Instant::now() > agent.start_deadline => {
                    return Err(crate::http::chain(&error));
                }
                // A machine that is starved answers late.
                Err(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// Asks until it is of no use to go on.
    async fn ask_for_health(&self, session: &Session, agent: &Agent) -> End {
        match health::wait_until_ready(agent).await {
            Ok(_) => {
                agent.state.send_if_modified(|state| {
                    let starts = *state == State::Starting;
                    if starts {
                        *state = State::Ready;
                    }
                    starts
                });
            }
            Err(last) => {
                let limit_s = agent.start_limit.as_secs();
                return End {
                    error: AgentError::StartTimeout { limit_s },
                    reason: StopReason::StartFailed,
                    message: format!("agent did not become ready within {limit_s} s: {last}"),
                };
            }
        }
        let mut idle = Idle::default();
        let mut misses = 0;
        loop {
            tokio::time::sleep(INTERVAL).await;
            agent.pool.tidy();
            let ping = health::ping(agent).await;
            let now_ms = self.now_ms();
            if let Some(active_at_ms) = idle.active_at(&ping, now_ms) {
                session.activity(active_at_ms);
            }
            let Ping::Missed { timed_out, reason } = ping else {
                misses = 0;
                continue;
            };
            if let Ok(Some(AgentInfo { exit: Some(exit), .. })) = agent.guest.agent().await {
                return ended(exit);
            }
            // An agent that serves one request at a time cannot answer while it does; that has its own limit.
            if timed_out && agent.pool.is_busy() {
                continue;
            }
            misses += 1;
            if misses >= MISSES_MAX {
                return End {
                    error: AgentError::Unreachable,
                    reason: StopReason::Unhealthy,
                    message: format!("agent is unhealthy: {reason}, {misses} times"),
                };
            }
        }
    }
}

fn ended(exit: Exit) -> End {
    let (code, signal) = (exit.code, exit.signal);
    let message = match signal {
        None => format!("agent exited with code {code}"),
        Some(signal) => format!("agent was ended by signal {signal}"),
    };
    End { error: AgentError::Exited { code, signal }, reason: StopReason::AgentExited, message }
}

/// When an agent was active, by what it says (`runtime.md` 7.5).
#[derive(Debug, Default)]
struct Idle {
    was_busy: bool,
}

impl Idle {
    /// Activity that an answer tells of. Being asked is none.
    fn active_at(&mut self, ping: &Ping, now_ms: u64) -> Option<u64> {
        let was_busy = self.was_busy;
        match ping {
            Ping::Busy => {
                self.was_busy = true;
                Some(now_ms)
            }
            Ping::Healthy { since_ms } => {
                self.was_busy = false;
                // A time that moves with each answer keeps its session alive, as AWS documents it; one ahead does not for
                // longer.
                since_ms.map(|since_ms| since_ms.min(now_ms)).or(was_busy.then_some(now_ms))
            }
            Ping::Missed { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_time_runs_from_what_the_agent_says() {
        let mut idle = Idle::default();
        let healthy = |since_ms| Ping::Healthy { since_ms };
        assert_eq!(idle.active_at(&healthy(None), 1000), None);
        assert_eq!(idle.active_at(&healthy(Some(400)), 1000), Some(400));
        assert_eq!(idle.active_at(&healthy(Some(u64::MAX)), 2000), Some(2000));
        assert_eq!(idle.active_at(&Ping::Busy, 3000), Some(3000));
        let missed = Ping::Missed { timed_out: true, reason: String::new() };
        assert_eq!(idle.active_at(&missed, 3500), None);
        assert_eq!(idle.active_at(&healthy(None), 4000), Some(4000), "it was busy until now");
        assert_eq!(idle.active_at(&healthy(None), 5000), None);
    }
}
