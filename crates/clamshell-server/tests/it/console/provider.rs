//! An OpenID Connect provider on loopback: discovery, a key, and a token endpoint that checks what it is sent.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use aws_lc_rs::{
    digest,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinSet};

/// Our client there.
pub(super) const CLIENT: &str = "console";
pub(super) const SECRET: &str = "s3cret/with+signs";

/// The provider; gone when dropped.
pub(super) struct Provider {
    pub(super) issuer: String,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

struct Shared {
    issuer: String,
    pair: EcdsaKeyPair,
    /// What the next code is good for.
    granted: Mutex<Option<Granted>>,
}

struct Granted {
    code: String,
    challenge: String,
    redirect_uri: String,
    claims: Value,
    forged: bool,
}

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Provider {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address: SocketAddr = listener.local_addr().unwrap();
        let issuer = format!("http://{address}/realms/x");
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let shared = Arc::new(Shared { issuer: issuer.clone(), pair, granted: Mutex::default() });
        let mut tasks = JoinSet::new();
        let served = Arc::clone(&shared);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let served = Arc::clone(&served);
                connections.spawn(async move {
                    let service = service_fn(|request| answer(request, &served));
                    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { issuer, shared, _tasks: tasks }
    }

    /// Signs somebody in who came with this URL: the path and query that the browser goes back to. `changes` are claims that
    /// the ID token has besides, or instead.
    pub(super) fn sign_in(&self, url: &str, changes: &Value, forged: bool, now_s: u64) -> String {
        let (endpoint, query) = url.split_once('?').unwrap();
        assert_eq!(endpoint, format!("{}/auth", self.issuer));
        let query = clamshell_wire::query::parse(query).unwrap();
        let get = |name: &str| clamshell_wire::query::find(&query, name).unwrap().to_owned();
        assert_eq!((get("response_type"), get("client_id")), ("code".to_owned(), CLIENT.to_owned()));
        assert_eq!(
            (get("code_challenge_method"), get("scope")),
            ("S256".to_owned(), "openid profile email".to_owned())
        );
        let redirect_uri = get("redirect_uri");
        let code = format!("code-{}", get("nonce").get(..8).unwrap());
        let mut claims = json!({
            "iss": self.issuer, "sub": "subject-1", "aud": CLIENT, "nonce": get("nonce"), "iat": now_s,
            "exp": now_s + 600, "preferred_username": "alice", "groups": ["dev"],
        });
        for (name, value) in changes.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let back = redirect_uri.split_once("//").unwrap().1.split_once('/').unwrap().1.to_owned();
        let granted =
            Granted { code: code.clone(), challenge: get("code_challenge"), redirect_uri, claims, forged };
        *self.shared.granted.lock().unwrap() = Some(granted);
        format!("/{back}?code={code}&state={}", get("state"))
    }
}

fn sign(pair: &EcdsaKeyPair, claims: &Value) -> String {
    let header = json!({ "alg": "ES256", "kid": "k", "typ": "JWT" }).to_string();
    let message = format!("{}.{}", encode(header.as_bytes()), encode(claims.to_string().as_bytes()));
    let signature = pair.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
    format!("{message}.{}", encode(signature.as_ref()))
}

async fn answer(
    request: Request<Incoming>,
    shared: &Arc<Shared>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let issuer = &shared.issuer;
    let (status, body) = match parts.uri.path() {
        "/realms/x/.well-known/openid-configuration" => (
            200,
            json!({
                "issuer": issuer,
                "jwks_uri": format!("{issuer}/jwks"),
                "authorization_endpoint": format!("{issuer}/auth"),
                "token_endpoint": format!("{issuer}/token"),
            }),
        ),
        "/realms/x/jwks" => {
            let (x, y) = shared.pair.public_key().as_ref()[1..].split_at(32);
            let key = json!({ "kty": "EC", "crv": "P-256", "kid": "k", "x": encode(x), "y": encode(y) });
            (200, json!({ "keys": [key] }))
        }
        "/realms/x/token" => {
            let body = body.collect().await.unwrap().to_bytes();
            let form = clamshell_wire::query::parse(std::str::from_utf8(&body).unwrap()).unwrap();
            let get = |name: &str| clamshell_wire::query::find(&form, name).unwrap_or_default().to_owned();
            let pair = format!("{CLIENT}:{}", SECRET.replace('/', "%2F").replace('+', "%2B"));
            let basic = format!("Basic {}", STANDARD.encode(pair));
            let is_client =
                parts.headers.get(header::AUTHORIZATION).is_some_and(|value| value == basic.as_str());
            // A code is good once.
            let granted = shared.granted.lock().unwrap().take();
            let challenge = encode(digest::digest(&digest::SHA256, get("code_verifier").as_bytes()).as_ref());
            match granted {
                Some(granted)
                    if is_client
                        && get("grant_type") == "authorization_code"
                        && granted.code == get("code")
                        && granted.redirect_uri == get("redirect_uri")
                        && granted.challenge == challenge =>
                {
                    let other = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
                    let pair = if granted.forged { &other } else { &shared.pair };
                    (
                        200,
                        json!({ "access_token": "a", "token_type": "Bearer", "id_token": sign(pair, &granted.claims) }),
                    )
                }
                _ => (400, json!({ "error": "invalid_grant" })),
            }
        }
        _ => (404, json!({})),
    };
    let mut response = Response::new(Full::from(body.to_string()));
    *response.status_mut() = status.try_into().unwrap();
    Ok(response)
}
