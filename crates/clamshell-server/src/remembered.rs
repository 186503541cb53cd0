//! What was read from the store lately and is read for every call, so that a call of a session that runs costs no read.
//!
//! It is never older than the newest change that somebody was told of: the store counts changes made through it, and what
//! was read under another count is forgotten. The server is the only writer of its store.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Values remembered: as many as AWS gives runtimes to an account, and more than are busy at the same time. Some MiB.
const REMEMBERED_MAX: usize = 1024;

/// Each is read again after so long whatever the store counts: a caller that hangs up in the middle of a change leaves one
/// that is made, told to nobody and not counted.
const REMEMBERED_MS: u64 = 5_000;

/// Values by key.
#[derive(Debug)]
pub(crate) struct Remembered<K, V>(Mutex<Known<K, V>>);

#[derive(Debug)]
struct Known<K, V> {
    by_key: HashMap<K, (Arc<V>, u64)>,
    /// Changes that the store had counted before any of them was read.
    changes: u64,
}

impl<K, V> Default for Remembered<K, V> {
    fn default() -> Self {
        Self(Mutex::new(Known { by_key: HashMap::new(), changes: 0 }))
    }
}

impl<K: Hash + Eq, V> Remembered<K, V> {
    /// What is known when the store has counted so many changes.
    pub(crate) fn get(&self, key: &K, changes: u64, now_ms: u64) -> Option<Arc<V>> {
        let mut known = self.lock();
        // Counts only grow: somebody with an older one was overtaken, and reads for itself.
        if known.changes < changes {
            known.by_key.clear();
            known.changes = changes;
        }
        if known.changes != changes {
            return None;
        }
        let (value, read_at_ms) = known.by_key.get(key)?;
        (now_ms < read_at_ms.saturating_add(REMEMBERED_MS)).then(|| Arc::clone(value))
    }

    /// Remembers what was read after the store had counted so many changes.
    pub(crate) fn put(&self, key: K, value: &Arc<V>, changes: u64, now_ms: u64) {
        let mut known = self.lock();
        if known.changes != changes {
            return;
        }
        if known.by_key.len() >= REMEMBERED_MAX {
            known.by_key.clear();
        }
        known.by_key.insert(key, (Arc::clone(value), now_ms));
    }

    fn lock(&self) -> MutexGuard<'_, Known<K, V>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_meanwhile_is_not_remembered() {
        let remembered = Remembered::<u8, u8>::default();
        let (old, new) = (Arc::new(1), Arc::new(2));
        assert_eq!(remembered.get(&0, 7, 0), None);
        remembered.put(0, &old, 7, 0);
        assert_eq!(remembered.get(&0, 7, REMEMBERED_MS - 1), Some(Arc::clone(&old)));
        assert_eq!(remembered.get(&0, 7, REMEMBERED_MS), None);
        // Somebody asked after the change, and only then an older answer arrives.
        assert_eq!(remembered.get(&0, 8, 0), None);
        remembered.put(0, &old, 7, 0);
        assert_eq!(remembered.get(&0, 8, 0), None);
        remembered.put(0, &new, 8, 0);
        assert_eq!(remembered.get(&0, 8, 0), Some(Arc::clone(&new)));
        // Who was overtaken neither sees nor forgets what is newer.
        assert_eq!(remembered.get(&0, 7, 0), None);
        assert_eq!(remembered.get(&0, 8, 0), Some(new));
    }

    #[test]
    fn no_more_is_remembered_than_there_is_room_for() {
        let remembered = Remembered::<usize, usize>::default();
        for number in 0..=REMEMBERED_MAX {
            remembered.put(number, &Arc::new(number), 0, 0);
        }
        assert!(remembered.lock().by_key.len() <= REMEMBERED_MAX);
        assert_eq!(remembered.get(&REMEMBERED_MAX, 0, 0), Some(Arc::new(REMEMBERED_MAX)));
    }
}
