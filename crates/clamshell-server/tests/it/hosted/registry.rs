//! `e2e_registry_*`: an agent that is an image: built here, pushed into Docker's registry, named by `containerUri`.

use std::{fs, path::Path};

use clamshell_testkit::registry::{Demands, Registry, run};
use serde_json::json;

use super::{call, removed};
use crate::{
    control_changes::{definition, named, ok, ready, settled},
    in_process::{InProcess, sandboxes},
};

/// The one program of the image: no shell, no library, no user database is beside it.
const AGENT: &str = r###"
use std::{env, io::{BufRead, BufReader, Read, Write}, net::TcpListener, thread};

fn main() {
    let listener = TcpListener::bind("0.0.0.0:8080").unwrap();
    println!("listening as an image");
    for stream in listener.incoming().flatten() {
        thread::spawn(move || {
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let mut stream = stream;
            loop {
                let (mut first, mut length) = (String::new(), 0);
                if reader.read_line(&mut first).unwrap_or(0) == 0 {
                    return;
                }
                loop {
                    let mut line = String::new();
                    reader.read_line(&mut line).unwrap();
                    if line.trim().is_empty() {
                        break;
                    }
                    if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                        length = value.trim().parse().unwrap();
                    }
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                let answer = match first.starts_with("GET /ping ") {
                    true => r##"{"status":"Healthy"}"##.to_owned(),
                    false => format!(
                        r##"{{"version":"{}","directory":"{}","arguments":{},"bytes":{length}}}"##,
                        env::var("VERSION").unwrap_or_default(),
                        env::current_dir().unwrap().display(),
                        env::args().count(),
                    ),
                };
                write!(
                    stream,
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{answer}",
                    answer.len()
                )
                .unwrap();
            }
        });
    }
}
"###;

/// A registry, and beside it the program to put into images; `None` where one cannot be had.
async fn registry() -> Option<Registry> {
    let registry = Registry::start(Demands::default(), &["rustc"]).await.unwrap()?;
    let [source, program] = ["agent.rs", "agent"].map(|name| registry.path(name));
    fs::write(&source, AGENT).unwrap();
    let flags = ["--edition=2021", "-Ctarget-feature=+crt-static", "-Cstrip=symbols", "-o"];
    let paths = [program.to_str().unwrap(), source.to_str().unwrap()];
    run("rustc", &[flags.as_slice(), &paths].concat()).unwrap();
    Some(registry)
}

/// Pushes the agent's image; its name.
fn push(registry: &Registry, tag: &str, version: &str) -> String {
    let root = |root: &Path| {
        fs::create_dir_all(root.join("srv"))?;
        fs::copy(registry.path("agent"), root.join("agent")).map(drop)
    };
    let variable = format!("VERSION={version}");
    let settings = [
        "--config.entrypoint",
        "/agent",
        "--config.cmd",
        "one",
        "--config.env",
        &variable,
        "--config.workingdir",
        "/srv",
    ];
    registry.push(&format!("team/agent:{tag}"), &[&root], &settings).unwrap()
}

#[tokio::test]
async fn e2e_registry_image_is_an_agent() {
    if sandboxes().is_none() {
        return;
    }
    let Some(registry) = registry().await else { return };
    let server = InProcess::start("standby = false\n").await;
    let name = push(&registry, "1", "first");
    let image =
        |uri: &str| json!({ "agentRuntimeArtifact": { "containerConfiguration": { "containerUri": uri } } });
    let (id, arn) = ready(&server, "image", &image(&name)).await;
    let path = format!("/runtimes/{id}/");
    let shown = settled(&server, &path).await;
    assert_eq!(shown["agentRuntimeArtifact"], image(&name)["agentRuntimeArtifact"]);
    let reply = call(&server, &arn, "invocations", "", b"hello").await;
    assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
    let expect =
        |version: &str| json!({ "version": version, "directory": "/srv", "arguments": 2, "bytes": 5 });
    assert_eq!(reply.json(), expect("first"));

    // A version keeps what the tag meant when it was made; the next one sees what it means then.
    push(&registry, "1", "second");
    call(&server, &arn, "stopruntimesession", "", b"{}").await;
    assert_eq!(call(&server, &arn, "invocations", "", b"hello").await.json(), expect("first"));
    ok(&server, "PUT", &path, &definition(&image(&name)), 202).await;
    assert_eq!(settled(&server, &path).await["status"], "READY");
    call(&server, &arn, "stopruntimesession", "", b"{}").await;
    assert_eq!(call(&server, &arn, "invocations", "", b"hello").await.json(), expect("second"));

    // What the registry does not have is not ready, and says why.
    let missing = format!("{}/team/nothing:1", registry.host());
    let made = ok(&server, "PUT", "/runtimes/", &named("missing", &image(&missing)), 202).await;
    let failed = settled(&server, &format!("/runtimes/{}/", made["agentRuntimeId"].as_str().unwrap())).await;
    assert_eq!(failed["status"], "CREATE_FAILED", "{failed}");
    assert!(failed["failureReason"].as_str().unwrap().contains("team/nothing"), "{failed}");
    removed(&server, &id).await;
}
