//! Reads what a project's entry point imports from its own files, and finds errors of syntax before anything is packed.
//!
//! Nothing of the project is run. What is not imported is not looked at: templates and old scripts are nobody's business.
//! Without an interpreter that knows the language, or in doubt, nothing is said: the agent's log will.

use std::{
    collections::BTreeSet,
    fs,
    path::{Component, Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};

use tokio::{io::AsyncWriteExt, process::Command, time::timeout};

use super::project::{Language, Project};
use crate::{client::printable, failure::Failure};

/// Reading a project takes no time; whoever takes longer is no reason to wait.
const WITHIN: Duration = Duration::from_secs(30);
/// Files of JavaScript that are looked at, each by a process of its own.
const SCRIPTS_MAX: usize = 64;
/// A longer file was generated.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Ends of names that an import may leave out.
const SCRIPT_ENDS: [&str; 8] =
    ["", ".js", ".mjs", ".cjs", "/index.js", "/index.mjs", "/index.cjs", "/package.json"];

/// Follows imports from the file that it is given, and prints the first error as `file:line: message`. The exit code says
/// what came out: 0 fine, 3 an error, 4 an interpreter that is older than the one that will run it.
const PYTHON: &str = r#"
import ast, os, sys, warnings
warnings.simplefilter("ignore")
root, entry, minor = sys.argv[1], sys.argv[2], int(sys.argv[3])
if sys.version_info < (3, minor):
    sys.exit(4)
sys.setrecursionlimit(5000)
top = os.path.dirname(entry)
seen, queue, count = set(), [entry], 0
def want(folder, parts):
    for length in range(1, len(parts) + 1):
        path = os.path.join(folder, *parts[:length])
        for file in (path + ".py", os.path.join(path, "__init__.py")):
            if os.path.isfile(os.path.join(root, file)):
                queue.append(os.path.normpath(file))
while queue and count < 2000:
    name = queue.pop(0)
    if name in seen or name.startswith(".."):
        continue
    seen.add(name)
    count += 1
    try:
        with open(os.path.join(root, name), "rb") as file:
            source = file.read(1 << 22)
        tree = compile(source, name, "exec", ast.PyCF_ONLY_AST, dont_inherit=True)
        # Some errors are found only by what makes code of it.
        compile(tree, name, "exec", dont_inherit=True)
    except SyntaxError as error:
        print("%s:%d: %s" % (name, error.lineno or 1, error.msg))
        sys.exit(3)
    except (OSError, ValueError, RecursionError, MemoryError):
        continue
    folder = os.path.dirname(name)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                for base in {"", top}:
                    want(base, alias.name.split("."))
        elif isinstance(node, ast.ImportFrom):
            parts = node.module.split(".") if node.module else []
            bases = {"", top}
            if node.level:
                base = folder
                for _ in range(node.level - 1):
                    base = os.path.dirname(base)
                bases = {base}
            for base in bases:
                for alias in node.names:
                    want(base, parts + [alias.name])
print(count)
"#;

/// Files that were read; `None` when nothing could be told.
pub(super) async fn check(project: &Project, code_runtime: &str) -> Result<Option<usize>, Failure> {
    let Some(entry) = project.entry_point.last() else { return Ok(None) };
    let checked = match project.language {
        Language::Python => timeout(WITHIN, python(&project.folder, entry, code_runtime)).await,
        Language::Node => timeout(WITHIN, node(&project.folder, entry)).await,
    };
    checked.unwrap_or(Ok(None)).map_err(|error| {
        Failure::new("cannot deploy the project")
            .because(printable(&error))
            .hint("its entry point needs this file; nothing was changed")
    })
}

async fn python(folder: &Path, entry: &str, code_runtime: &str) -> Result<Option<usize>, String> {
    let Some((major, minor)) =
        code_runtime.strip_prefix("PYTHON_").and_then(|version| version.split_once('_'))
    else {
        return Ok(None);
    };
    // The one that will run it, else a newer one, which knows all that it knows.
    for program in [format!("python{major}.{minor}"), "python3".to_owned()] {
        let mut command = Command::new(&program);
        command.args(["-I", "-S", "-"]).arg(folder).args([entry, minor]);
        let Some(output) = run(command, PYTHON.as_bytes()).await else { continue };
        let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        match output.status.code() {
            Some(0) => return Ok(said.parse().ok()),
            Some(3) => return Err(said),
            _ => {}
        }
    }
    Ok(None)
}

async fn node(folder: &Path, entry: &str) -> Result<Option<usize>, String> {
    let files = scripts(folder, entry);
    for file in &files {
        let mut command = Command::new("node");
        command.arg("--check").arg(folder.join(file));
        let Some(output) = run(command, &[]).await else { return Ok(None) };
        if output.status.success() {
            continue;
        }
        return match syntax_error(&String::from_utf8_lossy(&output.stderr), file) {
            Some(error) => Err(error),
            // Something else is wrong with it, or with the interpreter.
            None => Ok(None),
        };
    }
    Ok(Some(files.len()))
}

/// Runs to the end with this on stdin; `None` when it cannot.
async fn run(mut command: Command, stdin: &[u8]) -> Option<Output> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .ok()?;
    let mut pipe = child.stdin.take()?;
    // A program that reads nothing may have ended.
    let _ = pipe.write_all(stdin).await;
    drop(pipe);
    child.wait_with_output().await.ok()
}

