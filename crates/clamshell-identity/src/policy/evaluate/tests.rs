//! The well-known cases of policy evaluation, and properties over random documents.

use proptest::prelude::*;

use super::{super::DocumentKind, *};

const OWN: &str = "111122223333";
const OTHER: &str = "444455556666";
const RUNTIME: &str = "arn:aws:bedrock-agentcore:us-west-2:111122223333:runtime/demo-AbCdE12345";
const INVOKE: &str = "bedrock-agentcore:InvokeAgentRuntime";

fn user(account: &str) -> Principal {
    Principal {
        arn: format!("arn:aws:iam::{account}:user/bob"),
        account: account.to_owned(),
        kind: PrincipalKind::User,
    }
}

fn root(account: &str) -> Principal {
    Principal {
        arn: format!("arn:aws:iam::{account}:root"),
        account: account.to_owned(),
        kind: PrincipalKind::Root,
    }
}

fn session(account: &str) -> Principal {
    Principal {
        arn: format!("arn:aws:sts::{account}:assumed-role/agent/s-1"),
        account: account.to_owned(),
        kind: PrincipalKind::RoleSession { role_arn: format!("arn:aws:iam::{account}:role/agent") },
    }
}

fn anonymous() -> Principal {
    Principal { arn: String::new(), account: String::new(), kind: PrincipalKind::Anonymous }
}

