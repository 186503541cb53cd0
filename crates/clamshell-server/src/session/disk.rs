//! Holds sessions to their disk limits by watching: the kernel sets no bound to what a sandbox writes.
//!
//! Every [`TICK`] the free space of the sessions' file system is asked for, which costs one system call. Only when
//! much went away, or little is left, the running sessions are measured, and whoever is beyond its limits is stopped
//! without the usual grace. So a session may exceed its limits by what it writes within a tick and the time it takes
//! to measure.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::Arc,
    time::Duration,
};

use clamshell_domain::{Limits, Phase, SessionKey, StopReason};

use super::{
    Registry, Session, StopError,
    nameless::{self, Processes},
    tree,
};

/// How often free space is asked for: a disk that takes 1 GB/s loses 2 GB between two looks.
const TICK: Duration = Duration::from_secs(2);

/// Sessions are measured when so much free space went away since they were measured last. Less is not worth reading
/// their folders for, and would make a session that works within its limits pay for it all the time.
const MEASURE_AFTER_BYTES: u64 = 128 << 20;

/// Looks after which sessions are measured in any case, ten minutes: what one writes goes unnoticed while others
/// remove as much.
const LOOKS_MAX: u32 = 300;

/// Below this share of the file system space is short. File systems slow down when they are nearly full, and the store
/// and the logs of shells need room to write.
const RESERVE_SHARE: u64 = 20;

/// And below so many bytes on a small file system: a fast disk loses them within one look.
const RESERVE_BYTES_MIN: u64 = 1 << 30;

/// But never above so many: a twentieth of a large file system is more than anybody loses before the next looks.
const RESERVE_BYTES_MAX: u64 = 10 << 30;

/// Looks between two stops for want of space: removing what a sandbox wrote takes a moment, and the next session must
/// not pay for it. Also how often sessions are measured while space is short and nothing changes.
const SETTLE_LOOKS: u32 = 5;

/// Who wrote less is not stopped for want of space: it would help nobody, and when others than sessions fill the disk
/// all of them would go, one by one.
const WORTH_STOPPING_BYTES: u64 = 64 << 20;

/// Logs of shells may grow so much in one compute whatever the limit, because it is the server that has them written:
/// by default 10 shells of 64 MiB, and shells that ended.
const LOGS_BYTES_MIN: u64 = 1 << 30;

/// Entries counted per folder. A million takes about a second when the kernel has them at hand, and an installed
/// system has a third of it.
const ENTRIES_MAX: usize = 1_000_000;

/// Free space as the file system tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Space {
    free: u64,
    total: u64,
}

impl Space {
    fn is_short(self) -> bool {
        self.free < (self.total / RESERVE_SHARE).clamp(RESERVE_BYTES_MIN, RESERVE_BYTES_MAX)
    }
}

/// Bytes that may be uploaded to the file system of a folder: what is left to store and logs is the least that a machine
/// keeps, because whoever puts a file there is somebody who was allowed to, and no program that ran away.
///
/// # Errors
/// What the file system says.
pub(crate) fn room(folder: &Path) -> std::io::Result<u64> {
    let stat = rustix::fs::statvfs(folder)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize).saturating_sub(RESERVE_BYTES_MIN))
}

/// What a look at free space asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Look {
    Rest,
    /// Measure, and stop who is beyond its limits.
    Limits,
    /// And if nobody was, stop the largest.
    Largest,
}

/// Decides from free space alone when sessions are measured.
#[derive(Debug, Default)]
struct Gauge {
    /// Most free space since the last measurement.
    most_free: Option<u64>,
    was_short: bool,
    looks: u32,
    settling: u32,
}

impl Gauge {
    fn look(&mut self, space: Space) -> Look {
        self.looks += 1;
        self.settling = self.settling.saturating_sub(1);
        // What others free in between does not hide what one writes.
        let most_free = self.most_free.map_or(space.free, |most| most.max(space.free));
        let short = space.is_short();
        let due = self.most_free.is_none()
            || most_free - space.free >= MEASURE_AFTER_BYTES
            || self.looks >= LOOKS_MAX
            // What a stopped session gives back comes at any moment, and would hide what others write.
            || self.settling > 0
            || (short && (!self.was_short || self.looks >= SETTLE_LOOKS));
        self.most_free = Some(most_free);
        self.was_short = short;
        if !due {
            return Look::Rest;
        }
        self.most_free = Some(space.free);
        self.looks = 0;
        if short && self.settling == 0 { Look::Largest } else { Look::Limits }
    }

    /// A session was stopped, so that space comes back soon.
    fn stopped_one(&mut self) {
        self.settling = SETTLE_LOOKS;
    }
}

