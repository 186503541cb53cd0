//! The AWS command line and boto3, unchanged, against a small server with nothing but objects.

use std::{path::PathBuf, process::Output};

use clamshell_domain::{ObjectError, ObjectLocation, ObjectSource, SystemClock};
use clamshell_sandbox::fetch::{Client, Policy, TrustedRoots, Url};
use http::{HeaderMap, HeaderName, Method};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tempfile::TempDir;
use tokio::{process::Command, task::JoinSet};

use super::{sign::Signer, *};

const REGION: &str = "eu-central-1";
const ACCOUNT: &str = "123456789012";

/// Two callers: `KEYALL` may do everything, `KEYREAD` may read what lies below `public/`.
struct Rules;

impl ObjectAuthority for Rules {
    fn caller<'a>(
        &'a self,
        access_key_id: &'a str,
        _session_token: Option<&'a str>,
    ) -> BoxFuture<'a, Result<Option<ObjectCaller>, String>> {
        Box::pin(async move {
            let known = matches!(access_key_id, "KEYALL" | "KEYREAD");
            let caller = ObjectCaller { secret_access_key: "secret".into(), principal: access_key_id.into() };
            Ok(known.then_some(caller))
        })
    }

    fn allows<'a>(&'a self, principal: &'a str, action: &'a str, resource: &'a str) -> BoxFuture<'a, bool> {
        let may_read = action == "s3:GetObject" && resource.starts_with("arn:aws:s3:::first-bucket/public/");
        Box::pin(async move { principal == "KEYALL" || may_read })
    }
}

struct Server {
    folder: TempDir,
    endpoint: String,
    _tasks: JoinSet<()>,
}

impl Server {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let service = ObjectService::new(
            &folder.path().join("data"),
            ACCOUNT,
            REGION,
            Arc::new(Rules),
            Arc::new(SystemClock),
        );
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let service = service.clone();
                connections.spawn(async move {
                    let answer = hyper::service::service_fn(move |request| {
                        let service = service.clone();
                        async move { Ok::<_, Infallible>(service.handle(request).await) }
                    });
                    let builder = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                    let _ = builder.serve_connection(TokioIo::new(stream), answer).await;
                });
            }
        });
        std::fs::create_dir(folder.path().join("files")).unwrap();
        Self { folder, endpoint, _tasks: tasks }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("files").join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }

    fn client(&self, program: &str, key: &str) -> Option<Command> {
        let clients = clamshell_testkit::real_clients()?;
        let mut command = Command::new(clients.join("bin").join(program));
        command
            .current_dir(self.folder.path().join("files"))
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.folder.path())
            .env("AWS_ACCESS_KEY_ID", key)
            .env("AWS_SECRET_ACCESS_KEY", "secret")
            .env("AWS_REGION", REGION)
            .env("AWS_DEFAULT_REGION", REGION)
            .env("AWS_ENDPOINT_URL", &self.endpoint)
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("AWS_MAX_ATTEMPTS", "1")
            .kill_on_drop(true);
        Some(command)
    }

    async fn try_aws(&self, key: &str, arguments: &[&str]) -> Option<Output> {
        Some(self.client("aws", key)?.args(arguments).output().await.unwrap())
    }

    /// What it prints; `None` where the client is not installed.
    async fn aws(&self, arguments: &[&str]) -> Option<String> {
        let output = self.try_aws("KEYALL", arguments).await?;
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {text}");
        Some(String::from_utf8(output.stdout).unwrap())
    }
}

