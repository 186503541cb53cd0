//! Rules about documents that promise: `SPECIFICATION.md` names tests, and they must exist. Those of the page, `web`, are
//! named by what they say of themselves, and its measurements by their group.

use super::{File, Finding};

/// Runs all rules of this file.
pub(super) fn check(files: &[File], findings: &mut Vec<Finding>) {
    let Some(specification) = files.iter().find(|file| file.path == "SPECIFICATION.md") else { return };
    for (index, line) in specification.text.lines().enumerate() {
        let cells: Vec<&str> = line.trim().trim_matches('|').split('|').map(str::trim).collect();
        let (3.., Some(tests)) = (cells.len(), cells.last()) else { continue };
        if *tests == "test" || tests.chars().all(|character| matches!(character, '-' | ':')) {
            continue;
        }
        let mut found = |message: String| {
            findings.push(Finding::error(&specification.path, index + 1, message));
        };
        let mut names = tests.split('`').skip(1).step_by(2);
        let Some(package) = names.next() else {
            found("a promise names its test: `crate` `module::test`".to_owned());
            continue;
        };
        let mut any = false;
        for name in names {
            any = true;
            if !exists(files, package, name) {
                found(format!("{package} has no test {name}"));
            }
        }
        if !any {
            found(format!("a promise names its test in {package}"));
        }
    }
}

/// Whether the crate has a function of this name; the modules in front of it are for the reader.
pub(super) fn exists(files: &[File], package: &str, name: &str) -> bool {
    if package == "web" {
        let signs = [
            format!("it(\"{name}\""),
            format!("test(\"{name}\""),
            format!("export async function {name}(stage: Stage)"),
        ];
        let page = files.iter().filter(|file| file.path.starts_with("web/"));
        return page.into_iter().any(|file| signs.iter().any(|sign| file.text.contains(sign)));
    }
    let function = format!("fn {}(", name.rsplit("::").next().unwrap_or(name));
    let folders = [format!("crates/{package}/"), format!("{package}/")];
    files
        .iter()
        .filter(|file| file.is_rust() && folders.iter().any(|folder| file.path.starts_with(folder)))
        .any(|file| file.text.contains(&function))
}

#[cfg(test)]
mod tests {
    use super::{super::expect, *};

    #[test]
    fn promised_tests_exist() {
        let check = |row: &str, expected: &[&str]| {
            let text = format!("# Promises\n\n| promise | number | test |\n|---|---|---|\n{row}\n");
            let code = ("crates/clamshell-a/src/b.rs", "mod tests { fn one() {} fn two() {} }");
            let page =
                ("web/src/c.test.ts", "it(\"does it all\", () => {}); test(\"in a browser\", () => {});");
            let group = ("web/bench/d.ts", "export async function echo(stage: Stage): Promise<void> {}");
            expect(check, &[("SPECIFICATION.md", &text), code, page, group], expected);
        };
        check("| x | 1 | `clamshell-a` `b::tests::one`, `two` |", &[]);
        check(
            "| x | 1 | `clamshell-a` `b::tests::three` |",
            &["error: SPECIFICATION.md:5: clamshell-a has no test b::tests::three"],
        );
        check("| x | 1 | `clamshell-c` `one` |", &["error: SPECIFICATION.md:5: clamshell-c has no test one"]);
        check("| x | 1 | `web` `does it all`, `in a browser`, `echo` |", &[]);
        check("| x | 1 | `web` `does it` |", &["error: SPECIFICATION.md:5: web has no test does it"]);
        check(
            "| x | 1 | soon |",
            &["error: SPECIFICATION.md:5: a promise names its test: `crate` `module::test`"],
        );
        check(
            "| x | 1 | `clamshell-a` |",
            &["error: SPECIFICATION.md:5: a promise names its test in clamshell-a"],
        );
    }
}
