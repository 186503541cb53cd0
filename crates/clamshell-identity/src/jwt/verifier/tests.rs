//! Tokens against a real identity provider on loopback.

use std::time::Duration;

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use tokio::task::JoinSet;

use super::{
    super::{
        fetch::FetchLimits,
        idp::{self, Idp, NOW_S, Reply, SigningKey, TestClock},
    },
    *,
};

const DISCOVERY: &str = "/.well-known/openid-configuration";

fn verifier(clock: &Arc<TestClock>) -> Arc<Verifier> {
    let limits = FetchLimits {
        allow_private_addresses: true,
        total_timeout: Duration::from_millis(1500),
        ..FetchLimits::default()
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let clock: Arc<dyn Clock> = clock.clone();
    Arc::new(Verifier::new(Fetcher::new(tls, limits), clock))
}

fn authorizer(idp: &Idp) -> JwtAuthorizer {
    serde_json::from_value(json!({"discoveryUrl": idp.url(DISCOVERY), "allowedClients": ["app"]})).unwrap()
}

fn invalid(why: InvalidToken) -> AuthorizeError {
    AuthorizeError::InvalidToken(why)
}

#[tokio::test]
async fn a_good_token_says_who_it_is() {
    let idp = Idp::start().await;
    let key = SigningKey::p256("k1");
    idp.publish(&[&key]);
    let (clock, authorizer) = (TestClock::new(), authorizer(&idp));
    let verifier = verifier(&clock);
    let claims = idp.claims(json!({}));
    let found = verifier.verify(&authorizer, &key.sign("ES256", &claims)).await.unwrap();
    let expect = TokenIdentity {
        issuer: idp.url(""),
        subject: Some("user-1".to_owned()),
        expires_at_ms: (NOW_S + 600) * 1000,
        claims: claims.as_object().unwrap().clone(),
    };
    assert_eq!(found, expect);
    assert_eq!(verifier.issuer(&authorizer).await, Ok(idp.url("")));
    let client = key.sign("ES256", &idp.claims(json!({"sub": null})));
    assert_eq!(verifier.verify(&authorizer, &client).await.unwrap().subject, None);
    assert_eq!((idp.hits(DISCOVERY), idp.hits("/jwks")), (1, 1));
    verifier.close().await;
}

#[tokio::test]
async fn every_algorithm_of_a_private_key() {
    let idp = Idp::start().await;
    let (rsa, p256, p384) = (SigningKey::rsa("r"), SigningKey::p256("p"), SigningKey::p384("q"));
    let ed25519 = SigningKey::ed25519("e");
    idp.publish(&[&rsa, &p256, &p384, &ed25519]);
    let (verifier, authorizer) = (verifier(&TestClock::new()), authorizer(&idp));
    let claims = idp.claims(json!({}));
    for (key, names) in [
        (&rsa, &["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"][..]),
        (&p256, &["ES256"]),
        (&p384, &["ES384"]),
        (&ed25519, &["EdDSA"]),
    ] {
        for name in names {
            let token = key.sign(name, &claims);
            assert!(verifier.verify(&authorizer, &token).await.is_ok(), "{name}");
            // The last character may hold unused bits: change one in the middle.
            let at = token.rfind('.').unwrap() + 20;
            let other = if token.as_bytes()[at] == b'A' { "B" } else { "A" };
            let forged = format!("{}{other}{}", &token[..at], &token[at + 1..]);
            let found = verifier.verify(&authorizer, &forged).await;
            assert_eq!(found, Err(invalid(InvalidToken::Signature)), "{name}");
            // Without a name for the key every fitting one is tried.
            let unnamed = key.sign_with(&json!({"alg": name}), name, &claims);
            assert!(verifier.verify(&authorizer, &unnamed).await.is_ok(), "{name} without kid");
        }
    }
}

#[tokio::test]
async fn forgeries() {
    let idp = Idp::start().await;
    let (rsa, p256, stranger) = (SigningKey::rsa("r"), SigningKey::p256("p"), SigningKey::p256("p"));
    idp.publish(&[&rsa, &p256]);
    let (verifier, authorizer) = (verifier(&TestClock::new()), authorizer(&idp));
    let check = async |token: &str, expect: AuthorizeError| {
        assert_eq!(verifier.verify(&authorizer, token).await, Err(expect), "{token}");
    };
    let claims = idp.claims(json!({}));
    let unsigned = idp::message(&json!({"alg": "none", "kid": "r"}), &claims);
    check(&format!("{unsigned}."), invalid(InvalidToken::Algorithm)).await;
    // The public key as a shared secret.
    let message = idp::message(&json!({"alg": "HS256", "kid": "r"}), &claims);
    let secret = hmac::Key::new(hmac::HMAC_SHA256, &rsa.public_bytes());
    let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&secret, message.as_bytes()));
    check(&format!("{message}.{signature}"), invalid(InvalidToken::Algorithm)).await;
    // Another key under the same name.
    check(&stranger.sign("ES256", &claims), invalid(InvalidToken::Signature)).await;
    // A good signature under the name of a key of another kind.
    let crossed = p256.sign_with(&json!({"alg": "ES256", "kid": "r"}), "ES256", &claims);
    check(&crossed, invalid(InvalidToken::UnknownKey)).await;
    let lying = p256.sign_with(&json!({"alg": "RS256", "kid": "p"}), "ES256", &claims);
    check(&lying, invalid(InvalidToken::UnknownKey)).await;
    // A key that the token brings along.
    let header = json!({"alg": "ES256", "kid": "new", "jwk": stranger.jwk()});
    check(&stranger.sign_with(&header, "ES256", &claims), invalid(InvalidToken::UnknownKey)).await;
    // Claims swapped under a good signature.
    let good = p256.sign("ES256", &claims);
    let other = p256.sign("ES256", &idp.claims(json!({"sub": "admin"})));
    let parts: Vec<&str> = good.split('.').collect();
    let swapped = format!("{}.{}.{}", parts[0], other.split('.').nth(1).unwrap(), parts[2]);
    check(&swapped, invalid(InvalidToken::Signature)).await;
}

