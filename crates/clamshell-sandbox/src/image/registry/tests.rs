//! Pulls from a registry made by hand: a good one, and those that lie.

use std::{
    collections::BTreeMap,
    io::Write,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use clamshell_domain::Artifact;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, Method};
use serde_json::json;
use tempfile::TempDir;

use super::{
    fake::{Asked, Contents, Fake, Reply, digest_of, layer, ok, status},
    *,
};
use crate::{
    fetch::{Client, FetchError, Policy, TrustedRoots, Url},
    image::{CollectError, ImageSources, oci::UnpackLimits},
};

struct Place {
    folder: TempDir,
    store: ImageStore,
}

impl Place {
    fn new() -> Self {
        Self::with(Registries::default())
    }

    fn with(registries: Registries) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let pull = PullOptions {
            packed_bytes_max: 1 << 20,
            deadline: Duration::from_secs(20),
            retry: Retry { attempts_max: 3, first_wait: Duration::from_millis(1) },
            unpack: UnpackOptions {
                limits: UnpackLimits { entries_max: 1000, unpacked_bytes_max: 4 << 20 },
                is_durable: false,
            },
        };
        let sources = ImageSources { registries, pull, ..ImageSources::default() };
        let store = ImageStore::new(folder.path(), Vec::new()).with_sources(sources);
        Self { folder, store }
    }

    fn layers(&self) -> usize {
        std::fs::read_dir(self.folder.path().join("images/layers")).map_or(0, Iterator::count)
    }

    async fn pull(&self, fake: &Fake, rest: &str) -> Result<Pulled, ImageError> {
        self.store.pull(&format!("{}/{rest}", fake.address), None, None).await
    }
}

fn image(fake: &Fake, rest: &str, digest: Option<&str>) -> Artifact {
    Artifact::Image { reference: format!("{}/{rest}", fake.address), digest: digest.map(str::to_owned) }
}

/// Texts of an error and of what is behind it.
fn text(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(source) => format!("{error}: {}", text(source)),
        None => error.to_string(),
    }
}

#[tokio::test]
async fn a_pulled_image_is_ready_and_its_layers_are_shared() {
    let mut contents = Contents::default();
    let (base, top) = (layer("base", b"1"), layer("top", b"2"));
    let only_base = contents.image(std::slice::from_ref(&base));
    let digest = contents.tag("base", &only_base);
    let both = contents.image(&[base, top]);
    let mut descriptor = contents.add(both.to_string().as_bytes());
    descriptor["platform"] = json!({ "os": "linux", "architecture": manifest::host_architecture() });
    let mut other = contents.add(b"for another machine");
    other["platform"] = json!({ "os": "linux", "architecture": "other" });
    let index = contents.tag("both", &json!({ "manifests": [other, descriptor] }));
    let fake = Fake::serve(move |asked| contents.reply(asked));
    let place = Place::new();

    let (sender, receiver) = watch::channel(PullProgress::default());
    let reference = format!("{}/a/b:base", fake.address);
    let pulled = place.store.pull(&reference, None, Some(sender)).await.unwrap();
    assert_eq!((pulled.digest.as_str(), pulled.reference), (digest.as_str(), reference));
    let seen = receiver.borrow().clone();
    assert_eq!((seen.stage, seen.layers.len()), (PullStage::Done, 1));
    assert_eq!(seen.layers[0].bytes, seen.layers[0].total);
    let root = PathBuf::from(&pulled.image.layers[0].path);
    assert_eq!(std::fs::read(root.join("base")).unwrap(), b"1");
    assert_eq!(pulled.image.config.unwrap().cmd, ["sh"]);

    let pinned = place.store.pin(&image(&fake, "a/b:both", None), None).await.unwrap();
    assert_eq!(pinned, image(&fake, "a/b:both", Some(&index)));
    assert_eq!(place.store.prepared(&pinned).unwrap().layers.len(), 2);
    // Two manifests, an index, two configurations, and each layer once.
    assert_eq!(fake.asked("/manifests/").len(), 3);
    assert_eq!(fake.asked("/blobs/").len(), 4);
    let blobs = std::fs::read_dir(place.folder.path().join("images/blobs/sha256")).unwrap();
    assert_eq!(blobs.count(), 5, "layers as they came are gone, descriptions stay");

    // Another server on the same folder needs nobody.
    let again = ImageStore::new(place.folder.path(), Vec::new());
    assert_eq!(again.prepare(&pinned).unwrap().layers.len(), 2);
    assert_eq!(again.ready(&image(&fake, "a/b:both", None)).await.unwrap().layers.len(), 2);
}

