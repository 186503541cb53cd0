//! `e2e_registry_*`: images made by umoci, pushed by skopeo into Docker's registry, pulled by us. Skipped with a printed
//! reason where one of these programs is missing.

use std::{
    collections::BTreeMap,
    fs,
    net::{TcpListener, TcpStream},
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use clamshell_domain::Artifact;
use clamshell_sandbox::image::{
    ImageError, ImageSources, ImageStore,
    registry::{PullProgress, PullStage, Registries, RegistryConfig, RegistryError},
};
use tempfile::TempDir;
use tokio::sync::watch;

const NEEDED: [&str; 4] = ["docker-registry", "skopeo", "umoci", "htpasswd"];

/// A registry of Debian's package on a free port.
struct Registry {
    folder: TempDir,
    process: Child,
    host: String,
    password: Option<&'static str>,
    tls: bool,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn run(program: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(program).args(arguments).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

impl Registry {
    fn start(password: Option<&'static str>, tls: bool) -> Option<Self> {
        let needed = NEEDED.into_iter().chain(tls.then_some("openssl"));
        if let Some(missing) = needed.into_iter().find(|program| !has(program)) {
            println!("skipped: {missing} is not installed");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut config = format!(
            "version: 0.1\nlog: {{ level: error }}\nstorage: {{ filesystem: {{ rootdirectory: {} }} }}\n\
             http:\n  addr: 127.0.0.1:{port}\n",
            at("storage")
        );
        if tls {
            let subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"];
            let (key, cert) = (at("key.pem"), at("cert.pem"));
            let mut arguments = vec!["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"];
            arguments.extend(["-keyout", &key, "-out", &cert]);
            arguments.extend(subject);
            arguments.extend(["-addext", "basicConstraints=critical,CA:FALSE"]);
            run("openssl", &arguments);
            config.push_str(&format!("  tls: {{ certificate: {cert}, key: {key} }}\n"));
        }
        if let Some(password) = password {
            fs::write(at("htpasswd"), run("htpasswd", &["-Bbn", "user", password])).unwrap();
            config.push_str(&format!("auth: {{ htpasswd: {{ realm: test, path: {} }} }}\n", at("htpasswd")));
        }
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
        Some(Self { folder, process, host: format!("127.0.0.1:{port}"), password, tls })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// An image of two layers whose upper one hides a file of the lower one.
    fn push(&self, repository: &str, content: &str) {
        let layout = self.path("layout");
        let _ = fs::remove_dir_all(&layout);
        let bundle = self.path("bundle");
        let _ = fs::remove_dir_all(&bundle);
        let etc = bundle.join("rootfs/etc");
        let (layout, bundle) = (layout.to_str().unwrap(), bundle.to_str().unwrap());
        let image = format!("{layout}:made");
        run("umoci", &["init", "--layout", layout]);
        run("umoci", &["new", "--image", &image]);
        run("umoci", &["unpack", "--rootless", "--image", &image, bundle]);
        fs::create_dir_all(&etc).unwrap();
        fs::write(etc.join("first"), content).unwrap();
        fs::write(etc.join("name"), "x").unwrap();
        fs::hard_link(etc.join("name"), etc.join("same")).unwrap();
        run("umoci", &["repack", "--refresh-bundle", "--image", &image, bundle]);
        fs::remove_file(etc.join("first")).unwrap();
        fs::write(etc.join("second"), "2").unwrap();
        run("umoci", &["repack", "--image", &image, bundle]);
        let settings = ["--config.cmd", "/bin/app", "--config.env", "A=1", "--config.workingdir", "/srv"];
        run("umoci", &[&["config", "--image", &image], settings.as_slice()].concat());
        let from = format!("oci:{layout}:made");
        let to = format!("docker://{}/{repository}", self.host);
        let mut arguments = vec!["copy", "--dest-tls-verify=false"];
        let credentials = self.password.map(|password| format!("user:{password}"));
        if let Some(credentials) = &credentials {
            arguments.extend(["--dest-creds", credentials]);
        }
        arguments.extend([from.as_str(), to.as_str()]);
        run("skopeo", &arguments);
    }

    fn store(&self, name: &str, password: Option<&str>) -> ImageStore {
        let mut config = RegistryConfig::default();
        if self.tls {
            config.ca_file = Some(self.path("cert.pem"));
        }
        if let Some(password) = password {
            let file = self.path("password");
            fs::write(&file, password).unwrap();
            config.username = Some("user".to_owned());
            config.password_file = Some(file);
        }
        let registries =
            Registries { hosts: BTreeMap::from([(self.host.clone(), config)]), docker_config: None };
        let sources = ImageSources { registries, ..ImageSources::default() };
        ImageStore::new(&self.path(name), Vec::new()).with_sources(sources)
    }
}

fn names(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

#[tokio::test]
async fn e2e_registry_images_are_pulled_by_tag_and_by_digest() {
    let Some(registry) = Registry::start(None, false) else { return };
    registry.push("team/app:1", "1");
    let store = registry.store("store", None);
    let (sender, receiver) = watch::channel(PullProgress::default());
    let tagged = Artifact::Image { reference: format!("{}/team/app:1", registry.host), digest: None };
    let pinned = store.pin(&tagged, Some(sender)).await.unwrap();
    let seen = receiver.borrow().clone();
    assert_eq!(seen.stage, PullStage::Done);
    assert!(!seen.layers.is_empty() && seen.layers.iter().all(|layer| layer.bytes == layer.total));
    let image = store.prepared(&pinned).unwrap();
    let config = image.config.clone().unwrap();
    assert_eq!(config.argv(), ["/bin/app"]);
    assert!(config.env.contains(&("A".to_owned(), "1".to_owned())));
    assert_eq!(config.working_dir.as_deref(), Some("/srv"));
    let etc: Vec<_> = image.layers.iter().map(|layer| names(&Path::new(&layer.path).join("etc"))).collect();
    // The whiteout hides the first file.
    assert_eq!(etc, [vec!["first", "second"], vec!["first", "name", "same"]]);
    let [top, base] = [0, 1].map(|index| Path::new(&image.layers[index].path).join("etc"));
    assert!(fs::metadata(top.join("first")).unwrap().file_type().is_char_device());
    assert_eq!(fs::read(base.join("first")).unwrap(), b"1");
    assert_eq!(fs::metadata(base.join("name")).unwrap().nlink(), 2);

    // The tag moves; the digest that skopeo sees is the one that was pinned.
    registry.push("team/app:1", "changed");
    let Artifact::Image { digest: Some(digest), .. } = &pinned else { panic!("{pinned:?} has no digest") };
    let by_digest = format!("{}/team/app@{digest}", registry.host);
    let pulled = registry.store("other", None).pull(&by_digest, None, None).await.unwrap();
    assert_eq!(pulled.digest, *digest);
    let moved = store.pin(&tagged, None).await.unwrap();
    assert_ne!(moved, pinned);
    let inspected = run(
        "skopeo",
        &[
            "inspect",
            "--tls-verify=false",
            "--format",
            "{{.Digest}}",
            &format!("docker://{}/team/app:1", registry.host),
        ],
    );
    let Artifact::Image { digest: Some(digest), .. } = moved else { panic!("no digest") };
    assert_eq!(String::from_utf8(inspected).unwrap().trim(), digest);
    let missing = store.pull(&format!("{}/team/none", registry.host), None, None).await;
    assert!(matches!(missing, Err(ImageError::Registry(RegistryError::NotFound { .. }))), "{missing:?}");
}

#[tokio::test]
async fn e2e_registry_passwords_and_certificates_are_checked() {
    let Some(registry) = Registry::start(Some("pass word"), true) else { return };
    registry.push("app", "1");
    let reference = format!("{}/app", registry.host);
    registry.store("right", Some("pass word")).pull(&reference, None, None).await.unwrap();
    for wrong in [None, Some("wrong")] {
        let denied = registry.store("wrong", wrong).pull(&reference, None, None).await;
        assert!(matches!(denied, Err(ImageError::Registry(RegistryError::Denied { .. }))), "{denied:?}");
    }
    // By Docker's own file, and without the certificate.
    let docker = registry.path("config.json");
    let auth = String::from_utf8(run("sh", &["-c", "printf 'user:pass word' | base64"])).unwrap();
    fs::write(&docker, format!(r#"{{"auths":{{"{}":{{"auth":"{}"}}}}}}"#, registry.host, auth.trim()))
        .unwrap();
    let trusting = RegistryConfig { ca_file: Some(registry.path("cert.pem")), ..RegistryConfig::default() };
    let mut registries = Registries {
        hosts: BTreeMap::from([(registry.host.clone(), trusting)]),
        docker_config: Some(docker),
    };
    let with = |registries: &Registries, name: &str| {
        let sources = ImageSources { registries: registries.clone(), ..ImageSources::default() };
        ImageStore::new(&registry.path(name), Vec::new()).with_sources(sources)
    };
    with(&registries, "docker").pull(&reference, None, None).await.unwrap();
    let other = registry.path("other.pem");
    run(
        "openssl",
        &[
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-keyout",
            registry.path("other.key").to_str().unwrap(),
            "-out",
            other.to_str().unwrap(),
        ],
    );
    registries.hosts.get_mut(&registry.host).unwrap().ca_file = Some(other);
    let untrusted = with(&registries, "untrusted").pull(&reference, None, None).await;
    assert!(matches!(untrusted, Err(ImageError::Registry(RegistryError::Fetch { .. }))), "{untrusted:?}");
}
