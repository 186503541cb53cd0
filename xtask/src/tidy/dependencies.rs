//! Rules about `Cargo.toml`: who may use whom, and that every dependency says why it is there.

use toml::{Table, Value};

use super::{File, Finding};

const PREFIX: &str = "clamshell-";

/// Which of our crates each crate may use. A new crate needs a row here and a reason in
/// `ARCHITECTURE.md`.
const MAY_USE: &[(&str, &[&str])] = &[
    ("wire", &[]),
    ("domain", &[]),
    ("protocol", &[]),
    ("term", &[]),
    ("store", &["domain"]),
    ("identity", &["domain"]),
    ("sandbox", &["domain", "protocol", "term"]),
    ("gateway", &["domain", "identity"]),
    // The page alone.
    ("console", &[]),
    ("server", &["wire", "domain", "protocol", "term", "store", "identity", "sandbox", "gateway", "console"]),
    ("guest", &["protocol", "term"]),
    // `domain` for its clock: nothing else may read the time.
    ("cli", &["wire", "domain", "term", "server"]),
    // Parsers of hostile bytes alone, so that a fuzzer builds nothing else; nothing uses it.
    ("fuzz", &["wire", "protocol", "term", "sandbox"]),
    ("testkit", &["wire", "domain", "protocol", "term", "store", "identity", "sandbox", "gateway", "server"]),
];

/// Crates without I/O, which therefore have no use for these.
const PURE: [&str; 3] = ["wire", "domain", "protocol"];
const IMPURE: [&str; 9] = [
    "tokio",
    "tokio-util",
    "tokio-rustls",
    "tokio-tungstenite",
    "hyper",
    "hyper-util",
    "axum",
    "sqlx",
    "reqwest",
];

/// Runs all rules of this file.
pub(super) fn check(files: &[File], findings: &mut Vec<Finding>) {
    for file in files {
        if file.path == "Cargo.toml" {
            reasons(file, findings);
        } else if file.path == "ARCHITECTURE.md" {
            code_map(file, files, findings);
        } else if let Some(folder) = file.crate_name()
            && file.path == format!("crates/{folder}/Cargo.toml")
        {
            match file.text.parse::<Table>() {
                Ok(manifest) => crate_manifest(file, folder, &manifest, findings),
                Err(error) => findings.push(Finding::error(&file.path, 0, format!("not TOML: {error}"))),
            }
        }
    }
}

fn crate_manifest(file: &File, folder: &str, manifest: &Table, findings: &mut Vec<Finding>) {
    let mut found = |message: String| findings.push(Finding::error(&file.path, 0, message));
    let name = manifest.get("package").and_then(|package| package.get("name")).and_then(Value::as_str);
    if name != Some(folder) {
        found("the folder must have the name of the crate".to_owned());
    }
    let short = folder.strip_prefix(PREFIX).unwrap_or(folder);
    let Some((_, may_use)) = MAY_USE.iter().find(|(name, _)| *name == short) else {
        found("a new crate needs a row in xtask/src/tidy/dependencies.rs and a reason".to_owned());
        return;
    };
    for (section, dependency, value) in dependencies(manifest) {
        let in_tests = section == "dev-dependencies";
        if value.get("workspace").and_then(Value::as_bool) != Some(true) {
            found(format!("{dependency}: its version belongs to the workspace's Cargo.toml"));
        }
        if let Some(ours) = dependency.strip_prefix(PREFIX) {
            let allowed = may_use.contains(&ours) || in_tests && ours == "testkit";
            if !allowed {
                found(format!("{short} must not use {ours} ({section})"));
            }
        } else if PURE.contains(&short) && IMPURE.contains(&dependency) {
            found(format!("{short} does no I/O and must not use {dependency} ({section})"));
        }
    }
}

/// The code map has a row for every crate, and says of it what the table above says.
fn code_map(file: &File, files: &[File], findings: &mut Vec<Finding>) {
    let row = |line: &str| {
        let mut cells = line.strip_prefix("| `")?.trim_end().trim_end_matches('|').split('|');
        let name = cells.next()?.trim().strip_suffix('`')?.to_owned();
        Some((name, cells.nth(1)?.trim().to_owned()))
    };
    let mut described = Vec::new();
    for (index, line) in file.text.lines().enumerate() {
        let Some((name, uses)) = row(line) else { continue };
        let Some((_, may_use)) = MAY_USE.iter().find(|(known, _)| *known == name) else { continue };
        described.push(name);
        // "all above" and the like are for people.
        let listed: Vec<&str> = uses.split('`').skip(1).step_by(2).collect();
        let (mut listed, mut may_use) = (listed, may_use.to_vec());
        listed.sort_unstable();
        may_use.sort_unstable();
        if (uses.contains('`') || uses == "\u{2013}") && listed != may_use {
            let message = format!("may use {}, says xtask/src/tidy/dependencies.rs", may_use.join(", "));
            findings.push(Finding::error(&file.path, index + 1, message));
        }
    }
    for name in files.iter().filter_map(|file| file.path.strip_prefix("crates/")?.strip_suffix("/Cargo.toml"))
    {
        let short = name.strip_prefix(PREFIX).unwrap_or(name);
        if !described.iter().any(|described| described == short) {
            findings.push(Finding::error(&file.path, 0, format!("the code map has no row for {short}")));
        }
    }
}