#[tokio::test]
async fn a_tag_that_moves_is_seen_when_it_is_pinned_only() {
    let mut contents = Contents::default();
    let (old, new) = (contents.image(&[layer("a", b"old")]), contents.image(&[layer("a", b"new")]));
    let old = contents.tag("x", &old);
    let contents = Arc::new(Mutex::new(contents));
    let served = Arc::clone(&contents);
    let fake = Fake::serve(move |asked| served.lock().unwrap().reply(asked));
    let place = Place::new();
    let loose = image(&fake, "r:x", None);
    assert!(matches!(place.store.prepare(&loose), Err(ImageError::NotPulled { .. })));
    let before = place.store.ready(&loose).await.unwrap();
    let new = contents.lock().unwrap().tag("x", &new);
    assert_eq!(place.store.ready(&loose).await.unwrap(), before);
    assert_eq!(place.store.ready(&image(&fake, "r:x", Some(&old))).await.unwrap(), before);
    assert_eq!(place.store.pin(&loose, None).await.unwrap(), image(&fake, "r:x", Some(&new)));
    assert_ne!(place.store.ready(&loose).await.unwrap(), before);
}

#[tokio::test]
async fn a_download_that_breaks_off_goes_on_where_it_was() {
    let mut contents = Contents::default();
    let manifest = contents.image(&[layer("a", &[7; 100_000])]);
    contents.tag("x", &manifest);
    let big = manifest["layers"][0]["digest"].as_str().unwrap().to_owned();
    let tries = Mutex::new(0);
    let fake = Fake::serve(move |asked| {
        let mut reply = contents.reply(asked);
        if asked.target.ends_with(&big) {
            let mut tries = tries.lock().unwrap();
            *tries += 1;
            match *tries {
                1 => return status(503),
                2 => reply.cut = Some(40_000),
                3 => reply.cut = Some(30_000),
                _ => {}
            }
        }
        reply
    });
    let place = Place::new();
    place.pull(&fake, "r:x").await.unwrap();
    let layer = fake.asked("/blobs/").into_iter().skip(1);
    let ranges: Vec<_> = layer.map(|asked| asked.headers.get("range").cloned()).collect();
    assert_eq!(ranges, [None, None, Some("bytes=40000-".to_owned()), Some("bytes=70000-".to_owned())]);
}

#[tokio::test]
async fn a_registry_that_is_down_is_given_up_on() {
    let fake = Fake::serve(|_| status(503));
    let place = Place::new();
    let error = place.pull(&fake, "r:x").await.unwrap_err();
    assert!(text(&error).contains("answered 503"), "{}", text(&error));
    assert_eq!(fake.asked("").len(), 3);
    let fake = Fake::serve(|_| status(404));
    let error = place.pull(&fake, "r:x").await.unwrap_err();
    assert!(text(&error).contains("has no manifest x of r"), "{}", text(&error));
    assert_eq!(fake.asked("").len(), 1);
}

#[tokio::test]
async fn forged_parts_are_found() {
    let mut contents = Contents::default();
    let manifest = contents.image(&[layer("a", b"good")]);
    let top = contents.tag("x", &manifest);
    let (config, big) = (manifest["config"]["digest"].clone(), manifest["layers"][0]["digest"].clone());
    for forged in [top.as_str(), config.as_str().unwrap(), big.as_str().unwrap()] {
        let mut lying = contents.clone();
        // Of the same length, so that only the digest tells.
        let last = lying.blobs.get_mut(forged).unwrap().last_mut().unwrap();
        *last ^= 1;
        let fake = Fake::serve(move |asked| lying.reply(asked));
        let place = Place::new();
        let error = place.pull(&fake, &format!("r@{top}")).await.unwrap_err();
        assert!(matches!(error, ImageError::Digest { .. }), "{forged}: {}", text(&error));
        assert_eq!(place.layers(), 0);
    }
    // A tag whose manifest is not what the registry says it is.
    let fake = Fake::serve(move |asked| {
        let mut reply = contents.reply(asked);
        reply.headers.push(("docker-content-digest", digest_of(b"other")));
        reply
    });
    let error = Place::new().pull(&fake, "r:x").await.unwrap_err();
    assert!(matches!(error, ImageError::Digest { .. }), "{}", text(&error));
}