#[tokio::test]
async fn times_issuer_and_claims() {
    let idp = Idp::start().await;
    let key = SigningKey::p256("k");
    idp.publish(&[&key]);
    let (verifier, authorizer) = (verifier(&TestClock::new()), authorizer(&idp));
    let check = async |changes: Value, expect: Option<AuthorizeError>| {
        let token = key.sign("ES256", &idp.claims(changes.clone()));
        assert_eq!(verifier.verify(&authorizer, &token).await.err(), expect, "{changes}");
    };
    check(json!({"exp": NOW_S - 59}), None).await;
    check(json!({"exp": NOW_S - 60}), Some(invalid(InvalidToken::Expired))).await;
    check(json!({"exp": null}), Some(invalid(InvalidToken::Expired))).await;
    check(json!({"nbf": NOW_S + 60}), None).await;
    check(json!({"nbf": NOW_S + 61}), Some(invalid(InvalidToken::NotYetValid))).await;
    check(json!({"iss": "https://evil.example"}), Some(invalid(InvalidToken::Issuer))).await;
    check(json!({"iss": format!("{}/", idp.url(""))}), Some(invalid(InvalidToken::Issuer))).await;
    check(json!({"iss": null}), Some(invalid(InvalidToken::Issuer))).await;
    let mismatch = AuthorizeError::ClaimMismatch { claim: "client_id".to_owned() };
    check(json!({"client_id": "other"}), Some(mismatch.clone())).await;
    assert_eq!(mismatch.to_string(), "Claim 'client_id' value mismatch with configuration.");
    assert_eq!(verifier.verify(&authorizer, "").await, Err(AuthorizeError::Missing));
    assert_eq!(verifier.verify(&authorizer, "abc").await, Err(AuthorizeError::Unparseable));
}

#[tokio::test]
async fn old_and_malformed_tokens_fetch_nothing() {
    let idp = Idp::start().await;
    let key = SigningKey::p256("k");
    idp.publish(&[&key]);
    let (verifier, authorizer) = (verifier(&TestClock::new()), authorizer(&idp));
    for token in ["", "a.b.c", &key.sign("ES256", &idp.claims(json!({"exp": 1})))] {
        assert!(verifier.verify(&authorizer, token).await.is_err());
    }
    assert_eq!(idp.hits(DISCOVERY), 0);
}

