//! The life of a session: a state machine without I/O (`runtime.md` 8.2 to 8.4).
//!
//! The owner feeds it calls, ends of calls, results of the sandbox driver and the time; it says what
//! to do. Watching never reaches it, so watching keeps nothing alive.

use serde::{Deserialize, Serialize};

use crate::LifecycleConfiguration;

/// Where a session is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// No compute.
    Stopped,
    /// Compute is being made.
    Provisioning,
    /// Compute runs.
    Running,
    /// Compute is being ended.
    Stopping,
}

/// Why a compute ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopReason {
    /// StopRuntimeSession, or the extension API.
    Requested,
    /// No activity for the idle timeout.
    Idle,
    /// Its maximum lifetime was over.
    MaxLifetime,
    /// The sandbox ended on its own: crashed, killed, or the machine restarted.
    Lost,
    /// It never came up.
    StartFailed,
    /// It wrote more than its limits, or the most of all when little space was left.
    DiskLimit,
    /// Its agent did not answer when asked for its health.
    Unhealthy,
    /// The program of its agent ended.
    AgentExited,
}

/// What to do with a call that needs a compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallDecision {
    /// Serve it; [`Lifecycle::call_ended`] must follow.
    Proceed,
    /// Make a compute first and hold the call; report with [`Lifecycle::provisioned`] or
    /// [`Lifecycle::provision_failed`].
    Provision,
    /// Answer RetryableConflictException.
    Conflict,
}

/// What to do with a request to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StopDecision {
    /// End the compute, then report with [`Lifecycle::stopped`].
    Stop,
    /// Answer ResourceNotFoundException: nothing runs.
    NotRunning,
    /// Answer RetryableConflictException.
    Conflict,
}

/// The state of one session. Times are milliseconds since 1970.
#[derive(Debug, Clone)]
pub struct Lifecycle {
    phase: Phase,
    configuration: LifecycleConfiguration,
    started_at_ms: u64,
    last_activity_ms: u64,
    calls: u32,
}

impl Lifecycle {
    /// A session without compute.
    pub fn stopped(configuration: LifecycleConfiguration) -> Self {
        Self { phase: Phase::Stopped, configuration, started_at_ms: 0, last_activity_ms: 0, calls: 0 }
    }

    /// A session whose compute was found running after a server start.
    pub fn running(configuration: LifecycleConfiguration, started_at_ms: u64, last_activity_ms: u64) -> Self {
        Self { phase: Phase::Running, configuration, started_at_ms, last_activity_ms, calls: 0 }
    }

    /// Where it is.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Newest activity.
    pub fn last_activity_ms(&self) -> u64 {
        self.last_activity_ms
    }

    /// Calls being served.
    pub fn calls(&self) -> u32 {
        self.calls
    }

    /// Timers in force.
    pub fn configuration(&self) -> LifecycleConfiguration {
        self.configuration
    }

    /// Timers of the version that the compute being made has.
    pub fn reset_configuration(&mut self, configuration: LifecycleConfiguration) {
        debug_assert_eq!(self.phase, Phase::Provisioning, "a live compute keeps its version");
        self.configuration = configuration;
    }

    /// The session is being removed: from now on every call conflicts.
    pub fn retire(&mut self) {
        debug_assert_eq!(self.phase, Phase::Stopped, "only a stopped session is removed");
        self.phase = Phase::Stopping;
    }

    /// A call that needs the compute arrives.
    pub fn call(&mut self, now_ms: u64) -> CallDecision {
        match self.phase {
            Phase::Stopped => {
                self.phase = Phase::Provisioning;
                self.last_activity_ms = now_ms;
                self.calls = 1;
                CallDecision::Provision
            }
            Phase::Running => {
                self.activity(now_ms);
                self.calls += 1;
                CallDecision::Proceed
            }
            Phase::Provisioning | Phase::Stopping => CallDecision::Conflict,
        }
    }

    /// A call is over.
    pub fn call_ended(&mut self, now_ms: u64) {
        self.calls = self.calls.saturating_sub(1);
        self.activity(now_ms);
    }

    /// Something counted as activity happened (`runtime.md` 8.3): a frame, a heartbeat, output of a call.
    pub fn activity(&mut self, now_ms: u64) {
        self.last_activity_ms = self.last_activity_ms.max(now_ms);
    }

    /// The compute is up; the call that asked for it is being served.
    pub fn provisioned(&mut self, now_ms: u64) {
        debug_assert_eq!(self.phase, Phase::Provisioning);
        self.phase = Phase::Running;
        self.started_at_ms = now_ms;
        self.activity(now_ms);
    }

    /// The compute did not come up; the call that asked for it fails.
    pub fn provision_failed(&mut self) {
        debug_assert_eq!(self.phase, Phase::Provisioning);
        self.phase = Phase::Stopped;
        self.calls = 0;
    }

