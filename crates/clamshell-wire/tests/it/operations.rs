//! The generated tables, the hand-written operations, the routes and the page of documentation say the same.

use clamshell_wire::{
    Operation, Plane,
    generated::operations,
    model::ModeledOperation,
    route::{Route, RouteError, route},
};

const PAGE: &str = include_str!("../../../../docs/operations.md");

fn known(name: &str) -> Option<Operation> {
    Operation::ALL.iter().copied().find(|operation| operation.name() == name)
}

/// The path with something for each parameter.
fn example(modeled: &ModeledOperation) -> String {
    let mut path = String::new();
    for part in modeled.uri.split_inclusive(['{', '}']) {
        match part.strip_suffix('}') {
            Some(_) => path.push_str("demo-AbCdE12345"),
            None => path.push_str(part.trim_end_matches('{')),
        }
    }
    path
}

#[test]
fn the_table_is_whole() {
    assert_eq!(operations().count(), 250);
    assert_eq!(operations().filter(|modeled| modeled.plane == Plane::Data).count(), 75);
    for modeled in operations() {
        assert!(modeled.uri.starts_with('/') && !modeled.uri.contains('?'), "{}", modeled.name);
        assert!((200..300).contains(&modeled.status), "{}", modeled.name);
        assert!(["GET", "PUT", "POST", "PATCH", "DELETE"].contains(&modeled.method), "{}", modeled.name);
    }
    let mut names: Vec<_> =
        operations().map(|modeled| (modeled.plane == Plane::Data, modeled.name)).collect();
    let count = names.len();
    assert!(names.is_sorted());
    names.dedup();
    assert_eq!(names.len(), count);
}

#[test]
fn known_operations_are_those_of_the_model() {
    let documented_only = [
        "GetRuntimeProtectedResourceMetadata",
        "InvokeAgentRuntimeWithWebSocketStream",
        "InvokeAgentRuntimeCommandShell",
    ];
    for operation in Operation::ALL {
        let modeled = operations().find(|modeled| modeled.name == operation.name());
        let Some(modeled) = modeled else {
            assert!(documented_only.contains(&operation.name()), "{}", operation.name());
            continue;
        };
        assert_eq!(
            (operation.plane(), operation.method(), operation.path_template(), operation.success_status()),
            (modeled.plane, modeled.method, modeled.uri, modeled.status),
            "{}",
            modeled.name
        );
    }
}

#[test]
fn unknown_operations_have_no_route() {
    for modeled in operations() {
        let path = example(modeled);
        match (known(modeled.name), route(modeled.method, &path)) {
            (Some(known), Ok(Route::Operation(found, _))) => assert_eq!(known, found),
            (None, Err(RouteError::UnknownOperation)) => {}
            (_, other) => panic!("{} {path}: {other:?}", modeled.name),
        }
    }
}

#[test]
fn the_page_says_what_is_executed() {
    let mut expect: Vec<String> = operations()
        .map(|modeled| {
            let executed = known(modeled.name).is_some_and(Operation::is_executed);
            row(modeled.name, modeled.method, modeled.uri, modeled.status, executed)
        })
        .collect();
    expect.extend(
        Operation::ALL.iter().filter(|known| operations().all(|modeled| modeled.name != known.name())).map(
            |known| {
                let (method, path) = (known.method(), known.path_template());
                row(known.name(), method, path, known.success_status(), known.is_executed())
            },
        ),
    );
    let rows: Vec<&str> = PAGE.lines().filter(|line| line.contains(" | `")).collect();
    assert_eq!(rows, expect, "run `cargo xtask codegen`");
}

fn row(name: &str, method: &str, path: &str, status: u16, executed: bool) -> String {
    let answer =
        if executed { format!("executed, {status}") } else { "404 `UnknownOperationException`".to_owned() };
    format!("| {name} | `{method} {path}` | {answer} |")
}
