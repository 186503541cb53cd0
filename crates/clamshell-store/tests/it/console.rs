//! Logins, links, passwords and identities of the console.

use std::collections::BTreeMap;

use clamshell_domain::{SessionId, ShellId, StorageId, SystemEntropy};
use clamshell_store::{
    LockoutRecord, LoginMethod, LoginRecord, PrincipalKind, PrincipalRecord, ShareAccess, ShareRecord,
};

use crate::{Fixture, session_key};

async fn user(fixture: &Fixture, name: &str) {
    let record = PrincipalRecord {
        kind: PrincipalKind::User,
        name: name.to_owned(),
        description: String::new(),
        created_at_ms: 1,
        policies: BTreeMap::new(),
    };
    fixture.store.insert_principal(&record).await.unwrap();
}

fn login(id: &str, user: &str) -> LoginRecord {
    LoginRecord {
        login_id: id.to_owned(),
        token_hash: id.as_bytes().to_vec(),
        user_name: user.to_owned(),
        method: LoginMethod::Password,
        created_at_ms: 1,
        last_used_at_ms: 2,
        expires_at_ms: 3,
        source_ip: "192.0.2.1".to_owned(),
        user_agent: "a browser".to_owned(),
    }
}

async fn ids(fixture: &Fixture) -> Vec<String> {
    let all = fixture.store.console_logins().await.unwrap();
    all.into_iter().map(|login| login.login_id).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_survive_and_go_with_their_user() {
    let mut fixture = Fixture::new().await;
    user(&fixture, "ci").await;
    assert!(fixture.store.insert_console_login(&login("a", "ci"), &[]).await.unwrap());
    assert!(fixture.store.insert_console_login(&login("b", "root"), &[]).await.unwrap());
    assert!(!fixture.store.insert_console_login(&login("c", "nobody"), &[]).await.unwrap());
    fixture.reopen().await;
    assert_eq!(fixture.store.console_logins().await.unwrap(), [login("a", "ci"), login("b", "root")]);
    fixture.store.touch_console_login("a", 9).await.unwrap();
    let touched = LoginRecord { last_used_at_ms: 9, ..login("a", "ci") };
    assert_eq!(fixture.store.console_logins().await.unwrap()[0], touched);
    assert!(fixture.store.insert_console_login(&login("d", "ci"), &["a".to_owned()]).await.unwrap());
    assert_eq!(ids(&fixture).await, ["b", "d"]);
    fixture.store.remove_principal(PrincipalKind::User, "ci").await.unwrap();
    assert_eq!(ids(&fixture).await, ["b"]);
    fixture.store.remove_console_logins(&["b".to_owned(), "x".to_owned()]).await.unwrap();
    assert!(ids(&fixture).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_user_of_the_same_name_is_somebody_else() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    let key = session_key(&fixture.add_runtime("one").await, 1);
    store.create_session(&key, &StorageId::generate(&SystemEntropy), 1, 1, "native").await.unwrap();
    let shell = ShellId::parse("build").unwrap();
    for name in ["ann", "joann"] {
        user(&fixture, name).await;
        let share = ShareRecord {
            share_id: name.to_owned(),
            key: key.clone(),
            shell_id: shell.clone(),
            access: ShareAccess::Write,
            made_by: name.to_owned(),
            created_at_ms: 10,
            expires_at_ms: 100,
        };
        store.insert_share(&share, &[u8::try_from(name.len()).unwrap(); 32]).await.unwrap();
        let session = SessionId::parse(format!("{name:s<40}")).unwrap();
        store.open_web_shell(&session, &shell, &arn(name), ("agent", 64), 10).await.unwrap();
    }
    store.remove_principal(PrincipalKind::User, "ann").await.unwrap();
    user(&fixture, "ann").await;
    let shares = store.list_shares(&key, &shell, 20).await.unwrap();
    assert_eq!(shares.iter().map(|share| share.made_by.as_str()).collect::<Vec<_>>(), ["joann"]);
    assert_eq!(store.web_shells(&arn("ann")).await.unwrap(), []);
    assert_eq!(store.web_shells(&arn("joann")).await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn ended_shells_of_a_web_terminal_are_kept_up_to_a_number() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    let session = SessionId::parse("s".repeat(40)).unwrap();
    let shell = |number: u64| ShellId::parse(format!("shell-{number}")).unwrap();
    let open = async |owner: &str, session: &SessionId, number: u64| {
        store.open_web_shell(session, &shell(number), owner, ("agent", 2), number).await.unwrap();
    };
    let others = SessionId::parse("o".repeat(40)).unwrap();
    open("joe", &others, 0).await;
    store.end_web_shell(&others, &shell(0), Some(0), 0).await.unwrap();
    open("ann", &session, 0).await;
    for number in 1..=300 {
        open("ann", &session, number).await;
        store.end_web_shell(&session, &shell(number), Some(0), number).await.unwrap();
    }
    open("ann", &session, 301).await;
    let kept = store.web_shells("ann").await.unwrap();
    let ended = kept.iter().filter(|shell| shell.ended_at_ms.is_some());
    assert_eq!(ended.map(|shell| shell.created_at_ms).collect::<Vec<_>>(), (45..=300).collect::<Vec<_>>());
    let running = kept.iter().filter(|shell| shell.ended_at_ms.is_none());
    assert_eq!(running.map(|shell| shell.created_at_ms).collect::<Vec<_>>(), [0, 301]);
    let mut names: Vec<&str> = kept.iter().map(|shell| shell.title.as_str()).collect();
    names.sort_unstable();
    let mut all: Vec<String> = (1..=258).map(|number| format!("agent {number}")).collect();
    all.sort_unstable();
    assert_eq!(names, all, "names of those that are forgotten are free again");
    assert_eq!(store.web_shells("joe").await.unwrap().len(), 1);
}

fn arn(user: &str) -> String {
    format!("arn:aws:iam::123456789012:user/{user}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_is_used_once_and_in_time() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    assert!(store.insert_console_link(b"one", "root", 10, 0).await.unwrap());
    assert!(store.insert_console_link(b"late", "root", 10, 0).await.unwrap());
    for token in [b"one".as_slice(), b"one", b"late"] {
        assert_eq!(
            store.console_link_user(token, 9).await.unwrap().as_deref(),
            Some("root"),
            "uses nothing up"
        );
        assert_eq!(store.console_link_user(token, 10).await.unwrap(), None);
    }
    assert_eq!(store.console_link_user(b"none", 5).await.unwrap(), None);
    assert_eq!(store.take_console_link(b"none", 5).await.unwrap(), None);
    assert_eq!(store.take_console_link(b"one", 9).await.unwrap(), Some("root".to_owned()));
    assert_eq!(store.take_console_link(b"one", 9).await.unwrap(), None);
    assert_eq!(store.console_link_user(b"one", 9).await.unwrap(), None);
    assert_eq!(store.take_console_link(b"late", 10).await.unwrap(), None);
    for number in 0..100_u8 {
        assert!(store.insert_console_link(&[number], "root", 20, 11).await.unwrap());
    }
    assert!(!store.insert_console_link(b"more", "root", 20, 11).await.unwrap());
    assert!(store.insert_console_link(b"more", "root", 30, 20).await.unwrap(), "the others have ended");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_is_known_again_until_it_is_forgotten() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    let lockout = |source: &str, failures: u32, failed_at_ms: u64| LockoutRecord {
        source: source.to_owned(),
        failures,
        failed_at_ms,
        locked_until_ms: failed_at_ms + 30,
    };
    assert_eq!(store.console_lockouts(0).await.unwrap(), []);
    for each in [lockout("192.0.2.1", 5, 100), lockout("192.0.2.1", 6, 150), lockout("2001:db8::", 5, 120)] {
        store.put_console_lockout(&each, 0).await.unwrap();
    }
    let all = [lockout("2001:db8::", 5, 120), lockout("192.0.2.1", 6, 150)];
    assert_eq!(store.console_lockouts(0).await.unwrap(), all);
    assert_eq!(store.console_lockouts(120).await.unwrap(), all[1..]);
    store.put_console_lockout(&lockout("192.0.2.2", 5, 200), 150).await.unwrap();
    assert_eq!(store.console_lockouts(0).await.unwrap(), [lockout("192.0.2.2", 5, 200)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_password_ends_what_the_old_one_opened() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    user(&fixture, "ci").await;
    assert!(!store.has_console_passwords().await.unwrap());
    assert!(!store.put_console_password("nobody", "h", None, 1).await.unwrap());
    assert!(store.put_console_password("ci", "first", None, 1).await.unwrap());
    assert!(store.has_console_passwords().await.unwrap());
    for id in ["a", "b"] {
        assert!(store.insert_console_login(&login(id, "ci"), &[]).await.unwrap());
    }
    assert!(store.insert_console_login(&login("c", "root"), &[]).await.unwrap());
    assert!(store.insert_console_link(b"l", "ci", 10, 0).await.unwrap());
    assert!(store.put_console_password("ci", "second", Some("b"), 1).await.unwrap());
    assert_eq!(store.console_password("ci").await.unwrap().as_deref(), Some("second"));
    assert_eq!(store.console_password("root").await.unwrap(), None);
    assert_eq!(ids(&fixture).await, ["b", "c"]);
    assert_eq!(store.take_console_link(b"l", 5).await.unwrap(), None);
    store.remove_principal(PrincipalKind::User, "ci").await.unwrap();
    assert_eq!(store.console_password("ci").await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_of_a_provider_becomes_another_user() {
    let fixture = Fixture::new().await;
    let store = &fixture.store;
    user(&fixture, "ci").await;
    let insert = async |subject: &str, name: &str| {
        store.insert_console_identity("https://id", subject, name, "", 1).await.unwrap()
    };
    assert!(!insert("1", "ci").await, "made here, not there");
    assert!(insert("1", "alice").await);
    assert!(!insert("2", "alice").await, "taken");
    assert!(!insert("1", "alice2").await, "is alice");
    assert!(store.principal(PrincipalKind::User, "alice2").await.unwrap().is_none());
    assert_eq!(store.console_identity("https://id", "1").await.unwrap().as_deref(), Some("alice"));
    assert_eq!(store.console_identity("https://other", "1").await.unwrap(), None);
    store.remove_principal(PrincipalKind::User, "alice").await.unwrap();
    assert_eq!(store.console_identity("https://id", "1").await.unwrap(), None);
}
