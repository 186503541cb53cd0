//! The requests that a model got, for assertions.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use serde_json::Value;

use super::ask::Ask;

/// Requests kept: a test of a coding agent makes a few dozen.
const REQUESTS_MAX: usize = 1_000;
/// Bytes of bodies kept; a coding agent sends 100 KiB of instructions with each request.
const BYTES_MAX: usize = 64 << 20;

/// A request as it came.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    /// Method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Headers with names in small letters; values that are no text are left out.
    pub headers: Vec<(String, String)>,
    /// Body as JSON; `null` when it is none.
    pub body: Value,
    /// What it asks, when it wants an answer.
    pub ask: Option<Ask>,
    /// Number of the rule that answered.
    pub rule: Option<usize>,
    /// Status of the answer.
    pub status: u16,
}

impl Recorded {
    /// A header, empty when it is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(found, _)| found == name).map_or("", |(_, value)| value)
    }
}

#[derive(Debug, Default)]
pub(super) struct Record(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    requests: VecDeque<(usize, Arc<Recorded>)>,
    bytes: usize,
}

impl Record {
    /// Keeps a request with so many bytes, and lets the oldest go when there are too many.
    pub(super) fn keep(&self, bytes: usize, request: Recorded) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.bytes += bytes;
        kept.requests.push_back((bytes, Arc::new(request)));
        while kept.requests.len() > REQUESTS_MAX || kept.bytes > BYTES_MAX {
            let Some((bytes, _)) = kept.requests.pop_front() else { break };
            kept.bytes -= bytes;
        }
    }

    pub(super) fn all(&self) -> Vec<Arc<Recorded>> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.requests.iter().map(|(_, request)| Arc::clone(request)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_first() {
        let record = Record::default();
        let request = |status| Recorded {
            method: "GET".into(),
            path: "/".into(),
            headers: vec![("a".into(), "b".into())],
            body: Value::Null,
            ask: None,
            rule: None,
            status,
        };
        for number in 0..1_002 {
            record.keep(1, request(number));
        }
        let statuses = || record.all().iter().map(|request| request.status).collect::<Vec<_>>();
        assert_eq!(statuses(), (2..1_002).collect::<Vec<_>>());
        record.keep(BYTES_MAX - 1, request(7));
        assert_eq!(statuses(), [1_001, 7]);
        assert_eq!((record.all()[0].header("a"), record.all()[0].header("c")), ("b", ""));
    }
}
