//! Who of those that are connected has proved who they are. Strangers lose their connection after a while.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio_util::sync::CancellationToken;

/// Between two looks at whether a body is still being taken in.
const UPLOAD_PAUSE: Duration = Duration::from_secs(1);

/// Whether a request of this connection was signed with an active key.
#[derive(Debug, Clone, Default)]
pub(crate) struct Proof {
    given: CancellationToken,
    /// Bodies that are being taken in.
    uploads: Arc<AtomicUsize>,
}

impl Proof {
    /// One was.
    pub(crate) fn give(&self) {
        self.given.cancel();
    }

    /// A long body is being taken in that names an active key and comes at a good pace: until all of it is here nobody can
    /// say whether it is signed. Nothing is missed while this lives.
    pub(crate) fn upload(&self) -> Upload {
        self.uploads.fetch_add(1, Ordering::Relaxed);
        Upload(Arc::clone(&self.uploads))
    }

    /// Resolves when there is none by then, and otherwise never.
    pub(super) async fn missing_after(&self, limit: Duration) {
        let mut given = tokio::time::timeout(limit, self.given.cancelled()).await.is_ok();
        while !given && self.uploads.load(Ordering::Relaxed) > 0 {
            given = tokio::time::timeout(UPLOAD_PAUSE, self.given.cancelled()).await.is_ok();
        }
        if given {
            std::future::pending::<()>().await;
        }
    }
}

/// See [`Proof::upload`].
#[derive(Debug)]
pub(crate) struct Upload(Arc<AtomicUsize>);

impl Drop for Upload {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn nothing_is_missed_of_a_body_on_its_way() {
        let (proof, limit) = (Proof::default(), Duration::from_millis(20));
        proof.missing_after(limit).await;
        let upload = proof.upload();
        let missing = proof.missing_after(limit);
        let early = tokio::time::timeout(limit * 5, missing).await;
        assert!(early.is_err());
        drop(upload);
        proof.missing_after(limit).await;
        proof.give();
        assert!(tokio::time::timeout(limit * 5, proof.missing_after(limit)).await.is_err());
    }
}
