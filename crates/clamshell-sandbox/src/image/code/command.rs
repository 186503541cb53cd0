//! How the code is started: interpreter, wrapper, variables.

use std::path::Path;

use clamshell_domain::{CodeRuntime, ImageConfig};
use rustix::fs::{FileType, Mode, OFlags, ResolveFlags};

use super::{CODE_DIR, RootImage};
use crate::image::{ImageError, oci::name::EntryName};

/// Program that instruments others; the one wrapper that AWS knows.
const WRAPPER: &str = "opentelemetry-instrument";
/// Modules that instrument Node programs, the preferred one first.
const NODE_MODULES: [&str; 2] =
    ["@aws/aws-distro-opentelemetry-node-autoinstrumentation", "@opentelemetry/auto-instrumentations-node"];
/// Module that instruments Python programs when the zip has no `bin/` folder.
const PYTHON_MODULE: &str = "opentelemetry/instrumentation/auto_instrumentation/__init__.py";
/// Where programs are looked for in base images that do not say.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Longest entry point, as of the API.
const ENTRY_BYTES_MAX: usize = 128;

/// What the program of this code is, in words of an image.
pub(super) fn config(
    base: &RootImage,
    task: &Path,
    runtime: CodeRuntime,
    entry_point: &[String],
) -> Result<ImageConfig, ImageError> {
    let refuse = |reason: String| ImageError::EntryPoint { reason };
    let (is_wrapped, entry) = match entry_point {
        [entry] => (false, entry),
        [wrapper, entry] if wrapper == WRAPPER => (true, entry),
        [wrapper, _] => {
            return Err(refuse(format!("the only wrapper is {WRAPPER}, not `{}`", shown(wrapper))));
        }
        _ => return Err(refuse("one file, or a wrapper and a file".to_owned())),
    };
    let is_node = matches!(runtime, CodeRuntime::Node22);
    if is_node && [".ts", ".mts", ".cts", ".tsx"].iter().any(|end| entry.ends_with(end)) {
        return Err(refuse(format!(
            "`{}` is TypeScript, which is not run: compile it to JavaScript",
            shown(entry)
        )));
    }
    let name = EntryName::parse(entry.as_bytes()).ok().filter(|name| !name.is_root());
    if entry.len() > ENTRY_BYTES_MAX || name.is_none_or(|name| !is_file(task, &name)) {
        return Err(refuse(format!("`{}` is not a file in the zip", shown(entry))));
    }
    let base_config = base.config.clone().unwrap_or_default();
    let base_path = base_config.env.iter().find(|(name, _)| name == "PATH").map(|(_, value)| value.clone());
    let path = base_path.filter(|path| !path.is_empty()).unwrap_or_else(|| PATH.to_owned());
    let interpreter = runtime.interpreter();
    if !has_program(base, &path, interpreter) {
        return Err(ImageError::NoInterpreter { interpreter, runtime: runtime.as_str() });
    }
    let mut argv = if !is_wrapped {
        vec![interpreter.to_owned()]
    } else if is_node {
        node_wrapped(task, interpreter)
            .ok_or_else(|| refuse(format!("{WRAPPER} needs {} in the zip's node_modules", NODE_MODULES[0])))?
    } else {
        python_wrapped(base, task, &path, interpreter).ok_or_else(|| {
            refuse(format!("{WRAPPER} is not in the zip: add aws-opentelemetry-distro to its dependencies"))
        })?
    };
    argv.push(entry.clone());

    let mut env = base_config.env;
    let mut set = |name: &str, value: String| {
        env.retain(|(known, _)| known != name);
        env.push((name.to_owned(), value));
    };
    set("PATH", format!("{CODE_DIR}/bin:{path}"));
    if is_node {
        set("NODE_PATH", format!("{CODE_DIR}/node_modules"));
    } else {
        set("PYTHONPATH", CODE_DIR.to_owned());
    }
    Ok(ImageConfig {
        env,
        entrypoint: argv,
        cmd: Vec::new(),
        // That of agents, and not what the base image runs its own program as.
        user: None,
        working_dir: Some(CODE_DIR.to_owned()),
        stop_signal: None,
        exposed_ports: Vec::new(),
    })
}

fn shown(text: &str) -> String {
    text.chars().take(ENTRY_BYTES_MAX).collect::<String>().escape_debug().to_string()
}

fn python_wrapped(base: &RootImage, task: &Path, path: &str, interpreter: &str) -> Option<Vec<String>> {
    let has = |name: &str| EntryName::parse(name.as_bytes()).is_ok_and(|name| is_file(task, &name));
    let script = format!("bin/{WRAPPER}");
    let wrapper = if has(&script) {
        // By the interpreter of the runtime, whatever its first line says.
        vec![interpreter.to_owned(), format!("{CODE_DIR}/{script}")]
    } else if has(PYTHON_MODULE) {
        let code = "from opentelemetry.instrumentation.auto_instrumentation import run; run()";
        vec![interpreter.to_owned(), "-c".to_owned(), code.to_owned()]
    } else if has_program(base, path, WRAPPER) {
        vec![WRAPPER.to_owned()]
    } else {
        return None;
    };
    Some(wrapper.into_iter().chain([interpreter.to_owned()]).collect())
}

fn node_wrapped(task: &Path, interpreter: &str) -> Option<Vec<String>> {
    let module = NODE_MODULES.iter().find(|module| task.join("node_modules").join(module).is_dir())?;
    Some(vec![interpreter.to_owned(), "--require".to_owned(), format!("{module}/register")])
}

/// Whether the zip has this file, links inside it followed.
fn is_file(task: &Path, name: &EntryName) -> bool {
    find(task, &name.joined(), OFlags::empty()) == Some(FileType::RegularFile)
}

/// Whether a base image has a program, as far as can be seen without starting it.
fn has_program(base: &RootImage, path: &str, program: &str) -> bool {
    path.split(':').filter(|folder| folder.starts_with('/')).any(|folder| {
        let wanted = format!("{}/{program}", folder.trim_end_matches('/'));
        let in_bind = base.binds.iter().any(|bind| {
            let rest = wanted.strip_prefix(bind.target.as_str()).and_then(|rest| rest.strip_prefix('/'));
            rest.is_some_and(|rest| is_program(Path::new(&bind.source), rest))
        });
        in_bind
            || base
                .layers
                .iter()
                .any(|layer| is_program(Path::new(&layer.path), wanted.trim_start_matches('/')))
    })
}

/// The last component may be a link into another layer: that it is there is enough.
fn is_program(root: &Path, name: &str) -> bool {
    matches!(find(root, name.as_bytes(), OFlags::NOFOLLOW), Some(FileType::RegularFile | FileType::Symlink))
}

/// Kind of what a name leads to if it never leaves `root`, absolute links being those of the sandbox.
fn find(root: &Path, name: &[u8], more: OFlags) -> Option<FileType> {
    let root = std::fs::File::open(root).ok()?;
    let flags = OFlags::PATH | OFlags::CLOEXEC | more;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    let found = rustix::fs::openat2(&root, name, flags, Mode::empty(), resolve).ok()?;
    Some(FileType::from_raw_mode(rustix::fs::fstat(&found).ok()?.st_mode))
}
