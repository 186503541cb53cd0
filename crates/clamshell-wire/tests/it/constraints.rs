//! Every constraint of the generated shapes at its edges, and shapes and types held against each other.

use std::collections::{BTreeMap, BTreeSet};

use clamshell_wire::{
    Input, Operation,
    generated::{control, data},
    model::{Kind, Length, Location, Member, Shape},
    validate::{normalize, validate},
};
use proptest::{
    strategy::{Strategy, ValueTree},
    string::string_regex,
    test_runner::TestRunner,
};
use serde_json::{Map, Value, json};

/// An input: its operation, its shape, and a way through its type and back.
struct Known {
    operation: Operation,
    shape: &'static Shape,
    read: fn(Value) -> Result<Value, serde_json::Error>,
}

fn through<T: Input>(value: Value) -> Result<Value, serde_json::Error> {
    serde_json::to_value(serde_json::from_value::<T>(value)?)
}

macro_rules! inputs {
    ($($module:ident::$name:ident,)*) => {
        vec![$(Known {
            operation: $module::$name::OPERATION,
            shape: $module::$name::shape(),
            read: through::<$module::$name>,
        },)*]
    };
}

fn inputs() -> Vec<Known> {
    inputs![
        control::CreateAgentRuntimeRequest,
        control::CreateAgentRuntimeEndpointRequest,
        control::DeleteAgentRuntimeRequest,
        control::DeleteAgentRuntimeEndpointRequest,
        control::DeleteResourcePolicyRequest,
        control::GetAgentRuntimeRequest,
        control::GetAgentRuntimeEndpointRequest,
        control::GetResourcePolicyRequest,
        control::ListAgentRuntimeEndpointsRequest,
        control::ListAgentRuntimeVersionsRequest,
        control::ListAgentRuntimesRequest,
        control::ListTagsForResourceRequest,
        control::PutResourcePolicyRequest,
        control::TagResourceRequest,
        control::UntagResourceRequest,
        control::UpdateAgentRuntimeRequest,
        control::UpdateAgentRuntimeEndpointRequest,
        data::GetAgentCardRequest,
        data::InvokeAgentRuntimeRequest,
        data::InvokeAgentRuntimeCommandRequest,
        data::StopRuntimeSessionRequest,
    ]
}

/// All shapes below the inputs; both models have a `ClientToken` and an `Integer`, which are the same.
fn shapes() -> BTreeMap<&'static str, &'static Shape> {
    let mut shapes = BTreeMap::new();
    let mut open: Vec<&'static Shape> = inputs().iter().map(|input| input.shape).collect();
    while let Some(shape) = open.pop() {
        if shapes.insert(shape.name, shape).is_some() {
            continue;
        }
        match &shape.kind {
            Kind::List { member, .. } => open.push(member),
            Kind::Map { key, value, .. } => open.extend([*key, *value]),
            Kind::Structure { members } | Kind::Union { members } => {
                open.extend(members.iter().map(|member| member.shape));
            }
            _ => {}
        }
    }
    shapes
}

/// The rules that a value breaks at its top.
fn rules(shape: &Shape, value: &Value) -> Vec<String> {
    let found = validate(shape, value).err().unwrap_or_default();
    found.into_iter().filter(|found| found.path.is_empty()).map(|found| found.rule).collect()
}

/// What some patterns want before and after a run of the same letter.
const AROUND: &[(&str, char, &str)] = &[
    ("", 'a', ""),
    ("", '1', ""),
    ("/", 'a', ""),
    ("/mnt/", 'a', ""),
    ("arn:aws:iam::123456789012:role/", 'a', ""),
    ("arn:aws:bedrock-agentcore:us-west-2:123456789012:runtime/", 'a', ""),
    ("arn:aws:s3files:", 'a', ":file-system/fs-00000000000000000/access-point/fsap-00000000000000000"),
    ("arn:aws:elasticfilesystem:", 'a', ":access-point/fsap-00000000"),
    ("arn:aws:vpc-lattice:", 'a', ":123456789012:resourceconfiguration/rcfg-00000000000000000"),
];

