//! Tests of single constraints and their words.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{
    error::ValidationReason,
    generated::{control::shapes as control, data::shapes as data},
    model::{Location, Pattern},
};

fn check(shape: &Shape, value: Value, expect: &[(&str, &str)]) {
    let found = validate(shape, &value).err().unwrap_or_default();
    let found: Vec<_> = found.iter().map(|found| (found.path.as_str(), found.rule.as_str())).collect();
    assert_eq!(found, expect, "{value}");
}

const NULL: &str = "Member must not be null";

fn artifact() -> Value {
    json!({ "containerConfiguration": { "containerUri": "localhost/agent" } })
}

#[test]
fn a_whole_input_is_accepted() {
    let value = json!({
        "agentRuntimeName": "demo",
        "agentRuntimeArtifact": artifact(),
        "roleArn": "arn:aws:iam::123456789012:role/agent",
        "networkConfiguration": { "networkMode": "PUBLIC", "networkModeConfig": null },
        "protocolConfiguration": { "serverProtocol": "AGUI", "port": 8080 },
        "lifecycleConfiguration": { "idleRuntimeSessionTimeout": 60, "maxLifetime": 1_209_600 },
        "environmentVariables": { "A": "", "B": "\u{1F41A}" },
        "allowedPorts": [{ "port": 8000 }, { "portRange": { "from": 9000, "to": 9001 } }],
        "filesystemConfigurations": [{ "sessionStorage": { "mountPath": "/mnt/workspace" } }],
        "tags": {},
        "somethingNew": [null, { "x": 1 }],
    });
    check(&control::CREATE_AGENT_RUNTIME_REQUEST, value, &[]);
}

#[test]
fn every_missing_member_is_told() {
    let expect = [("agentRuntimeArtifact", NULL), ("agentRuntimeName", NULL), ("roleArn", NULL)];
    check(&control::CREATE_AGENT_RUNTIME_REQUEST, json!({}), &expect);
    let value = json!({ "agentRuntimeName": null, "roleArn": null, "agentRuntimeArtifact": null });
    check(&control::CREATE_AGENT_RUNTIME_REQUEST, value, &expect);
}

#[test]
fn text() {
    check(&data::SESSION_TYPE, json!("s".repeat(33)), &[]);
    check(&data::SESSION_TYPE, json!("\u{1F41A}".repeat(256)), &[]);
    let short = [("", "Member must have length greater than or equal to 33")];
    check(&data::SESSION_TYPE, json!("s".repeat(32)), &short);
    check(&data::SESSION_TYPE, json!("\u{1F41A}".repeat(32)), &short);
    let long = [("", "Member must have length less than or equal to 256")];
    check(&data::SESSION_TYPE, json!("s".repeat(257)), &long);
    let name = "Member must satisfy regular expression pattern: [a-zA-Z][a-zA-Z0-9_]{0,47}";
    for value in ["", "1a", "a-b", "a\n", &"a".repeat(49), " a"] {
        check(&control::AGENT_RUNTIME_NAME, json!(value), &[("", name)]);
    }
    check(&control::NETWORK_MODE, json!("VPC"), &[]);
    let modes = [("", "Member must satisfy enum value set: [PUBLIC, VPC]")];
    check(&control::NETWORK_MODE, json!("vpc"), &modes);
    let both = [
        ("", "Member must have length greater than or equal to 33"),
        ("", "Member must satisfy regular expression pattern: [a-zA-Z0-9](-*[a-zA-Z0-9]){0,256}"),
    ];
    check(&control::CLIENT_TOKEN, json!("a-"), &both);
}

#[test]
fn numbers() {
    let least = [("", "Member must have value greater than or equal to 60")];
    let most = [("", "Member must have value less than or equal to 1209600")];
    let shape = &control::LIFECYCLE_CONFIGURATION_MAX_LIFETIME_INTEGER;
    for (value, expect) in [
        (json!(59), &least[..]),
        (json!(-1), &least),
        (json!(60), &[]),
        (json!(1_209_600), &[]),
        (json!(1_209_601), &most),
        (json!(u64::MAX), &most),
        (json!(60.0), &[("", "Member must be an integer")]),
        (json!("60"), &[("", "Member must be an integer")]),
        (json!(true), &[("", "Member must be an integer")]),
    ] {
        check(shape, value, expect);
    }
    check(&control::INTEGER, json!(i32::MIN), &[]);
    check(&control::INTEGER, json!(1_i64 << 31), &[("", "Member must be an integer of 32 bits")]);
}