/// What the folders of a session take, bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Sizes {
    workspace: u64,
    /// Everything written elsewhere; gone when the session stops.
    scratch: u64,
    /// Logs of shells.
    logs: u64,
    /// So much is there that it was not all counted.
    too_large: bool,
}

impl Sizes {
    fn measure(folder: &Path) -> Self {
        let [workspace, scratch, logs] = ["workspace", "upper", "shells"]
            .map(|name| tree::measure(&folder.join(name), ENTRIES_MAX).unwrap_or_default());
        Self {
            workspace: workspace.bytes,
            scratch: scratch.bytes,
            logs: logs.bytes,
            too_large: workspace.too_large || scratch.too_large || logs.too_large,
        }
    }

    /// What was written since `start`. Scratch starts empty, also when this process did not see the start.
    fn since(self, start: Self) -> Self {
        Self {
            workspace: self.workspace.saturating_sub(start.workspace),
            logs: self.logs.saturating_sub(start.logs),
            ..self
        }
    }

    fn sum(self) -> u64 {
        self.workspace.saturating_add(self.scratch).saturating_add(self.logs)
    }
}

/// A limit that a session is beyond.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Excess {
    what: &'static str,
    bytes: u64,
    limit_bytes: u64,
}

/// Whether a session is beyond its limits: `start` is what it had when its compute started.
fn excess(start: Sizes, now: Sizes, limits: &Limits) -> Option<Excess> {
    let written = now.since(start);
    let workspace_limit = limits.workspace_bytes.saturating_mul(2);
    let logs_limit = limits.scratch_bytes.max(LOGS_BYTES_MIN);
    if written.scratch > limits.scratch_bytes {
        Some(Excess { what: "scratch", bytes: written.scratch, limit_bytes: limits.scratch_bytes })
    } else if now.workspace > workspace_limit && written.workspace > limits.workspace_bytes {
        // The limit is a soft one, and whoever wakes with too much can only tidy up while running.
        Some(Excess { what: "workspace", bytes: now.workspace, limit_bytes: workspace_limit })
    } else if written.logs > logs_limit {
        Some(Excess { what: "logs of shells", bytes: written.logs, limit_bytes: logs_limit })
    } else {
        None
    }
}

/// Which of the running sessions, given by what each wrote, is stopped when space is short.
fn largest(written: &[Sizes]) -> Option<usize> {
    let worth = written.iter().enumerate().filter(|(_, it)| it.too_large || it.sum() >= WORTH_STOPPING_BYTES);
    // Who has more than can be counted may hide anything.
    worth.max_by_key(|(_, it)| (it.too_large, it.sum())).map(|(index, _)| index)
}

/// What the watchdog remembers.
#[derive(Debug, Default)]
struct Watch {
    since_ms: u64,
    gauge: Gauge,
    starts: HashMap<SessionKey, Start>,
}

/// A session at the start of its compute.
#[derive(Debug, Clone, Copy)]
struct Start {
    generation: u64,
    sizes: Sizes,
}

/// A session with a compute.
struct Running {
    session: Arc<Session>,
    generation: u64,
    created_at_ms: u64,
    limits: Limits,
    keeper_pid: Option<u32>,
}

impl Running {
    fn of(session: &Arc<Session>) -> Option<Self> {
        let state = session.lock();
        (state.lifecycle.phase() == Phase::Running).then(|| Self {
            session: Arc::clone(session),
            generation: state.generation,
            created_at_ms: state.record.created_at_ms,
            limits: state.runtime.limits,
            keeper_pid: state.compute.as_ref().map(|compute| compute.sandbox.keeper_pid),
        })
    }

    async fn sizes(&self) -> Sizes {
        let folder = self.session.folder().clone();
        tokio::task::spawn_blocking(move || Sizes::measure(&folder)).await.unwrap_or_default()
    }

    /// With files that were removed and are still open: they are gone when the session stops, as scratch is.
    async fn sizes_with_nameless(&self, processes: &Arc<Processes>) -> Sizes {
        let mut sizes = self.sizes().await;
        let Some(keeper_pid) = self.keeper_pid else { return sizes };
        let processes = Arc::clone(processes);
        let measured = tokio::task::spawn_blocking(move || nameless::measure(&processes, keeper_pid)).await;
        let (bytes, too_many) = measured.unwrap_or_default();
        sizes.scratch = sizes.scratch.saturating_add(bytes);
        sizes.too_large |= too_many;
        sizes
    }
}