/// All dependencies: section, name, value; those of targets too.
fn dependencies(manifest: &Table) -> Vec<(&'static str, &str, &Value)> {
    let targets = manifest.get("target").and_then(Value::as_table);
    let tables = targets.into_iter().flat_map(Table::values).filter_map(Value::as_table);
    let mut all = Vec::new();
    for table in std::iter::once(manifest).chain(tables) {
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            if let Some(entries) = table.get(section).and_then(Value::as_table) {
                all.extend(entries.iter().map(|(name, value)| (section, name.as_str(), value)));
            }
        }
    }
    all
}

/// Every line of `[workspace.dependencies]` ends in a comment that says what it is for.
fn reasons(file: &File, findings: &mut Vec<Finding>) {
    let mut inside = false;
    for (index, line) in file.text.lines().enumerate() {
        let line = line.trim();
        if line.starts_with('[') {
            inside = line == "[workspace.dependencies]";
            continue;
        }
        let Some((name, rest)) = line.split_once('=') else { continue };
        if !inside || line.starts_with('#') || name.starts_with(PREFIX) {
            continue;
        }
        let reason = rest.rsplit_once('#').map(|(_, reason)| reason.trim()).unwrap_or_default();
        if reason.len() < 3 || reason.contains('"') {
            let message = format!("{}: half a line that says why", name.trim());
            findings.push(Finding::error(&file.path, index + 1, message));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::expect, *};

    fn check_crate(short: &str, sections: &str, expected: &[&str]) {
        let path = format!("crates/clamshell-{short}/Cargo.toml");
        let text = format!("[package]\nname = \"clamshell-{short}\"\n{sections}");
        let expected: Vec<String> =
            expected.iter().map(|message| format!("error: {path}: {message}")).collect();
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        expect(check, &[(&path, &text)], &expected);
    }

    #[test]
    fn crates_use_what_the_table_allows() {
        check_crate(
            "store",
            "[dependencies]\nclamshell-domain.workspace = true\nsqlx.workspace = true\n",
            &[],
        );
        check_crate(
            "store",
            "[dependencies]\nclamshell-wire = { workspace = true }\n",
            &["store must not use wire (dependencies)"],
        );
        check_crate(
            "term",
            "[target.'cfg(unix)'.build-dependencies]\nclamshell-domain.workspace = true\n",
            &["term must not use domain (build-dependencies)"],
        );
        check_crate("guest", "[dev-dependencies]\nclamshell-testkit.workspace = true\n", &[]);
        check_crate(
            "guest",
            "[dependencies]\nclamshell-testkit.workspace = true\n",
            &["guest must not use testkit (dependencies)"],
        );
    }

    #[test]
    fn pure_crates_do_no_io() {
        check_crate(
            "wire",
            "[dependencies]\ntokio = { workspace = true, features = [\"rt\"] }\n",
            &["wire does no I/O and must not use tokio (dependencies)"],
        );
        check_crate(
            "protocol",
            "[dev-dependencies]\nhyper.workspace = true\n",
            &["protocol does no I/O and must not use hyper (dev-dependencies)"],
        );
        check_crate("domain", "[dependencies]\nserde.workspace = true\n", &[]);
    }

    #[test]
    fn versions_names_and_new_crates_are_looked_at() {
        check_crate(
            "wire",
            "[dependencies]\nserde = \"1\"\nhttp = { version = \"1\" }\n",
            &[
                "http: its version belongs to the workspace's Cargo.toml",
                "serde: its version belongs to the workspace's Cargo.toml",
            ],
        );
        check_crate(
            "novelty",
            "",
            &["a new crate needs a row in xtask/src/tidy/dependencies.rs and a reason"],
        );
        expect(
            check,
            &[("crates/clamshell-wire/Cargo.toml", "[package]\nname = \"wire\"\n")],
            &["error: crates/clamshell-wire/Cargo.toml: the folder must have the name of the crate"],
        );
    }

    #[test]
    fn the_code_map_says_the_same() {
        let map = "| crate | holds | may use |\n|---|---|---|\n| `wire` | x, `y` | \u{2013} |\n\
             | `store` | z | `domain` |\n| `guest` | z | `term` |\n| `server` | z | all above |\n\
             | `unknown` | z | `wire` |\n";
        let manifest = ("crates/clamshell-wire/Cargo.toml", "[package]\nname = \"clamshell-wire\"\n");
        let other = ("crates/clamshell-term/Cargo.toml", "[package]\nname = \"clamshell-term\"\n");
        expect(
            check,
            &[("ARCHITECTURE.md", map), manifest, other],
            &[
                "error: ARCHITECTURE.md:5: may use protocol, term, says xtask/src/tidy/dependencies.rs",
                "error: ARCHITECTURE.md: the code map has no row for term",
            ],
        );
    }

    #[test]
    fn workspace_dependencies_say_why() {
        let manifest = "[workspace]\nmembers = []\n[workspace.dependencies]\n# Ours.\n\
             clamshell-wire = { path = \"x\" }\nhttp = \"1\" # shared types\nbytes = \"1\"\nurl = \"1#3\"\n\
             [workspace.lints]\nx = \"y\"\n";
        expect(
            check,
            &[("Cargo.toml", manifest)],
            &[
                "error: Cargo.toml:7: bytes: half a line that says why",
                "error: Cargo.toml:8: url: half a line that says why",
            ],
        );
    }
}