/// A text of so many characters that the pattern of a shape allows, if one is known.
fn text_of(kind: &Kind, count: usize) -> Option<String> {
    let Kind::Text { pattern, .. } = kind else { return None };
    AROUND.iter().find_map(|(before, letter, after)| {
        let fill = count.checked_sub(before.len() + after.len())?;
        let text = format!("{before}{}{after}", letter.to_string().repeat(fill));
        pattern.as_ref().is_none_or(|pattern| pattern.matches(&text)).then_some(text)
    })
}

/// Texts made from a pattern, by another engine than the one that checks.
fn made_from(pattern: &str, runner: &mut TestRunner, count: usize) -> Vec<String> {
    // That engine's classes are Unicode's, those of the model are ASCII's.
    let pattern = pattern
        .replace(r"[\s\S]", "(?s:.)")
        .replace(r"\d", "[0-9]")
        .replace(r"a-zA-Z0-9\s._", r"a-zA-Z0-9 \t\n\r._");
    let strategy = string_regex(&pattern).unwrap();
    (0..count).map(|_| strategy.new_tree(runner).unwrap().current()).collect()
}

/// A value that a shape allows: all its members or only those it needs, and this one of a union's members.
fn sample(shape: &Shape, all: bool, choice: usize) -> Value {
    match &shape.kind {
        Kind::Text { values, .. } if !values.is_empty() => json!(values[choice % values.len()]),
        Kind::Text { length, pattern, .. } => {
            let most = length.max.unwrap_or(200).min(length.min + 200);
            let known = (length.min.max(1)..=most).find_map(|count| text_of(&shape.kind, count));
            let made = || {
                let pattern = pattern.as_ref().unwrap().text();
                let made = made_from(pattern, &mut TestRunner::deterministic(), 50);
                made.into_iter().find(|text| validate(shape, &json!(text)).is_ok())
            };
            json!(known.or_else(made).unwrap_or_else(|| panic!("no text for {}", shape.name)))
        }
        Kind::Integer { min, max } => json!(min.or(*max).unwrap_or(7)),
        Kind::Boolean => json!(choice.is_multiple_of(2)),
        Kind::List { member, length } => items(member, length.min.max(1), choice),
        Kind::Map { value, length, .. } => entries(value, length.min.max(1), choice),
        Kind::Structure { members } => {
            let wanted = members.iter().filter(|member| (all || member.required) && !is_bytes(member));
            object(wanted.map(|member| (member.name, sample(member.shape, all, choice))))
        }
        Kind::Union { members } => {
            let member = &members[choice % members.len()];
            object([(member.name, sample(member.shape, all, choice))])
        }
        Kind::Timestamp | Kind::Blob { .. } | Kind::Document => {
            panic!("no input has {}", shape.name)
        }
    }
}

fn is_bytes(member: &Member) -> bool {
    member.location == Location::Payload && matches!(member.shape.kind, Kind::Blob { .. })
}

