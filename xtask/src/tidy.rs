//! `cargo xtask tidy`: house rules that no compiler knows, over every tracked file.
//!
//! Each rule is a function from files to findings, so its tests need no repository. Bare
//! `tokio::spawn`, unbounded channels and the like are banned in `clippy.toml`, not here.

mod code;
mod dependencies;
mod layout;
mod promises;
mod references;
mod text;

use std::{fmt, fs, path::Path, process::Command};

use anyhow::{Context, bail};

/// A tracked file.
#[derive(Debug, Clone)]
pub(crate) struct File {
    /// Path in the repository, with `/`.
    path: String,
    /// Its content; bytes that are no text are replaced.
    text: String,
}

impl File {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Generated files are excepted from rules about how people write.
    fn is_generated(&self) -> bool {
        self.path.contains("/generated/")
    }

    /// The whole file is tests.
    fn is_test(&self) -> bool {
        self.path.contains("/tests/") || self.path.ends_with("/tests.rs") || self.path.ends_with("_tests.rs")
    }

    /// Folder name of the crate that it is part of.
    fn crate_name(&self) -> Option<&str> {
        self.path.strip_prefix("crates/")?.split_once('/').map(|(name, _)| name)
    }
}

/// Something that breaks a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    path: String,
    /// From 1; 0 when the file as a whole is meant.
    line: usize,
    /// Whether it fails the run.
    fails: bool,
    message: String,
}

impl Finding {
    fn error(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, fails: true, message: message.into() }
    }

    fn warning(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self { fails: false, ..Self::error(path, line, message) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let level = if self.fails { "error" } else { "warning" };
        match self.line {
            0 => write!(f, "{level}: {}: {}", self.path, self.message),
            line => write!(f, "{level}: {}:{line}: {}", self.path, self.message),
        }
    }
}

/// Checks the tracked files below `root` and prints what breaks a rule.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    let findings = check(&tracked(root)?);
    for finding in &findings {
        println!("{finding}");
    }
    let errors = findings.iter().filter(|finding| finding.fails).count();
    if errors > 0 {
        bail!("{errors} findings against the house rules");
    }
    Ok(())
}

fn check(files: &[File]) -> Vec<Finding> {
    let mut findings = Vec::new();
    layout::check(files, &mut findings);
    text::check(files, &mut findings);
    dependencies::check(files, &mut findings);
    promises::check(files, &mut findings);
    references::check(files, &mut findings);
    findings.sort_by(|a, b| (&a.path, a.line).cmp(&(&b.path, b.line)));
    findings
}

fn tracked(root: &Path) -> anyhow::Result<Vec<File>> {
    let output = Command::new("git").args(["ls-files", "-z"]).current_dir(root).output();
    let output = output.context("git ls-files")?;
    if !output.status.success() {
        bail!("git ls-files: {}", output.status);
    }
    let names = String::from_utf8(output.stdout).context("file names are UTF-8")?;
    let mut files = Vec::new();
    for path in names.split_terminator('\0') {
        let full = root.join(path);
        // A tracked file may be deleted in the working copy, and a link has no text of its own.
        if fs::symlink_metadata(&full).is_ok_and(|metadata| metadata.is_file()) {
            let bytes = fs::read(&full).with_context(|| path.to_owned())?;
            let text = String::from_utf8_lossy(&bytes).into_owned();
            files.push(File { path: path.to_owned(), text });
        }
    }
    Ok(files)
}

/// For the tests of all rules: checks made-up files with `rule` and compares what it finds, as text.
#[cfg(test)]
fn expect(rule: fn(&[File], &mut Vec<Finding>), files: &[(&str, &str)], expected: &[&str]) {
    let files: Vec<File> = files
        .iter()
        .map(|(path, text)| File { path: (*path).to_owned(), text: (*text).to_owned() })
        .collect();
    let mut findings = Vec::new();
    rule(&files, &mut findings);
    let found: Vec<String> = findings.iter().map(Finding::to_string).collect();
    assert_eq!(found, expected);
}
