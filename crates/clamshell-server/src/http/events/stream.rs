//! One listener: `text/event-stream` with a picture of all that it may see, and what changes of it.
//!
//! A listener that reads too slowly gets a new picture in place of what it missed, and one that reads nothing is hung up
//! on; what waits for it is bounded by a few messages. Watching wakes nothing and keeps nothing alive.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use clamshell_store::AuditFilter;
use clamshell_wire::{AwsError, query::find};
use http::{HeaderValue, Response, header};
use http_body_util::BodyExt;
use tokio::sync::{broadcast, mpsc};

use crate::{
    app::App,
    audit,
    connections::Connection,
    events::{Event, Item, Listening, Scope, Topic},
    http::{
        ApiError,
        access::{self, Caller, Demand},
        response::Body,
    },
};

/// Messages between this task and a slow client. Few, because a snapshot is one and may have a megabyte.
const MESSAGES_MAX: usize = 4;

/// A comment goes out after so long without anything else, so that nobody in between takes the connection for dead.
const QUIET: Duration = Duration::from_secs(15);

/// A client that takes nothing for so long is hung up on.
const PATIENCE: Duration = Duration::from_secs(60);

/// Records of the audit trail in its snapshot.
const RECORDS: u32 = 100;

/// Decisions remembered of who may see what; more than a listener sees endpoints.
const SIGHT_MAX: usize = 4096;

/// What browsers do after the end of a stream: come back after a second.
const HEAD: &str = "retry: 1000\n\n";

/// Names of all topics, as clients write them. `logins` has no events of its own yet.
const TOPICS: [(&str, Option<Topic>); 5] = [
    ("sessions", Some(Topic::Sessions)),
    ("shells", Some(Topic::Shells)),
    ("runtimes", Some(Topic::Runtimes)),
    ("audit", Some(Topic::Audit)),
    ("logins", None),
];

