//! `e2e_registry_*`: images made by umoci, pushed by skopeo into Docker's registry, pulled by us. Skipped with a printed
//! reason where one of these programs is missing.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt},
    path::{Path, PathBuf},
};

use clamshell_domain::Artifact;
use clamshell_sandbox::image::{
    ImageError, ImageSources, ImageStore,
    registry::{PullProgress, PullStage, Registries, RegistryConfig, RegistryError},
};
use clamshell_testkit::registry::{Demands, Registry, certificate, run};
use tokio::sync::watch;

/// Pushes an image of two layers whose upper one hides a file of the lower one.
fn push(registry: &Registry, repository: &str, content: &str) {
    let lower = |root: &Path| {
        let etc = root.join("etc");
        fs::create_dir_all(&etc)?;
        fs::write(etc.join("first"), content)?;
        fs::write(etc.join("name"), "x")?;
        fs::hard_link(etc.join("name"), etc.join("same"))
    };
    let upper = |root: &Path| {
        fs::remove_file(root.join("etc/first"))?;
        fs::write(root.join("etc/second"), "2")
    };
    let settings = ["--config.cmd", "/bin/app", "--config.env", "A=1", "--config.workingdir", "/srv"];
    registry.push(repository, &[&lower, &upper], &settings).unwrap();
}

/// A store of images below the registry's folder; it trusts the registry's certificate, if there is one.
fn store(registry: &Registry, name: &str, password: Option<&str>) -> ImageStore {
    let mut config = RegistryConfig::default();
    let certificate = registry.path("cert.pem");
    if certificate.exists() {
        config.ca_file = Some(certificate);
    }
    if let Some(password) = password {
        let file = registry.path("password");
        fs::write(&file, password).unwrap();
        config.username = Some("user".to_owned());
        config.password_file = Some(file);
    }
    with(registry, name, BTreeMap::from([(registry.host().to_owned(), config)]), None)
}

fn with(
    registry: &Registry,
    name: &str,
    hosts: BTreeMap<String, RegistryConfig>,
    docker_config: Option<PathBuf>,
) -> ImageStore {
    let registries = Registries { hosts, docker_config };
    let sources = ImageSources { registries, ..ImageSources::default() };
    ImageStore::new(&registry.path(name), Vec::new()).with_sources(sources)
}

fn names(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

#[tokio::test]
async fn e2e_registry_images_are_pulled_by_tag_and_by_digest() {
    let Some(registry) = Registry::start(Demands::default(), &[]).await.unwrap() else { return };
    push(&registry, "team/app:1", "1");
    let images = store(&registry, "store", None);
    let (sender, receiver) = watch::channel(PullProgress::default());
    let tagged = Artifact::Image { reference: format!("{}/team/app:1", registry.host()), digest: None };
    let pinned = images.pin(&tagged, Some(sender)).await.unwrap();
    let seen = receiver.borrow().clone();
    assert_eq!(seen.stage, PullStage::Done);
    assert!(!seen.layers.is_empty() && seen.layers.iter().all(|layer| layer.bytes == layer.total));
    let image = images.prepared(&pinned).unwrap();
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
    push(&registry, "team/app:1", "changed");
    let Artifact::Image { digest: Some(digest), .. } = &pinned else { panic!("{pinned:?} has no digest") };
    let by_digest = format!("{}/team/app@{digest}", registry.host());
    let pulled = store(&registry, "other", None).pull(&by_digest, None, None).await.unwrap();
    assert_eq!(pulled.digest, *digest);
    let moved = images.pin(&tagged, None).await.unwrap();
    assert_ne!(moved, pinned);
    let name = format!("docker://{}/team/app:1", registry.host());
    let inspected =
        run("skopeo", &["inspect", "--tls-verify=false", "--format", "{{.Digest}}", &name]).unwrap();
    let Artifact::Image { digest: Some(digest), .. } = moved else { panic!("no digest") };
    assert_eq!(String::from_utf8(inspected).unwrap().trim(), digest);
    let missing = images.pull(&format!("{}/team/none", registry.host()), None, None).await;
    assert!(matches!(missing, Err(ImageError::Registry(RegistryError::NotFound { .. }))), "{missing:?}");
}

#[tokio::test]
async fn e2e_registry_passwords_and_certificates_are_checked() {
    let demands = Demands { password: Some("pass word"), tls: true };
    let Some(registry) = Registry::start(demands, &[]).await.unwrap() else { return };
    push(&registry, "app", "1");
    let reference = format!("{}/app", registry.host());
    store(&registry, "right", Some("pass word")).pull(&reference, None, None).await.unwrap();
    for wrong in [None, Some("wrong")] {
        let denied = store(&registry, "wrong", wrong).pull(&reference, None, None).await;
        assert!(matches!(denied, Err(ImageError::Registry(RegistryError::Denied { .. }))), "{denied:?}");
    }
    // By Docker's own file, and without the certificate.
    let docker = registry.path("config.json");
    let auth = run("sh", &["-c", "printf 'user:pass word' | base64"]).unwrap();
    let auth = String::from_utf8(auth).unwrap();
    fs::write(&docker, format!(r#"{{"auths":{{"{}":{{"auth":"{}"}}}}}}"#, registry.host(), auth.trim()))
        .unwrap();
    let trusting = |certificate: PathBuf| {
        let config = RegistryConfig { ca_file: Some(certificate), ..RegistryConfig::default() };
        BTreeMap::from([(registry.host().to_owned(), config)])
    };
    let own = trusting(registry.path("cert.pem"));
    with(&registry, "docker", own, Some(docker.clone())).pull(&reference, None, None).await.unwrap();
    let other = registry.path("other.pem");
    certificate(&registry.path("other.key"), &other).unwrap();
    let untrusted = with(&registry, "untrusted", trusting(other), Some(docker));
    let untrusted = untrusted.pull(&reference, None, None).await;
    assert!(matches!(untrusted, Err(ImageError::Registry(RegistryError::Fetch { .. }))), "{untrusted:?}");
}