#[tokio::test]
async fn a_rotated_key_is_found_at_once_and_the_old_one_goes() {
    let idp = Idp::start().await;
    let (old, new) = (SigningKey::p256("old"), SigningKey::rsa("new"));
    idp.publish(&[&old]);
    let (clock, authorizer) = (TestClock::new(), authorizer(&idp));
    let verifier = verifier(&clock);
    let (by_old, by_new) =
        (old.sign("ES256", &idp.claims(json!({}))), new.sign("RS256", &idp.claims(json!({}))));
    assert!(verifier.verify(&authorizer, &by_old).await.is_ok());
    idp.publish(&[&new]);
    assert!(verifier.verify(&authorizer, &by_new).await.is_ok());
    assert_eq!(idp.hits("/jwks"), 2);
    assert_eq!(verifier.verify(&authorizer, &by_old).await, Err(invalid(InvalidToken::UnknownKey)));
}

#[tokio::test]
async fn a_rotated_key_without_a_name_is_found_too() {
    let idp = Idp::start().await;
    let (old, new) = (SigningKey::p256("k"), SigningKey::p256("k"));
    idp.publish(&[&old]);
    let (verifier, authorizer) = (verifier(&TestClock::new()), authorizer(&idp));
    let token = |key: &SigningKey| key.sign_with(&json!({"alg": "ES256"}), "ES256", &idp.claims(json!({})));
    assert!(verifier.verify(&authorizer, &token(&old)).await.is_ok());
    idp.publish(&[&new]);
    assert!(verifier.verify(&authorizer, &token(&new)).await.is_ok());
    let found = verifier.verify(&authorizer, &token(&old)).await;
    assert_eq!(found, Err(invalid(InvalidToken::Signature)));
}

#[tokio::test]
async fn made_up_keys_cost_a_bounded_number_of_fetches() {
    let idp = Idp::start().await;
    let (key, stranger) = (SigningKey::p256("k"), SigningKey::p256("x"));
    idp.publish(&[&key]);
    let (verifier, authorizer) = (verifier(&TestClock::new()), authorizer(&idp));
    let claims = idp.claims(json!({}));
    for number in 0..50 {
        let header = json!({"alg": "ES256", "kid": format!("made-up-{number}")});
        let token = stranger.sign_with(&header, "ES256", &claims);
        let found = verifier.verify(&authorizer, &token).await;
        assert_eq!(found, Err(invalid(InvalidToken::UnknownKey)));
    }
    assert_eq!(idp.hits("/jwks"), 5, "one for the first token, four of the budget");
    assert!(verifier.verify(&authorizer, &key.sign("ES256", &claims)).await.is_ok());
}

#[tokio::test]
async fn a_hundred_callers_fetch_once() {
    let idp = Idp::start().await;
    let key = SigningKey::p256("k");
    idp.publish(&[&key]);
    let (verifier, authorizer) = (verifier(&TestClock::new()), authorizer(&idp));
    let token = key.sign("ES256", &idp.claims(json!({})));
    let mut callers = JoinSet::new();
    for _ in 0..100 {
        let (verifier, authorizer, token) = (Arc::clone(&verifier), authorizer.clone(), token.clone());
        callers.spawn(async move { verifier.verify(&authorizer, &token).await });
    }
    assert!(callers.join_all().await.iter().all(Result::is_ok));
    assert_eq!((idp.hits(DISCOVERY), idp.hits("/jwks")), (1, 1));
}

#[tokio::test]
async fn a_caller_that_hangs_up_stops_nobody() {
    let idp = Idp::start().await;
    let key = SigningKey::p256("k");
    idp.publish(&[&key]);
    let (verifier, authorizer) = (verifier(&TestClock::new()), authorizer(&idp));
    let token = key.sign("ES256", &idp.claims(json!({})));
    {
        let first = verifier.verify(&authorizer, &token);
        tokio::pin!(first);
        // Polled once: the fetch is under way.
        tokio::select! {
            biased;
            _ = &mut first => panic!("answered without a fetch"),
            () = std::future::ready(()) => {}
        }
    }
    assert!(verifier.verify(&authorizer, &token).await.is_ok());
    assert_eq!(idp.hits("/jwks"), 1);
}