/// `file:line: message` of what `node --check` says: the file and line first, then an excerpt, then the error.
fn syntax_error(said: &str, file: &str) -> Option<String> {
    let line = said
        .lines()
        .find_map(|line| line.rsplit_once(':').and_then(|(_, number)| number.parse::<u32>().ok()));
    let error = said.lines().find_map(|line| line.strip_prefix("SyntaxError: "))?;
    Some(format!("{file}:{}: {error}", line.unwrap_or(1)))
}

/// The entry point and what it imports by relative paths, in the order in which they were found.
fn scripts(folder: &Path, entry: &str) -> Vec<String> {
    let mut found = vec![entry.to_owned()];
    let mut seen: BTreeSet<String> = found.iter().cloned().collect();
    let mut next = 0;
    while let Some(file) = found.get(next).cloned() {
        next += 1;
        let path = folder.join(&file);
        if fs::metadata(&path).map_or(u64::MAX, |metadata| metadata.len()) > FILE_BYTES_MAX {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap_or_default();
        let above = Path::new(&file).parent().unwrap_or(Path::new(""));
        for name in imports(&text) {
            let Some(base) = inside(&above.join(name)) else { continue };
            let there = SCRIPT_ENDS.iter().map(|end| format!("{base}{end}"));
            let Some(name) = there.into_iter().find(|name| folder.join(name).is_file()) else { continue };
            let is_script = [".js", ".mjs", ".cjs"].iter().any(|end| name.ends_with(end));
            if is_script && found.len() < SCRIPTS_MAX && seen.insert(name.clone()) {
                found.push(name);
            }
        }
    }
    found
}

/// Relative paths in quotes after `from`, `import` and `require(`.
fn imports(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices(['"', '\'']).filter_map(|(at, quote)| {
        let before = text.get(..at)?.trim_end();
        let before = before.strip_suffix('(').unwrap_or(before).trim_end();
        if !["from", "import", "require"].iter().any(|word| before.ends_with(word)) {
            return None;
        }
        let rest = text.get(at + 1..)?;
        let name = rest.get(..rest.find(quote)?)?;
        (name.starts_with("./") || name.starts_with("../")).then_some(name)
    })
}

/// A path without `.` and `..`; `None` when it leaves the project.
fn inside(path: &Path) -> Option<String> {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::CurDir => {}
            Component::ParentDir => {
                if !clean.pop() {
                    return None;
                }
            }
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    clean.to_str().map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn project(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    fn has(program: &str) -> bool {
        std::process::Command::new(program)
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    }

    #[tokio::test]
    async fn what_a_python_program_imports_is_read_and_not_run() {
        if !has("python3") {
            return;
        }
        let marker = "open('/proc/self/cwd/ran', 'w')\n";
        let check = async |files: &[(&str, &str)], expect: Result<Option<usize>, &str>| {
            let folder = project(files);
            let found = python(folder.path(), "srv/main.py", "PYTHON_3_10").await;
            assert_eq!(found, expect.map_err(str::to_owned), "{files:?}");
        };
        let main = ("srv/main.py", "import a.b\nfrom . import c\nfrom x import y\nimport os, nothing\n");
        check(&[main], Ok(Some(1))).await;
        check(&[("srv/main.py", marker)], Ok(Some(1))).await;
        check(
            &[main, ("a/__init__.py", ""), ("a/b.py", "x = 1\n"), ("unused.py", "not python")],
            Ok(Some(3)),
        )
        .await;
        check(&[main, ("a/b.py", "x = 1\nx = = 2\n")], Err("a/b.py:2: invalid syntax")).await;
        check(&[main, ("srv/c.py", "return 1\n")], Err("srv/c.py:1: 'return' outside function")).await;
        check(&[main, ("srv/x.py", "import y\n"), ("y.py", "def f(:\n")], Err("y.py:1: invalid syntax"))
            .await;
        let (folder, newest) = (project(&[("main.py", "x = = 2")]), "PYTHON_3_99");
        assert_eq!(python(folder.path(), "main.py", newest).await, Ok(None), "no interpreter knows it");
    }

    #[tokio::test]
    async fn what_a_script_imports_is_read_and_not_run() {
        let files = [
            (
                "index.js",
                "const a = require('./lib/a'); import(\"./lib\");\nconst b = require(\"left-pad\")\n",
            ),
            ("lib/a.js", "require('../index.js'); require('../../outside')\n"),
            ("lib/index.js", "exports.x = 1\n"),
            ("unused.js", "no script ("),
        ];
        let folder = project(&files);
        assert_eq!(scripts(folder.path(), "index.js"), ["index.js", "lib/a.js", "lib/index.js"]);
        if !has("node") {
            return;
        }
        assert_eq!(node(folder.path(), "index.js").await, Ok(Some(3)));
        fs::write(folder.path().join("lib/a.js"), "let a = 1;\nlet a = 2;\n").unwrap();
        let error = node(folder.path(), "index.js").await.unwrap_err();
        assert!(error.starts_with("lib/a.js:2: Identifier 'a' has already been declared"), "{error}");
        let module = project(&[
            ("main.mjs", "import { x } from './x.mjs';\nawait x();\n"),
            ("x.mjs", "export const x = ;\n"),
        ]);
        let error = node(module.path(), "main.mjs").await.unwrap_err();
        assert!(error.starts_with("x.mjs:1: "), "{error}");
    }

    #[test]
    fn the_place_of_an_error_is_found() {
        let said = "/srv/a b/x.js:7\nlet = ;\n    ^\n\nSyntaxError: Unexpected token\n    at wrap (node:internal:1:2)\n";
        assert_eq!(syntax_error(said, "x.js").as_deref(), Some("x.js:7: Unexpected token"));
        assert_eq!(syntax_error("node: bad option: --check", "x.js"), None);
    }
}