#[test]
fn lists_and_maps() {
    check(
        &control::SECURITY_GROUPS,
        json!([]),
        &[("", "Member must have length greater than or equal to 1")],
    );
    let groups = vec!["sg-12345678"; 17];
    check(
        &control::SECURITY_GROUPS,
        json!(groups),
        &[("", "Member must have length less than or equal to 16")],
    );
    let item = "Member must satisfy constraint: [Member must satisfy regular expression pattern: \
                sg-[0-9a-zA-Z]{8,17}]";
    check(&control::SECURITY_GROUPS, json!(["sg-12345678", "x", "y"]), &[("", item)]);
    check(&control::SECURITY_GROUPS, json!(["sg-12345678", null]), &[(".2.member", NULL)]);
    check(&control::SECURITY_GROUPS, json!(["sg-12345678", 5]), &[(".2.member", "Member must be a string")]);
    check(&control::SECURITY_GROUPS, json!({}), &[("", "Member must be a list")]);
    check(&control::ENVIRONMENT_VARIABLES_MAP, json!([]), &[("", "Member must be a map")]);
    let keys = "Map keys must satisfy constraint: [Member must have length less than or equal to 100, \
                Member must have length greater than or equal to 1]";
    let values = "Map value must satisfy constraint: [Member must have length less than or equal to 5000]";
    let map = json!({ "": "a", "A": "v".repeat(5001), "B": "v".repeat(5001), "k".repeat(101): "" });
    check(&control::ENVIRONMENT_VARIABLES_MAP, map, &[("", keys), ("", values)]);
    let null = "Map value must satisfy constraint: [Member must not be null]";
    check(&control::ENVIRONMENT_VARIABLES_MAP, json!({ "A": null }), &[("", null)]);
    check(&control::ENVIRONMENT_VARIABLES_MAP, json!({ "A": 1 }), &[(".value", "Member must be a string")]);
}

#[test]
fn unions_have_exactly_one_member() {
    let one = "Member must have exactly one member set";
    let shape = &control::ALLOWED_PORT;
    check(shape, json!({ "port": 8000 }), &[]);
    check(shape, json!({ "port": 8000, "portRange": null, "new": 1 }), &[]);
    check(shape, json!({}), &[("", one)]);
    check(shape, json!({ "new": 1 }), &[("", one)]);
    check(shape, json!({ "port": null }), &[("", one)]);
    check(shape, json!({ "port": 8000, "portRange": { "from": 8000, "to": 8001 } }), &[("", one)]);
    check(shape, json!("port"), &[("", "Member must be a structure")]);
}

#[test]
fn paths_lead_to_the_place() {
    let value = json!({
        "agentRuntimeName": "demo",
        "roleArn": "arn:aws:iam::123456789012:role/agent",
        "agentRuntimeArtifact": { "containerConfiguration": { "containerUri": "" } },
        "allowedPorts": [{ "port": 8000 }, { "portRange": { "from": 8000 } }],
        "authorizerConfiguration": { "customJWTAuthorizer": {
            "discoveryUrl": "https://idp/.well-known/openid-configuration",
            "customClaims": [{
                "inboundTokenClaimName": "c",
                "inboundTokenClaimValueType": "TEXT",
                "authorizingClaimMatchValue": { "claimMatchOperator": "EQUALS", "claimMatchValue": {} },
            }],
        } },
    });
    let expect = [
        (
            "agentRuntimeArtifact.containerConfiguration.containerUri",
            "Member must have length greater than or equal to 1",
        ),
        ("allowedPorts.2.member.portRange.to", NULL),
        (
            "authorizerConfiguration.customJWTAuthorizer.customClaims.1.member.authorizingClaimMatchValue\
             .claimMatchValue",
            "Member must have exactly one member set",
        ),
        (
            "authorizerConfiguration.customJWTAuthorizer.customClaims.1.member.inboundTokenClaimValueType",
            "Member must satisfy enum value set: [STRING, STRING_ARRAY]",
        ),
    ];
    check(&control::CREATE_AGENT_RUNTIME_REQUEST, value, &expect);
}

#[test]
fn other_kinds() {
    let shape = |kind| Shape { name: "X", sensitive: false, kind };
    check(&shape(Kind::Boolean), json!("true"), &[("", "Member must be a boolean")]);
    check(&shape(Kind::Timestamp), json!("2026-01-02T03:04:05Z"), &[]);
    check(&shape(Kind::Timestamp), json!(5), &[("", "Member must be a timestamp")]);
    check(&shape(Kind::Document), json!([1, null]), &[]);
    let blob = || Kind::Blob { length: Length { min: 2, max: Some(3) } };
    check(&shape(blob()), json!("YWI="), &[]);
    check(&shape(blob()), json!("YQ=="), &[("", "Member must have length greater than or equal to 2")]);
    check(&shape(blob()), json!("YWJjZA=="), &[("", "Member must have length less than or equal to 3")]);
    check(&shape(blob()), json!("%"), &[("", "Member must be base64")]);
}