#[tokio::test]
async fn lengths_that_lie_are_found() {
    let mut contents = Contents::default();
    let manifest = contents.image(&[layer("a", &[7; 50_000])]);
    contents.tag("x", &manifest);
    let big = manifest["layers"][0]["digest"].as_str().unwrap().to_owned();
    let twists: [fn(&mut Reply); 3] =
        [|reply| reply.body.push(0), |reply| reply.endless = true, |reply| reply.body.truncate(49_000)];
    for twist in twists {
        let (contents, big) = (contents.clone(), big.clone());
        let fake = Fake::serve(move |asked| {
            let mut reply = contents.reply(asked);
            if asked.target.ends_with(&big) {
                twist(&mut reply);
            }
            reply
        });
        let place = Place::new();
        let error = place.pull(&fake, "r:x").await.unwrap_err();
        assert!(matches!(error, ImageError::Registry(RegistryError::Size { .. })), "{}", text(&error));
        assert_eq!(place.layers(), 0);
    }
}

#[tokio::test]
async fn descriptions_that_never_end_are_refused() {
    let check = async |handler: fn(&Asked) -> Reply, expect: &str| {
        let fake = Fake::serve(handler);
        let error = Place::new().pull(&fake, "r:x").await.unwrap_err();
        assert!(text(&error).contains(expect), "{}", text(&error));
    };
    check(|_| Reply { endless: true, ..ok(b"{".as_slice()) }, "longer than 4194304 bytes").await;
    check(|_| ok(b"not json".as_slice()), "malformed manifest").await;
    check(|_| ok(br#"{"fsLayers":[],"schemaVersion":1}"#.as_slice()), "schema 1").await;
    check(
        |_| {
            let layer = json!({ "digest": digest_of(b""), "size": 1 });
            ok(json!({ "config": layer, "layers": vec![layer.clone(); 128] }).to_string())
        },
        "number of layers",
    )
    .await;
    check(
        |_| {
            let platform = json!({ "os": "plan9", "architecture": "mips" });
            ok(json!({ "manifests": [{ "digest": digest_of(b""), "platform": platform }] }).to_string())
        },
        "there are: plan9/mips",
    )
    .await;

    // Index in index in index.
    let mut contents = Contents::default();
    let mut inner = contents.image(&[layer("a", b"x")]);
    for _ in 0..5 {
        inner = json!({ "manifests": [contents.add(inner.to_string().as_bytes())] });
    }
    contents.tag("deep", &inner);
    // More bytes than a pull may have, said and not sent.
    let mut huge = contents.image(&[layer("a", b"y")]);
    huge["layers"][0]["size"] = json!(u64::MAX);
    contents.tag("huge", &huge);
    // Small on its way, large on disk.
    let mut builder = GzEncoder::new(Vec::new(), Compression::best());
    let bomb = layer("zeros", &vec![0; 8 << 20]);
    builder.write_all(&bomb).unwrap();
    let mut zeros = contents.image(&[layer("a", b"z")]);
    zeros["layers"][0] = contents.add(&builder.finish().unwrap());
    contents.tag("zeros", &zeros);
    let fake = Fake::serve(move |asked| contents.reply(asked));
    let place = Place::new();
    for (tag, expect) in
        [("deep", "depth of indexes"), ("huge", "size of the image"), ("zeros", "unpacked size")]
    {
        let error = place.pull(&fake, &format!("r:{tag}")).await.unwrap_err();
        assert!(text(&error).contains(expect), "{tag}: {}", text(&error));
    }
    assert_eq!(place.layers(), 0);
}

fn login(place: &TempDir, fake_host: &str) -> Registries {
    let secret = place.path().join("secret");
    std::fs::write(&secret, "pass\n").unwrap();
    let config = RegistryConfig {
        username: Some("me".to_owned()),
        password_file: Some(secret),
        ..RegistryConfig::default()
    };
    Registries { hosts: BTreeMap::from([(fake_host.to_owned(), config)]), docker_config: None }
}

/// `me:pass`
const BASIC: &str = "Basic bWU6cGFzcw==";

#[tokio::test]
async fn credentials_do_not_follow_a_redirect_to_another_host() {
    let mut contents = Contents::default();
    let manifest = contents.image(&[layer("a", b"x")]);
    contents.tag("x", &manifest);
    let storage = contents.clone();
    let storage = Fake::serve(move |asked| storage.reply(asked));
    let elsewhere = storage.address.clone();
    let fake = Fake::serve(move |asked| {
        if asked.headers.get("authorization").map(String::as_str) != Some(BASIC) {
            return Reply { headers: vec![("www-authenticate", "Basic realm=\"r\"".into())], ..status(401) };
        }
        if asked.target.contains("/blobs/") {
            let location = format!("http://{elsewhere}{}?signature=1", asked.target);
            let location = location.replace("?signature=1", "");
            return Reply { headers: vec![("location", location)], ..status(307) };
        }
        contents.reply(asked)
    });
    let folder = tempfile::tempdir().unwrap();
    let place = Place::with(login(&folder, &fake.address));
    place.pull(&fake, "r:x").await.unwrap();
    let asked = storage.asked("/blobs/");
    assert_eq!(asked.len(), 2);
    assert!(asked.iter().all(|asked| !asked.headers.contains_key("authorization")), "{asked:?}");
    // The first request goes without, and the answer to its challenge is kept.
    assert!(!fake.asked("")[0].headers.contains_key("authorization"));
    assert_eq!(fake.asked("").iter().filter(|asked| !asked.headers.contains_key("authorization")).count(), 1);
}

#[tokio::test]
async fn a_storage_cannot_ask_for_the_password_of_its_registry() {
    let storage = Fake::serve(|_| Reply {
        headers: vec![("www-authenticate", "Basic realm=\"r\"".into())],
        ..status(401)
    });
    let elsewhere = storage.address.clone();
    let fake = Fake::serve(move |asked| Reply {
        headers: vec![("location", format!("http://{elsewhere}{}", asked.target))],
        ..status(302)
    });
    let folder = tempfile::tempdir().unwrap();
    let place = Place::with(login(&folder, &fake.address));
    let error = place.pull(&fake, "r:x").await.unwrap_err();
    assert!(matches!(error, ImageError::Registry(RegistryError::Denied { .. })), "{}", text(&error));
    assert!(storage.asked("").iter().all(|asked| !asked.headers.contains_key("authorization")));
}

#[tokio::test]
async fn a_token_is_fetched_used_and_renewed() {
    let mut contents = Contents::default();
    let manifest = contents.image(&[layer("a", b"x")]);
    contents.tag("x", &manifest);
    let served = Arc::new(Mutex::new(0));
    let count = Arc::clone(&served);
    let tokens = Fake::serve(move |asked| {
        if asked.headers.get("authorization").map(String::as_str) != Some(BASIC) {
            return status(401);
        }
        let mut count = count.lock().unwrap();
        *count += 1;
        ok(json!({ "token": format!("t{count}"), "expires_in": 1 }).to_string())
    });
    let realm = format!("http://{}/token", tokens.address);
    let fake = Fake::serve(move |asked| {
        // The first token is good for manifests only, as if it ran out.
        let want = if asked.target.contains("/manifests/") { "Bearer t1" } else { "Bearer t2" };
        if asked.headers.get("authorization").map(String::as_str) == Some(want) {
            return contents.reply(asked);
        }
        let challenge = format!("Bearer realm=\"{realm}\",service=\"s\",scope=\"repository:r:pull,push\"");
        Reply { headers: vec![("www-authenticate", challenge)], ..status(401) }
    });
    let folder = tempfile::tempdir().unwrap();
    let place = Place::with(login(&folder, &fake.address));
    place.pull(&fake, "r:x").await.unwrap();
    assert_eq!(*served.lock().unwrap(), 2);
    let asked = &tokens.asked("")[0];
    assert_eq!(asked.target, "/token?service=s&scope=repository:r:pull");
    // Nobody's password is given to the registry itself.
    let basic =
        |asked: &Asked| asked.headers.get("authorization").is_some_and(|value| value.starts_with("Basic"));
    assert!(!fake.asked("").iter().any(basic));

    let stranger = Place::new();
    let error = stranger.pull(&fake, "r:x").await.unwrap_err();
    assert!(text(&error).contains("needs a login: set username and password_file"), "{}", text(&error));
}

#[tokio::test]
async fn nobody_sends_us_to_our_own_services() {
    let inside = Fake::serve(|_| ok(b"secret".as_slice()));
    let policy = |origin: &str, allow_plain| Policy {
        allow_plain,
        follow_redirects: true,
        origin: Some(Url::parse(origin).unwrap()),
        roots: TrustedRoots::default(),
    };
    let url = Url::parse(&format!("http://{}/", inside.address)).unwrap();
    let send = async |policy: Policy| {
        let sent =
            Client::default().send(&Method::GET, &url, &HeaderMap::new(), Vec::new().into(), &policy).await;
        sent.map(|answer| answer.status)
    };
    let error = send(policy("http://registry.example", true)).await.unwrap_err();
    assert!(matches!(error, FetchError::ForbiddenAddress { .. }), "{error}");
    let error = send(policy("https://registry.example", false)).await.unwrap_err();
    assert!(matches!(error, FetchError::PlainHttp { .. }), "{error}");
    assert_eq!(inside.asked("").len(), 0);
    send(policy("http://localhost:1", true)).await.unwrap();
}

#[tokio::test]
async fn redirects_in_circles_end() {
    let fake =
        Fake::serve(|asked| Reply { headers: vec![("location", asked.target.clone())], ..status(302) });
    let error = Place::new().pull(&fake, "r:x").await.unwrap_err();
    assert!(text(&error).contains("too many redirects"), "{}", text(&error));
}

/// An hour and more after now.
fn much_later() -> u64 {
    use clamshell_domain::Clock;
    clamshell_domain::SystemClock.now_ms() + 2 * 3_600_000
}

#[tokio::test]
async fn what_nobody_needs_is_collected() {
    let mut contents = Contents::default();
    let base = layer("base", b"0");
    for tag in ["a", "b", "c"] {
        let manifest = contents.image(&[base.clone(), layer("own", tag.as_bytes())]);
        contents.tag(tag, &manifest);
    }
    let fake = Fake::serve(move |asked| contents.reply(asked));
    let place = Place::new();
    let pin =
        async |tag: &str| place.store.pin(&image(&fake, &format!("r:{tag}"), None), None).await.unwrap();
    let (a, b, c) = (pin("a").await, pin("b").await, pin("c").await);
    assert_eq!(place.layers(), 4);

    let collect = |live: &[Artifact], sessions: &[Artifact], now| {
        place.store.collect(live, sessions, || true, now).unwrap()
    };
    let recent = collect(&[], &[], much_later() - 2 * 3_600_000);
    assert_eq!((recent.layers, recent.blobs), (0, 0), "what is young stays");
    let some = collect(std::slice::from_ref(&a), std::slice::from_ref(&b), much_later());
    assert_eq!((some.layers, some.blobs), (1, 2));
    assert_eq!(place.store.ready(&a).await.unwrap().layers.len(), 2);
    assert!(
        place.store.prepared(&c).is_none()
            && matches!(place.store.prepare(&c), Err(ImageError::NotPulled { .. }))
    );
    // By its tag a session keeps what the tag meant.
    let loose = image(&fake, "r:b", None);
    assert_eq!(collect(std::slice::from_ref(&a), &[loose], much_later()).layers, 0);
    assert_eq!(collect(std::slice::from_ref(&a), &[], much_later()).layers, 1);
    assert_eq!(place.store.ready(&c).await.unwrap().layers.len(), 2, "it comes back when it is asked for");
    assert_eq!(collect(&[], &[], much_later()).layers, 3);
    assert_eq!(place.layers(), 0);
    let left = std::fs::read_dir(place.folder.path().join("images/tmp")).unwrap().count();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn nothing_is_collected_while_an_image_is_pulled() {
    let mut contents = Contents::default();
    let manifest = contents.image(&[layer("a", b"x")]);
    contents.tag("x", &manifest);
    let (asked_tx, asked_rx) = std::sync::mpsc::sync_channel(1);
    let (go_tx, go_rx) = std::sync::mpsc::sync_channel(1);
    let go_rx = Mutex::new(go_rx);
    let fake = Fake::serve(move |asked| {
        if asked.target.contains("/manifests/") {
            asked_tx.send(()).unwrap();
            go_rx.lock().unwrap().recv().unwrap();
        }
        contents.reply(asked)
    });
    let place = Place::new();
    std::fs::create_dir_all(place.folder.path().join("images/layers")).unwrap();
    let pulling = place.pull(&fake, "r:x");
    let meanwhile = async {
        tokio::task::spawn_blocking(move || asked_rx.recv().unwrap()).await.unwrap();
        let busy = place.store.collect(&[], &[], || true, much_later());
        assert!(matches!(busy, Err(CollectError::Busy)));
        go_tx.send(()).unwrap();
    };
    tokio::join!(pulling, meanwhile).0.unwrap();
    // Nor when another version was made since they were listed.
    let outdated = place.store.collect(&[], &[], || false, much_later());
    assert!(matches!(outdated, Err(CollectError::Outdated)));
    assert_eq!(place.layers(), 1);
    place.store.collect(&[], &[], || true, much_later()).unwrap();
    assert_eq!(place.layers(), 0);
}
