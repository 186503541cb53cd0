//! `e2e_registry_*`: an agent that is an image: built here, pushed into Docker's registry, named by `containerUri`.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use clamshell_testkit::skip;
use serde_json::json;
use tempfile::TempDir;

use super::{call, removed};
use crate::{
    control_changes::{definition, named, ok, ready, settled},
    in_process::{InProcess, sandboxes},
};

const NEEDED: [&str; 4] = ["docker-registry", "skopeo", "umoci", "rustc"];

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

/// A registry of Debian's package on a free port, and a program to put into images.
struct Registry {
    folder: TempDir,
    process: Child,
    host: String,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

impl Registry {
    fn start() -> Option<Self> {
        if let Some(missing) = NEEDED.into_iter().find(|program| !has(program)) {
            return skip(&format!("{missing} is not installed"));
        }
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        fs::write(at("agent.rs"), AGENT).unwrap();
        let program = at("agent");
        run(
            "rustc",
            &[
                "--edition=2021",
                "-Ctarget-feature=+crt-static",
                "-Cstrip=symbols",
                "-o",
                &program,
                &at("agent.rs"),
            ],
        );
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = format!(
            "version: 0.1\nlog: {{ level: error }}\nstorage: {{ filesystem: {{ rootdirectory: {} }} }}\n\
             http:\n  addr: 127.0.0.1:{port}\n",
            at("storage")
        );
        fs::write(at("config.yml"), config).unwrap();
        let process = Command::new("docker-registry")
            .args(["serve", &at("config.yml")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(Instant::now() < deadline, "the registry does not listen");
            std::thread::yield_now();
        }
        Some(Self { folder, process, host: format!("127.0.0.1:{port}") })
    }

    /// Pushes the agent's image; its name.
    fn push(&self, tag: &str, version: &str) -> String {
        let [layout, bundle] = ["layout", "bundle"].map(|name| {
            let path = self.folder.path().join(name);
            let _ = fs::remove_dir_all(&path);
            path.to_str().unwrap().to_owned()
        });
        let image = format!("{layout}:made");
        run("umoci", &["init", "--layout", &layout]);
        run("umoci", &["new", "--image", &image]);
        run("umoci", &["unpack", "--rootless", "--image", &image, &bundle]);
        let root = Path::new(&bundle).join("rootfs");
        fs::create_dir_all(root.join("srv")).unwrap();
        fs::copy(self.folder.path().join("agent"), root.join("agent")).unwrap();
        run("umoci", &["repack", "--image", &image, &bundle]);
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
        run("umoci", &[&["config", "--image", &image], settings.as_slice()].concat());
        let name = format!("{}/team/agent:{tag}", self.host);
        run(
            "skopeo",
            &["copy", "--dest-tls-verify=false", &format!("oci:{layout}:made"), &format!("docker://{name}")],
        );
        name
    }
}

#[tokio::test]
async fn e2e_registry_image_is_an_agent() {
    if sandboxes().is_none() {
        return;
    }
    let Some(registry) = Registry::start() else { return };
    let server = InProcess::start("standby = false\n").await;
    let name = registry.push("1", "first");
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
    registry.push("1", "second");
    call(&server, &arn, "stopruntimesession", "", b"{}").await;
    assert_eq!(call(&server, &arn, "invocations", "", b"hello").await.json(), expect("first"));
    ok(&server, "PUT", &path, &definition(&image(&name)), 202).await;
    assert_eq!(settled(&server, &path).await["status"], "READY");
    call(&server, &arn, "stopruntimesession", "", b"{}").await;
    assert_eq!(call(&server, &arn, "invocations", "", b"hello").await.json(), expect("second"));

    // What the registry does not have is not ready, and says why.
    let missing = format!("{}/team/nothing:1", registry.host);
    let made = ok(&server, "PUT", "/runtimes/", &named("missing", &image(&missing)), 202).await;
    let failed = settled(&server, &format!("/runtimes/{}/", made["agentRuntimeId"].as_str().unwrap())).await;
    assert_eq!(failed["status"], "CREATE_FAILED", "{failed}");
    assert!(failed["failureReason"].as_str().unwrap().contains("team/nothing"), "{failed}");
    removed(&server, &id).await;
}