/// Bytes without a pattern that a mistake of offsets would keep.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn aws_cli_copies_lists_and_removes() {
    let server = Server::start().await;
    let Some(made) = server.aws(&["s3", "mb", "s3://first-bucket"]).await else { return };
    assert_eq!(made.trim(), "make_bucket: first-bucket");
    server.write("small", b"small file");
    // Three parts.
    let large = noise(20 << 20);
    server.write("large", &large);
    server.aws(&["s3", "cp", "small", "s3://first-bucket/public/a b+c%20\u{e9}.txt"]).await;
    server.aws(&["s3", "cp", "large", "s3://first-bucket/large"]).await;
    let listed = server.aws(&["s3", "ls", "s3://first-bucket", "--recursive"]).await.unwrap();
    let sizes: Vec<Vec<&str>> =
        listed.lines().map(|line| line.split_whitespace().skip(2).collect()).collect();
    assert_eq!(sizes, [vec!["20971520", "large"], vec!["10", "public/a", "b+c%20\u{e9}.txt"]]);
    let listed = server.aws(&["s3", "ls", "s3://first-bucket"]).await.unwrap();
    assert!(listed.contains("PRE public/") && !listed.contains("txt"), "{listed}");
    assert!(server.aws(&["s3", "ls"]).await.unwrap().trim().ends_with("first-bucket"));

    server.aws(&["s3", "cp", "s3://first-bucket/public/a b+c%20\u{e9}.txt", "back"]).await;
    server.aws(&["s3", "cp", "s3://first-bucket/large", "large-back"]).await;
    assert_eq!(std::fs::read(server.path("back")).unwrap(), b"small file");
    assert!(std::fs::read(server.path("large-back")).unwrap() == large);
    // Within the server: at once, and in parts.
    server.aws(&["s3", "cp", "s3://first-bucket/public/a b+c%20\u{e9}.txt", "s3://first-bucket/copy"]).await;
    server.aws(&["s3", "mv", "s3://first-bucket/large", "s3://first-bucket/moved"]).await;
    server.aws(&["s3", "cp", "s3://first-bucket/moved", "moved-back"]).await;
    assert!(std::fs::read(server.path("moved-back")).unwrap() == large);

    let presigned = server.aws(&["s3", "presign", "s3://first-bucket/copy"]).await.unwrap();
    let policy =
        Policy { allow_plain: true, follow_redirects: false, origin: None, roots: TrustedRoots::default() };
    let url = Url::parse(presigned.trim()).unwrap();
    let answer =
        Client::default().send(&Method::GET, &url, &HeaderMap::new(), Bytes::new(), &policy).await.unwrap();
    assert_eq!((answer.status.as_u16(), answer.bytes(100).await.unwrap()), (200, b"small file".to_vec()));

    let full = server.try_aws("KEYALL", &["s3", "rb", "s3://first-bucket"]).await.unwrap();
    assert!(String::from_utf8_lossy(&full.stderr).contains("BucketNotEmpty"), "{full:?}");
    server.aws(&["s3", "rm", "s3://first-bucket", "--recursive"]).await;
    assert_eq!(server.aws(&["s3", "ls", "s3://first-bucket"]).await.unwrap(), "");
    server.aws(&["s3", "rb", "s3://first-bucket"]).await;
    assert_eq!(server.aws(&["s3", "ls"]).await.unwrap(), "");
}

