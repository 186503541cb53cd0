//! Rules about what is written in files: heads, globs, `unsafe`, unfinished work, traces of a machine.

use super::{
    File, Finding,
    code::{code_only, has_word, tests_start},
};

/// Crates that talk to the kernel in ways the standard library cannot.
const UNSAFE_CRATES: [&str; 3] = ["clamshell-sandbox", "clamshell-term", "clamshell-guest"];

/// Folders of one developer's machine, in two parts so that this file does not break its own rule.
const MACHINE_FOLDERS: [&str; 2] = [concat!("/wo", "rk/"), concat!("/ro", "ot/")];

/// Where packages come from; any other host in a lock file is somebody's private mirror.
const CARGO_REGISTRY: &str = "registry+https://github.com/rust-lang/crates.io-index";

/// Settings that point a package manager at a private mirror.
const MIRROR_SETTINGS: [&str; 3] =
    [concat!("replace", "-with ="), concat!("extra-index", "-url"), concat!("[source.crates", "-io]")];

/// Runs all rules of this file.
pub(super) fn check(files: &[File], findings: &mut Vec<Finding>) {
    for file in files {
        machine(file, findings);
        registries(file, findings);
        if !file.is_rust() {
            continue;
        }
        head(file, findings);
        let code = code_only(&file.text);
        words(file, &code, findings);
        if !file.is_test() {
            globs(file, &code, findings);
        }
    }
}

fn head(file: &File, findings: &mut Vec<Finding>) {
    let build_script = file.path.ends_with("/build.rs");
    if !build_script && !file.text.trim_start().starts_with("//!") {
        findings.push(Finding::error(&file.path, 1, "begin with `//!`: what it is for and what it is not"));
    }
}

fn words(file: &File, code: &str, findings: &mut Vec<Finding>) {
    let unsafe_allowed = file.crate_name().is_some_and(|name| UNSAFE_CRATES.contains(&name));
    for (index, line) in code.lines().enumerate() {
        let mut found = |message: &str| findings.push(Finding::error(&file.path, index + 1, message));
        if !unsafe_allowed && has_word(line, "unsafe") {
            found("`unsafe` is for sandbox, term and guest only");
        }
        if line.contains("#[ignore") {
            found("no ignored tests: a flake is a bug with a name");
        }
        if has_word(line, "todo!") || has_word(line, "unimplemented!") {
            found("unfinished work");
        }
    }
}

fn globs(file: &File, code: &str, findings: &mut Vec<Finding>) {
    let mut statement: Option<(usize, String)> = None;
    for (index, line) in code.lines().enumerate().take(tests_start(code)) {
        let line = line.trim();
        if statement.is_none()
            && (line.starts_with("use ") || line.starts_with("pub") && has_word(line, "use"))
        {
            statement = Some((index, String::new()));
        }
        let Some((start, text)) = &mut statement else { continue };
        text.push_str(line);
        if line.contains(';') {
            if text.contains("::*") || text.contains("{*") || text.contains(",*") || text.contains(", *") {
                findings.push(Finding::error(&file.path, *start + 1, "no glob imports outside tests"));
            }
            statement = None;
        }
    }
}

fn machine(file: &File, findings: &mut Vec<Finding>) {
    for (index, line) in file.text.lines().enumerate() {
        for folder in MACHINE_FOLDERS {
            // `upper/` before it makes it a part of another path, a letter or digit too.
            let absolute = line.match_indices(folder).any(|(start, _)| {
                !line[..start].ends_with(|before: char| {
                    before.is_alphanumeric()
                        || matches!(before, '_' | '-' | '.' | '}' | '/' | '>' | '*' | '$')
                })
            });
            if absolute {
                let message = format!("`{folder}` is a path of one machine");
                findings.push(Finding::error(&file.path, index + 1, message));
            }
        }
        for setting in MIRROR_SETTINGS {
            if line.contains(setting) {
                findings.push(Finding::error(&file.path, index + 1, "a package mirror of one machine"));
            }
        }
    }
}

fn registries(file: &File, findings: &mut Vec<Finding>) {
    let name = file.path.rsplit('/').next();
    for (index, line) in file.text.lines().enumerate() {
        let message = match name {
            Some("Cargo.lock") => match line.trim().strip_prefix("source = \"") {
                Some(source) if !source.starts_with(CARGO_REGISTRY) => {
                    format!("a package from elsewhere than {CARGO_REGISTRY}")
                }
                _ => continue,
            },
            // npm takes the registry of whoever installs; the digests say what comes from it.
            Some("package-lock.json") if line.trim().starts_with("\"resolved\": \"http") => {
                "a package with the address of a registry".to_owned()
            }
            _ => continue,
        };
        findings.push(Finding::error(&file.path, index + 1, message));
    }
}

