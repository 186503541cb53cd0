//! Credentials of the execution role, read inside and used outside.

use clamshell_testkit::eventually;
use clamshell_wire::{headers, percent_encode, sigv4::Credentials};
use serde_json::{Value, json};

use super::{Fixture, refused, root};
use crate::{
    calls::{Call, Signer},
    in_process::LIMIT,
};

const SESSION: &str = "session-of-an-agent-with-a-role-000001";

/// What the metadata service gives to a program of the sandbox.
const READ: &str = "python3 - <<'E'\nimport urllib.request as u\nb='http://169.254.169.254/latest/'\n\
    t=u.urlopen(u.Request(b+'api/token',method='PUT',headers={'X-aws-ec2-metadata-token-ttl-seconds':'60'})).read().decode()\n\
    g=lambda p:u.urlopen(u.Request(b+'meta-data/iam/security-credentials/'+p,headers={'X-aws-ec2-metadata-token':t})).read().decode()\n\
    print(g(g('')))\nE";

/// A signer with what a program inside finds.
async fn credentials(fixture: &Fixture) -> (Signer, Value) {
    let document = eventually("credentials are there", LIMIT, async || {
        let outcome =
            fixture.client.command(SESSION, READ, 30).await.map_err(|error| format!("{error:#}"))?;
        serde_json::from_str::<Value>(&outcome.stdout).map_err(|error| format!("{error}: {outcome:?}"))
    })
    .await;
    let text = |name: &str| document[name].as_str().unwrap().to_owned();
    let credentials = Credentials {
        access_key_id: text("AccessKeyId"),
        secret_access_key: text("SecretAccessKey"),
        session_token: Some(text("Token")),
    };
    (Signer { credentials, ..fixture.server.root() }, document)
}

#[tokio::test]
async fn an_agent_may_do_what_its_role_may_until_its_compute_ends() {
    let Some(fixture) = Fixture::start("", "tester", |_| {}).await else { return };
    let server = &fixture.server;
    let arn = fixture.client.runtime_arn.clone();
    root(server, "POST", "/clamshell/v1/roles", &json!({ "roleName": "tester" })).await;
    let (signer, document) = credentials(&fixture).await;
    assert_eq!((&document["Code"], &document["Type"]), (&json!("Success"), &json!("AWS-HMAC")));
    assert!(signer.credentials.access_key_id.starts_with("ASIA"), "{document}");
    let get = Call::new("GET", format!("/runtimes/{}/", arn.rsplit('/').next().unwrap()));
    let ask = async |signer: &Signer| get.clone().signed(signer).send(&server.client).await;

    let sessions = root(server, "GET", "/clamshell/v1/sessions?runtime=agent", &Value::Null).await;
    assert_eq!(sessions["sessions"].as_array().unwrap().len(), 1);
    let reply = ask(&signer).await;
    let text = reply.json()["message"].as_str().unwrap().to_owned();
    let who = text.strip_prefix("User: ").unwrap().split(' ').next().unwrap().to_owned();
    let role = format!("arn:aws:sts::{}:assumed-role/tester/", server.info.account_id);
    assert!(who.starts_with(&role), "{text}");
    refused("without a policy", &reply, &who, "bedrock-agentcore:GetAgentRuntime", &arn);

    let allow = json!({ "Statement": {
        "Effect": "Allow", "Action": "bedrock-agentcore:GetAgentRuntime", "Resource": arn,
    } });
    root(server, "PUT", "/clamshell/v1/roles/tester/policies/get", &allow).await;
    assert_eq!(ask(&signer).await.status, 200);
    let list = Call::new("POST", "/runtimes/").signed(&signer).send(&server.client).await;
    refused("another action", &list, &who, "bedrock-agentcore:ListAgentRuntimes", "*");
    // A policy may name the role.
    let deny = json!({ "Version": "2012-10-17", "Statement": [{
        "Effect": "Deny", "Action": "bedrock-agentcore:GetAgentRuntime", "Resource": arn,
        "Principal": { "AWS": format!("arn:aws:iam::{}:role/tester", server.info.account_id) },
    }] });
    let path = format!("/resourcepolicy/{}", percent_encode(&arn));
    root(server, "PUT", &path, &json!({ "policy": deny.to_string() })).await;
    assert_eq!(ask(&signer).await.status, 403);
    root(server, "DELETE", &path, &Value::Null).await;
    assert_eq!(ask(&signer).await.status, 200);

    // Without the token, with another one, with another secret.
    let changed = |change: fn(&mut Credentials)| {
        let mut signer = signer.clone();
        change(&mut signer.credentials);
        signer
    };
    for (name, signer) in [
        ("no token", changed(|it| it.session_token = None)),
        ("other token", changed(|it| it.session_token.as_mut().unwrap().insert(20, 'A'))),
        ("other key", changed(|it| it.access_key_id = "ASIAAAAAAAAAAAAAAAAA".to_owned())),
        ("other secret", changed(|it| it.secret_access_key.insert(0, 'A'))),
    ] {
        let reply = ask(&signer).await;
        assert_eq!(
            (reply.status.as_u16(), reply.header(headers::ERROR_TYPE)),
            (403, "AccessDeniedException"),
            "{name}"
        );
    }

    // They end with their compute; the next one has others.
    let path = format!("/clamshell/v1/sessions/{SESSION}/stop?runtime=agent");
    root(server, "POST", &path, &Value::Null).await;
    let reply = ask(&signer).await;
    let text = "The security token included in the request is invalid.";
    assert_eq!((reply.status.as_u16(), reply.json()), (403, crate::calls::message(text)));
    let (next, _) = credentials(&fixture).await;
    assert_eq!(ask(&next).await.status, 200);
    assert_eq!(ask(&signer).await.status, 403);
}

#[tokio::test]
async fn credentials_outlive_a_restart_of_the_server() {
    let Some(fixture) = Fixture::start("", "clamshell-agent", |_| {}).await else { return };
    let (signer, _) = credentials(&fixture).await;
    let Fixture { server, client, _bucket: bucket } = fixture;
    let server = server.start_again(&format!("standby = false{}", bucket.configuration())).await;
    // Whatever the answer of the agent: it was allowed to ask.
    let authority = server.client.authority.clone();
    let client = clamshell_testkit::Client { authority: authority.clone(), ..client };
    let signer = Signer { authority, ..signer };
    let call = Call::new("GET", client.runtime_path("invocations/.well-known/agent-card.json"));
    let reply = call.clone().signed(&signer).send(&server.client).await;
    assert_ne!(reply.status, 403, "{}", String::from_utf8_lossy(&reply.body));
    let list = Call::new("POST", "/runtimes/").signed(&signer).send(&server.client).await;
    assert_eq!(list.status, 403);
}

#[tokio::test]
async fn an_unknown_role_gives_nothing_and_the_log_says_so() {
    let Some(fixture) = Fixture::start("", "never-made", |_| {}).await else { return };
    let outcome = fixture.client.command(SESSION, READ, 30).await.unwrap();
    assert_eq!(outcome.stdout, "", "{outcome:?}");
    let log = eventually("the log says so", LIMIT, async || {
        let call = Call::new("GET", "/clamshell/v1/logs?runtime=agent").signed(&fixture.server.root());
        let reply = call.send(&fixture.server.client).await;
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        if text.contains("has no credentials") { Ok(text) } else { Err(text) }
    })
    .await;
    assert!(log.contains(":role/never-made is not known to this server"), "{log}");
}