#[tokio::test(flavor = "multi_thread")]
async fn aws_cli_synchronizes_folders_into_the_bucket_that_makes_itself() {
    let server = Server::start().await;
    let to = format!("s3://{}/tree", default_bucket(ACCOUNT, REGION));
    for index in 0..30 {
        server.write(&format!("tree/{}/{index}", index % 3), index.to_string().as_bytes());
    }
    let Some(first) = server.aws(&["s3", "sync", "tree", &to]).await else { return };
    assert_eq!(first.matches("upload:").count(), 30, "{first}");
    assert_eq!(server.aws(&["s3", "sync", "tree", &to]).await.unwrap(), "");
    server.write("tree/0/0", b"changed");
    std::fs::remove_file(server.path("tree/1/1")).unwrap();
    let second = server.aws(&["s3", "sync", "--delete", "tree", &to]).await.unwrap();
    assert_eq!((second.matches("upload:").count(), second.matches("delete:").count()), (1, 1), "{second}");
    server.aws(&["s3", "sync", &to, "back"]).await;
    assert_eq!(std::fs::read(server.path("back/0/0")).unwrap(), b"changed");
    assert!(!server.path("back/1/1").exists() && server.path("back/2/29").exists());
    // Page by page.
    let bucket = default_bucket(ACCOUNT, REGION);
    let paged =
        ["s3api", "list-objects-v2", "--bucket", &bucket, "--page-size", "4", "--query", "length(Contents)"];
    assert_eq!(server.aws(&paged).await.unwrap().trim(), "29");
    let paged =
        ["s3api", "list-objects", "--bucket", &bucket, "--page-size", "4", "--query", "length(Contents)"];
    assert_eq!(server.aws(&paged).await.unwrap().trim(), "29");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_is_refused() {
    let server = Server::start().await;
    let Some(_) = server.aws(&["s3", "mb", "s3://first-bucket"]).await else { return };
    server.write("file", b"text");
    server.aws(&["s3", "cp", "file", "s3://first-bucket/public/file"]).await;
    server.aws(&["s3", "cp", "file", "s3://first-bucket/private/file"]).await;
    let get = |key: &'static str| ["s3api", "get-object", "--bucket", "first-bucket", "--key", key, "out"];
    let read = server.try_aws("KEYREAD", &get("public/file")).await.unwrap();
    assert!(read.status.success(), "{read:?}");
    let refused = async |key: &str, arguments: &[&str], code: &str| {
        let output = server.try_aws(key, arguments).await.unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && text.contains(code), "{arguments:?}: {text}");
    };
    refused("KEYREAD", &get("private/file"), "(AccessDenied)").await;
    refused("KEYREAD", &["s3api", "list-buckets"], "(AccessDenied)").await;
    refused("KEYREAD", &["s3api", "list-objects-v2", "--bucket", "first-bucket"], "(AccessDenied)").await;
    refused("NOBODY", &get("public/file"), "(InvalidAccessKeyId)").await;
    // A copy needs both rights.
    let copy = [
        "s3api",
        "copy-object",
        "--bucket",
        "first-bucket",
        "--key",
        "x",
        "--copy-source",
        "first-bucket/private/file",
    ];
    refused("KEYREAD", &copy, "(AccessDenied)").await;
    refused("KEYALL", &get("none"), "(NoSuchKey)").await;
    refused("KEYALL", &["s3api", "get-object", "--bucket", "no-such", "--key", "a", "out"], "(NoSuchBucket)")
        .await;
    refused("KEYALL", &["s3api", "get-bucket-acl", "--bucket", "first-bucket"], "(NotImplemented)").await;
    let versioned = [get("public/file").as_slice(), &["--version-id", "x"]].concat();
    refused("KEYALL", &versioned, "(NoSuchVersion)").await;
    let null = [get("public/file").as_slice(), &["--version-id", "null"]].concat();
    assert!(server.try_aws("KEYALL", &null).await.unwrap().status.success());
}