    /// Somebody asks to end the compute.
    pub fn stop(&mut self) -> StopDecision {
        match self.phase {
            Phase::Running => {
                self.phase = Phase::Stopping;
                StopDecision::Stop
            }
            Phase::Stopped => StopDecision::NotRunning,
            Phase::Provisioning | Phase::Stopping => StopDecision::Conflict,
        }
    }

    /// The compute is gone, asked for or not.
    pub fn stopped_now(&mut self) {
        self.phase = Phase::Stopped;
        self.calls = 0;
    }

    /// What the time says: a reason to stop, for a running compute. A call in flight keeps it from idling but not from its
    /// maximum lifetime.
    pub fn due(&self, now_ms: u64) -> Option<StopReason> {
        if self.phase != Phase::Running {
            None
        } else if now_ms >= self.ends_at_ms() {
            Some(StopReason::MaxLifetime)
        } else if self.calls == 0 && now_ms >= self.idles_at_ms() {
            Some(StopReason::Idle)
        } else {
            None
        }
    }

    /// When [`Lifecycle::due`] may next say something new; `None` while nothing runs.
    pub fn next_deadline_ms(&self) -> Option<u64> {
        match (self.phase, self.calls) {
            (Phase::Running, 0) => Some(self.ends_at_ms().min(self.idles_at_ms())),
            (Phase::Running, _) => Some(self.ends_at_ms()),
            (Phase::Stopped | Phase::Provisioning | Phase::Stopping, _) => None,
        }
    }

    /// When the compute idles out if nothing happens.
    pub fn idles_at_ms(&self) -> u64 {
        self.last_activity_ms.saturating_add(self.configuration.idle_timeout_s.saturating_mul(1000))
    }

    /// When the compute's maximum lifetime is over.
    pub fn ends_at_ms(&self) -> u64 {
        self.started_at_ms.saturating_add(self.configuration.max_lifetime_s.saturating_mul(1000))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T0: u64 = 1_000_000;

    fn provisioned() -> Lifecycle {
        let mut life = Lifecycle::stopped(LifecycleConfiguration::default());
        assert_eq!(life.call(T0), CallDecision::Provision);
        life.provisioned(T0 + 2);
        life.call_ended(T0 + 5);
        life
    }

    #[test]
    fn a_second_call_while_provisioning_or_stopping_conflicts() {
        let mut life = Lifecycle::stopped(LifecycleConfiguration::default());
        assert_eq!(life.call(T0), CallDecision::Provision);
        assert_eq!(life.call(T0), CallDecision::Conflict);
        assert_eq!(life.stop(), StopDecision::Conflict);
        life.provisioned(T0);
        assert_eq!(life.call(T0), CallDecision::Proceed);
        assert_eq!(life.stop(), StopDecision::Stop);
        assert_eq!(life.call(T0), CallDecision::Conflict);
        assert_eq!(life.stop(), StopDecision::Conflict);
        life.stopped_now();
        assert_eq!(life.stop(), StopDecision::NotRunning);
        assert_eq!(life.call(T0), CallDecision::Provision);
    }

    #[test]
    fn idle_counts_from_the_newest_activity_and_only_without_calls() {
        let mut life = provisioned();
        assert_eq!(life.due(T0 + 5 + 899_999), None);
        assert_eq!(life.due(T0 + 5 + 900_000), Some(StopReason::Idle));
        life.activity(T0 + 500_000);
        assert_eq!(life.due(T0 + 5 + 900_000), None);
        assert_eq!(life.call(T0 + 600_000), CallDecision::Proceed);
        assert_eq!(life.due(T0 + 9_000_000), None);
        assert_eq!(life.next_deadline_ms(), Some(T0 + 2 + 28_800_000));
        life.call_ended(T0 + 9_000_000);
        assert_eq!(life.due(T0 + 9_900_000), Some(StopReason::Idle));
    }

    #[test]
    fn maximum_lifetime_ends_even_a_busy_compute() {
        let mut life = provisioned();
        assert_eq!(life.call(T0 + 28_000_000), CallDecision::Proceed);
        assert_eq!(life.due(T0 + 2 + 28_800_000), Some(StopReason::MaxLifetime));
    }

    #[test]
    fn a_new_compute_has_fresh_timers() {
        let mut life = provisioned();
        assert_eq!(life.stop(), StopDecision::Stop);
        life.stopped_now();
        let later = T0 + 100_000_000;
        assert_eq!(life.call(later), CallDecision::Provision);
        life.provisioned(later);
        assert_eq!(life.due(later), None);
        assert_eq!(life.ends_at_ms(), later + 28_800_000);
    }

    #[test]
    fn a_failed_start_leaves_a_session_that_can_be_tried_again() {
        let mut life = Lifecycle::stopped(LifecycleConfiguration::default());
        assert_eq!(life.call(T0), CallDecision::Provision);
        life.provision_failed();
        assert_eq!(life.phase(), Phase::Stopped);
        assert_eq!(life.call(T0), CallDecision::Provision);
    }
}
