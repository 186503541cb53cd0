//! Which files stay out of a package: some that never belong there, and what `.clamshellignore` names.
//!
//! Patterns are those of `.gitignore`: the last one that fits decides, `!` takes back, a slash at the end means folders, a slash
//! elsewhere ties the pattern to the folder of the file, `**` crosses folders.

/// Never part of an agent: histories, environments, caches, secrets of developers.
const ALWAYS: [&str; 21] = [
    ".git/",
    ".hg/",
    ".svn/",
    ".DS_Store",
    ".idea/",
    ".vscode/",
    ".venv/",
    "venv/",
    "/env/",
    "__pycache__/",
    "*.py[co]",
    ".pytest_cache/",
    ".mypy_cache/",
    ".ruff_cache/",
    ".tox/",
    ".npm/",
    ".npmrc",
    ".env",
    ".env.*",
    "/.clamshellignore",
    ".terraform/",
];
/// More patterns than this are no list that somebody wrote.
const PATTERNS_MAX: usize = 10_000;

#[derive(Debug)]
struct Pattern {
    /// Components; `**` stands for any number of them.
    parts: Vec<String>,
    folders_only: bool,
    takes_back: bool,
}

/// Patterns in order.
#[derive(Debug)]
pub(super) struct Ignore {
    patterns: Vec<Pattern>,
}

impl Ignore {
    /// What is always left out, then what the text says.
    pub(super) fn new(text: &str) -> Self {
        let lines = ALWAYS.iter().copied().chain(text.lines());
        Self { patterns: lines.filter_map(Pattern::parse).take(PATTERNS_MAX).collect() }
    }

    /// The same with further patterns.
    pub(super) fn and(mut self, lines: &[&str]) -> Self {
        self.patterns.extend(lines.iter().filter_map(|line| Pattern::parse(line)));
        self
    }

    /// Whether `path`, with `/` between its parts, stays out. Parents are asked about before.
    pub(super) fn covers(&self, path: &str, is_folder: bool) -> bool {
        let parts: Vec<&str> = path.split('/').collect();
        let last = self.patterns.iter().rev().find(|pattern| {
            let parts: Vec<&[u8]> = parts.iter().map(|part| part.as_bytes()).collect();
            (is_folder || !pattern.folders_only) && fits(&pattern.parts, &parts)
        });
        last.is_some_and(|pattern| !pattern.takes_back)
    }
}

impl Pattern {
    fn parse(line: &str) -> Option<Self> {
        let line = line.trim_end();
        if line.is_empty() || line.starts_with('#') {
            return None;
        }
        let (takes_back, line) = line.strip_prefix('!').map_or((false, line), |rest| (true, rest));
        let (folders_only, line) = line.strip_suffix('/').map_or((false, line), |rest| (true, rest));
        let is_tied = line.contains('/');
        let mut parts: Vec<String> =
            line.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect();
        if parts.is_empty() {
            return None;
        }
        if !is_tied {
            parts.insert(0, "**".to_owned());
        }
        Some(Self { parts, folders_only, takes_back })
    }
}

fn fits(pattern: &[String], path: &[&[u8]]) -> bool {
    match (pattern.split_first(), path.split_first()) {
        (None, None) => true,
        (Some((first, rest)), _) if first == "**" => {
            // At the end it is everything inside, which has one part at least.
            if rest.is_empty() {
                return !path.is_empty();
            }
            (0..=path.len()).any(|skip| path.get(skip..).is_some_and(|path| fits(rest, path)))
        }
        (Some((first, rest)), Some((part, path))) => glob(first.as_bytes(), part) && fits(rest, path),
        _ => false,
    }
}

/// `*`, `?`, `[...]` in one part of a path.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((b'*', rest)) => {
            (0..=text.len()).any(|skip| text.get(skip..).is_some_and(|text| glob(rest, text)))
        }
        Some((b'[', rest)) => {
            let Some(end) = rest.iter().skip(1).position(|byte| *byte == b']').map(|at| at + 1) else {
                return text.split_first().is_some_and(|(byte, text)| *byte == b'[' && glob(rest, text));
            };
            let (set, rest) = (rest.get(..end).unwrap_or_default(), rest.get(end + 1..).unwrap_or_default());
            text.split_first().is_some_and(|(byte, text)| in_set(set, *byte) && glob(rest, text))
        }
        Some((first, rest)) => {
            let (first, rest) = match (first, rest.split_first()) {
                (b'\\', Some((escaped, rest))) => (escaped, rest),
                _ => (first, rest),
            };
            let any = pattern.first() == Some(&b'?');
            text.split_first().is_some_and(|(byte, text)| (any || byte == first) && glob(rest, text))
        }
    }
}

fn in_set(set: &[u8], byte: u8) -> bool {
    let (negated, mut set) = match set.split_first() {
        Some((b'!' | b'^', rest)) => (true, rest),
        _ => (false, set),
    };
    let mut found = false;
    loop {
        set = match set {
            [] => return found != negated,
            [low, b'-', high, rest @ ..] => {
                found |= (*low..=*high).contains(&byte);
                rest
            }
            [one, rest @ ..] => {
                found |= *one == byte;
                rest
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, path: &str, is_folder: bool, expect: bool) {
        assert_eq!(Ignore::new(text).covers(path, is_folder), expect, "{text:?} {path}");
    }

    #[test]
    fn some_things_are_always_left_out() {
        for (path, is_folder) in
            [(".git", true), ("a/__pycache__", true), ("b/x.pyc", false), (".env", false)]
        {
            check("", path, is_folder, true);
        }
        for (path, is_folder) in [("main.py", false), ("env.py", false), ("lib/env", true), ("x.py", false)] {
            check("", path, is_folder, false);
        }
        check("!.env.example", ".env.example", false, false);
    }

    #[test]
    fn patterns_are_those_of_git() {
        check("*.log", "deep/down/x.log", false, true);
        check("/top", "top", false, true);
        check("/top", "a/top", false, false);
        check("data/", "data", false, false);
        check("data/", "a/data", true, true);
        check("a/b", "a/b", false, true);
        check("a/b", "x/a/b", false, false);
        check("**/x", "x", false, true);
        check("a/**/z", "a/z", false, true);
        check("a/**/z", "a/b/c/z", false, true);
        check("a/**", "a/b", false, true);
        check("a/**", "a", true, false);
        check("file?.t[xy]t", "file1.txt", false, true);
        check("file[!0-9]", "file7", false, false);
        check("*.txt\n!keep.txt", "keep.txt", false, false);
        check("\\#x", "#x", false, true);
        check("# note", "# note", false, false);
    }
}