fn object<'a>(members: impl IntoIterator<Item = (&'a str, Value)>) -> Value {
    Value::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn items(member: &Shape, count: usize, choice: usize) -> Value {
    Value::Array(vec![sample(member, true, choice); count])
}

fn entries(value: &Shape, count: usize, choice: usize) -> Value {
    let entry = |index| (format!("k{index}"), sample(value, true, choice));
    Value::Object((0..count).map(entry).collect::<Map<_, _>>())
}

/// Checks one bound on both its sides: `make` gives a value of a count, if it can.
fn check_length(shape: &Shape, length: Length, make: impl Fn(usize) -> Option<Value>) -> Vec<usize> {
    let mut infeasible = Vec::new();
    let at_least = format!("Member must have length greater than or equal to {}", length.min);
    let at_most = format!("Member must have length less than or equal to {}", length.max.unwrap_or_default());
    // What the pattern makes impossible is refused for its length all the same.
    let filler = |count: usize| make(count).unwrap_or_else(|| json!("a".repeat(count)));
    if length.min > 0 {
        let found = rules(shape, &filler(length.min - 1));
        assert!(found.contains(&at_least), "{} under its minimum: {found:?}", shape.name);
    }
    if let Some(max) = length.max {
        let found = rules(shape, &filler(max + 1));
        assert!(found.contains(&at_most), "{} over its maximum: {found:?}", shape.name);
    }
    for count in std::iter::once(length.min).chain(length.max) {
        match make(count) {
            Some(value) => assert_eq!(validate(shape, &value), Ok(()), "{} of {count}", shape.name),
            None => {
                let found = rules(shape, &filler(count));
                assert!(!found.contains(&at_least) && !found.contains(&at_most), "{}: {found:?}", shape.name);
                infeasible.push(count);
            }
        }
    }
    infeasible
}

#[test]
fn every_input_is_here() {
    let known: BTreeSet<_> = inputs().iter().map(|input| input.operation.name()).collect();
    let expect: BTreeSet<_> = Operation::ALL
        .iter()
        .map(|operation| operation.name())
        .filter(|name| clamshell_wire::generated::operations().any(|modeled| modeled.name == *name))
        .collect();
    assert_eq!(known, expect);
}

#[test]
fn lengths_at_their_edges() {
    let mut infeasible = Vec::new();
    let mut checked = 0;
    for shape in shapes().values() {
        let counts = match &shape.kind {
            Kind::Text { length, values, .. } if values.is_empty() && *length != Length::ANY => {
                check_length(shape, *length, |count| text_of(&shape.kind, count).map(Value::from))
            }
            Kind::List { member, length } => {
                check_length(shape, *length, |count| Some(items(member, count, 0)))
            }
            Kind::Map { value, length, .. } => {
                check_length(shape, *length, |count| Some(entries(value, count, 0)))
            }
            _ => continue,
        };
        checked += 1;
        infeasible.extend(counts.into_iter().map(|count| (shape.name, count)));
    }
    assert_eq!(checked, 66);
    // Their patterns want more than their least length.
    let expect = [
        ("EfsAccessPointArn", 0),
        ("ResourceConfigurationIdentifier", 20),
        ("RoleArn", 1),
        ("S3FilesAccessPointArn", 0),
        ("TaggableResourcesArn", 20),
    ];
    assert_eq!(infeasible, expect);
}

#[test]
fn numbers_at_their_edges() {
    let mut checked = Vec::new();
    for shape in shapes().values() {
        let Kind::Integer { min, max } = &shape.kind else { continue };
        if let Some(min) = min {
            let rule = format!("Member must have value greater than or equal to {min}");
            assert_eq!(rules(shape, &json!(min - 1)), [rule], "{}", shape.name);
            assert_eq!(validate(shape, &json!(min)), Ok(()), "{}", shape.name);
        }
        if let Some(max) = max {
            let rule = format!("Member must have value less than or equal to {max}");
            assert_eq!(rules(shape, &json!(max + 1)), [rule], "{}", shape.name);
            assert_eq!(validate(shape, &json!(max)), Ok(()), "{}", shape.name);
        }
        checked.push((shape.name, *min, *max));
    }
    let expect = [
        ("Integer", None, None),
        ("LifecycleConfigurationIdleRuntimeSessionTimeoutInteger", Some(60), Some(1_209_600)),
        ("LifecycleConfigurationMaxLifetimeInteger", Some(60), Some(1_209_600)),
        ("MaxResults", Some(1), Some(100)),
        ("Port", Some(8000), Some(12_000)),
        ("ServerPort", Some(8000), Some(12_000)),
    ];
    assert_eq!(checked, expect);
}

#[test]
fn patterns_and_enums() {
    let mut runner = TestRunner::deterministic();
    let (mut patterns, mut enums, mut line_breaks) = (0, 0, Vec::new());
    for shape in shapes().values() {
        let Kind::Text { length, pattern, values } = &shape.kind else { continue };
        if !values.is_empty() {
            enums += 1;
            for value in *values {
                assert_eq!(validate(shape, &json!(value)), Ok(()), "{} {value}", shape.name);
                let rule = format!("Member must satisfy enum value set: [{}]", values.join(", "));
                for wrong in [value.to_lowercase(), format!("{value} "), String::new()] {
                    assert_eq!(rules(shape, &json!(wrong)), [&*rule], "{} {wrong}", shape.name);
                }
            }
        }
        let Some(pattern) = pattern else { continue };
        patterns += 1;
        for text in made_from(pattern.text(), &mut runner, 100) {
            let count = text.chars().count();
            if count >= length.min && length.max.is_none_or(|max| count <= max) {
                assert_eq!(validate(shape, &json!(text)), Ok(()), "{} {text:?}", shape.name);
            }
        }
        let text = sample(shape, true, 0).as_str().unwrap().to_owned() + "\n";
        if pattern.matches(&text) {
            line_breaks.push(shape.name);
        }
    }
    // White space is allowed in tags, and `[^/]` allows it, too; elsewhere `$` must not let one through.
    assert_eq!(line_breaks, ["TagKey", "TagValue", "TaggableResourcesArn"]);
    // One more in the model, which is not enforced.
    assert_eq!((patterns, enums), (35, 6));
}

#[test]
fn the_container_of_a_runtime_may_be_from_anywhere() {
    for uri in ["agent", "./agent", "docker.io/library/python:3.13", "localhost:5000/a@sha256:0", "Ünïcode"]
    {
        assert_eq!(validate(&control::shapes::RUNTIME_CONTAINER_URI, &json!(uri)), Ok(()), "{uri}");
    }
}

#[test]
fn required_members_and_unions() {
    let (mut required, mut unions) = (0, 0);
    for shape in shapes().values() {
        match &shape.kind {
            Kind::Structure { members } => {
                for member in members.iter().filter(|member| member.required && !is_bytes(member)) {
                    required += 1;
                    for absent in [None, Some(Value::Null)] {
                        let mut value = sample(shape, true, 0);
                        let object = value.as_object_mut().unwrap();
                        object.remove(member.name);
                        object.extend(absent.map(|absent| (member.name.to_owned(), absent)));
                        let found = validate(shape, &value).unwrap_err();
                        let found = found.iter().find(|found| found.path == member.name);
                        let rule = found.map(|found| found.rule.as_str());
                        assert_eq!(rule, Some("Member must not be null"), "{} {}", shape.name, member.name);
                    }
                }
            }
            Kind::Union { members } => {
                unions += 1;
                let rule = "Member must have exactly one member set";
                assert_eq!(rules(shape, &json!({})), [rule], "{}", shape.name);
                for (choice, member) in members.iter().enumerate() {
                    let one = sample(shape, true, choice);
                    assert_eq!(validate(shape, &one), Ok(()), "{} {}", shape.name, member.name);
                }
                if members.len() > 1 {
                    let two =
                        object(members.iter().map(|member| (member.name, sample(member.shape, true, 0))));
                    assert_eq!(rules(shape, &two), [rule], "{}", shape.name);
                }
            }
            _ => {}
        }
    }
    assert_eq!((required, unions), (72, 11));
}

#[test]
fn types_hold_what_shapes_allow() {
    for input in inputs() {
        for choice in 0..12 {
            for all in [true, false] {
                let mut value = sample(input.shape, all, choice);
                let Kind::Structure { members } = &input.shape.kind else { panic!("a structure") };
                let found = validate(input.shape, &value).err().unwrap_or_default();
                let found: Vec<_> = found.iter().map(|found| found.path.as_str()).collect();
                let bytes: Vec<_> =
                    members.iter().filter(|member| is_bytes(member)).map(|member| member.name).collect();
                assert_eq!(found, bytes, "{}", input.operation.name());
                let read = (input.read)(value.clone()).unwrap();
                assert_eq!(read, value, "{}", input.operation.name());
                // What is unknown or null changes nothing.
                let known = value.clone();
                value.as_object_mut().unwrap().extend([("new".to_owned(), json!([null]))]);
                for member in members.iter().filter(|member| !member.required && !all) {
                    value.as_object_mut().unwrap().insert(member.name.to_owned(), Value::Null);
                }
                assert_eq!(normalize(input.shape, value), known, "{}", input.operation.name());
            }
        }
    }
}
