//! Real coding agents behind the templates, and Claude Code at a terminal, against a scripted model.
//!
//! The agents are those of `scripts/install-test-clients`. All but one are seen by the sandbox where they lie, because
//! packing hundreds of megabytes would be all that these tests do; one goes the whole way.

use std::{path::Path, time::Duration};

use clamshell_testkit::{
    Client, ShellEvent, ShellSocket, eventually,
    model::{Api, CodingAgent, Rule, SandboxModel, Script},
    skip,
};
use serde_json::Value;

use super::{Place, session};
use crate::program;

/// How long anything may take at the terminal; generous, because test machines are shared.
const LIMIT: Duration = Duration::from_secs(60);

/// What the project installs has to be what is installed.
fn is_current(project: &Path, agent: CodingAgent) -> bool {
    let Some((_, installed)) = agent.installed() else { return false };
    let manifest = std::fs::read(project.join("package.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let wanted = manifest["dependencies"].as_object().unwrap().iter();
    let wanted: Vec<String> =
        wanted.map(|(name, version)| format!("{name}@{}", version.as_str().unwrap())).collect();
    wanted == [installed.as_str()]
        || skip::<()>(&format!("{installed} is not {wanted:?} (run scripts/test)")).is_some()
}

/// How the agent gets into the sandbox.
enum Way {
    /// It lies in a folder that the sandbox sees; the project starts it there.
    Shown,
    /// It is packed with the project, uploaded and unpacked.
    Packed,
}

/// Deploys the template, asks it twice, and looks at what it did. `key` is the header with its key.
async fn scenario(agent: CodingAgent, way: &Way, api: Api, key: (&str, &str), environment: &[(&str, &str)]) {
    if agent.installed().is_none() {
        return;
    }
    let script = Script::new(vec![
        Rule::shell("echo made by the script > made.txt").when("MAKE_FILE").after_results(0),
        Rule::say("The file is made.").when("MAKE_FILE"),
        Rule::say("Pong, says the script.").when("say ping"),
    ]);
    let model = SandboxModel::start(script.unwrap()).unwrap();
    let Some(place) = Place::with(&model.configuration()).await else { return };
    place.json(&["create", "coder", "--agent", agent.name()]);
    let project = place.projects.path().join("coder");
    if !is_current(&project, agent) {
        return;
    }
    let program = model.add(agent).unwrap().unwrap();
    let modules = project.join("node_modules");
    match way {
        Way::Shown => {
            let start = modules.join(".bin").join(agent.program());
            std::fs::create_dir_all(start.parent().unwrap()).unwrap();
            std::fs::write(&start, format!("#!/bin/sh\nexec {} \"$@\"\n", program.display())).unwrap();
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            std::fs::set_permissions(&start, mode).unwrap();
        }
        Way::Packed => {
            std::fs::rename(model.folder().join(agent.name()).join("node_modules"), &modules).unwrap();
        }
    }
    let mut flags = vec!["--env".to_owned(), format!("SIDECAR={}", model.relay())];
    for (name, value) in environment {
        flags.extend(["--env".to_owned(), format!("{name}={value}")]);
    }
    place.deploy("coder", &flags.iter().map(String::as_str).collect::<Vec<_>>());
    let id = session(agent.name());
    let inside =
        |command: &str| place.run(&["exec", "--runtime", "coder", "--session-id", &id, command]).ok();
    inside(&model.wait());

    let ended = place.run(&["invoke", "coder", "say ping", "--session-id", &id]);
    assert_eq!(ended.code, Some(0), "{agent:?}: {ended:?}");
    assert!(ended.stdout.contains("Pong, says the script."), "{agent:?}: {ended:?}");
    let ended = place.run(&["invoke", "coder", "MAKE_FILE please", "--session-id", &id]);
    assert_eq!(ended.code, Some(0), "{agent:?}: {ended:?}");
    assert!(ended.stdout.contains("The file is made."), "{agent:?}: {ended:?}");
    assert_eq!(inside("cat /mnt/workspace/made.txt"), "made by the script\n");

    // The agent asked as its API wants it, with its key, and told the model what became of the command.
    let requests = model.requests();
    let told = requests.iter().filter_map(|request| Some((request, request.ask.as_ref()?)));
    let told: Vec<_> =
        told.filter(|(_, ask)| ask.prompt.contains("MAKE_FILE") && ask.tool_results == 1).collect();
    let (request, ask) = told.first().unwrap();
    assert_eq!((ask.api, request.header(key.0), request.rule), (api, key.1, Some(1)), "{ask:?}");
}

#[tokio::test]
async fn claude_code_works_behind_its_template() {
    let environment = [("ANTHROPIC_BASE_URL", SandboxModel::URL), ("ANTHROPIC_API_KEY", "sk-of-the-test")];
    let key = ("x-api-key", "sk-of-the-test");
    scenario(CodingAgent::ClaudeCode, &Way::Shown, Api::Messages, key, &environment).await;
}

#[tokio::test]
async fn codex_works_behind_its_template() {
    let url = format!("{}/v1", SandboxModel::URL);
    let environment =
        [("OPENAI_BASE_URL", url.as_str()), ("OPENAI_API_KEY", "sk-of-the-test"), ("MODEL", "scripted")];
    let key = ("authorization", "Bearer sk-of-the-test");
    scenario(CodingAgent::Codex, &Way::Shown, Api::Responses, key, &environment).await;
}

#[tokio::test]
async fn opencode_works_behind_its_template() {
    let url = format!("{}/v1", SandboxModel::URL);
    let environment =
        [("OPENAI_BASE_URL", url.as_str()), ("OPENAI_API_KEY", "sk-of-the-test"), ("MODEL", "scripted")];
    let key = ("authorization", "Bearer sk-of-the-test");
    scenario(CodingAgent::Opencode, &Way::Shown, Api::Chat, key, &environment).await;
}

#[tokio::test]
async fn gemini_works_behind_its_template_packed_with_it() {
    let environment = [("GOOGLE_GEMINI_BASE_URL", SandboxModel::URL), ("GEMINI_API_KEY", "sk-of-the-test")];
    let key = ("x-goog-api-key", "sk-of-the-test");
    scenario(CodingAgent::Gemini, &Way::Packed, Api::Gemini, key, &environment).await;
}

/// A shell, and its screen as the server paints it.
struct At {
    client: Client,
    socket: ShellSocket,
    id: String,
}

impl At {
    /// Types, and waits until the screen shows a text.
    async fn keys(&mut self, keys: &str, text: &str) {
        self.socket.input(keys.as_bytes()).await.unwrap();
        let path = format!("/clamshell/v1/sessions/{}/shells/claude/screen", self.id);
        eventually(text, LIMIT, async || {
            // The output is taken: a client that stands still would hold the shell back.
            while let Ok(event) = tokio::time::timeout(Duration::from_millis(10), self.socket.next()).await {
                assert!(!matches!(event, Ok(ShellEvent::Closed(_)) | Err(_)), "{event:?}");
            }
            let painted = self.client.request("GET", &path, &[], &[]).await.unwrap();
            let painted = String::from_utf8_lossy(&painted.body).into_owned();
            if painted.contains(text) { Ok(()) } else { Err(painted) }
        })
        .await;
    }
}

#[tokio::test]
async fn claude_code_is_used_by_typing() {
    let script = Script::new(vec![Rule::say("ANSWER-OF-THE-SCRIPT").when("QUESTION-BY-HAND")]);
    let model = SandboxModel::start(script.unwrap()).unwrap();
    if model.add(CodingAgent::ClaudeCode).unwrap().is_none() {
        return;
    }
    let Some(server) = program::server(&model.configuration()).await else { return };
    let client = server.client().await.unwrap();
    let id = session("typing");
    let mut terminal = At { client: client.clone(), socket: client.shell(&id, "claude").await.unwrap(), id };
    let start = format!("cd /mnt/workspace; {}; echo left-$((6 * 7))\n", model.claude());
    terminal.keys(&start, "shortcuts").await;
    terminal.keys("QUESTION-BY-HAND", "QUESTION-BY-HAND").await;
    terminal.keys("\r", "ANSWER-OF-THE-SCRIPT").await;
    // Ctrl+C would have to come twice within a second, which a busy machine does not promise.
    terminal.keys("/exit", "/exit").await;
    terminal.keys("\r", "left-42").await;
    let asked = model.asks();
    assert!(asked.iter().any(|ask| ask.is_stream && ask.prompt.contains("QUESTION-BY-HAND")), "{asked:?}");
}