#[cfg(test)]
mod tests {
    use super::{super::expect, *};

    fn rust(body: &str) -> String {
        format!("//! Head.\n{body}")
    }

    #[test]
    fn rust_files_begin_with_what_they_are_for() {
        expect(check, &[("crates/a/src/b.rs", "\n//! Yes.\n"), ("crates/a/build.rs", "fn main() {}")], &[]);
        expect(
            check,
            &[("crates/a/src/b.rs", "use x;\n//! Late.\n")],
            &["error: crates/a/src/b.rs:1: begin with `//!`: what it is for and what it is not"],
        );
    }

    #[test]
    fn unsafe_has_its_crates() {
        let code =
            rust("// unsafe\nlet text = \"unsafe\";\n#![deny(unsafe_op_in_unsafe_fn)]\nunsafe { x() }\n");
        expect(check, &[("crates/clamshell-guest/src/b.rs", &code)], &[]);
        expect(
            check,
            &[("crates/clamshell-store/src/b.rs", &code)],
            &["error: crates/clamshell-store/src/b.rs:5: `unsafe` is for sandbox, term and guest only"],
        );
    }

    #[test]
    fn unfinished_work_is_found() {
        let code =
            rust("#[ignore = \"slow\"]\nfn a() { todo!() }\n// todo!()\nfn b() { unimplemented!(\"x\") }\n");
        expect(
            check,
            &[("crates/a/src/b.rs", &code)],
            &[
                "error: crates/a/src/b.rs:2: no ignored tests: a flake is a bug with a name",
                "error: crates/a/src/b.rs:3: unfinished work",
                "error: crates/a/src/b.rs:5: unfinished work",
            ],
        );
    }

    #[test]
    fn globs_are_for_tests() {
        let code = rust(
            "use a::b;\nuse a::*;\npub(crate) use a::{\n    b,\n    c::{d, *},\n};\nlet x = 2 * 3;\n\
             #[cfg(test)]\nmod tests {\n    use super::*;\n}\n",
        );
        expect(
            check,
            &[("crates/a/src/b.rs", &code)],
            &[
                "error: crates/a/src/b.rs:3: no glob imports outside tests",
                "error: crates/a/src/b.rs:4: no glob imports outside tests",
            ],
        );
        for path in ["crates/a/tests/it/main.rs", "crates/a/src/b/tests.rs"] {
            expect(check, &[(path, &rust("use super::*;"))], &[]);
        }
    }

    #[test]
    fn paths_of_one_machine_are_found() {
        let check = |line: &str, bad: bool| {
            let expected = format!("error: README.md:1: `{}` is a path of one machine", MACHINE_FOLDERS[0]);
            let expected: &[&str] = if bad { &[&expected] } else { &[] };
            expect(check, &[("README.md", line)], expected);
        };
        check(concat!("cd /wo", "rk/main"), true);
        check(concat!("`/wo", "rk/main`"), true);
        check(concat!("upper/wo", "rk/ and {dir}/wo", "rk/ and ./wo", "rk/x"), false);
        check("/workspace/ and /mnt/workspace/", false);
    }

    #[test]
    fn packages_come_from_public_registries() {
        let public = format!("source = \"{CARGO_REGISTRY}\"\n");
        expect(check, &[("Cargo.lock", &public)], &[]);
        expect(
            check,
            &[("fuzz/Cargo.lock", "source = \"sparse+https://mirror.example/\"\n")],
            &[
                "error: fuzz/Cargo.lock:1: a package from elsewhere than registry+https://github.com/rust-lang/crates.io-index",
            ],
        );
        let line = "      \"resolved\": \"https://mirror.example/a.tgz\",\n";
        expect(
            check,
            &[("web/package-lock.json", line)],
            &["error: web/package-lock.json:1: a package with the address of a registry"],
        );
        expect(
            check,
            &[(".cargo/config.toml", concat!("replace", "-with = \"mirror\""))],
            &["error: .cargo/config.toml:1: a package mirror of one machine"],
        );
    }
}
