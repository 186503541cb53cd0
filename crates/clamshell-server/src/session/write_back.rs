//! What sessions change in prefixes of buckets goes back to them: while sessions run, when one ends, and after a server start.

use std::sync::Arc;

use clamshell_domain::Phase;

use super::{Registry, Session};
use crate::{config::WorkingPrefix, logs::SessionLog};

impl Registry {
    /// Starts a task for each prefix that sessions may change. It begins with what an earlier server left.
    pub(crate) fn start_writing_back(self: &Arc<Self>) {
        for prefix in self.file_systems.working_prefixes() {
            let registry = Arc::clone(self);
            self.tasks.spawn(async move {
                let shown = || registry.logs_showing(&prefix);
                let kept = registry.file_systems.keep_written(prefix.clone(), shown);
                // What is cut off in the middle is done again at the next start.
                registry.shutdown.run_until_cancelled(kept).await;
            });
        }
    }

    /// Writes back what a session that ended has changed.
    pub(super) async fn write_back(&self, session: &Session) {
        let runtime = session.runtime();
        let Some(hosting) = &runtime.hosting else { return };
        let log = self.logs.of_session(session.key(), &session.record().storage_id);
        self.file_systems.write_back_now(&hosting.file_systems, &log).await;
    }

    /// Logs of the sessions that show a prefix now.
    fn logs_showing(&self, prefix: &WorkingPrefix) -> Vec<Arc<SessionLog>> {
        let shows = |session: &Arc<Session>| {
            let runtime = session.runtime();
            let file_systems = runtime.hosting.as_ref().map(|hosting| hosting.file_systems.as_slice());
            let record = session.record();
            let is_shown = record.phase != Phase::Stopped
                && self.file_systems.shown_prefixes(file_systems.unwrap_or_default()).contains(prefix);
            is_shown.then(|| self.logs.of_session(session.key(), &record.storage_id))
        };
        self.list_unordered().iter().filter_map(shows).collect()
    }
}
