//! Fetches from a real server on loopback, and the rules for addresses and URLs.

use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::PrivateKeyDer;
use tokio_rustls::TlsAcceptor;

use super::{
    super::idp::{Idp, Reply},
    *,
};

fn tls(roots: RootCertStore) -> ClientConfig {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth()
}

fn fetcher(limits: FetchLimits) -> Fetcher {
    Fetcher::new(tls(RootCertStore::empty()), limits)
}

fn local() -> FetchLimits {
    FetchLimits { allow_private_addresses: true, body_bytes_max: 1000, ..FetchLimits::default() }
}

#[tokio::test]
async fn documents_and_what_is_refused() {
    let idp = Idp::start().await;
    idp.set("/ok", Reply::Body(b"{}".to_vec()));
    idp.set("/fits", Reply::Body(vec![b'x'; 1000]));
    idp.set("/large", Reply::Body(vec![b'x'; 1001]));
    idp.set("/huge", Reply::Body(vec![b'x'; 50_000_000]));
    idp.set("/error", Reply::Status(503));
    idp.set("/close", Reply::Close);
    idp.set("/moved", Reply::Redirect("/ok?x=1".to_owned()));
    idp.set("/moved-whole", Reply::Redirect(idp.url("/moved")));
    idp.set("/loop", Reply::Redirect("/loop".to_owned()));
    for (path, to) in [
        ("/away", "https://example.com/ok"),
        ("/port", "http://127.0.0.1:1/ok"),
        ("/relative", "//127.0.0.2/ok"),
        ("/file", "file:///etc/passwd"),
        ("/nowhere", "x"),
    ] {
        idp.set(path, Reply::Redirect(to.to_owned()));
    }
    let fetcher = fetcher(local());
    let check = async |path: &str, expect: Result<usize, FetchError>| {
        assert_eq!(fetcher.get(&idp.url(path)).await.map(|bytes| bytes.len()), expect, "{path}");
    };
    check("/ok", Ok(2)).await;
    check("/fits", Ok(1000)).await;
    check("/large", Err(FetchError::TooLarge)).await;
    check("/huge", Err(FetchError::TooLarge)).await;
    check("/error", Err(FetchError::Status(503))).await;
    check("/absent", Err(FetchError::Status(404))).await;
    check("/close", Err(FetchError::Http)).await;
    check("/moved", Ok(2)).await;
    check("/moved-whole", Ok(2)).await;
    check("/loop", Err(FetchError::Redirect)).await;
    for path in ["/away", "/port", "/relative", "/file", "/nowhere"] {
        check(path, Err(FetchError::Redirect)).await;
    }
    assert_eq!(idp.hits("/loop"), REDIRECTS_MAX + 1);
}

#[tokio::test]
async fn a_silent_server_costs_no_more_than_the_limit() {
    let idp = Idp::start().await;
    idp.set("/", Reply::Hang);
    let fetcher = fetcher(FetchLimits { total_timeout: Duration::from_millis(100), ..local() });
    assert_eq!(fetcher.get(&idp.url("/")).await, Err(FetchError::Timeout));
}

#[tokio::test]
async fn private_addresses_are_not_reached_unless_allowed() {
    let idp = Idp::start().await;
    idp.set("/", Reply::Body(b"secret".to_vec()));
    let fetcher = fetcher(FetchLimits::default());
    assert_eq!(fetcher.get(&idp.url("/")).await, Err(FetchError::Url), "plain HTTP");
    let port = idp.address.port();
    for host in
        ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "169.254.169.254", "10.0.0.1", "0.0.0.0"]
    {
        let found = fetcher.get(&format!("https://{host}:{port}/")).await;
        assert_eq!(found, Err(FetchError::PrivateAddress), "{host}");
    }
    assert_eq!(idp.hits("/"), 0);
    drop(idp);
    let nobody = format!("http://127.0.0.1:{port}/");
    assert_eq!(
        Fetcher::new(tls(RootCertStore::empty()), local()).get(&nobody).await,
        Err(FetchError::Connect)
    );
}

#[tokio::test]
async fn tls_is_verified() {
    let CertifiedKey { cert, signing_key } =
        generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![cert.der().clone()],
            PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap(),
        )
        .unwrap();
    let idp = Idp::start_with(Some(TlsAcceptor::from(Arc::new(server)))).await;
    idp.set("/", Reply::Body(b"hello".to_vec()));
    let url = |host: &str| format!("https://{host}:{}/", idp.address.port());
    let mut roots = RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let trusting = Fetcher::new(tls(roots), local());
    assert_eq!(trusting.get(&url("localhost")).await.as_deref(), Ok(&b"hello"[..]));
    assert_eq!(trusting.get(&url("127.0.0.1")).await, Err(FetchError::Tls), "another name");
    assert_eq!(fetcher(local()).get(&url("localhost")).await, Err(FetchError::Tls), "unknown authority");
}

#[test]
fn urls() {
    let check = |url: &str, http: bool, expect: Option<(&str, u16, &str)>| {
        let found = Target::parse(url, http);
        let found =
            found.as_ref().ok().map(|target| (target.host.as_str(), target.port, target.path.as_str()));
        assert_eq!(found, expect, "{url}");
    };
    check("https://a.example/x?y=1", false, Some(("a.example", 443, "/x?y=1")));
    check("https://a.example:8443", false, Some(("a.example", 8443, "/")));
    check("https://[::1]:1/", false, Some(("::1", 1, "/")));
    check("http://localhost/x", true, Some(("localhost", 80, "/x")));
    check("http://localhost/x", false, None);
    check("https://user:secret@a.example/", false, None);
    check("https://a.example@evil.example/", false, None);
    check("ftp://a.example/", true, None);
    check("/x", true, None);
    check("https://", true, None);
    check("", true, None);
    check(&format!("https://a.example/{}", "x".repeat(URL_BYTES_MAX)), true, None);
}

#[test]
fn addresses() {
    let check = |text: &str, expect: bool| {
        let ip: IpAddr = text.parse().unwrap();
        assert_eq!(is_public(ip.to_canonical()), expect, "{text}");
    };
    for public in
        ["8.8.8.8", "100.63.255.255", "172.32.0.1", "223.255.255.255", "2606:4700::1111", "2001:4860::8888"]
    {
        check(public, true);
    }
    for private in [
        "0.0.0.0",
        "10.1.2.3",
        "100.64.0.1",
        "127.0.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "192.0.0.8",
        "192.168.1.1",
        "198.18.0.1",
        "198.51.100.1",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "::ffff:10.0.0.1",
        "64:ff9b::a9fe:a9fe",
        "2002:7f00:1::",
        "2001:db8::1",
        "2001::1",
        "fd00:ec2::254",
        "fe80::1",
        "ff02::1",
    ] {
        check(private, false);
    }
    // Without TLS only the machine itself, and only where allowed.
    let address = |ip: &str| vec![SocketAddr::new(ip.parse().unwrap(), 80)];
    assert!(allowed(address("127.0.0.1"), false, true).is_ok());
    assert_eq!(allowed(address("127.0.0.1"), false, false), Err(FetchError::Url));
    assert_eq!(allowed(address("8.8.8.8"), false, true), Err(FetchError::Url));
    assert_eq!(allowed(address("10.0.0.1"), true, false), Err(FetchError::PrivateAddress));
    assert_eq!(allowed(Vec::new(), true, true), Err(FetchError::Resolve));
    // Of a name with both kinds only the public ones are tried.
    let both = [address("10.0.0.1"), address("8.8.8.8")].concat();
    assert_eq!(allowed(both, true, false), Ok(address("8.8.8.8")));
}