/// What only a program asks for.
const PYTHON: &str = r#"
import boto3, botocore
from botocore.config import Config
s3 = boto3.client("s3")
s3.create_bucket(Bucket="first-bucket", CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
assert s3.head_bucket(Bucket="first-bucket")["BucketRegion"] == "eu-central-1"
assert s3.get_bucket_location(Bucket="first-bucket")["LocationConstraint"] == "eu-central-1"
put = s3.put_object(Bucket="first-bucket", Key="k", Body=b"0123456789", ContentType="text/x", Metadata={"a": "b"},
                    ChecksumAlgorithm="SHA256")
assert put["ETag"] == '"781e5e245d69b566979b86e28d23f2c7"', put
got = s3.get_object(Bucket="first-bucket", Key="k", Range="bytes=2-4")
assert got["Body"].read() == b"234" and got["ContentRange"] == "bytes 2-4/10" and got["ContentType"] == "text/x"
assert got["Metadata"] == {"a": "b"}
def code(call, **arguments):
    try:
        call(**arguments)
    except botocore.exceptions.ClientError as error:
        return error.response["Error"]["Code"]
assert code(s3.get_object, Bucket="first-bucket", Key="k", IfMatch='"x"') == "PreconditionFailed"
assert code(s3.get_object, Bucket="first-bucket", Key="k", IfNoneMatch=put["ETag"]) == "304"
assert code(s3.get_object, Bucket="first-bucket", Key="k", Range="bytes=10-") == "InvalidRange"
assert code(s3.put_object, Bucket="first-bucket", Key="k", Body=b"", IfNoneMatch="*") == "PreconditionFailed"
assert code(s3.put_object, Bucket="first-bucket", Key="k", Body=b"x", ContentMD5="AAAAAAAAAAAAAAAAAAAAAA==") == "BadDigest"
assert code(s3.create_bucket, Bucket="first-bucket",
            CreateBucketConfiguration={"LocationConstraint": "eu-central-1"}) == "BucketAlreadyOwnedByYou"
up = s3.create_multipart_upload(Bucket="first-bucket", Key="m")["UploadId"]
part = lambda n, body: {"PartNumber": n, "ETag": s3.upload_part(
    Bucket="first-bucket", Key="m", UploadId=up, PartNumber=n, Body=body)["ETag"]}
parts = [part(1, b"a" * 10), part(2, b"b")]
assert [p["Size"] for p in s3.list_parts(Bucket="first-bucket", Key="m", UploadId=up)["Parts"]] == [10, 1]
assert len(s3.list_multipart_uploads(Bucket="first-bucket")["Uploads"]) == 1
complete = lambda parts: code(s3.complete_multipart_upload, Bucket="first-bucket", Key="m", UploadId=up,
                              MultipartUpload={"Parts": parts})
assert complete(parts) == "EntityTooSmall"
assert complete(parts[::-1]) == "InvalidPartOrder"
assert complete([{"PartNumber": 3, "ETag": "x"}]) == "InvalidPart"
assert code(s3.upload_part, Bucket="first-bucket", Key="other", UploadId=up, PartNumber=1, Body=b"") == "NoSuchUpload"
s3.abort_multipart_upload(Bucket="first-bucket", Key="m", UploadId=up)
assert complete(parts) == "NoSuchUpload"
deleted = s3.delete_objects(Bucket="first-bucket", Delete={"Objects": [{"Key": "k"}, {"Key": "never & <"}]})
assert sorted(d["Key"] for d in deleted["Deleted"]) == ["k", "never & <"]
unsigned = boto3.client("s3", config=Config(s3={"payload_signing_enabled": False}, signature_version="s3v4"))
unsigned.put_object(Bucket="first-bucket", Key="u", Body=b"unsigned")
url = s3.generate_presigned_url("put_object", Params={"Bucket": "first-bucket", "Key": "p"})
import urllib.request
urllib.request.urlopen(urllib.request.Request(url, data=b"by url", method="PUT", headers={"content-type": ""}))
assert s3.get_object(Bucket="first-bucket", Key="p")["Body"].read() == b"by url"
wrong = boto3.client("s3", aws_access_key_id="KEYALL", aws_secret_access_key="other")
assert code(wrong.list_buckets) == "SignatureDoesNotMatch"
other = boto3.client("s3", region_name="us-east-1")
assert code(other.list_buckets) == "AuthorizationHeaderMalformed"
print("done")
"#;

#[tokio::test(flavor = "multi_thread")]
async fn boto3_gets_the_errors_and_ranges_of_s3() {
    let server = Server::start().await;
    let Some(mut python) = server.client("python", "KEYALL") else { return };
    let output = python.args(["-c", PYTHON]).output().await.unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{text}");
    let reads = async |location: &ObjectLocation, objects: &Objects| {
        let mut content = objects.get(location).await?;
        let mut bytes = Vec::new();
        while let Some(piece) = content.body.next().await? {
            bytes.extend(piece);
        }
        assert_eq!(bytes.len() as u64, content.size);
        Ok::<_, ObjectError>(bytes)
    };
    // The same objects for a runtime: from the disk, and by the wire with our own signature.
    let secret = server.path("secret");
    std::fs::write(&secret, "secret\n").unwrap();
    let remote = |id: &str| {
        BucketSource::Endpoint(EndpointBucket {
            endpoint: server.endpoint.clone(),
            region: REGION.into(),
            bucket: "first-bucket".into(),
            access_key_id: Some(id.into()),
            secret_access_key_file: Some(secret.clone()),
            ca_file: None,
        })
    };
    let folder = BucketSource::Folder { path: server.folder.path().join("files") };
    let named = [
        ("remote".to_owned(), remote("KEYALL")),
        ("denied".to_owned(), remote("KEYREAD")),
        ("folder".to_owned(), folder),
    ];
    let objects = Objects::new(&server.folder.path().join("data"), named.into(), Arc::new(SystemClock));
    let at =
        |bucket: &str, key: &str| ObjectLocation { bucket: bucket.into(), key: key.into(), version_id: None };
    assert_eq!(reads(&at("first-bucket", "p"), &objects).await.unwrap(), b"by url");
    assert_eq!(reads(&at("remote", "p"), &objects).await.unwrap(), b"by url");
    assert_eq!(reads(&at("folder", "secret"), &objects).await.unwrap(), b"secret\n");
    let none = |bucket: &str, key: &str| ObjectError::NoSuchObject { bucket: bucket.into(), key: key.into() };
    for (bucket, key) in
        [("first-bucket", "q"), ("remote", "q"), ("folder", "q"), ("folder", "../data"), ("folder", ".")]
    {
        assert_eq!(reads(&at(bucket, key), &objects).await.unwrap_err(), none(bucket, key));
    }
    let denied = reads(&at("denied", "p"), &objects).await.unwrap_err();
    assert_eq!(denied, ObjectError::Denied { bucket: "denied".into() });
    let unknown = reads(&at("unknown", "p"), &objects).await.unwrap_err();
    assert_eq!(unknown, ObjectError::NoSuchBucket { bucket: "unknown".into() });
}

#[tokio::test]
async fn requests_that_nobody_signed_are_refused_with_xml() {
    let server = Server::start().await;
    let policy =
        Policy { allow_plain: true, follow_redirects: false, origin: None, roots: TrustedRoots::default() };
    let send = async |path: &str, headers: HeaderMap| {
        let url = Url::parse(&format!("{}{path}", server.endpoint)).unwrap();
        let answer =
            Client::default().send(&Method::GET, &url, &headers, Bytes::new(), &policy).await.unwrap();
        assert_eq!(answer.header("content-type"), Some("application/xml"));
        let text = String::from_utf8(answer.bytes(10_000).await.unwrap()).unwrap();
        let code = text.split("<Code>").nth(1).and_then(|rest| rest.split('<').next());
        code.unwrap_or(&text).to_owned()
    };
    assert_eq!(send("/", HeaderMap::new()).await, "AccessDenied");
    let signed = |path: &str| {
        use clamshell_domain::Clock;
        let signer = Signer {
            access_key_id: "KEYALL",
            secret_access_key: "secret",
            session_token: None,
            region: REGION,
        };
        let host = server.endpoint.trim_start_matches("http://");
        let mut headers = HeaderMap::new();
        for (name, value) in signer.get(host, path, SystemClock.now_ms()).unwrap() {
            headers.insert(HeaderName::from_static(name), value.parse().unwrap());
        }
        headers
    };
    for (path, code) in [
        ("/no-such-bucket", "NoSuchBucket"),
        ("/..", "InvalidBucketName"),
        ("/UPPER/x", "InvalidBucketName"),
        ("/first-bucket/%ff", "InvalidArgument"),
        ("/first-bucket?max-keys=x", "NoSuchBucket"),
        ("/first-bucket?policy", "NotImplemented"),
    ] {
        assert_eq!(send(path, signed(path)).await, code, "{path}");
    }
    assert_eq!(send("/other", signed("/")).await, "SignatureDoesNotMatch");
}