/// Answers with the stream.
///
/// # Errors
/// A `ValidationException` for a topic that there is not.
pub(in crate::http) fn open(
    app: &Arc<App>,
    caller: Caller,
    connection: Connection,
    query: &[(String, String)],
) -> Result<Response<Body>, ApiError> {
    let topics = topics(find(query, "topics"))?;
    let (listening, start) = app.events.listen();
    if start {
        app.tasks.spawn(super::keep(Arc::clone(app)));
    }
    let (sender, receiver) = mpsc::channel(MESSAGES_MAX);
    let sight = Sight { caller, seen: HashMap::new() };
    let listener =
        Listener { app: Arc::clone(app), topics, sight, connection, sender, _listening: listening };
    app.tasks.spawn(listener.serve());
    let stream = futures_util::stream::unfold(receiver, async |mut receiver: mpsc::Receiver<Bytes>| {
        receiver.recv().await.map(|bytes| (Ok(hyper::body::Frame::data(bytes)), receiver))
    });
    let mut response = Response::new(http_body_util::StreamBody::new(stream).boxed_unsync());
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // A proxy that collects answers would hold each event back.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

fn topics(asked: Option<&str>) -> Result<Vec<Topic>, ApiError> {
    let mut topics: Vec<Topic> = Vec::new();
    for name in asked.unwrap_or("sessions,shells,runtimes").split(',') {
        let Some((_, topic)) = TOPICS.iter().find(|(known, _)| *known == name) else {
            let names = TOPICS.map(|(name, _)| name).join(", ");
            return Err(AwsError::invalid_field("topics", &format!("Members must be of: [{names}]")).into());
        };
        topics.extend(topic);
    }
    topics.sort();
    topics.dedup();
    Ok(topics)
}

/// The client is gone, or it is time to hang up.
struct Over;

struct Listener {
    app: Arc<App>,
    topics: Vec<Topic>,
    sight: Sight,
    connection: Connection,
    sender: mpsc::Sender<Bytes>,
    _listening: Listening,
}

impl Listener {
    async fn serve(mut self) {
        let _ = self.send(HEAD.to_owned()).await;
        while let Ok(()) = self.tell_all().await {}
    }

    /// Sends a picture and what comes after it. `Ok` when it is time for a new picture.
    async fn tell_all(&mut self) -> Result<(), Over> {
        // Watched before they are read, so that no change falls in between.
        let mut policies = self.app.store.watch_changes();
        self.renew().await?;
        let (shutdown, events) = (self.app.shutdown.clone(), Arc::clone(&self.app.events));
        let (picture, id, mut changes) = tokio::select! {
            found = events.picture() => found,
            () = shutdown.cancelled() => return Err(Over),
            () = self.connection.revoked.cancelled() => return Err(Over),
            () = self.sender.closed() => return Err(Over),
        };
        let mut last_record = 0;
        for topic in self.topics.clone() {
            let message = match topic {
                Topic::Sessions => self.snapshot("sessions", topic, id, picture.sessions.values()).await,
                Topic::Shells => self.snapshot("shells", topic, id, picture.shells.values()).await,
                Topic::Runtimes => self.snapshot("runtimes", topic, id, picture.runtimes.values()).await,
                Topic::Audit => {
                    let (message, last) = self.records(id).await;
                    last_record = last;
                    message
                }
            };
            self.send(message).await?;
        }
        drop(picture);
        let visible = self.sight.seen.clone();
        loop {
            tokio::select! {
                event = changes.recv() => match event {
                    Ok(event) => self.pass_on(&event, last_record).await?,
                    Err(broadcast::error::RecvError::Lagged(_)) => return Ok(()),
                    Err(broadcast::error::RecvError::Closed) => return Err(Over),
                },
                Ok(()) = policies.changed() => {
                    self.renew().await?;
                    if self.sees_otherwise(&visible).await {
                        return Ok(());
                    }
                }
                () = tokio::time::sleep(QUIET) => self.send(":\n\n".to_owned()).await?,
                () = shutdown.cancelled() => return Err(Over),
                () = self.connection.revoked.cancelled() => return Err(Over),
                () = self.sender.closed() => return Err(Over),
            }
        }
    }

    async fn snapshot(
        &mut self,
        name: &'static str,
        topic: Topic,
        id: u64,
        items: impl Iterator<Item = &Item>,
    ) -> String {
        let mut data = format!("{{\"{name}\":[");
        let mut first = true;
        for item in items {
            if self.sight.may_see(&self.app, topic, Some(&item.scope)).await {
                if !std::mem::take(&mut first) {
                    data.push(',');
                }
                data.push_str(&item.data);
            }
        }
        data.push_str("]}");
        message(name, id, &data)
    }

    /// The newest records of the audit trail, and the id of the newest.
    async fn records(&mut self, id: u64) -> (String, u64) {
        let mut records = Vec::new();
        if self.sight.may_see(&self.app, Topic::Audit, None).await {
            let filter = AuditFilter { limit: RECORDS, ..AuditFilter::default() };
            match self.app.store.list_audit(&filter).await {
                Ok(found) => records = found,
                Err(error) => {
                    tracing::warn!(error = crate::http::chain(&error), "audit trail cannot be read");
                }
            }
        }
        let last = records.first().map_or(0, |record| record.id);
        let views: Vec<_> = records.iter().map(audit::view).collect();
        (message("audit", id, &serde_json::json!({ "records": views }).to_string()), last)
    }

    async fn pass_on(&mut self, event: &Event, last_record: u64) -> Result<(), Over> {
        let is_old = event.topic == Topic::Audit && event.record_id <= last_record;
        if is_old
            || !self.topics.contains(&event.topic)
            || !self.sight.may_see(&self.app, event.topic, event.scope.as_deref()).await
        {
            return Ok(());
        }
        self.send(message(event.name, event.id, &event.data)).await
    }

    /// Looks at the policies of the caller as they are now.
    async fn renew(&mut self) -> Result<(), Over> {
        self.sight.seen.clear();
        match access::renewed(&self.app, &self.sight.caller).await {
            Ok(caller) => {
                self.sight.caller = caller;
                Ok(())
            }
            Err(error) => {
                tracing::warn!(error = crate::http::chain(&error), "policies of a listener cannot be read");
                Err(Over)
            }
        }
    }

    /// Whether something is seen that was not, or the other way around.
    async fn sees_otherwise(&mut self, visible: &HashMap<(Topic, Option<Scope>), bool>) -> bool {
        for ((topic, scope), was) in visible {
            if self.sight.may_see(&self.app, *topic, scope.as_ref()).await != *was {
                return true;
            }
        }
        false
    }

    async fn send(&self, message: String) -> Result<(), Over> {
        tokio::select! {
            sent = tokio::time::timeout(PATIENCE, self.sender.send(message.into())) => match sent {
                Ok(Ok(())) => Ok(()),
                Ok(Err(_)) | Err(_) => Err(Over),
            },
            () = self.app.shutdown.cancelled() => Err(Over),
            () = self.connection.revoked.cancelled() => Err(Over),
        }
    }
}

/// What a caller may see, as decided already.
struct Sight {
    caller: Caller,
    seen: HashMap<(Topic, Option<Scope>), bool>,
}

impl Sight {
    async fn may_see(&mut self, app: &Arc<App>, topic: Topic, scope: Option<&Scope>) -> bool {
        let key = (topic, scope.cloned());
        if let Some(known) = self.seen.get(&key) {
            return *known;
        }
        let action = match topic {
            Topic::Sessions => "clamshell:ListSessions",
            Topic::Shells => "clamshell:ListShells",
            Topic::Runtimes => "bedrock-agentcore:ListAgentRuntimes",
            Topic::Audit => "clamshell:ReadAudit",
        };
        let resources = match scope {
            None => vec!["*".to_owned()],
            Some(scope) => {
                let arn = app.runtime_arn(&scope.runtime_id);
                let endpoint = scope.endpoint.as_ref();
                let endpoint = endpoint.map(|name| arn.clone().with_endpoint(name.as_str()).to_string());
                std::iter::once(arn.to_string()).chain(endpoint).collect()
            }
        };
        let may = access::authorize(app, &self.caller, &Demand::new(action, resources)).await.is_ok();
        if self.seen.len() >= SIGHT_MAX {
            self.seen.clear();
        }
        self.seen.insert(key, may);
        may
    }
}

fn message(name: &str, id: u64, data: &str) -> String {
    format!("event: {name}\nid: {id}\ndata: {data}\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_are_asked_for_by_name() {
        let check = |asked: Option<&str>, expect: Option<&[Topic]>| {
            assert_eq!(topics(asked).ok().as_deref(), expect, "{asked:?}");
        };
        check(None, Some(&[Topic::Sessions, Topic::Shells, Topic::Runtimes]));
        check(Some("audit,sessions,audit"), Some(&[Topic::Sessions, Topic::Audit]));
        check(Some("logins"), Some(&[]));
        for bad in ["", "all", "sessions,", "Sessions"] {
            check(Some(bad), None);
        }
    }

    #[test]
    fn messages_are_those_of_server_sent_events() {
        assert_eq!(message("session", 7, "{}"), "event: session\nid: 7\ndata: {}\n\n");
    }
}
