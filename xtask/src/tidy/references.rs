//! Rules about what documents point at: files, sections and tests that they name must exist.

use super::{File, Finding, promises};

/// A name with one of these endings, and a folder in front of it, is that of a file here.
const ENDINGS: [&str; 11] = ["rs", "ts", "tsx", "mjs", "md", "toml", "py", "sql", "html", "css", "service"];

/// Runs all rules of this file.
pub(super) fn check(files: &[File], findings: &mut Vec<Finding>) {
    for file in files.iter().filter(|file| file.path.ends_with(".md")) {
        let mut in_code = false;
        for (index, line) in file.text.lines().enumerate() {
            if line.trim_start().starts_with("```") {
                in_code = !in_code;
            }
            if in_code {
                continue;
            }
            let mut found = |message| findings.push(Finding::error(&file.path, index + 1, message));
            for target in links(line) {
                if let Some(message) = broken(files, file, target) {
                    found(message);
                }
            }
            for name in spans(line).filter(|name| is_path(files, name)) {
                if !is_there(files, name) && !is_made(files, name) {
                    found(format!("there is no {name}"));
                }
            }
            // SPECIFICATION.md has a stricter rule of its own.
            if file.path != "SPECIFICATION.md" && line.starts_with('|') {
                tests(files, line, &mut found);
            }
        }
    }
}

/// What a line names in backticks.
fn spans(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// Where the links of a line lead, other sites left out.
fn links(line: &str) -> impl Iterator<Item = &str> {
    let targets = line.split("](").skip(1).filter_map(|rest| rest.split_once(')').map(|(target, _)| target));
    targets.filter(|target| !target.contains(':'))
}

/// Why a link leads nowhere.
fn broken(files: &[File], from: &File, target: &str) -> Option<String> {
    let (path, anchor) = target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
    let path = if path.is_empty() { from.path.clone() } else { resolve(&from.path, path) };
    let folder = format!("{path}/");
    let Some(file) = files.iter().find(|file| file.path == path) else {
        let is_folder = files.iter().any(|file| file.path.starts_with(&folder));
        return (!is_folder).then(|| format!("the link to {target} leads nowhere"));
    };
    let anchor = anchor?;
    let headings = file.text.lines().filter(|line| line.starts_with('#'));
    let found = headings.map(|line| slug(line.trim_start_matches('#'))).any(|slug| slug == anchor);
    (!found).then(|| format!("{path} has no section #{anchor}"))
}

/// A path as seen from the folder of a file.
fn resolve(from: &str, path: &str) -> String {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in path.trim_end_matches('/').split('/') {
        match part {
            ".." => drop(parts.pop()),
            "." => {}
            name => parts.push(name),
        }
    }
    parts.join("/")
}

/// How a heading is called in an address.
fn slug(heading: &str) -> String {
    let kept =
        heading.trim().chars().filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'));
    kept.map(|letter| if letter == ' ' { '-' } else { letter.to_ascii_lowercase() }).collect()
}

/// Whether a name is meant to be that of a file or folder of the repository.
fn is_path(files: &[File], name: &str) -> bool {
    let is_plain = name.chars().all(|letter| letter.is_ascii_alphanumeric() || "_-./@".contains(letter));
    let Some((first, rest)) = name.split_once('/') else { return false };
    if !is_plain || first.is_empty() || rest.is_empty() {
        return false;
    }
    let last = name.rsplit('/').next().unwrap_or(name);
    let ending = last.rsplit_once('.').map(|(_, ending)| ending);
    let folder = format!("{first}/");
    ending.is_some_and(|ending| ENDINGS.contains(&ending))
        || files.iter().any(|file| file.path.starts_with(&folder))
        || rest.starts_with("src/")
}

/// Whether a path is there: from the root, or the end of a longer one, with or without the prefix of our crates.
fn is_there(files: &[File], name: &str) -> bool {
    let name = name.trim_end_matches('/');
    let (below, prefixed) = (format!("/{name}/"), format!("/clamshell-{name}/"));
    files.iter().any(|file| {
        let path = format!("/{}/", file.path);
        path.contains(&below) || path.contains(&prefixed)
    })
}

/// Whether a path is one that tools make, which git is told to ignore.
fn is_made(files: &[File], name: &str) -> bool {
    let name = name.trim_end_matches('/');
    let ignored = files.iter().filter(|file| file.path == ".gitignore").flat_map(|file| file.text.lines());
    ignored.filter_map(|line| line.strip_prefix('/')).any(|made| {
        name.strip_prefix(made.trim_end_matches('/'))
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    })
}

/// In a cell of a table, names behind that of a crate are tests of it or modules of them, up to the next semicolon.
fn tests(files: &[File], line: &str, found: &mut dyn FnMut(String)) {
    for part in line.split(['|', ';']) {
        let mut names = spans(part).skip_while(|name| !name.starts_with("clamshell-"));
        let Some(package) = names.next() else { continue };
        for name in names {
            let is_name = name.chars().all(|letter| letter.is_ascii_alphanumeric() || "_:".contains(letter));
            if is_name && !promises::exists(files, package, name) && !is_module(files, package, name) {
                found(format!("{package} has no test {name}"));
            }
        }
    }
}

fn is_module(files: &[File], package: &str, name: &str) -> bool {
    let module = format!("/{}.rs", name.rsplit("::").next().unwrap_or(name));
    let folder = format!("crates/{package}/");
    files.iter().any(|file| file.path.starts_with(&folder) && file.path.ends_with(&module))
}

#[cfg(test)]
mod tests {
    use super::{super::expect, *};

    const OTHERS: [(&str, &str); 4] = [
        ("crates/clamshell-a/src/b.rs", "fn one() {}"),
        ("docs/other.md", "# Other\n\n## What it's for: all\n"),
        ("scripts/up", ""),
        (".gitignore", "/web/dist\n*.log\n"),
    ];

    fn check_line(line: &str, expected: &[&str]) {
        let expected: Vec<String> =
            expected.iter().map(|message| format!("error: docs/page.md:1: {message}")).collect();
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        let files: Vec<_> = OTHERS.into_iter().chain([("docs/page.md", line)]).collect();
        expect(check, &files, &expected);
    }

    #[test]
    fn links_lead_somewhere() {
        check_line("[a](other.md), [b](../docs), [c](https://example.com/x.md)", &[]);
        check_line("[a](other.md#what-its-for-all) and [b](#a)\n# A", &[]);
        check_line("[a](gone.md)", &["the link to gone.md leads nowhere"]);
        check_line("[a](other.md#gone)", &["docs/other.md has no section #gone"]);
    }

    #[test]
    fn named_files_exist() {
        check_line("`a/src/b.rs`, `src/b.rs`, `crates/clamshell-a/src/`, `scripts/up`, `web/dist/`", &[]);
        check_line("`application/json`, `/usr/lib.rs`, `b.rs`, `sessions/<id>/x.md`, `images/layers/`", &[]);
        check_line(
            "`a/src/c.rs` and `scripts/down`",
            &["there is no a/src/c.rs", "there is no scripts/down"],
        );
        check_line("```\n`a/src/c.rs`\n```", &[]);
    }

    #[test]
    fn named_tests_exist() {
        check_line("| x | `clamshell-a` `b::one`, `b`; `some::other` |", &[]);
        check_line("| x | `clamshell-a` `b::two` |", &["clamshell-a has no test b::two"]);
        check_line("`clamshell-a` `b::two`", &[]);
    }
}
