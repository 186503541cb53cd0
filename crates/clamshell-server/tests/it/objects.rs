//! Objects at the same address as both planes: the AWS command line and boto3, unchanged, with keys of this server.

use std::{path::Path, process::Output};

use clamshell_testkit::{Client, real_clients};
use tokio::process::Command;

use crate::in_process::{InProcess, REGION};

/// The real clients with the root key, in a folder of their own.
pub(crate) struct Clients<'a> {
    server: &'a InProcess,
    folder: tempfile::TempDir,
}

impl<'a> Clients<'a> {
    /// `None`, with the reason printed, where the clients are not installed.
    pub(crate) fn new(server: &'a InProcess) -> Option<Self> {
        real_clients()?;
        Some(Self { server, folder: tempfile::tempdir().unwrap() })
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    async fn run(&self, client: &Client, program: &str, arguments: &[&str]) -> Output {
        let program = real_clients().unwrap().join("bin").join(program);
        Command::new(program)
            .args(arguments)
            .current_dir(self.path())
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.path())
            .env("AWS_ACCESS_KEY_ID", &client.credentials.access_key_id)
            .env("AWS_SECRET_ACCESS_KEY", &client.credentials.secret_access_key)
            .env("AWS_REGION", REGION)
            .env("AWS_DEFAULT_REGION", REGION)
            .env("AWS_ENDPOINT_URL_S3", &self.server.info.endpoint)
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_MAX_ATTEMPTS", "1")
            .kill_on_drop(true)
            .output()
            .await
            .unwrap()
    }

