//! Code from a zip in real sandboxes: over this machine's own system, run by the interpreter that is there.

use std::{collections::BTreeMap, fs, io::Write, path::Path, sync::Arc};

use clamshell_domain::{
    Artifact, BoxFuture, CodeRuntime, ObjectBody, ObjectContent, ObjectError, ObjectLocation, ObjectSource,
    SandboxDriver,
};
use clamshell_protocol::User;
use clamshell_sandbox::{
    NativeDriver, NativeOptions,
    image::{ImageSources, ImageStore},
};
use zip::{ZipWriter, write::SimpleFileOptions};

use crate::sandbox::Session;

/// Objects in memory.
#[derive(Debug)]
struct Memory(BTreeMap<&'static str, Vec<u8>>);

struct Once(Option<Vec<u8>>);

impl ObjectBody for Once {
    fn next(&mut self) -> BoxFuture<'_, Result<Option<Vec<u8>>, ObjectError>> {
        let bytes = self.0.take();
        Box::pin(async move { Ok(bytes) })
    }
}

impl ObjectSource for Memory {
    fn get<'a>(&'a self, location: &'a ObjectLocation) -> BoxFuture<'a, Result<ObjectContent, ObjectError>> {
        Box::pin(async move {
            let (bucket, key) = (location.bucket.clone(), location.key.clone());
            let bytes = self.0.get(key.as_str()).cloned();
            let bytes = bytes.ok_or(ObjectError::NoSuchObject { bucket, key })?;
            let size = bytes.len() as u64;
            Ok(ObjectContent { size, etag: None, version_id: None, body: Box::new(Once(Some(bytes))) })
        })
    }
}

/// The Python that this machine has.
fn python() -> Option<CodeRuntime> {
    let found = CodeRuntime::ALL.into_iter().find(|runtime| {
        runtime.as_str().starts_with("PYTHON") && Path::new("/usr/bin").join(runtime.interpreter()).exists()
    });
    if found.is_none() {
        println!("skipped: /usr/bin has no Python of a runtime");
    }
    found
}

#[test]
fn e2e_code_runs_over_the_host_image() {
    let Some(mut session) = Session::new("e2e_code_runs_over_the_host_image") else { return };
    let Some(runtime) = python() else { return };
    let mut zip = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let mode = |mode| SimpleFileOptions::default().unix_permissions(mode);
    zip.start_file("agent.py", mode(0o600)).unwrap();
    zip.write_all(b"import vendored, os; print(vendored.WORD, os.getcwd(), os.getuid())").unwrap();
    zip.start_file("vendored/__init__.py", mode(0o644)).unwrap();
    zip.write_all(b"WORD = 'vendored'").unwrap();
    zip.start_file("bin/tool", mode(0o755)).unwrap();
    zip.write_all(b"#!/bin/sh\necho tool").unwrap();
    let zip = zip.finish().unwrap().into_inner();

    let sources = ImageSources {
        objects: Some(Arc::new(Memory(BTreeMap::from([("agent.zip", zip)])))),
        ..ImageSources::default()
    };
    let data = session.folder().join("data");
    let store = Arc::new(ImageStore::new(&data, Vec::new()).with_sources(sources));
    let mut options = NativeOptions::new(&data);
    options.images = Some(Arc::clone(&store));
    session.driver = NativeDriver::new(options);
    let location = ObjectLocation { bucket: "b".into(), key: "agent.zip".into(), version_id: None };
    let artifact = |entry: &str| Artifact::Code {
        location: location.clone(),
        runtime,
        entry_point: vec![entry.to_owned()],
        base: Box::new(Artifact::Host),
        digest: None,
    };
    session.spec.artifact = session.block_on(store.pin(&artifact("agent.py"), None)).unwrap();
    let config = store.prepared(&session.spec.artifact).unwrap().config.unwrap();
    assert_eq!(config.argv(), [runtime.interpreter(), "agent.py"]);

    session.create();
    let mut script = format!("cd {}; ", config.working_dir.as_deref().unwrap());
    for (name, value) in &config.env {
        script.push_str(&format!("export {name}='{value}'; "));
    }
    script.push_str(&config.argv().join(" "));
    script.push_str("; tool; touch /var/task/new && echo new; ls -ln /var/task/agent.py | cut -d' ' -f1,3");
    let output = session.sh(User::Agent, &script);
    assert_eq!(output.stdout, "vendored /var/task 1000\ntool\n-rw-r--r-- 0\n", "{}", output.stderr);
    // Root inside may write, into the session's own layer.
    let output = session.sh(User::Root, "echo changed > /var/task/agent.py; cat /var/task/agent.py");
    assert_eq!(output.stdout, "changed\n", "{}", output.stderr);
    let code = fs::read_dir(data.join("images/code")).unwrap().next().unwrap().unwrap().path();
    assert!(fs::read_to_string(code.join("var/task/agent.py")).unwrap().starts_with("import vendored"));
    session.destroy();

    // What is missing is said before anything is made.
    session.spec.artifact = artifact("missing.py");
    let error = session.block_on(session.driver.create(&session.spec)).unwrap_err().to_string();
    assert!(error.contains("`missing.py` is not a file in the zip"), "{error}");
}
