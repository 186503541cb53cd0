//! Real coding agents behind the templates, against a scripted model that runs beside them in the sandbox.
//!
//! `CLAMSHELL_TEST_TOOLS` names a folder with `scripted_model.py`; the agents come from the npm registry.

use std::path::PathBuf;

use clamshell_testkit::skip;

use super::{Place, node_registry, session};

/// The model listens there, inside.
const MODEL: &str = "http://127.0.0.1:8089";

fn tools() -> Option<PathBuf> {
    match std::env::var_os("CLAMSHELL_TEST_TOOLS").map(PathBuf::from) {
        Some(folder) if folder.join("scripted_model.py").is_file() => Some(folder),
        Some(folder) => skip(&format!("{} has no scripted_model.py", folder.display())),
        None => skip("CLAMSHELL_TEST_TOOLS is not set"),
    }
}

async fn scenario(agent: &str, package: &str, environment: &[(&str, &str)]) {
    let Some(tools) = tools() else { return };
    if node_registry(package).is_none() {
        return;
    }
    let Some(place) = Place::new().await else { return };
    place.json(&["create", "coder", "--agent", agent]);
    for file in ["scripted_model.py", "model_apis.py"] {
        std::fs::copy(tools.join(file), place.projects.path().join("coder").join(file)).unwrap();
    }
    let mut flags = vec![
        "--env".to_owned(),
        "SIDECAR=exec python3 /var/task/scripted_model.py --port 8089 --log /tmp/model.log".to_owned(),
    ];
    for (name, value) in environment {
        flags.extend(["--env".to_owned(), format!("{name}={value}")]);
    }
    place.deploy("coder", &flags.iter().map(String::as_str).collect::<Vec<_>>());
    let id = session(agent);
    let ended = place.run(&["invoke", "coder", "say pong", "--session-id", &id]);
    assert_eq!(ended.code, Some(0), "{agent}: {ended:?}");
    assert!(ended.stdout.contains("PONG from fake model"), "{agent}: {ended:?}");
    let ended = place.run(&["invoke", "coder", "MAKE_FILE please", "--session-id", &id]);
    assert_eq!(ended.code, Some(0), "{agent}: {ended:?}");
    let made = place.run(&["exec", "--runtime", "coder", "--session-id", &id, "cat /mnt/workspace/made.txt"]);
    assert_eq!(made.ok(), "made-by-fake-model\n");
}

#[tokio::test]
async fn claude_code_works_behind_its_template() {
    let environment = [("ANTHROPIC_BASE_URL", MODEL), ("ANTHROPIC_API_KEY", "sk-fake")];
    scenario("claude-code", "@anthropic-ai/claude-code", &environment).await;
}

#[tokio::test]
async fn codex_works_behind_its_template() {
    let url = format!("{MODEL}/v1");
    let environment =
        [("OPENAI_BASE_URL", url.as_str()), ("OPENAI_API_KEY", "sk-fake"), ("MODEL", "fake-model")];
    scenario("codex", "@openai/codex", &environment).await;
}

#[tokio::test]
async fn opencode_works_behind_its_template() {
    let url = format!("{MODEL}/v1");
    let environment =
        [("OPENAI_BASE_URL", url.as_str()), ("OPENAI_API_KEY", "sk-fake"), ("MODEL", "fake-model")];
    scenario("opencode", "opencode-ai", &environment).await;
}

#[tokio::test]
async fn gemini_works_behind_its_template() {
    let environment = [("GOOGLE_GEMINI_BASE_URL", MODEL), ("GEMINI_API_KEY", "sk-fake")];
    scenario("gemini", "@google/gemini-cli", &environment).await;
}
