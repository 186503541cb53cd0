//! Rules about files: length, names, depth, what is declared where.

use super::{
    File, Finding,
    code::{code_only, has_word},
};

const LINES_WARN: usize = 600;
const LINES_FAIL: usize = 900;
const FOLDERS_BELOW_SRC_MAX: usize = 2;
const BANNED_MODULES: [&str; 5] = ["utils", "helpers", "common", "manager", "prelude"];

/// Runs all rules of this file.
pub(super) fn check(files: &[File], findings: &mut Vec<Finding>) {
    for file in files.iter().filter(|file| file.is_rust()) {
        length(file, findings);
        names(file, findings);
        depth(file, findings);
    }
    test_files(files, findings);
    decisions(files, findings);
}

fn length(file: &File, findings: &mut Vec<Finding>) {
    let lines = file.text.lines().count();
    if file.is_generated() || lines <= LINES_WARN {
        return;
    }
    if lines > LINES_FAIL {
        findings.push(Finding::error(
            &file.path,
            0,
            format!("{lines} lines; more than {LINES_FAIL}: split it"),
        ));
    } else {
        let message = format!("{lines} lines; more than {LINES_WARN}: split it soon");
        findings.push(Finding::warning(&file.path, 0, message));
    }
}

fn names(file: &File, findings: &mut Vec<Finding>) {
    let path = file.path.as_str();
    if path.rsplit('/').next() == Some("mod.rs") {
        findings.push(Finding::error(path, 0, "no mod.rs: put `name.rs` beside `name/`"));
    }
    for part in path.trim_end_matches(".rs").split('/') {
        if BANNED_MODULES.contains(&part) {
            findings.push(Finding::error(path, 0, format!("`{part}` says nothing: name what it holds")));
        }
    }
    for (index, line) in code_only(&file.text).lines().enumerate() {
        let declared = line.trim().trim_end_matches(['{', ';', ' ']);
        let name = declared.rsplit(' ').next().unwrap_or_default();
        if has_word(declared, "mod") && declared.trim_end() != name && BANNED_MODULES.contains(&name) {
            findings.push(Finding::error(
                path,
                index + 1,
                format!("`{name}` says nothing: name what it holds"),
            ));
        }
    }
}

fn depth(file: &File, findings: &mut Vec<Finding>) {
    let Some((_, below)) = file.path.split_once("/src/") else { return };
    if !file.is_generated() && below.matches('/').count() > FOLDERS_BELOW_SRC_MAX {
        let message = format!("more than {FOLDERS_BELOW_SRC_MAX} folders below src");
        findings.push(Finding::error(&file.path, 0, message));
    }
}

/// Every crate has one test binary, `tests/it/main.rs`, which declares every file beside it: a
/// forgotten file is tests that nobody runs.
fn test_files(files: &[File], findings: &mut Vec<Finding>) {
    for file in files.iter().filter(|file| file.is_rust()) {
        let Some(name) = file.crate_name() else { continue };
        let Some(below) = file.path.strip_prefix(&format!("crates/{name}/tests/")) else { continue };
        let Some(below) = below.strip_prefix("it/") else {
            if !below.contains('/') {
                findings.push(Finding::error(&file.path, 0, "move it to tests/it/: one test binary a crate"));
            }
            continue;
        };
        if below.contains('/') || below == "main.rs" {
            continue;
        }
        let main = format!("crates/{name}/tests/it/main.rs");
        let module = format!("mod {};", below.trim_end_matches(".rs"));
        let declared = files
            .iter()
            .find(|file| file.path == main)
            .is_some_and(|file| code_only(&file.text).lines().any(|line| line.trim().ends_with(&module)));
        if !declared {
            findings.push(Finding::error(&file.path, 0, format!("not declared in {main}: add `{module}`")));
        }
    }
}