impl Registry {
    /// Runs until the server shuts down.
    pub(super) async fn watch_disk(self: Arc<Self>) {
        let mut watch = Watch { since_ms: self.now_ms(), ..Watch::default() };
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.shutdown.cancelled() => return,
            }
            tokio::select! {
                () = self.look_at_disk(&mut watch) => {}
                // A measurement that is cut short is taken again by the next server.
                () = self.shutdown.cancelled() => return,
            }
        }
    }

    async fn look_at_disk(self: &Arc<Self>, watch: &mut Watch) {
        let running: Vec<Running> = self.list().iter().filter_map(Running::of).collect();
        let keys: HashSet<&SessionKey> = running.iter().map(|it| it.session.key()).collect();
        watch.starts.retain(|key, _| keys.contains(key));
        for it in &running {
            let known =
                watch.starts.get(it.session.key()).is_some_and(|start| start.generation == it.generation);
            if known {
                continue;
            }
            // A session's first compute starts with nothing; what it wrote before this look is not taken for old.
            let first = it.generation == 1 && it.created_at_ms >= watch.since_ms;
            let sizes = if first { Sizes::default() } else { it.sizes().await };
            watch.starts.insert(it.session.key().clone(), Start { generation: it.generation, sizes });
        }
        let Some(folder) = running.first().and_then(|it| it.session.folder().parent()).map(Path::to_path_buf)
        else {
            return;
        };
        let asked = tokio::task::spawn_blocking(move || rustix::fs::statvfs(&folder)).await;
        let space = match asked {
            Ok(Ok(stat)) => Space {
                free: stat.f_bavail.saturating_mul(stat.f_frsize),
                total: stat.f_blocks.saturating_mul(stat.f_frsize),
            },
            Ok(Err(error)) => return tracing::warn!(%error, "free space is not known"),
            Err(_) => return,
        };
        let look = watch.gauge.look(space);
        if look == Look::Rest {
            return;
        }
        let (mut within, mut sizes) = (Vec::new(), Vec::new());
        let mut stopped = false;
        let processes = Arc::new(tokio::task::spawn_blocking(Processes::read).await.unwrap_or_default());
        for it in &running {
            let now = it.sizes_with_nameless(&processes).await;
            let start = watch.starts.get(it.session.key()).map_or(now, |start| start.sizes);
            if let Some(excess) = excess(start, now, &it.limits) {
                let Excess { what, bytes, limit_bytes } = excess;
                self.stop_for_disk(it, format!("{what} takes {bytes} bytes, more than {limit_bytes}"));
                stopped = true;
            } else {
                within.push(it);
                sizes.push(now.since(start));
            }
        }
        if look == Look::Largest && !stopped {
            let Space { free, total } = space;
            match largest(&sizes).and_then(|index| Some((within.get(index)?, sizes.get(index)?.sum()))) {
                Some((it, written)) => {
                    let why = format!(
                        "{free} of {total} bytes are free, too few; of the running sessions it wrote most, {written} bytes, \
                         and was within its limits"
                    );
                    self.stop_for_disk(it, why);
                    stopped = true;
                }
                None => {
                    tracing::warn!(
                        free,
                        total,
                        "little space is left, and no running session wrote much of what is used"
                    );
                }
            }
        }
        if stopped {
            watch.gauge.stopped_one();
        }
    }

    fn stop_for_disk(self: &Arc<Self>, it: &Running, why: String) {
        let (registry, session, generation) = (Arc::clone(self), Arc::clone(&it.session), it.generation);
        self.tasks.spawn(async move {
            // A compute that came after the measured one has written nothing yet.
            if session.lock().generation != generation {
                return;
            }
            match registry.stop(&session, StopReason::DiskLimit).await {
                Ok(()) => tracing::warn!(session = %session.key().session_id, why, "session stopped for its use of the disk"),
                Err(StopError::Conflict | StopError::NotRunning) => {}
                Err(error) => {
                    tracing::error!(session = %session.key().session_id, why, %error, "session did not stop");
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;

    #[test]
    fn limits_count_what_was_written_since_the_start() {
        let limits = Limits { workspace_bytes: 100 * MIB, scratch_bytes: 32 * MIB, ..Limits::default() };
        let check = |start: [u64; 3], now: [u64; 3], expected: Option<&str>| {
            let sizes = |[workspace, scratch, logs]: [u64; 3]| Sizes {
                workspace: workspace * MIB,
                scratch: scratch * MIB,
                logs: logs * MIB,
                too_large: false,
            };
            let found = excess(sizes(start), sizes(now), &limits);
            assert_eq!(found.map(|excess| excess.what), expected, "{start:?} {now:?}");
        };
        check([0, 0, 0], [0, 0, 0], None);
        check([0, 0, 0], [200, 32, 1024], None);
        check([0, 0, 0], [0, 33, 0], Some("scratch"));
        // A server that starts later than the session sees all of its scratch.
        check([0, 33, 0], [0, 33, 0], Some("scratch"));
        check([0, 0, 0], [201, 0, 0], Some("workspace"));
        // A session that wakes with too much may tidy up, and add a little.
        check([5000, 0, 0], [5000, 0, 0], None);
        check([5000, 0, 0], [5100, 0, 0], None);
        check([5000, 0, 0], [5101, 0, 0], Some("workspace"));
        check([150, 0, 0], [240, 0, 0], None);
        check([150, 0, 0], [251, 0, 0], Some("workspace"));
        check([5000, 0, 0], [10, 0, 0], None);
        check([0, 0, 9000], [0, 0, 9500], None);
        check([0, 0, 0], [0, 0, 1025], Some("logs of shells"));
        // Several at once: the one whose end brings space back.
        check([0, 0, 0], [900, 900, 9000], Some("scratch"));
    }

    #[test]
    fn sessions_are_measured_when_space_goes_away() {
        let mut gauge = Gauge::default();
        let mut look = |mib: u64| gauge.look(Space { free: mib * MIB, total: 100 * GIB });
        assert_eq!(look(50_000), Look::Limits, "what was written before is not known");
        assert_eq!(look(49_900), Look::Rest);
        assert_eq!(look(49_873), Look::Rest);
        assert_eq!(look(49_872), Look::Limits, "bit by bit");
        assert_eq!(look(49_800), Look::Rest);
        assert_eq!(look(60_000), Look::Rest, "somebody removes much");
        assert_eq!(look(59_872), Look::Limits, "and somebody writes");
        let looks = (1..=LOOKS_MAX).map(|_| look(59_872)).filter(|look| *look != Look::Rest);
        assert_eq!(looks.collect::<Vec<_>>(), [Look::Limits], "now and then in any case");
    }

    #[test]
    fn when_space_is_short_one_goes_at_a_time() {
        let mut gauge = Gauge::default();
        let space = |mib: u64| Space { free: mib * MIB, total: 100 * GIB };
        assert_eq!(gauge.look(space(6_000)), Look::Limits);
        assert_eq!(gauge.look(space(5_900)), Look::Rest);
        assert_eq!(gauge.look(space(5_119)), Look::Largest, "below a twentieth");
        gauge.stopped_one();
        for _ in 1..SETTLE_LOOKS {
            assert_eq!(gauge.look(space(4_000)), Look::Limits, "limits hold meanwhile");
        }
        assert_eq!(gauge.look(space(3_000)), Look::Largest);
        for _ in 1..SETTLE_LOOKS {
            assert_eq!(gauge.look(space(3_000)), Look::Rest, "others than sessions fill the disk");
        }
        assert_eq!(gauge.look(space(3_000)), Look::Largest);
        assert_eq!(gauge.look(space(9_000)), Look::Rest);
        assert_eq!(gauge.look(space(5_000)), Look::Largest);
    }

    #[test]
    fn the_reserve_is_a_twentieth_from_one_to_ten_gibibytes() {
        let check = |free: u64, total: u64, expected: bool| {
            assert_eq!(Space { free, total }.is_short(), expected, "{free} of {total}");
        };
        check(GIB - 1, 10 * GIB, true);
        check(GIB, 10 * GIB, false);
        check(5 * GIB - 1, 100 * GIB, true);
        check(5 * GIB, 100 * GIB, false);
        check(10 * GIB - 1, 200 * GIB, true);
        check(10 * GIB, 200 * GIB, false);
        check(10 * GIB - 1, 8_000 * GIB, true);
        check(10 * GIB, 8_000 * GIB, false);
    }

    #[test]
    fn the_largest_is_the_one_that_wrote_most() {
        let wrote = |mib: [u64; 3]| Sizes {
            workspace: mib[0] * MIB,
            scratch: mib[1] * MIB,
            logs: mib[2] * MIB,
            too_large: false,
        };
        assert_eq!(largest(&[]), None);
        assert_eq!(largest(&[wrote([20, 20, 20]), wrote([0, 0, 63])]), None, "it would not help");
        assert_eq!(largest(&[wrote([0, 90, 0]), wrote([50, 50, 0]), wrote([0, 0, 64])]), Some(1));
        let hidden = Sizes { too_large: true, ..Sizes::default() };
        assert_eq!(largest(&[wrote([0, 900, 0]), hidden]), Some(1));
    }
}