fn document(kind: DocumentKind, statements: &str) -> Document {
    let text = format!(r#"{{"Version":"2012-10-17","Statement":[{statements}]}}"#);
    Document::parse(kind, &text).unwrap()
}

/// Decides an invocation of [`RUNTIME`] by the given statements; an empty text is no policy.
fn check(principal: Principal, identity: &str, resource: &str, expect: Decision) {
    let mut request = Request::new(INVOKE, RUNTIME, principal);
    request.set("aws:SourceIp", ["203.0.113.9"]).set("aws:PrincipalTag/Team", ["blue"]);
    if request.principal.kind == PrincipalKind::User {
        request.set("aws:username", ["bob"]);
    }
    let parse = |kind, text: &str| (!text.is_empty()).then(|| document(kind, text));
    let (of_identity, of_resource) =
        (parse(DocumentKind::Identity, identity), parse(DocumentKind::Resource, resource));
    let found =
        evaluate(&request, &of_identity.iter().collect::<Vec<_>>(), &of_resource.iter().collect::<Vec<_>>());
    assert_eq!(found, expect, "{:?}\n{identity}\n{resource}", request.principal);
}

const ALLOW_ALL: &str = r#"{"Effect":"Allow","Action":"*","Resource":"*"}"#;
const DENY_ALL: &str = r#"{"Effect":"Deny","Action":"*","Resource":"*"}"#;

fn for_principal(effect: &str, principal: &str) -> String {
    format!(
        r#"{{"Effect":"{effect}","Principal":{principal},"Action":"bedrock-agentcore:Invoke*","Resource":"{RUNTIME}"}}"#
    )
}

#[test]
fn identity_policies_within_the_account() {
    use Decision::{Allow, ExplicitDeny, ImplicitDeny};
    check(user(OWN), "", "", ImplicitDeny);
    check(user(OWN), ALLOW_ALL, "", Allow);
    check(user(OWN), DENY_ALL, "", ExplicitDeny);
    check(user(OWN), &format!("{ALLOW_ALL},{DENY_ALL}"), "", ExplicitDeny);
    let action = |action: &str| format!(r#"{{"Effect":"Allow","Action":"{action}","Resource":"*"}}"#);
    check(user(OWN), &action("bedrock-agentcore:invokeagentruntime"), "", Allow);
    check(user(OWN), &action("bedrock-agentcore:Invoke*"), "", Allow);
    check(user(OWN), &action("bedrock-agentcore:InvokeAgentRuntim?"), "", Allow);
    check(user(OWN), &action("bedrock-agentcore:InvokeAgentRuntimeForUser"), "", ImplicitDeny);
    check(user(OWN), &action("s3:*"), "", ImplicitDeny);
    let resource = |resource: &str| format!(r#"{{"Effect":"Allow","Action":"*","Resource":"{resource}"}}"#);
    check(user(OWN), &resource(RUNTIME), "", Allow);
    check(user(OWN), &resource("arn:aws:bedrock-agentcore:*:*:runtime/demo-*"), "", Allow);
    check(user(OWN), &resource("arn:aws:bedrock-agentcore:*:*:runtime/DEMO-*"), "", ImplicitDeny);
    check(user(OWN), &resource("arn:aws:bedrock-agentcore:*:444455556666:runtime/*"), "", ImplicitDeny);
    check(
        user(OWN),
        r#"{"Effect":"Allow","NotAction":"bedrock-agentcore:Invoke*","Resource":"*"}"#,
        "",
        ImplicitDeny,
    );
    check(user(OWN), r#"{"Effect":"Allow","NotAction":"iam:*","NotResource":"arn:aws:s3:::*"}"#, "", Allow);
}

#[test]
fn resource_policies_within_the_account() {
    use Decision::{Allow, ExplicitDeny, ImplicitDeny};
    check(user(OWN), "", &for_principal("Allow", "\"*\""), Allow);
    check(user(OWN), "", &for_principal("Allow", r#"{"AWS":"arn:aws:iam::111122223333:user/bob"}"#), Allow);
    check(
        user(OWN),
        "",
        &for_principal("Allow", r#"{"AWS":"arn:aws:iam::111122223333:user/eve"}"#),
        ImplicitDeny,
    );
    check(
        session(OWN),
        "",
        &for_principal("Allow", r#"{"AWS":"arn:aws:iam::111122223333:role/agent"}"#),
        Allow,
    );
    check(
        session(OWN),
        "",
        &for_principal("Allow", r#"{"AWS":"arn:aws:sts::111122223333:assumed-role/agent/s-1"}"#),
        Allow,
    );
    check(
        session(OWN),
        "",
        &for_principal("Allow", r#"{"AWS":"arn:aws:sts::111122223333:assumed-role/agent/s-2"}"#),
        ImplicitDeny,
    );
    // To name the account is to leave the decision to its identity policies.
    check(user(OWN), "", &for_principal("Allow", r#"{"AWS":"111122223333"}"#), ImplicitDeny);
    check(user(OWN), ALLOW_ALL, &for_principal("Deny", r#"{"AWS":"111122223333"}"#), ExplicitDeny);
    check(user(OWN), ALLOW_ALL, &for_principal("Deny", "\"*\""), ExplicitDeny);
    check(user(OWN), ALLOW_ALL, &for_principal("Deny", r#"{"AWS":"444455556666"}"#), Allow);
    let not_bob = r#"{"Effect":"Deny","NotPrincipal":{"AWS":"arn:aws:iam::111122223333:user/bob"},"Action":"*","Resource":"*"}"#;
    check(user(OWN), ALLOW_ALL, not_bob, Allow);
    check(session(OWN), ALLOW_ALL, not_bob, ExplicitDeny);
}

#[test]
fn across_accounts_both_must_allow() {
    use Decision::{Allow, ExplicitDeny, ImplicitDeny};
    let account = for_principal("Allow", r#"{"AWS":"arn:aws:iam::444455556666:root"}"#);
    check(user(OTHER), ALLOW_ALL, "", ImplicitDeny);
    check(user(OTHER), "", &account, ImplicitDeny);
    check(user(OTHER), "", &for_principal("Allow", "\"*\""), ImplicitDeny);
    check(user(OTHER), ALLOW_ALL, &account, Allow);
    check(user(OTHER), ALLOW_ALL, &for_principal("Allow", r#"{"AWS":"111122223333"}"#), ImplicitDeny);
    check(user(OTHER), ALLOW_ALL, &format!("{account},{}", for_principal("Deny", "\"*\"")), ExplicitDeny);
    check(root(OTHER), "", "", ImplicitDeny);
    check(root(OTHER), "", &account, Allow);
}

#[test]
fn the_root_of_the_account_may_all_that_is_not_denied() {
    use Decision::{Allow, ExplicitDeny};
    check(root(OWN), "", "", Allow);
    check(root(OWN), "", &for_principal("Deny", r#"{"AWS":"111122223333"}"#), ExplicitDeny);
    check(root(OWN), "", &for_principal("Deny", r#"{"AWS":"arn:aws:iam::111122223333:user/bob"}"#), Allow);
}

#[test]
fn callers_without_an_identity_are_covered_by_the_star_alone() {
    use Decision::{Allow, ExplicitDeny, ImplicitDeny};
    check(anonymous(), "", "", ImplicitDeny);
    check(anonymous(), "", &for_principal("Allow", "\"*\""), Allow);
    check(anonymous(), "", &for_principal("Allow", r#"{"AWS":"*"}"#), Allow);
    check(anonymous(), "", &for_principal("Allow", r#"{"AWS":"111122223333"}"#), ImplicitDeny);
    check(anonymous(), "", &for_principal("Deny", "\"*\""), ExplicitDeny);
    let service = Principal {
        arn: "bedrock-agentcore.amazonaws.com".to_owned(),
        account: String::new(),
        kind: PrincipalKind::Service,
    };
    check(
        service.clone(),
        "",
        &for_principal("Allow", r#"{"Service":"bedrock-agentcore.amazonaws.com"}"#),
        Allow,
    );
    check(service, "", &for_principal("Allow", r#"{"Service":"lambda.amazonaws.com"}"#), ImplicitDeny);
}

#[test]
fn conditions_and_variables() {
    use Decision::{Allow, ExplicitDeny, ImplicitDeny};
    let when = |effect: &str, condition: &str| {
        format!(r#"{{"Effect":"{effect}","Action":"*","Resource":"*","Condition":{{{condition}}}}}"#)
    };
    let inside = r#""IpAddress":{"aws:SourceIp":"203.0.113.0/24"}"#;
    let outside = r#""NotIpAddress":{"aws:SourceIp":["10.0.0.0/8","192.0.2.0/24"]}"#;
    check(user(OWN), &when("Allow", inside), "", Allow);
    check(user(OWN), &format!("{ALLOW_ALL},{}", when("Deny", outside)), "", ExplicitDeny);
    // All operators and all keys must hold.
    check(
        user(OWN),
        &when("Allow", &format!(r#"{inside},"Bool":{{"aws:SecureTransport":"true"}}"#)),
        "",
        ImplicitDeny,
    );
    check(user(OWN), &when("Allow", r#""StringEquals":{"aws:principaltag/team":"blue"}"#), "", Allow);
    // A deny unless the tag is there, as organizations write it.
    let untagged = when("Deny", r#""StringNotEquals":{"aws:PrincipalTag/Unit":"x"}"#);
    check(user(OWN), &format!("{ALLOW_ALL},{untagged}"), "", ExplicitDeny);
    let own = r#"{"Effect":"Allow","Action":"*","Resource":"arn:aws:bedrock-agentcore:*:*:runtime/${aws:PrincipalTag/Project, 'demo'}-*"}"#;
    check(user(OWN), own, "", Allow);
    // A variable that is missing: never more from an allow, never less from a deny.
    let missing = |effect: &str, member: &str| {
        format!(
            r#"{{"Effect":"{effect}","Action":"*","{member}":"arn:aws:bedrock-agentcore:*:*:runtime/${{aws:userid}}"}}"#
        )
    };
    check(user(OWN), &missing("Allow", "Resource"), "", ImplicitDeny);
    check(user(OWN), &missing("Allow", "NotResource"), "", ImplicitDeny);
    check(user(OWN), &format!("{ALLOW_ALL},{}", missing("Deny", "NotResource")), "", ExplicitDeny);
    check(user(OWN), &format!("{ALLOW_ALL},{}", missing("Deny", "Resource")), "", Allow);
}

#[test]
fn a_call_on_two_resources_needs_both() {
    let endpoint = format!("{RUNTIME}/runtime-endpoint/DEFAULT");
    let requests = [RUNTIME, &endpoint].map(|arn| Request::new(INVOKE, arn, user(OTHER)));
    let allow = |arn: &str| {
        document(
            DocumentKind::Resource,
            &format!(r#"{{"Effect":"Allow","Principal":"*","Action":"*","Resource":"{arn}"}}"#),
        )
    };
    let deny = document(
        DocumentKind::Resource,
        &format!(r#"{{"Effect":"Deny","Principal":"*","Action":"*","Resource":"{endpoint}"}}"#),
    );
    let identity = document(DocumentKind::Identity, ALLOW_ALL);
    let (of_runtime, of_endpoint) = (allow(RUNTIME), allow(&endpoint));
    let check = |runtime: &[&Document], endpoint: &[&Document], expect: Decision| {
        let checks = [
            Check { request: &requests[0], resource: runtime },
            Check { request: &requests[1], resource: endpoint },
        ];
        assert_eq!(evaluate_all(&checks, &[&identity]), expect);
    };
    check(&[&of_runtime], &[&of_endpoint], Decision::Allow);
    check(&[&of_runtime], &[], Decision::ImplicitDeny);
    check(&[], &[&of_endpoint], Decision::ImplicitDeny);
    check(&[], &[&of_endpoint, &deny], Decision::ExplicitDeny);
    assert_eq!(evaluate_all(&[], &[&identity]), Decision::ImplicitDeny);
}

#[test]
fn trust_policies_decide_who_assumes_a_role() {
    let role = "arn:aws:iam::111122223333:role/agent";
    let trust = document(
        DocumentKind::Trust,
        r#"{"Effect":"Allow","Principal":{"Service":"bedrock-agentcore.amazonaws.com","AWS":"arn:aws:iam::111122223333:user/bob"},
            "Action":"sts:AssumeRole","Condition":{"StringEqualsIfExists":{"aws:SourceAccount":"111122223333"}}}"#,
    );
    let check = |principal: Principal, expect: Decision| {
        assert_eq!(evaluate(&Request::new("sts:AssumeRole", role, principal), &[], &[&trust]), expect);
    };
    check(user(OWN), Decision::Allow);
    check(session(OWN), Decision::ImplicitDeny);
    check(anonymous(), Decision::ImplicitDeny);
}

#[test]
fn odd_resources_allow_nothing() {
    let identity = document(DocumentKind::Identity, ALLOW_ALL);
    for (resource, expect) in [
        ("*", Decision::Allow),
        ("", Decision::ImplicitDeny),
        ("arn:aws:s3", Decision::ImplicitDeny),
        ("arn:aws:x:us-west-2:banana:y", Decision::ImplicitDeny),
    ] {
        assert_eq!(
            evaluate(&Request::new(INVOKE, resource, user(OWN)), &[&identity], &[]),
            expect,
            "{resource}"
        );
    }
}

fn statement(with_principal: bool) -> impl Strategy<Value = String> {
    let effect = prop_oneof![Just("Allow"), Just("Deny")];
    let action = prop_oneof![Just("*"), Just("bedrock-agentcore:Invoke*"), Just("s3:Get*"), Just("a:b")];
    let resource = prop_oneof![Just("*"), Just(RUNTIME), Just("arn:aws:bedrock-agentcore:*:*:runtime/x*")];
    let principal = prop_oneof![
        Just("\"*\""),
        Just(r#"{"AWS":"111122223333"}"#),
        Just(r#"{"AWS":"arn:aws:iam::111122223333:user/bob"}"#),
        Just(r#"{"AWS":"444455556666"}"#)
    ];
    let condition = prop_oneof![
        Just("{}"),
        Just(r#"{"IpAddress":{"aws:SourceIp":"203.0.113.0/24"}}"#),
        Just(r#"{"StringNotLike":{"aws:username":"b*"}}"#),
        Just(r#"{"Null":{"aws:username":"true"}}"#)
    ];
    (effect, action, any::<bool>(), resource, any::<bool>(), principal, condition).prop_map(
        move |(effect, action, not_action, resource, not_resource, principal, condition)| {
            let not = |yes| if yes { "Not" } else { "" };
            let principal =
                if with_principal { format!(r#""Principal":{principal},"#) } else { String::new() };
            format!(
                r#"{{"Effect":"{effect}",{principal}"{}Action":"{action}","{}Resource":"{resource}","Condition":{condition}}}"#,
                not(not_action),
                not(not_resource)
            )
        },
    )
}

fn documents() -> impl Strategy<Value = (Vec<Document>, Vec<Document>)> {
    let list = |with_principal, kind| {
        proptest::collection::vec(statement(with_principal), 0..4)
            .prop_map(move |all| all.iter().map(|one| document(kind, one)).collect::<Vec<_>>())
    };
    (list(false, DocumentKind::Identity), list(true, DocumentKind::Resource))
}

fn principals() -> impl Strategy<Value = Principal> {
    prop_oneof![
        Just(user(OWN)),
        Just(user(OTHER)),
        Just(session(OWN)),
        Just(root(OWN)),
        Just(root(OTHER)),
        Just(anonymous())
    ]
}

fn request(principal: Principal) -> Request {
    let mut request = Request::new(INVOKE, RUNTIME, principal);
    request.set("aws:SourceIp", ["203.0.113.9"]).set("aws:username", ["bob"]);
    request
}

proptest! {
    #[test]
    fn a_deny_always_wins((identity, resource) in documents(), principal in principals()) {
        let request = request(principal);
        let deny = document(DocumentKind::Identity, DENY_ALL);
        let deny_resource = document(
            DocumentKind::Resource,
            r#"{"Effect":"Deny","Principal":"*","Action":"*","Resource":"*"}"#,
        );
        let (identity, resource): (Vec<_>, Vec<_>) = (identity.iter().collect(), resource.iter().collect());
        let more = [identity.clone(), vec![&deny]].concat();
        prop_assert_eq!(evaluate(&request, &more, &resource), Decision::ExplicitDeny);
        let more = [resource, vec![&deny_resource]].concat();
        prop_assert_eq!(evaluate(&request, &identity, &more), Decision::ExplicitDeny);
    }

    #[test]
    fn more_allows_never_lift_a_deny_nor_take_an_allow(
        (identity, resource) in documents(),
        principal in principals(),
    ) {
        let request = request(principal);
        let allow = document(DocumentKind::Identity, ALLOW_ALL);
        let allow_resource = document(
            DocumentKind::Resource,
            r#"{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}"#,
        );
        let (identity, resource): (Vec<_>, Vec<_>) = (identity.iter().collect(), resource.iter().collect());
        let before = evaluate(&request, &identity, &resource);
        let after = evaluate(
            &request,
            &[identity, vec![&allow]].concat(),
            &[resource, vec![&allow_resource]].concat(),
        );
        let expect = if before == Decision::ExplicitDeny { before } else { Decision::Allow };
        prop_assert_eq!(after, expect);
    }

    #[test]
    fn the_order_of_documents_is_of_no_account((identity, resource) in documents(), principal in principals()) {
        let request = request(principal);
        let (mut identity, mut resource): (Vec<_>, Vec<_>) =
            (identity.iter().collect(), resource.iter().collect());
        let before = evaluate(&request, &identity, &resource);
        identity.reverse();
        resource.reverse();
        prop_assert_eq!(evaluate(&request, &identity, &resource), before);
    }
}
