//! What a start refuses, and what it only says.

use std::sync::Arc;

use clamshell_domain::{SystemClock, SystemEntropy};
use clamshell_server::{Config, Overrides, RunError, Server};
use serde_json::json;

use crate::{calls::Call, in_process::InProcess};

async fn start(folder: &std::path::Path, region: Option<&str>) -> Result<Server, RunError> {
    let overrides = Overrides {
        listen: Some("127.0.0.1:0".to_owned()),
        data_dir: Some(folder.to_owned()),
        region: region.map(str::to_owned),
        ..Overrides::default()
    };
    let config = Config::load(overrides).unwrap();
    Server::with_ports(config, Arc::new(SystemClock), Arc::new(SystemEntropy)).await
}

#[tokio::test]
async fn the_region_stays_what_the_first_start_made_it() {
    let folder = tempfile::tempdir().unwrap();
    let account = start(folder.path(), Some("eu-central-1")).await.unwrap().account_id().clone();
    let error = start(folder.path(), Some("eu-west-1")).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "region is to be eu-west-1, but the data directory was set up for eu-central-1"
    );
    for region in [None, Some("eu-central-1")] {
        assert_eq!(*start(folder.path(), region).await.unwrap().account_id(), account);
    }
}

#[tokio::test]
async fn a_runtime_without_its_image_is_told_by_the_doctor() {
    let folder = tempfile::tempdir().unwrap();
    let image = |name: &str| folder.path().join(name).display().to_string();
    let configuration = format!(
        "[runtimes.plain]\n[runtimes.here]\nimage = \"dir:{}\"\n[runtimes.lost]\nimage = \"oci:{}\"\n",
        folder.path().display(),
        image("lost.tar"),
    );
    let server = InProcess::start(&configuration).await;
    let call = Call::new("GET", "/clamshell/v1/doctor").signed(&server.root());
    let report = call.send(&server.client).await.json();
    let here = json!({
        "name": "here", "available": true, "detail": format!("folder {}", folder.path().display()), "hint": null,
    });
    let lost = json!({
        "name": "lost", "available": false, "detail": format!("image {} is missing", image("lost.tar")),
        "hint": "put the image there, or change the runtime's `image`",
    });
    assert_eq!(report["runtimes"], json!([here, lost]));
}
