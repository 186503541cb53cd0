//! An identity provider on loopback: a discovery document, a key, and tokens signed with it.

use std::{convert::Infallible, net::SocketAddr};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};

/// The provider; gone when dropped.
pub(super) struct Idp {
    address: SocketAddr,
    pair: EcdsaKeyPair,
    _tasks: JoinSet<()>,
}

fn new_pair() -> EcdsaKeyPair {
    EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()
}

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn sign(pair: &EcdsaKeyPair, claims: &Value) -> String {
    let header = json!({ "alg": "ES256", "kid": "k", "typ": "JWT" }).to_string();
    let message = format!("{}.{}", encode(header.as_bytes()), encode(claims.to_string().as_bytes()));
    let signature = pair.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
    format!("{message}.{}", encode(signature.as_ref()))
}

impl Idp {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let pair = new_pair();
        let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
        let issuer = format!("http://{address}");
        let discovery = json!({ "issuer": issuer, "jwks_uri": format!("{issuer}/jwks") }).to_string();
        let key = json!({ "kty": "EC", "crv": "P-256", "kid": "k", "x": encode(x), "y": encode(y) });
        let keys = json!({ "keys": [key] }).to_string();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let documents = (discovery.clone(), keys.clone());
                connections.spawn(async move {
                    let service = service_fn(|request| answer(request, &documents));
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, pair, _tasks: tasks }
    }

    pub(super) fn issuer(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(super) fn discovery_url(&self) -> String {
        format!("{}/.well-known/openid-configuration", self.issuer())
    }

    /// Claims of a good token, with these changes.
    pub(super) fn claims(&self, now_s: u64, changes: &Value) -> Value {
        let mut claims = json!({
            "iss": self.issuer(), "sub": "alice", "aud": "agents", "client_id": "app", "scope": "read write",
            "iat": now_s, "exp": now_s + 600,
        });
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        claims
    }

    pub(super) fn token(&self, claims: &Value) -> String {
        sign(&self.pair, claims)
    }

    /// A token signed with another key of the same name.
    pub(super) fn forged(claims: &Value) -> String {
        sign(&new_pair(), claims)
    }
}

async fn answer(
    request: Request<Incoming>,
    (discovery, keys): &(String, String),
) -> Result<Response<Full<Bytes>>, Infallible> {
    let body = match request.uri().path() {
        "/.well-known/openid-configuration" => Some(discovery.clone()),
        "/jwks" => Some(keys.clone()),
        _ => None,
    };
    let mut response = Response::new(Full::from(body.clone().unwrap_or_default()));
    if body.is_none() {
        *response.status_mut() = StatusCode::NOT_FOUND;
    }
    Ok(response)
}
