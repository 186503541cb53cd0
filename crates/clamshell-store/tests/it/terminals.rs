//! Terminals of runtimes, and the secrets of terminals.

use clamshell_domain::SystemEntropy;
use clamshell_store::{MasterKey, Secret, TERMINAL_SECRETS_MAX, TerminalSecretError};

use crate::{Fixture, runtime};

const CANARY: &str = "canary-5c1e7f0a";

fn key(fixture: &Fixture, name: &str) -> MasterKey {
    MasterKey::load_or_create(&fixture.folder.path().join(name), &SystemEntropy).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_sealed_listed_without_values_and_removed() {
    let mut fixture = Fixture::new().await;
    let master_key = key(&fixture, "master.key");
    let put = async |fixture: &Fixture, name: &str, value: &str, now_ms: u64| {
        let secret = Secret::new(value);
        fixture.store.put_terminal_secret(&master_key, name, &secret, now_ms).await.unwrap()
    };
    put(&fixture, "B_KEY", "old", 5).await;
    let kept = put(&fixture, "B_KEY", CANARY, 7).await;
    assert_eq!((kept.name.as_str(), kept.created_at_ms, kept.updated_at_ms), ("B_KEY", 5, 7));
    put(&fixture, "A_KEY", "a", 6).await;
    fixture.reopen().await;
    let names = |listed: Vec<clamshell_store::TerminalSecret>| {
        listed.into_iter().map(|secret| secret.name).collect::<Vec<_>>()
    };
    assert_eq!(names(fixture.store.terminal_secrets().await.unwrap()), ["A_KEY", "B_KEY"]);
    let opened = fixture.store.open_terminal_secret(&master_key, "B_KEY").await.unwrap().unwrap();
    assert_eq!(opened.expose_text(), Some(CANARY));
    assert!(fixture.store.open_terminal_secret(&master_key, "C_KEY").await.unwrap().is_none());
    let other = key(&fixture, "other.key");
    let refused = fixture.store.open_terminal_secret(&other, "B_KEY").await.unwrap_err();
    assert!(matches!(refused, TerminalSecretError::Sealed { .. }), "{refused:?}");
    for file in std::fs::read_dir(fixture.folder.path()).unwrap() {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        assert!(!bytes.windows(CANARY.len()).any(|window| window == CANARY.as_bytes()));
    }
    assert!(fixture.store.remove_terminal_secret("B_KEY").await.unwrap());
    assert!(!fixture.store.remove_terminal_secret("B_KEY").await.unwrap());
    assert_eq!(names(fixture.store.terminal_secrets().await.unwrap()), ["A_KEY"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_have_a_bound() {
    let fixture = Fixture::new().await;
    let master_key = key(&fixture, "master.key");
    let put = async |name: String| {
        fixture.store.put_terminal_secret(&master_key, &name, &Secret::new("x"), 1).await
    };
    for number in 0..TERMINAL_SECRETS_MAX {
        put(format!("S{number}")).await.unwrap();
    }
    assert!(matches!(put("ONE_MORE".to_owned()).await, Err(TerminalSecretError::TooMany)));
    put("S7".to_owned()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_terminal_of_a_runtime_goes_with_it() {
    let mut fixture = Fixture::new().await;
    let (first, second) = (fixture.add_runtime("first").await, fixture.add_runtime("second").await);
    let of = async |fixture: &Fixture, id: &clamshell_domain::RuntimeId| {
        fixture.store.runtime_terminal::<Vec<String>>(id).await.unwrap()
    };
    assert_eq!(of(&fixture, &first.runtime_id).await, None);
    for (id, word, at) in [(&first, "old", 1), (&first, "new", 2), (&second, "other", 3)] {
        fixture.store.put_runtime_terminal(&id.runtime_id, &vec![word], at).await.unwrap();
    }
    let nobodys = runtime("nobodys");
    fixture.store.put_runtime_terminal(&nobodys.runtime_id, &vec!["x"], 1).await.unwrap_err();
    fixture.reopen().await;
    assert_eq!(of(&fixture, &first.runtime_id).await, Some((vec!["new".to_owned()], 2)));
    fixture.store.delete_runtime(&first.runtime_id, "arn:first").await.unwrap();
    assert_eq!(of(&fixture, &first.runtime_id).await, None);
    assert!(fixture.store.remove_runtime_terminal(&second.runtime_id).await.unwrap());
    assert!(!fixture.store.remove_runtime_terminal(&second.runtime_id).await.unwrap());
}