/// Decision records are `docs/adr/NNNN-title.md`, numbered from 0001, each number once; their title has the number, too.
fn decisions(files: &[File], findings: &mut Vec<Finding>) {
    let mut numbers: Vec<(usize, &str)> = Vec::new();
    for file in files {
        let Some(name) = file.path.strip_prefix("docs/adr/") else { continue };
        let number = name
            .split_once('-')
            .filter(|(number, title)| number.len() == 4 && title.len() > 3 && title.ends_with(".md"))
            .and_then(|(number, _)| number.parse().ok());
        match number {
            Some(number) => {
                numbers.push((number, &file.path));
                if !file.text.starts_with(&format!("# {number:04}: ")) {
                    findings.push(Finding::error(&file.path, 1, format!("begin with `# {number:04}: `")));
                }
            }
            None if name == "README.md" => {}
            None => findings.push(Finding::error(&file.path, 0, "name it NNNN-title.md")),
        }
    }
    numbers.sort_unstable();
    for (index, (number, path)) in numbers.iter().enumerate() {
        if *number != index + 1 {
            findings.push(Finding::error(path, 0, format!("number {:04} is expected here", index + 1)));
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::expect, *};

    #[test]
    fn long_files_warn_then_fail() {
        let check = |path: &str, lines: usize, expected: &[&str]| {
            expect(check, &[(path, &"x\n".repeat(lines))], expected);
        };
        check("crates/a/src/b.rs", 600, &[]);
        check(
            "crates/a/src/b.rs",
            601,
            &["warning: crates/a/src/b.rs: 601 lines; more than 600: split it soon"],
        );
        check("crates/a/src/b.rs", 901, &["error: crates/a/src/b.rs: 901 lines; more than 900: split it"]);
        check("crates/a/src/generated/b.rs", 5_000, &[]);
        check("docs/b.md", 5_000, &[]);
    }

    #[test]
    fn names_that_say_nothing_are_refused() {
        expect(
            check,
            &[("crates/a/src/b/mod.rs", "")],
            &["error: crates/a/src/b/mod.rs: no mod.rs: put `name.rs` beside `name/`"],
        );
        expect(
            check,
            &[("crates/a/src/utils.rs", "")],
            &["error: crates/a/src/utils.rs: `utils` says nothing: name what it holds"],
        );
        expect(
            check,
            &[("crates/a/src/manager/x.rs", "")],
            &["error: crates/a/src/manager/x.rs: `manager` says nothing: name what it holds"],
        );
        let code = "// mod common;\npub(crate) mod common {\n}\nfn prelude() {}\nmod commons;\n";
        expect(
            check,
            &[("crates/a/src/b.rs", code)],
            &["error: crates/a/src/b.rs:2: `common` says nothing: name what it holds"],
        );
    }

    #[test]
    fn at_most_two_folders_below_src() {
        expect(check, &[("crates/a/src/b/c/d.rs", "")], &[]);
        expect(
            check,
            &[("crates/a/src/b/c/d/e.rs", "")],
            &["error: crates/a/src/b/c/d/e.rs: more than 2 folders below src"],
        );
    }

    #[test]
    fn forgotten_test_files_are_found() {
        let main =
            ("crates/a/tests/it/main.rs", "mod one;\n#[cfg(target_os = \"linux\")]\nmod two;\n// mod three;");
        let files = [main, ("crates/a/tests/it/one.rs", ""), ("crates/a/tests/it/two.rs", "")];
        expect(check, &files, &[]);
        expect(
            check,
            &[main, ("crates/a/tests/it/three.rs", ""), ("crates/a/tests/it/one/deep.rs", "")],
            &[
                "error: crates/a/tests/it/three.rs: not declared in crates/a/tests/it/main.rs: add `mod three;`",
            ],
        );
        expect(
            check,
            &[("crates/a/tests/alone.rs", "")],
            &["error: crates/a/tests/alone.rs: move it to tests/it/: one test binary a crate"],
        );
    }

    #[test]
    fn decisions_are_numbered_without_a_gap() {
        expect(
            check,
            &[
                ("docs/adr/0001-a.md", "# 0001: A"),
                ("docs/adr/0002-b.md", "# 0002: B"),
                ("docs/adr/README.md", ""),
            ],
            &[],
        );
        expect(
            check,
            &[("docs/adr/0001-a.md", "# 0001: A"), ("docs/adr/0001-b.md", "# 0001: B")],
            &["error: docs/adr/0001-b.md: number 0002 is expected here"],
        );
        expect(
            check,
            &[("docs/adr/0002-a.md", "# A"), ("docs/adr/why.md", "")],
            &[
                "error: docs/adr/0002-a.md:1: begin with `# 0002: `",
                "error: docs/adr/why.md: name it NNNN-title.md",
                "error: docs/adr/0002-a.md: number 0001 is expected here",
            ],
        );
    }
}