    pub(crate) async fn aws(&self, arguments: &[&str]) -> String {
        let output = self.run(&self.server.client, "aws", arguments).await;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {text}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// What it says of a refusal.
    async fn refused(&self, client: &Client, arguments: &[&str]) -> String {
        let output = self.run(client, "aws", arguments).await;
        assert!(!output.status.success(), "{arguments:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    std::iter::repeat_with(next).take(length).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_aws_command_line_copies_lists_synchronizes_and_removes() {
    let server = InProcess::start("standby = false\n").await;
    let Some(clients) = Clients::new(&server) else { return };
    // The bucket for code makes itself.
    let bucket = format!("s3://clamshell-code-{}-{REGION}", server.info.account_id);
    std::fs::write(clients.path().join("small"), "small").unwrap();
    // More than 8 MB goes up in parts.
    std::fs::write(clients.path().join("large"), noise(20_000_003)).unwrap();
    let (small, large) = (format!("{bucket}/a/small"), format!("{bucket}/a b/large"));
    clients.aws(&["s3", "cp", "small", &small]).await;
    clients.aws(&["s3", "cp", "large", &large]).await;
    clients.aws(&["s3", "cp", &large, "back"]).await;
    assert!(std::fs::read(clients.path().join("back")).unwrap() == noise(20_000_003));
    let listed = clients.aws(&["s3", "ls", "--recursive", &bucket]).await;
    assert!(listed.contains(" 20000003 a b/large\n") && listed.contains(" 5 a/small\n"), "{listed}");

    clients.aws(&["s3", "mb", "s3://another-bucket"]).await;
    clients.aws(&["s3", "sync", &bucket, "mirror"]).await;
    clients.aws(&["s3", "sync", "mirror", "s3://another-bucket/copy"]).await;
    let listed = clients.aws(&["s3", "ls", "--recursive", "s3://another-bucket"]).await;
    assert_eq!(listed.lines().count(), 2, "{listed}");
    clients.aws(&["s3", "rm", "--recursive", "s3://another-bucket"]).await;
    clients.aws(&["s3", "rb", "s3://another-bucket"]).await;
    assert_eq!(clients.aws(&["s3", "ls"]).await.lines().count(), 1);
    // The planes are where they were.
    assert_eq!(server.client.request("GET", "/clamshell/v1/sessions", &[], b"").await.unwrap().status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn boto3_puts_gets_and_presigns() {
    let server = InProcess::start("standby = false\n").await;
    let Some(clients) = Clients::new(&server) else { return };
    let script = r#"
import boto3, botocore.config, os, urllib.request
s3 = boto3.client("s3")
s3.create_bucket(Bucket="some-bucket", CreateBucketConfiguration={"LocationConstraint": os.environ["AWS_REGION"]})
s3.put_object(Bucket="some-bucket", Key="a/b c", Body=b"text", ContentType="text/x-own")
got = s3.get_object(Bucket="some-bucket", Key="a/b c")
assert (got["Body"].read(), got["ContentType"]) == (b"text", "text/x-own"), got
# In this region boto3 takes the old signature for URLs unless it is told.
signer = boto3.client("s3", config=botocore.config.Config(signature_version="s3v4"))
url = signer.generate_presigned_url("get_object", Params={"Bucket": "some-bucket", "Key": "a/b c"})
assert urllib.request.urlopen(url).read() == b"text"
try:
    s3.get_object(Bucket="some-bucket", Key="nothing")
except s3.exceptions.NoSuchKey:
    print("done")
"#;
    let output = clients.run(&server.client, "python", &["-c", script]).await;
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "done\n",
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_and_users_without_policies_get_nothing() {
    let server = InProcess::start("standby = false\n").await;
    let Some(clients) = Clients::new(&server) else { return };
    clients.aws(&["s3", "mb", "s3://some-bucket"]).await;
    std::fs::write(clients.path().join("file"), "text").unwrap();
    clients.aws(&["s3", "cp", "file", "s3://some-bucket/public/file"]).await;

    let mut stranger = server.client.clone();
    stranger.credentials.access_key_id = "AKIAIOSFODNN7EXAMPLE".to_owned();
    let said = clients.refused(&stranger, &["s3api", "list-buckets"]).await;
    assert!(said.contains("(InvalidAccessKeyId)"), "{said}");
    let mut forger = server.client.clone();
    forger.credentials.secret_access_key = "not-the-secret".to_owned();
    let said = clients.refused(&forger, &["s3api", "list-buckets"]).await;
    assert!(said.contains("(SignatureDoesNotMatch)"), "{said}");

    let make = |path: &'static str, body: serde_json::Value| {
        let client = server.client.clone();
        async move {
            let headers = [("content-type", "application/json")];
            let reply = client.request("POST", path, &headers, body.to_string().as_bytes()).await.unwrap();
            assert!(reply.status.is_success(), "{path}: {}", String::from_utf8_lossy(&reply.body));
            reply.json()
        }
    };
    make("/clamshell/v1/users", serde_json::json!({ "userName": "reader" })).await;
    let key =
        make("/clamshell/v1/keys", serde_json::json!({ "userName": "reader", "existingUser": true })).await;
    let mut reader = server.client.clone();
    reader.credentials.access_key_id = key["accessKeyId"].as_str().unwrap().to_owned();
    reader.credentials.secret_access_key = key["secretAccessKey"].as_str().unwrap().to_owned();
    let get = ["s3api", "get-object", "--bucket", "some-bucket", "--key", "public/file", "got"];
    let said = clients.refused(&reader, &get).await;
    assert!(said.contains("(AccessDenied)"), "{said}");

    let policy = serde_json::json!({
        "Version": "2012-10-17",
        "Statement": [{
            "Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::some-bucket/public/*",
        }],
    });
    let path = "/clamshell/v1/users/reader/policies/read";
    let (policy, headers) = (policy.to_string(), [("content-type", "application/json")]);
    let put = server.client.request("PUT", path, &headers, policy.as_bytes()).await.unwrap();
    assert!(put.status.is_success(), "{}", String::from_utf8_lossy(&put.body));
    let output = clients.run(&reader, "aws", &get).await;
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(std::fs::read_to_string(clients.path().join("got")).unwrap(), "text");
    let put = ["s3api", "put-object", "--bucket", "some-bucket", "--key", "public/file", "--body", "file"];
    let said = clients.refused(&reader, &put).await;
    assert!(said.contains("(AccessDenied)") && said.contains("s3:PutObject"), "{said}");
}
