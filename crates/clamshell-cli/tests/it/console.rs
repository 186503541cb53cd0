//! People on the command line: links, passwords and roles that open the console.

use std::{io::Write, path::Path, process::Stdio};

use clamshell_testkit::{Client, Reply};
use clamshell_wire::sigv4::Credentials;
use serde_json::{Value, json};

use super::program::{Ended, command, run, server};

const LOGIN: &str = "/clamshell/v1/console/login";

/// Runs with this on stdin.
fn fed(data_dir: &Path, args: &[&str], input: &str) -> Ended {
    let mut child = command(data_dir, args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    Ended {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Signs in as the page does.
async fn sign_in(endpoint: &str, body: &Value) -> Reply {
    let nobody =
        Credentials { access_key_id: String::new(), secret_access_key: String::new(), session_token: None };
    let client = Client::new(endpoint, "", "", nobody);
    let headers = [
        ("host", client.authority.clone()),
        ("origin", endpoint.to_owned()),
        ("x-clamshell-console", "1".to_owned()),
        ("content-type", "application/json".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value));
    client.send("POST", LOGIN, &headers, body.to_string().as_bytes()).await.unwrap()
}

#[tokio::test]
async fn people_sign_in_with_links_and_passwords() {
    let Some(server) = server("").await else { return };
    let data_dir = server.data_dir();
    let made = run(data_dir, &["console", "--json"]).json();
    let url = made["url"].as_str().unwrap();
    let (page, token) = url.split_once("/console/login#link=").unwrap();
    let signed_in = sign_in(page, &json!({ "link": token })).await;
    assert_eq!((signed_in.status.as_u16(), &signed_in.json()["userName"]), (200, &json!("root")));
    assert_eq!(sign_in(page, &json!({ "link": token })).await.status, 403);
    let told = run(data_dir, &["console"]);
    assert!(told.stdout.starts_with(page) && told.stdout.lines().count() == 1, "{told:?}");

    let user = run(data_dir, &["users", "create", "ann", "--console-role", "operator", "--json"]).json();
    assert_eq!(user["policies"]["ConsoleRole"]["Id"], "clamshell-console-role-operator");
    let short = fed(data_dir, &["users", "passwd", "ann"], "short\n");
    assert_eq!(short.code, Some(1), "{short:?}");
    let set = fed(data_dir, &["users", "passwd", "ann", "--json"], "correct horse battery\n");
    assert_eq!(set.json(), json!({ "success": true, "userName": "ann" }));
    let password = json!({ "userName": "ann", "password": "correct horse battery" });
    assert_eq!(sign_in(page, &password).await.json()["role"], "operator");
    let changed = run(data_dir, &["users", "role", "ann", "viewer", "--json"]).json();
    assert_eq!(changed["policies"]["ConsoleRole"]["Id"], "clamshell-console-role-viewer");
    assert_eq!(sign_in(page, &password).await.json()["role"], "viewer");
    assert_eq!(run(data_dir, &["users", "role", "root", "viewer"]).code, Some(1));
    assert_eq!(run(data_dir, &["doctor", "--json"]).json()["console"]["available"], true);
    run(data_dir, &["users", "rm", "ann"]).ok();
    assert_eq!(sign_in(page, &password).await.status, 403);
}