#[tokio::test]
async fn a_provider_that_is_down_or_talks_nonsense() {
    let idp = Idp::start().await;
    let key = SigningKey::p256("k");
    let (clock, authorizer) = (TestClock::new(), authorizer(&idp));
    let verifier = verifier(&clock);
    let token = key.sign("ES256", &idp.claims(json!({})));
    let discovery = |document: Value| Reply::Body(document.to_string().into());
    let huge = json!({"issuer": idp.url(""), "jwks_uri": idp.url("/jwks"), "x": "x".repeat(2_000_000)});
    for (reply, expect) in [
        (Reply::Status(503), FetchError::Status(503)),
        (Reply::Close, FetchError::Http),
        (Reply::Body(b"<html>".to_vec()), FetchError::Document),
        (discovery(json!({"issuer": "x"})), FetchError::Document),
        (discovery(json!({"issuer": "", "jwks_uri": idp.url("/jwks")})), FetchError::Document),
        (discovery(json!({"issuer": "x", "jwks_uri": "file:///etc/passwd"})), FetchError::Url),
        (discovery(huge), FetchError::TooLarge),
        (Reply::Redirect("https://example.com/".to_owned()), FetchError::Redirect),
        (Reply::Hang, FetchError::Timeout),
    ] {
        idp.set(DISCOVERY, reply);
        let before = idp.hits(DISCOVERY);
        for _ in 0..10 {
            let found = verifier.verify(&authorizer, &token).await;
            assert_eq!(found, Err(AuthorizeError::ProviderUnreachable(expect)));
        }
        assert_eq!(idp.hits(DISCOVERY), before + 1, "a failure is remembered");
        clock.advance_s(10);
    }
    idp.publish(&[&key]);
    assert!(verifier.verify(&authorizer, &token).await.is_ok(), "it came back");
}

#[tokio::test]
async fn an_outage_locks_nobody_out_for_an_hour() {
    let idp = Idp::start().await;
    let key = SigningKey::p256("k");
    idp.publish(&[&key]);
    let (clock, authorizer) = (TestClock::new(), authorizer(&idp));
    let verifier = verifier(&clock);
    let token = key.sign("ES256", &idp.claims(json!({"exp": NOW_S + 100_000})));
    assert!(verifier.verify(&authorizer, &token).await.is_ok());
    idp.set(DISCOVERY, Reply::Status(500));
    clock.advance_s(50 * 60);
    assert!(verifier.verify(&authorizer, &token).await.is_ok());
    clock.advance_s(11 * 60);
    let found = verifier.verify(&authorizer, &token).await;
    assert_eq!(found, Err(AuthorizeError::ProviderUnreachable(FetchError::Status(500))));
}

#[tokio::test]
async fn providers_are_kept_apart_and_bounded() {
    let (one, two) = (Idp::start().await, Idp::start().await);
    let (key_one, key_two) = (SigningKey::p256("k"), SigningKey::p256("k"));
    one.publish(&[&key_one]);
    two.publish(&[&key_two]);
    let verifier = verifier(&TestClock::new());
    let by_one = key_one.sign("ES256", &one.claims(json!({})));
    assert!(verifier.verify(&authorizer(&one), &by_one).await.is_ok());
    assert_eq!(verifier.verify(&authorizer(&two), &by_one).await, Err(invalid(InvalidToken::Issuer)));
    // Signed by one, claiming to be of the other.
    let posing = key_one.sign("ES256", &two.claims(json!({})));
    assert_eq!(verifier.verify(&authorizer(&two), &posing).await, Err(invalid(InvalidToken::Signature)));
    for number in 0..PROVIDERS_MAX * 2 {
        verifier.provider(&format!("https://{number}.example{DISCOVERY}"));
    }
    assert_eq!(verifier.providers.lock().unwrap().known.len(), PROVIDERS_MAX);
}

#[tokio::test]
async fn a_closed_verifier_fetches_no_more() {
    let idp = Idp::start().await;
    idp.set(DISCOVERY, Reply::Hang);
    let key = SigningKey::p256("k");
    let (verifier, authorizer) = (verifier(&TestClock::new()), authorizer(&idp));
    let token = key.sign("ES256", &idp.claims(json!({})));
    let (found, ()) = tokio::join!(verifier.verify(&authorizer, &token), verifier.close());
    assert_eq!(found, Err(AuthorizeError::ProviderUnreachable(FetchError::Closed)));
}
