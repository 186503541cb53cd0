//! Shells of users at an endpoint that is never there.

use clamshell_domain::{BoxFuture, SystemEntropy};

use super::*;

struct Nowhere(UpstreamInfo);

impl Upstream for Nowhere {
    fn info(&self) -> &UpstreamInfo {
        &self.0
    }

    fn connect<'a>(&'a self, _: &'a ShellAsk) -> BoxFuture<'a, Result<UpstreamShell, UpstreamError>> {
        Box::pin(std::future::ready(Err(UpstreamError::Refused { message: "not here".to_owned() })))
    }

    fn stop<'a>(&'a self, _: &'a SessionId) -> BoxFuture<'a, Result<(), UpstreamError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

struct Noon;

impl Clock for Noon {
    fn now_ms(&self) -> u64 {
        1_000_000
    }
}

async fn web(folder: &tempfile::TempDir, limits: WebLimits) -> Arc<Web> {
    let text = || "text".to_owned();
    let info = UpstreamInfo {
        runtime_arn: text(),
        runtime_name: text(),
        qualifier: text(),
        region: text(),
        account_id: text(),
        endpoint: text(),
    };
    let parts = WebParts {
        upstream: Arc::new(Nowhere(info)),
        policy: WebPolicy::default(),
        limits,
        store: Store::open(&folder.path().join("state.db")).await.unwrap(),
        clock: Arc::new(Noon),
        entropy: Arc::new(SystemEntropy),
        tasks: TaskTracker::new(),
        shutdown: CancellationToken::new(),
    };
    Web::new(parts, folder.path()).await.unwrap()
}

fn key(shell: &str) -> Key {
    (SessionId::parse("s".repeat(40)).unwrap(), ShellId::parse(shell).unwrap())
}

async fn over(web: &Web) {
    web.tasks.close();
    web.tasks.wait().await;
    web.tasks.reopen();
}

#[tokio::test]
async fn nothing_is_kept_of_shells_that_their_owner_has_ended() {
    let folder = tempfile::tempdir().unwrap();
    let web = web(&folder, WebLimits::default()).await;
    let files = || std::fs::read_dir(folder.path().join(SHELLS_DIR)).unwrap().count();
    for shell in ["a", "b", "c"] {
        drop(web.open("ann", key(shell), true).await.unwrap());
    }
    over(&web).await;
    assert_eq!(files(), 3, "they may run on");
    web.close("ann", key("a")).await.unwrap();
    over(&web).await;
    assert_eq!(files(), 2);
    web.stop("ann", &key("a").0).await.unwrap();
    over(&web).await;
    assert_eq!(files(), 0);
}

#[tokio::test]
async fn what_a_limit_refused_is_no_shell() {
    let folder = tempfile::tempdir().unwrap();
    let web = web(&folder, WebLimits { connected_per_user: 1, ..WebLimits::default() }).await;
    let first = web.open("ann", key("a"), true).await.unwrap();
    assert!(matches!(web.open("ann", key("b"), true).await, Err(WebError::TooMany(_))));
    let listed = web.list("ann").await.unwrap();
    assert_eq!(listed.iter().map(|shell| shell.record.shell_id.as_str()).collect::<Vec<_>>(), ["a"]);
    drop(first);
    over(&web).await;
    assert!(web.open("ann", key("b"), true).await.is_ok());
}