#[test]
fn violations_and_nesting_are_bounded() {
    let items = vec![json!({}); 10_000];
    let found = validate(&control::CUSTOM_CLAIM_VALIDATIONS_TYPE, &json!(items)).unwrap_err();
    assert_eq!(found.len(), VIOLATIONS_MAX);
    let nulls = vec![Value::Null; 10_000];
    assert_eq!(validate(&control::SUBNET_IDS, &json!(nulls)).unwrap_err().len(), VIOLATIONS_MAX);

    static NEST: Shape =
        Shape { name: "Nest", sensitive: false, kind: Kind::List { member: &NEST, length: Length::ANY } };
    let mut value = json!([]);
    for _ in 0..=DEPTH_MAX {
        value = json!([value]);
    }
    let found = validate(&NEST, &value).unwrap_err();
    assert_eq!((found.len(), found[0].rule.as_str()), (1, "Member must be nested less deeply"));
}

#[test]
fn long_texts_are_not_matched() {
    static TEXT: Shape = Shape {
        name: "Text",
        sensitive: false,
        kind: Kind::Text {
            length: Length { min: 0, max: Some(3) },
            pattern: Some(Pattern::new("a*")),
            values: &[],
        },
    };
    check(&TEXT, json!("bbbb"), &[("", "Member must have length less than or equal to 3")]);
    check(&TEXT, json!("bbb"), &[("", "Member must satisfy regular expression pattern: a*")]);
}

#[test]
fn errors_as_clients_read_them() {
    let error = |value| aws_error(&validate(&control::LIFECYCLE_CONFIGURATION, &value).unwrap_err());
    let one = error(json!({ "maxLifetime": 59 }));
    assert_eq!(one.reason, Some(ValidationReason::FieldValidationFailed));
    assert_eq!(
        one.message,
        "1 validation error detected: Value at 'maxLifetime' failed to satisfy constraint: \
         Member must have value greater than or equal to 60"
    );
    let two = error(json!({ "maxLifetime": 59, "idleRuntimeSessionTimeout": 1_209_601 }));
    assert!(two.message.starts_with("2 validation errors detected: Value at 'idleRuntimeSessionTimeout' "));
    assert_eq!(two.field_list[1].name, "maxLifetime");
    let parse = error(json!({ "maxLifetime": "60", "idleRuntimeSessionTimeout": 59 }));
    assert_eq!(parse.reason, Some(ValidationReason::CannotParse));
    assert_eq!(parse.message, "Member 'maxLifetime' must be an integer.");
    assert_eq!(parse.field_list.len(), 2);
}

#[test]
fn normal_values_have_known_members_only() {
    let value = json!({
        "port": null,
        "portRange": { "from": 8000, "to": 8001, "x": null },
        "y": 1,
    });
    let list = json!([value, { "port": 8000 }]);
    let expect = json!([{ "portRange": { "from": 8000, "to": 8001 } }, { "port": 8000 }]);
    assert_eq!(normalize(&control::ALLOWED_PORTS, list), expect);
    assert_eq!(normalize(&control::ALLOWED_PORTS, json!("x")), json!("x"));
    assert_eq!(normalize(&control::TAGS_MAP, json!({ "a": "b" })), json!({ "a": "b" }));
}

#[test]
fn sensitive_values_are_marked() {
    assert!(control::ENVIRONMENT_VARIABLES_MAP.sensitive && control::DESCRIPTION.sensitive);
    let Kind::Structure { members } = &control::GET_AGENT_RUNTIME_REQUEST.kind else { panic!("a structure") };
    let version = members.iter().find(|member| member.name == "agentRuntimeVersion").unwrap();
    assert_eq!((version.location, version.required), (Location::Query("version"), false));
}

fn any_json() -> impl Strategy<Value = Value> {
    let names = prop_oneof![
        Just("containerConfiguration"),
        Just("agentRuntimeArtifact"),
        Just("port"),
        Just("portRange"),
        Just("allowedPorts"),
        Just("tags"),
        Just("s3"),
        Just("from"),
        Just("customJWTAuthorizer"),
        Just("authorizerConfiguration"),
        Just("x"),
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (7990_i64..12_010).prop_map(Value::from),
        ".{0,40}".prop_map(Value::from),
        "[a-zA-Z0-9/:.-]{0,60}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(names.clone(), inner, 0..6)
                .prop_map(|map| map.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        ]
    })
}

proptest! {
    #[test]
    fn any_json_is_answered(value in any_json()) {
        for shape in [
            &control::CREATE_AGENT_RUNTIME_REQUEST,
            &control::AGENT_RUNTIME_ARTIFACT,
            &control::ALLOWED_PORTS,
            &control::ALLOWED_PORT,
            &control::TAGS_MAP,
            &control::CUSTOM_JWT_AUTHORIZER_CONFIGURATION,
            &data::INVOKE_AGENT_RUNTIME_COMMAND_REQUEST_BODY,
        ] {
            let before = validate(shape, &value);
            let normal = normalize(shape, value.clone());
            // What is left out makes no difference.
            prop_assert_eq!(&before, &validate(shape, &normal));
            if let Err(found) = before {
                prop_assert!(!found.is_empty() && found.len() <= VIOLATIONS_MAX);
                prop_assert_eq!(aws_error(&found).field_list.len(), found.len());
            }
        }
    }
}
