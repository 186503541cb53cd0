//! Ids of requests: random, out of randomness fetched for many at once, because each fetch is a system call.

use std::sync::{Arc, Mutex, PoisonError};

use clamshell_domain::Entropy;
use uuid::{Builder, Uuid};

const ID_BYTES: usize = 16;

/// Ids made of one fetch: as many bytes as the kernel gives without a pause.
const IDS: usize = 16;

/// Makes them.
pub(crate) struct RequestIds {
    entropy: Arc<dyn Entropy>,
    fetched: Mutex<Fetched>,
}

struct Fetched {
    bytes: [u8; IDS * ID_BYTES],
    /// Those that were used.
    used: usize,
}

impl RequestIds {
    pub(crate) fn new(entropy: Arc<dyn Entropy>) -> Self {
        let bytes = [0; IDS * ID_BYTES];
        Self { entropy, fetched: Mutex::new(Fetched { bytes, used: IDS }) }
    }

    /// One that was never given out.
    pub(crate) fn next(&self) -> Uuid {
        let mut fetched = self.fetched.lock().unwrap_or_else(PoisonError::into_inner);
        if fetched.used >= IDS {
            self.entropy.fill(&mut fetched.bytes);
            fetched.used = 0;
        }
        let mut id = [0; ID_BYTES];
        let start = fetched.used * ID_BYTES;
        id.copy_from_slice(&fetched.bytes[start..start + ID_BYTES]);
        fetched.used += 1;
        Builder::from_random_bytes(id).into_uuid()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use clamshell_domain::SystemEntropy;

    use super::*;

    #[test]
    fn no_id_comes_twice() {
        let ids = RequestIds::new(Arc::new(SystemEntropy));
        let made: HashSet<Uuid> = (0..5 * IDS + 3).map(|_| ids.next()).collect();
        assert_eq!(made.len(), 5 * IDS + 3);
        assert!(made.iter().all(|id| id.get_version_num() == 4));
    }
}
