//! WebSockets by the access key that opened them, so that all of a key are closed when it is disabled or removed.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
};

use clamshell_domain::AccessKeyId;
use tokio_util::sync::CancellationToken;

use crate::console::{Login, Logins, OpenByLogin};

/// All of them. Keys without one take no room, and each entry is for a key that the store knows; so it is bounded by
/// their number.
#[derive(Debug, Clone, Default)]
pub(crate) struct Connections {
    by_key: Arc<Mutex<HashMap<AccessKeyId, Entry>>>,
}

#[derive(Debug, Default)]
struct Entry {
    open: usize,
    revoked: CancellationToken,
}

/// One connection; counted until it is dropped.
#[derive(Debug)]
pub(crate) struct Connection {
    /// The key it is counted for; `None` for credentials that are not keys of the store.
    counted: Option<(Connections, AccessKeyId)>,
    /// The login that it is open by.
    _login: Option<OpenByLogin>,
    /// Cancelled when the key is disabled or removed, or temporary credentials or a login have ended.
    pub(crate) revoked: CancellationToken,
}

impl Connections {
    /// Counts a connection. The caller looks *afterwards* whether the key is active: one that is disabled in between is
    /// then found out by either of the two.
    pub(crate) fn open(&self, key: &AccessKeyId) -> Connection {
        let mut all = self.lock();
        let entry = all.entry(key.clone()).or_default();
        entry.open += 1;
        Connection {
            counted: Some((self.clone(), key.clone())),
            _login: None,
            revoked: entry.revoked.clone(),
        }
    }

    /// A connection of credentials that end when `revoked` is cancelled.
    #[expect(clippy::unused_self, reason = "all connections come from here")]
    pub(crate) fn open_until(&self, revoked: CancellationToken) -> Connection {
        Connection { counted: None, _login: None, revoked }
    }

    /// A connection of a login: counts as use of it, and ends with it.
    #[expect(clippy::unused_self, reason = "all connections come from here")]
    pub(crate) fn open_by_login(&self, logins: &Logins, login: &Arc<Login>) -> Connection {
        let (open, revoked) = logins.open(login);
        Connection { counted: None, _login: Some(open), revoked }
    }

    /// Closes all connections of a key.
    pub(crate) fn close(&self, key: &AccessKeyId) {
        if let Some(entry) = self.lock().get_mut(key) {
            // Those that come once the key is active again have another one.
            std::mem::take(&mut entry.revoked).cancel();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<AccessKeyId, Entry>> {
        self.by_key.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        let Some((all, key)) = &self.counted else { return };
        let mut all = all.lock();
        if let Some(entry) = all.get_mut(key) {
            entry.open -= 1;
            if entry.open == 0 {
                all.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_a_key_are_closed_and_none_is_forgotten() {
        let key = |last: char| AccessKeyId::parse(format!("AKIA234567ABCDEFGH2{last}")).unwrap();
        let all = Connections::default();
        let (one, two, other) = (all.open(&key('A')), all.open(&key('A')), all.open(&key('B')));
        all.close(&key('A'));
        all.close(&key('C'));
        let later = all.open(&key('A'));
        let revoked = [&one, &two, &other, &later].map(|connection| connection.revoked.is_cancelled());
        assert_eq!(revoked, [true, true, false, false]);
        drop((one, two));
        all.close(&key('A'));
        assert!(later.revoked.is_cancelled(), "those closed before must not hide it");
        drop((other, later));
        assert!(all.lock().is_empty());
    }
}
