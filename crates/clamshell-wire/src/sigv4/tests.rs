//! Vectors of real clients, the official signer as oracle, and tampering.

use std::time::{Duration, SystemTime};

use aws_sigv4::http_request::{SignableBody, SignableRequest, SignatureLocation, SigningSettings, sign};
use proptest::prelude::*;

use super::*;
use crate::percent::percent_encode;

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const REGION: &str = "us-west-2";
/// 2026-01-02T03:04:05Z.
const NOW: u64 = 1_767_323_045_000;
const PATH: &str =
    "/runtimes/arn%3Aaws%3Abedrock-agentcore%3Aus-west-2%3A123456789012%3Aruntime%2Fdemo-AbCdE12345";

type Headers = Vec<(String, Vec<u8>)>;

#[derive(Clone, Debug)]
struct Owned {
    method: String,
    path: String,
    query: String,
    headers: Headers,
    body: Vec<u8>,
}

impl Owned {
    fn with<T>(&self, f: impl FnOnce(&SignedRequest<'_>) -> T) -> T {
        let headers: Vec<(&str, &[u8])> =
            self.headers.iter().map(|(name, value)| (name.as_str(), value.as_slice())).collect();
        f(&SignedRequest {
            method: &self.method,
            raw_path: &self.path,
            raw_query: &self.query,
            headers: &headers,
            payload_hash: PayloadHash::Body(&self.body),
        })
    }

    fn check_at(&self, now: u64, region: &str) -> Result<(), SigV4Error> {
        self.with(|request| match parse(request)? {
            Some(signature) => signature.verify(request, SECRET, now, region),
            None => Err(SigV4Error::MissingAuthenticationToken),
        })
    }

    fn check(&self) -> Result<(), SigV4Error> {
        self.check_at(NOW, REGION)
    }

    fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    fn replace(mut self, name: &str, from: &str, to: &str) -> Self {
        for (_, value) in self.headers.iter_mut().filter(|(key, _)| key == name) {
            *value = String::from_utf8(value.clone()).unwrap().replace(from, to).into_bytes();
        }
        self
    }
}

fn credentials(token: Option<&str>) -> Credentials {
    Credentials {
        access_key_id: "AKIDEXAMPLE".into(),
        secret_access_key: SECRET.into(),
        session_token: token.map(str::to_owned),
    }
}

fn vector_1() -> Owned {
    let authorization = "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260102/us-west-2/bedrock-agentcore/aws4_request, \
        SignedHeaders=host;x-amz-date;x-amzn-bedrock-agentcore-runtime-session-id, \
        Signature=914ddc28a2b392daca9a474a7288bf570424736f5439cf76e33583493c68ab4c";
    Owned {
        method: "POST".into(),
        path: format!("{PATH}/invocations"),
        query: "qualifier=DEFAULT".into(),
        headers: Vec::new(),
        body: br#"{"prompt":"hi"}"#.to_vec(),
    }
    .header("host", "127.0.0.1:8080")
    .header("x-amz-date", "20260102T030405Z")
    .header("x-amzn-bedrock-agentcore-runtime-session-id", &"s".repeat(36))
    .header("user-agent", "Boto3/1.44.5")
    .header("authorization", authorization)
}

fn vector_2() -> Owned {
    let query = format!(
        "shellId=build&X-Amzn-Bedrock-AgentCore-Runtime-Session-Id={}&X-Amz-Algorithm=AWS4-HMAC-SHA256\
         &X-Amz-Credential=AKIDEXAMPLE%2F20260102%2Fus-west-2%2Fbedrock-agentcore%2Faws4_request\
         &X-Amz-Date=20260102T030405Z&X-Amz-Expires=300&X-Amz-SignedHeaders=host\
         &X-Amz-Signature=c4889123f265a75a66a5e6794201be851493df4d642c32ebe0e41c840ca581a7",
        "s".repeat(36)
    );
    let path = format!("{PATH}/ws/shells");
    let headers = Vec::new();
    Owned { method: "GET".into(), path, query, headers, body: Vec::new() }
        .header("host", "agentcore.example.com")
}

#[test]
fn vector_of_boto3() {
    let request = vector_1();
    assert_eq!(request.check(), Ok(()));
    let text = request.with(|request| {
        let signature = parse(request).unwrap().unwrap();
        assert_eq!(signature.access_key_id(), "AKIDEXAMPLE");
        assert_eq!(
            (signature.region(), signature.service(), signature.date()),
            (REGION, SERVICE, "20260102")
        );
        assert_eq!(
            (signature.timestamp_ms(), signature.expires(), signature.session_token()),
            (NOW, None, None)
        );
        let mut text = Vec::new();
        let query = canonical_query(request.raw_query, false).unwrap();
        let payload = payload_hex(&request.payload_hash);
        let host: &[u8] = b"127.0.0.1:8080";
        let signed = signature.signed_headers();
        Canonical { request, query: &query, signed, host, payload: &payload }.write(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    });
    let expect = "POST\n\
        /runtimes/arn%253Aaws%253Abedrock-agentcore%253Aus-west-2%253A123456789012%253Aruntime%252Fdemo-AbCdE12345\
        /invocations\nqualifier=DEFAULT\nhost:127.0.0.1:8080\nx-amz-date:20260102T030405Z\n\
        x-amzn-bedrock-agentcore-runtime-session-id:ssssssssssssssssssssssssssssssssssss\n\n\
        host;x-amz-date;x-amzn-bedrock-agentcore-runtime-session-id\n\
        14479f4e87d340fe0ca0d522d87a5b3a028ebb1af24fbb8d3ef4553044fc6db6";
    assert_eq!(text, expect);
}

#[test]
fn vector_of_a_presigned_shell() {
    let request = vector_2();
    assert_eq!(request.check(), Ok(()));
    // The SDK signs the bare host although the URL has a port, and sends Host twice.
    let with_port = request.clone().replace("host", ".com", ".com:8443");
    assert_eq!(with_port.clone().header("host", "agentcore.example.com:8443").check(), Ok(()));
    assert_eq!(with_port.check(), Ok(()));
    let other = request.replace("host", ".com", ".org:8443");
    assert_eq!(other.check(), Err(SigV4Error::SignatureDoesNotMatch));
    // Its own Host comes second and is the one it signed.
    let signed = other.header("host", "agentcore.example.com");
    assert_eq!(signed.check(), Ok(()));
}

#[test]
fn our_signer_makes_the_vectors() {
    let mut request = vector_1();
    let expect = request.headers.pop().unwrap();
    request.headers.retain(|(name, _)| name != "x-amz-date");
    let added = request.with(|request| sign_headers(request, &credentials(None), REGION, NOW)).unwrap();
    let expect = String::from_utf8(expect.1).unwrap();
    assert_eq!(added, [("x-amz-date", "20260102T030405Z".to_owned()), ("authorization", expect)]);

    let mut request = vector_2();
    let expect = std::mem::take(&mut request.query);
    request.query = expect.split("&X-Amz-Algorithm").next().unwrap().to_owned();
    let query = request.with(|request| presign(request, &credentials(None), REGION, NOW, 300)).unwrap();
    assert_eq!(query, expect);
}

#[test]
fn without_authentication_there_is_none() {
    let mut request = vector_1();
    request.headers.retain(|(name, _)| name != "authorization");
    assert_eq!(request.check(), Err(SigV4Error::MissingAuthenticationToken));
    assert_eq!(request.check().unwrap_err().message(), "Missing Authentication Token");
    let bearer = request.header("authorization", "Bearer eyJ");
    assert_eq!(bearer.check(), Err(SigV4Error::MissingAuthenticationToken));
}

#[test]
fn header_table() {
    use SigV4Error as E;
    let auth = |from: &str, to: &str| vector_1().replace("authorization", from, to);
    let table = [
        (auth("us-west-2", "us-east-1"), E::WrongRegion { expected: REGION.into() }),
        (auth("bedrock-agentcore/", "bedrock/"), E::WrongService),
        (auth("aws4_request", "aws4"), E::WrongTerminator),
        (auth("/20260102/", "/20260103/"), E::ScopeDateMismatch),
        (auth("AKIDEXAMPLE/", "AKIDEXAMPLE/x/"), E::MalformedCredential),
        (auth("AKIDEXAMPLE/", "/"), E::MalformedCredential),
        (auth("AKIDEXAMPLE/", "AK-ID/"), E::MalformedCredential),
        (auth("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256"), E::UnsupportedAlgorithm),
        (auth("host;x-amz-date", "x-amz-date"), E::HostNotSigned),
        (auth("host;x-amz-date", "x-amz-date;host"), E::MalformedSignedHeaders),
        (auth("host;x-amz-date", "Host;x-amz-date"), E::MalformedSignedHeaders),
        (auth("host;", "host;host;"), E::MalformedSignedHeaders),
        (auth("host;", "expect;host;"), E::SignedHeaderMissing { name: "expect".into() }),
        (auth("ab4c", "ab4"), E::MalformedSignature),
        (auth("ab4c", "ab4é"), E::MalformedSignature),
        (auth("ab4c", "ab4d"), E::SignatureDoesNotMatch),
        (auth("Signature=", "Sig="), E::MalformedAuthorization),
        (auth("Signature=", "Signature=1, Signature="), E::MalformedAuthorization),
        (vector_1().replace("x-amz-date", "Z", ""), E::MalformedDate),
        (vector_1().replace("x-amz-date", "05Z", "06Z"), E::SignatureDoesNotMatch),
        (vector_1().header("x-amz-date", "20260102T030406Z"), E::MalformedAuthorization),
        (vector_1().header("x-amz-security-token", "t"), E::SessionTokenNotSigned),
        (vector_1().header("x-amz-content-sha256", "UNSIGNED-PAYLOAD"), E::UnsignedPayload),
        (vector_1().header("x-amz-content-sha256", "00"), E::PayloadHashMismatch),
        (auth("host;", &format!("{};host;", "a;".repeat(80))), E::TooLarge { what: "signed headers" }),
    ];
    for (request, error) in table {
        assert_eq!(request.check(), Err(error));
    }
    let hash = "14479f4e87d340fe0ca0d522d87a5b3a028ebb1af24fbb8d3ef4553044fc6db6";
    assert_eq!(vector_1().header("x-amz-content-sha256", hash).check(), Ok(()));
    let mut many = vector_1();
    many.headers.extend((0..HEADERS_MAX).map(|index| (format!("x-{index}"), Vec::new())));
    assert_eq!(many.check(), Err(E::TooLarge { what: "headers" }));
    let mut both = vector_1();
    both.query = vector_2().query;
    assert_eq!(both.check(), Err(E::SeveralAuthentications));
}

#[test]
fn presigned_table() {
    use SigV4Error as E;
    let change = |from: &str, to: &str| {
        let request = vector_2();
        Owned { query: request.query.replace(from, to), ..request }
    };
    let table = [
        (change("Expires=300", "Expires=301"), E::InvalidExpires),
        (change("Expires=300", "Expires=0"), E::InvalidExpires),
        (change("Expires=300", "Expires=%2B30"), E::InvalidExpires),
        (change("Expires=300", "Expires="), E::InvalidExpires),
        (change("Expires=300", "Expires=200"), E::SignatureDoesNotMatch),
        (change("&X-Amz-Expires=300", ""), E::MalformedPresignedQuery),
        (change("&X-Amz-Expires=300", "&X-Amz-Expires=300&X-Amz-Expires=300"), E::MalformedPresignedQuery),
        (change("HMAC", "X"), E::UnsupportedAlgorithm),
        (change("us-west-2", "eu-west-1"), E::WrongRegion { expected: REGION.into() }),
        (change("SignedHeaders=host", "SignedHeaders=accept"), E::HostNotSigned),
        (change("shellId=build", "shellId=%zz"), E::MalformedQuery),
        (change("shellId=build", "shellId=built"), E::SignatureDoesNotMatch),
        (change("shellId=build", "shellId=build&X-Amz-Security-Token=t"), E::SignatureDoesNotMatch),
    ];
    for (request, error) in table {
        assert_eq!(request.check(), Err(error), "{}", request.query);
    }
    // A URL is for the session that its maker named, and no other.
    let elsewhere = vector_2().header(crate::headers::SESSION_ID, "someone-elses");
    assert_eq!(elsewhere.check(), Err(E::HeaderNotSigned { name: crate::headers::SESSION_ID }));
}

#[test]
fn time_table() {
    let minute = 60_000;
    for request in [vector_1(), vector_2()] {
        for now in [NOW - 5 * minute, NOW, NOW + 5 * minute] {
            assert_eq!(request.check_at(now, REGION), Ok(()), "{now}");
        }
        let early = request.check_at(NOW - 5 * minute - 1, REGION).unwrap_err();
        assert!(matches!(early, SigV4Error::NotYetCurrent { .. }));
        let late = request.check_at(NOW + 5 * minute + 1000, REGION).unwrap_err();
        assert_eq!(
            late.message(),
            "Signature expired: 20260102T030405Z is now earlier than 20260102T030406Z (20260102T030906Z - 300 s.)"
        );
    }
}

#[test]
fn a_date_header_will_do() {
    let mut request = vector_1();
    request.headers.retain(|(name, _)| !matches!(name.as_str(), "x-amz-date" | "authorization"));
    assert!(
        request
            .clone()
            .header("authorization", "AWS4-HMAC-SHA256 Credential=a/b/c/d/e,SignedHeaders=host,Signature=0")
            .check()
            == Err(SigV4Error::MissingDate)
    );
    let request = request.header("date", "Fri, 02 Jan 2026 03:04:05 GMT");
    let digits = request.with(|request| {
        let payload = payload_hex(&request.payload_hash);
        let signed = ["date", "host"];
        let query = "qualifier=DEFAULT";
        let hash =
            Canonical { request, query, signed: &signed, host: b"127.0.0.1:8080", payload: &payload }.hash();
        canonical::hex(&signature(SECRET, "20260102T030405Z", "20260102", (REGION, SERVICE), &hash.unwrap()))
    });
    // Commas without blanks are taken too.
    let authorization = format!(
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260102/us-west-2/bedrock-agentcore/aws4_request,\
         SignedHeaders=date;host,Signature={digits}"
    );
    assert_eq!(request.header("authorization", &authorization).check(), Ok(()));
}

#[test]
fn every_flipped_bit_is_noticed() {
    for request in [vector_1(), vector_2()] {
        // The highest bit would leave ASCII, in which requests arrive; all others are tried.
        for bit in 0..7 {
            let flip = |text: &str, index: usize| {
                let mut bytes = text.as_bytes().to_vec();
                bytes[index] ^= 1 << bit;
                String::from_utf8(bytes).unwrap()
            };
            for index in 0..request.path.len() {
                let changed = Owned { path: flip(&request.path, index), ..request.clone() };
                assert!(changed.check().is_err(), "{}", changed.path);
            }
            for index in 0..request.query.len() {
                let changed = Owned { query: flip(&request.query, index), ..request.clone() };
                // `%2f` and `%2F` are one and the same, as are the digits of the signature in either case.
                if changed.query.eq_ignore_ascii_case(&request.query) {
                    let at = index.saturating_sub(2);
                    let signature = request.query.find("X-Amz-Signature=").is_some_and(|at| index >= at + 16);
                    if signature || request.query[at..index].contains('%') {
                        continue;
                    }
                }
                assert!(changed.check().is_err(), "{}", changed.query);
            }
            for index in 0..request.body.len() {
                let mut changed = request.clone();
                changed.body[index] ^= 1 << bit;
                assert_eq!(changed.check(), Err(SigV4Error::SignatureDoesNotMatch));
            }
            for (at, (name, value)) in request.headers.iter().enumerate() {
                if name == "user-agent" || name == "authorization" {
                    continue;
                }
                for index in 0..value.len() {
                    let mut changed = request.clone();
                    changed.headers[at].1[index] ^= 1 << bit;
                    assert!(changed.check().is_err(), "{name} {index}");
                }
            }
        }
        let other = Owned { method: "PUT".into(), ..request.clone() };
        assert_eq!(other.check(), Err(SigV4Error::SignatureDoesNotMatch));
        let wrong =
            request.with(|request| parse(request).unwrap().unwrap().verify(request, "wrong", NOW, REGION));
        assert_eq!(wrong, Err(SigV4Error::SignatureDoesNotMatch));
    }
}

#[test]
fn hosts_and_secrets() {
    let table: [(&[u8], Option<&[u8]>); 7] = [
        (b"a.b:80", Some(b"a.b")),
        (b"a.b", None),
        (b"[::1]:80", Some(b"[::1]")),
        (b"[::1]", None),
        (b"::1", None),
        (b"a:", None),
        (b"", None),
    ];
    for (host, expect) in table {
        assert_eq!(host_without_port(host), expect);
    }
    let debug = format!("{:?}", credentials(Some("token-text")));
    assert!(!debug.contains(SECRET) && !debug.contains("token-text"), "{debug}");
}

/// The first example of the documentation of S3.
#[test]
fn another_service_is_signed_for() {
    let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    let request = SignedRequest {
        method: "GET",
        raw_path: "/test.txt",
        raw_query: "",
        headers: &[
            ("host", b"examplebucket.s3.amazonaws.com"),
            ("range", b"bytes=0-9"),
            ("x-amz-content-sha256", empty.as_bytes()),
        ],
        payload_hash: PayloadHash::Empty,
    };
    let credentials = Credentials {
        access_key_id: "AKIAIOSFODNN7EXAMPLE".to_owned(),
        secret_access_key: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY".to_owned(),
        session_token: None,
    };
    let added = sign_headers_for("s3", &request, &credentials, "us-east-1", 1_369_353_600_000).unwrap();
    let (_, authorization) = added.iter().find(|(name, _)| *name == "authorization").unwrap();
    assert!(authorization.contains("/20130524/us-east-1/s3/aws4_request"), "{authorization}");
    let expect = "Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41";
    assert!(authorization.ends_with(expect), "{authorization}");
}

fn official(request: &Owned, token: Option<&str>, presigned: bool) -> Owned {
    let identity =
        aws_credential_types::Credentials::new("AKIDEXAMPLE", SECRET, token.map(str::to_owned), None, "test")
            .into();
    let mut settings = SigningSettings::default();
    if presigned {
        settings.signature_location = SignatureLocation::QueryParams;
        settings.expires_in = Some(Duration::from_secs(300));
    }
    let params = aws_sigv4::sign::v4::SigningParams::builder()
        .identity(&identity)
        .region(REGION)
        .name(SERVICE)
        .time(SystemTime::UNIX_EPOCH + Duration::from_millis(NOW))
        .settings(settings)
        .build()
        .unwrap()
        .into();
    let host = String::from_utf8(request.headers[0].1.clone()).unwrap();
    let mark = if request.query.is_empty() { "" } else { "?" };
    let uri = format!("http://{host}{}{mark}{}", request.path, request.query);
    let text = |value: &Vec<u8>| String::from_utf8(value.clone()).unwrap();
    let headers: Vec<(String, String)> =
        request.headers.iter().skip(1).map(|(name, value)| (name.clone(), text(value))).collect();
    let signable = SignableRequest::new(
        &request.method,
        uri,
        headers.iter().map(|(name, value)| (name.as_str(), value.as_str())),
        SignableBody::Bytes(&request.body),
    )
    .unwrap();
    let (headers, query) = sign(signable, &params).unwrap().into_parts().0.into_parts();
    let mut out = request.clone();
    for header in headers {
        out = out.header(header.name(), header.value());
    }
    for (name, value) in query {
        out.query.push_str(if out.query.is_empty() { "" } else { "&" });
        out.query.push_str(&format!("{name}={}", percent_encode(&value)));
    }
    out
}

fn any_request() -> impl Strategy<Value = Owned> {
    let text = "[ -~é]{1,24}";
    let segments = prop::collection::vec(text, 1..4);
    let query = prop::collection::vec((text, "[ -~é]{0,24}"), 0..5);
    let headers = prop::collection::btree_map("x-[a-z]{1,12}", "[!-~]( {0,3}[!-~]){0,12} {0,2}", 0..5);
    let method = prop::sample::select(vec!["GET", "POST", "PUT", "DELETE"]);
    let host = prop::sample::select(vec!["127.0.0.1:8080", "agentcore.example.com", "h.test:7878"]);
    let body = prop::collection::vec(any::<u8>(), 0..64);
    (method, segments, query, headers, host, body).prop_map(
        |(method, segments, query, headers, host, body)| {
            let path = segments.iter().fold(PATH.to_owned(), |path, part| {
                // Dot segments would be normalized away by the signer; no operation has them.
                format!("{path}/x{}", percent_encode(part))
            });
            let query: Vec<String> = query
                .iter()
                .map(|(name, value)| format!("{}={}", percent_encode(name), percent_encode(value)))
                .collect();
            let headers = headers.into_iter().map(|(name, value)| (name, value.into_bytes()));
            let headers =
                std::iter::once(("host".to_owned(), host.as_bytes().to_vec())).chain(headers).collect();
            Owned { method: method.to_owned(), path, query: query.join("&"), headers, body }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn verifies_what_the_official_signer_signs(
        request in any_request(),
        token in prop::option::of("[A-Za-z0-9+/=]{1,60}"),
        presigned: bool,
    ) {
        let signed = official(&request, token.as_deref(), presigned);
        prop_assert_eq!(signed.check(), Ok(()));
        let seen = signed.with(|request| parse(request).unwrap().unwrap().session_token().map(str::to_owned));
        prop_assert_eq!(seen, token);
        let mut other = signed.clone();
        other.body.push(0);
        prop_assert_eq!(other.check(), Err(SigV4Error::SignatureDoesNotMatch));
    }

    #[test]
    fn verifies_what_our_signer_signs(
        request in any_request(),
        token in prop::option::of("[A-Za-z0-9+/=]{1,60}"),
        presigned: bool,
    ) {
        let credentials = credentials(token.as_deref());
        let mut signed = request.clone();
        if presigned {
            signed.query = request.with(|request| presign(request, &credentials, REGION, NOW, 60)).unwrap();
        } else {
            for (name, value) in request.with(|request| sign_headers(request, &credentials, REGION, NOW)).unwrap() {
                signed = signed.header(name, &value);
            }
        }
        prop_assert_eq!(signed.check(), Ok(()));
    }

    #[test]
    fn hostile_requests_never_panic(
        query in "(X-Amz-(Algorithm|Signature|Date|Credential|SignedHeaders|Expires)=[ -~]{0,20}&?){0,8}",
        authorization in "(AWS4-HMAC-SHA256 )?((Credential|SignedHeaders|Signature)=[ -~é]{0,20}, ?){0,4}",
    ) {
        let request = Owned {
            method: "GET".into(),
            path: "/".into(),
            query,
            headers: Vec::new(),
            body: Vec::new(),
        };
        prop_assert!(request.header("authorization", &authorization).check().is_err());
    }
}
