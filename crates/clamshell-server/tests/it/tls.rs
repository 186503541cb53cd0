//! TLS with the server's own CA: who trusts `ca.pem` can speak HTTP/1.1 and HTTP/2, under every name promised.

use std::{path::Path, sync::Arc};

use clamshell_testkit::within;
use http::Version;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::{
    calls::Call,
    connections::{exchange_http1, exchange_http2},
    in_process::{InProcess, LIMIT},
};

const CONFIGURATION: &str = "[tls]\nnames = [\"clamshell.example\", \"192.0.2.7\"]\n";

async fn connect(
    server: &InProcess,
    ca: Option<&Path>,
    name: &str,
    protocol: &[u8],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    for certificate in ca.into_iter().flat_map(|path| CertificateDer::pem_file_iter(path).unwrap()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let stream = TcpStream::connect(&server.client.authority).await?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let connected = TlsConnector::from(Arc::new(config)).connect(name, stream);
    within("TLS handshake", LIMIT, connected).await
}

#[tokio::test]
async fn https_works_with_the_servers_own_ca() {
    let server = InProcess::start(CONFIGURATION).await;
    assert!(server.info.endpoint.starts_with("https://127.0.0.1:"), "{}", server.info.endpoint);
    let ca = server.info.ca_path.clone().unwrap();
    assert_eq!(ca, server.data_dir().join("ca.pem"));
    let list = |signed: bool| {
        let call = Call::new("GET", "/clamshell/v1/sessions");
        if signed { call.signed(&server.root()) } else { call }
    };

    let stream = connect(&server, Some(&ca), "localhost", b"http/1.1").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let reply = exchange_http1(stream, &list(true)).await;
    assert_eq!((reply.version, reply.status.as_u16()), (Version::HTTP_11, 200));

    for (signed, status) in [(true, 200), (false, 403)] {
        let stream = connect(&server, Some(&ca), "127.0.0.1", b"h2").await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let reply = exchange_http2(stream, "https", &server.client.authority, &list(signed)).await;
        assert_eq!((reply.version, reply.status.as_u16()), (Version::HTTP_2, status));
    }
}

#[tokio::test]
async fn the_certificate_has_the_promised_names_and_no_others() {
    let server = InProcess::start(CONFIGURATION).await;
    let ca = server.info.ca_path.clone().unwrap();
    for name in [
        "localhost",
        "127.0.0.1",
        "::1",
        "bedrock-agentcore.us-west-2.amazonaws.com",
        "bedrock-agentcore-control.us-west-2.amazonaws.com",
        "clamshell.example",
        "192.0.2.7",
    ] {
        let connected = connect(&server, Some(&ca), name, b"http/1.1").await;
        assert!(connected.is_ok(), "{name}: {connected:?}");
    }
    for name in ["other.example", "bedrock-agentcore.eu-west-1.amazonaws.com", "192.0.2.8"] {
        assert!(connect(&server, Some(&ca), name, b"http/1.1").await.is_err(), "{name}");
    }
    assert!(connect(&server, None, "localhost", b"http/1.1").await.is_err(), "nobody trusts it unasked");
}

#[tokio::test]
async fn the_key_of_the_ca_is_private() {
    use std::os::unix::fs::PermissionsExt;

    let server = InProcess::start(CONFIGURATION).await;
    let mode =
        |name: &str| std::fs::metadata(server.data_dir().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("ca-key.pem"), 0o600);
    assert_eq!(mode("master.key"), 0o600);
    assert_eq!(mode("."), 0o700);
}

#[tokio::test]
async fn plain_http_on_a_tls_port_is_cut_and_harms_nobody() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let server = InProcess::start(CONFIGURATION).await;
    let mut stream = TcpStream::connect(&server.client.authority).await.unwrap();
    stream.write_all(b"GET /clamshell/v1/health HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    // A reset is as good an end as any.
    let _ = within("connection is cut", LIMIT, stream.read_to_end(&mut answer)).await;
    assert!(!answer.starts_with(b"HTTP/"), "{answer:?}");
    let ca = server.info.ca_path.clone().unwrap();
    let stream = connect(&server, Some(&ca), "localhost", b"http/1.1").await.unwrap();
    assert_eq!(exchange_http1(stream, &Call::new("GET", "/clamshell/v1/health")).await.status, 200);
}
