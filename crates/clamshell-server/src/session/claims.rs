//! Who holds a shell in the AWS sense: one client per (session, shell id), the newest wins.
//!
//! `runtime.md` 6.8: a second live connection with the same key evicts the first with close code
//! 4000; of two claims at the same instant one gets ConflictException. A claim that fails evicts nobody.

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

#[derive(Debug)]
struct Holder {
    id: u64,
    evicted: CancellationToken,
}

/// Never without any of them.
#[derive(Debug, Default)]
struct Slot {
    holder: Option<Holder>,
    /// The claim that is being answered.
    claiming: Option<u64>,
    /// Writing clients of the extension API: equals, until one of them takes over.
    writers: HashMap<u64, CancellationToken>,
}

impl Slot {
    fn is_free(&self) -> bool {
        self.claiming.is_none() && self.holder.is_none() && self.writers.is_empty()
    }
}

/// All claims of a session.
#[derive(Debug, Default)]
pub(crate) struct Claims {
    holders: Arc<Mutex<Holders>>,
}

#[derive(Debug, Default)]
struct Holders {
    next_id: u64,
    by_shell: HashMap<ShellId, Slot>,
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

/// A writing client of the extension API, until dropped.
#[derive(Debug)]
pub(crate) struct Writer {
    holders: Arc<Mutex<Holders>>,
    shell_id: ShellId,
    id: u64,
    /// Cancelled when another client took the shell over.
    pub(crate) evicted: CancellationToken,
}

impl Writer {
    /// Evicts everybody else who writes: clients of either kind.
    pub(crate) fn take_over(&self) {
        let mut holders = lock(&self.holders);
        let Some(slot) = holders.by_shell.get_mut(&self.shell_id) else { return };
        if let Some(holder) = slot.holder.take() {
            holder.evicted.cancel();
        }
        slot.writers.retain(|id, evicted| {
            let stays = *id == self.id;
            if !stays {
                evicted.cancel();
            }
            stays
        });
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let mut holders = lock(&self.holders);
        let Some(slot) = holders.by_shell.get_mut(&self.shell_id) else { return };
        slot.writers.remove(&self.id);
        if slot.is_free() {
            holders.by_shell.remove(&self.shell_id);
        }
    }
}

fn lock(holders: &Mutex<Holders>) -> MutexGuard<'_, Holders> {
    holders.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Claims {
    /// Claims a shell. Whoever holds it goes on until [`Claim::connected`].
    ///
    /// # Errors
    /// [`ClaimError`] while another claim has not come there.
    pub(crate) fn claim(&self, shell_id: &ShellId) -> Result<Claim, ClaimError> {
        let mut holders = lock(&self.holders);
        holders.next_id += 1;
        let id = holders.next_id;
        let slot = holders.by_shell.entry(shell_id.clone()).or_default();
        if slot.claiming.is_some() {
            return Err(ClaimError);
        }
        slot.claiming = Some(id);
        let evicted = CancellationToken::new();
        Ok(Claim { holders: Arc::clone(&self.holders), shell_id: shell_id.clone(), id, evicted })
    }
}

impl Claims {
    /// Counts a writing client of the extension API. It evicts nobody and is evicted by nobody but who takes over.
    pub(crate) fn join(&self, shell_id: &ShellId) -> Writer {
        let mut holders = lock(&self.holders);
        holders.next_id += 1;
        let (id, evicted) = (holders.next_id, CancellationToken::new());
        holders.by_shell.entry(shell_id.clone()).or_default().writers.insert(id, evicted.clone());
        Writer { holders: Arc::clone(&self.holders), shell_id: shell_id.clone(), id, evicted }
    }
}

impl Claim {
    /// The guest took the new client: evicts whoever held the shell. From now on another claim evicts this one.
    pub(crate) fn connected(&self) {
        let mut holders = lock(&self.holders);
        let Some(slot) = holders.by_shell.get_mut(&self.shell_id) else { return };
        if slot.claiming != Some(self.id) {
            return;
        }
        slot.claiming = None;
        let holder = Holder { id: self.id, evicted: self.evicted.clone() };
        if let Some(former) = slot.holder.replace(holder) {
            former.evicted.cancel();
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut holders = lock(&self.holders);
        let Some(slot) = holders.by_shell.get_mut(&self.shell_id) else { return };
        slot.claiming.take_if(|id| *id == self.id);
        slot.holder.take_if(|holder| holder.id == self.id);
        if slot.is_free() {
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
        assert!(!first.evicted.is_cancelled(), "nobody has taken its place yet");
        second.connected();
        assert!(first.evicted.is_cancelled());
        assert!(!second.evicted.is_cancelled());
        let third = claims.claim(&shell).unwrap();
        drop(first);
        assert_eq!(
            claims.claim(&shell).unwrap_err(),
            ClaimError,
            "the evicted one must not free the new one"
        );
        drop(second);
        assert_eq!(claims.claim(&shell).unwrap_err(), ClaimError);
        drop(third);
        assert!(lock(&claims.holders).by_shell.is_empty());
        claims.claim(&shell).unwrap();
    }

    #[test]
    fn a_claim_that_fails_evicts_nobody() {
        let claims = Claims::default();
        let shell = ShellId::parse("build").unwrap();
        let first = claims.claim(&shell).unwrap();
        first.connected();
        drop(claims.claim(&shell).unwrap());
        assert!(!first.evicted.is_cancelled());
        let next = claims.claim(&shell).unwrap();
        next.connected();
        assert!(first.evicted.is_cancelled());
    }

    #[test]
    fn who_takes_over_is_left_alone() {
        let claims = Claims::default();
        let (shell, other) = (ShellId::parse("build").unwrap(), ShellId::parse("other").unwrap());
        let aws = claims.claim(&shell).unwrap();
        aws.connected();
        let (one, two, elsewhere) = (claims.join(&shell), claims.join(&shell), claims.join(&other));
        assert!(!aws.evicted.is_cancelled(), "equals");
        two.take_over();
        let evicted = [&aws.evicted, &one.evicted, &two.evicted, &elsewhere.evicted];
        assert_eq!(evicted.map(CancellationToken::is_cancelled), [true, true, false, false]);
        drop((aws, one));
        let third = claims.join(&shell);
        third.take_over();
        assert!(two.evicted.is_cancelled());
        drop((two, third, elsewhere));
        assert!(lock(&claims.holders).by_shell.is_empty());
    }

    #[test]
    fn shells_do_not_mind_each_other() {
        let claims = Claims::default();
        let one = claims.claim(&ShellId::parse("one").unwrap()).unwrap();
        claims.claim(&ShellId::parse("two").unwrap()).unwrap();
        assert!(!one.evicted.is_cancelled());
    }
}
