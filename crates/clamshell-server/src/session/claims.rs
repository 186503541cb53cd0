//! Who holds a shell in the AWS sense: one client per (session, shell id), the newest wins.
//!
//! `runtime.md` 6.8: a second live connection with the same key evicts the first with close code
//! 4000; of two claims at the same instant one gets ConflictException.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
};

use clamshell_domain::ShellId;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

/// Another claim of the same shell is being answered right now.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("shell is being claimed by another connection")]
pub(crate) struct ClaimError;

#[derive(Debug, Default)]
struct Holder {
    id: u64,
    connected: bool,
    evicted: CancellationToken,
}

/// All claims of a session.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    holders: Arc<Mutex<Holders>>,
}

#[derive(Debug, Default)]
struct Holders {
    next_id: u64,
    by_shell: HashMap<ShellId, Holder>,
}

/// A claim; released when dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    holders: Arc<Mutex<Holders>>,
    shell_id: ShellId,
    id: u64,
    /// Cancelled when another client took the shell.
    pub(crate) evicted: CancellationToken,
}

fn lock(holders: &Mutex<Holders>) -> MutexGuard<'_, Holders> {
    holders.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Claims {
    /// Claims a shell and evicts whoever holds it.
    ///
    /// # Errors
    /// [`ClaimError`] while another claim has not come to [`Claim::connected`].
    pub(crate) fn claim(&self, shell_id: &ShellId) -> Result<Claim, ClaimError> {
        let mut holders = lock(&self.holders);
        holders.next_id += 1;
        let id = holders.next_id;
        if let Some(holder) = holders.by_shell.get(shell_id) {
            if !holder.connected {
                return Err(ClaimError);
            }
            holder.evicted.cancel();
        }
        let evicted = CancellationToken::new();
        let holder = Holder { id, connected: false, evicted: evicted.clone() };
        holders.by_shell.insert(shell_id.clone(), holder);
        Ok(Claim { holders: Arc::clone(&self.holders), shell_id: shell_id.clone(), id, evicted })
    }
}

impl Claim {
    /// The upgrade is answered; from now on another claim evicts this one.
    pub(crate) fn connected(&self) {
        if let Some(holder) = lock(&self.holders).by_shell.get_mut(&self.shell_id)
            && holder.id == self.id
        {
            holder.connected = true;
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut holders = lock(&self.holders);
        if holders.by_shell.get(&self.shell_id).is_some_and(|holder| holder.id == self.id) {
            holders.by_shell.remove(&self.shell_id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_connected_claim_wins() {
        let claims = Claims::default();
        let shell = ShellId::parse("build").unwrap();
        let first = claims.claim(&shell).unwrap();
        assert_eq!(claims.claim(&shell).unwrap_err(), ClaimError);
        first.connected();
        let second = claims.claim(&shell).unwrap();
        assert!(first.evicted.is_cancelled());
        assert!(!second.evicted.is_cancelled());
        drop(first);
        assert_eq!(
            claims.claim(&shell).unwrap_err(),
            ClaimError,
            "the evicted one must not free the new one"
        );
        drop(second);
        claims.claim(&shell).unwrap();
    }

    #[test]
    fn shells_do_not_mind_each_other() {
        let claims = Claims::default();
        let one = claims.claim(&ShellId::parse("one").unwrap()).unwrap();
        claims.claim(&ShellId::parse("two").unwrap()).unwrap();
        assert!(!one.evicted.is_cancelled());
    }
}
