//! Docker's registry as Debian packages it, on a free port, and images for it.
//!
//! Images are made by umoci and pushed by skopeo: nothing of ours is on that side.

use std::{
    fs, io,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::{skip, wait::eventually};

/// How long it may take to listen; generous, because test machines are shared.
const START: Duration = Duration::from_secs(20);

/// What a registry asks of its clients; nothing, by default.
#[derive(Debug, Default, Clone, Copy)]
pub struct Demands {
    /// The password of `user`.
    pub password: Option<&'static str>,
    /// Trust in `cert.pem` in its folder.
    pub tls: bool,
}

/// What a layer of an image changes in the root folder.
pub type Layer<'a> = &'a dyn Fn(&Path) -> io::Result<()>;

/// A registry with a folder of its own. Dropping it ends it and removes the folder.
#[derive(Debug)]
pub struct Registry {
    folder: TempDir,
    process: Child,
    host: String,
    password: Option<&'static str>,
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Registry {
    /// Starts one; `None`, with the reason printed, where it or one of `further` programs is not installed.
    ///
    /// # Errors
    /// When it cannot be set up.
    ///
    /// # Panics
    /// When it does not listen in time.
    pub async fn start(demands: Demands, further: &[&str]) -> Result<Option<Self>> {
        let Demands { password, tls } = demands;
        let needed = ["docker-registry", "skopeo", "umoci"].iter().chain(further);
        let needed = needed.chain(tls.then_some(&"openssl")).chain(password.map(|_| &"htpasswd"));
        if let Some(missing) = needed.copied().find(|program| !is_installed(program)) {
            return Ok(skip(&format!("{missing} is not installed")));
        }
        let folder = tempfile::tempdir()?;
        let at = |name: &str| folder.path().join(name).display().to_string();
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut config = format!(
            "version: 0.1\nlog: {{ level: error }}\nstorage: {{ filesystem: {{ rootdirectory: {} }} }}\n\
             http:\n  addr: 127.0.0.1:{port}\n",
            at("storage")
        );
        if tls {
            let (key, cert) = (at("key.pem"), at("cert.pem"));
            certificate(Path::new(&key), Path::new(&cert))?;
            config.push_str(&format!("  tls: {{ certificate: {cert}, key: {key} }}\n"));
        }
        if let Some(password) = password {
            fs::write(at("htpasswd"), run("htpasswd", &["-Bbn", "user", password])?)?;
            config.push_str(&format!("auth: {{ htpasswd: {{ realm: test, path: {} }} }}\n", at("htpasswd")));
        }
        fs::write(at("config.yml"), config)?;
        let process = Command::new("docker-registry")
            .args(["serve", &at("config.yml")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let registry = Self { folder, process, host: format!("127.0.0.1:{port}"), password };
        let listens = async || tokio::net::TcpStream::connect(&registry.host).await;
        eventually("the registry listens", START, listens).await;
        Ok(Some(registry))
    }

    /// Address and port, as names of images begin.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// A place in its folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Pushes an image; its whole name. `settings` are flags of `umoci config`.
    ///
    /// # Errors
    /// When one of the programs fails.
    pub fn push(&self, repository: &str, layers: &[Layer<'_>], settings: &[&str]) -> Result<String> {
        let made = tempfile::tempdir_in(self.folder.path())?;
        let at = |name: &str| made.path().join(name).display().to_string();
        let (layout, bundle) = (at("layout"), at("bundle"));
        let image = format!("{layout}:made");
        run("umoci", &["init", "--layout", &layout])?;
        run("umoci", &["new", "--image", &image])?;
        run("umoci", &["unpack", "--rootless", "--image", &image, &bundle])?;
        for change in layers {
            change(&Path::new(&bundle).join("rootfs"))?;
            run("umoci", &["repack", "--refresh-bundle", "--image", &image, &bundle])?;
        }
        run("umoci", &[&["config", "--image", &image], settings].concat())?;
        let name = format!("{}/{repository}", self.host);
        let credentials = self.password.map(|password| format!("user:{password}"));
        let mut arguments = vec!["copy", "--dest-tls-verify=false"];
        arguments.extend(credentials.iter().flat_map(|credentials| ["--dest-creds", credentials]));
        let (from, to) = (format!("oci:{image}"), format!("docker://{name}"));
        arguments.extend([from.as_str(), to.as_str()]);
        run("skopeo", &arguments)?;
        Ok(name)
    }
}

/// Makes a key, and a certificate of this machine for it that nobody signed.
///
/// # Errors
/// When openssl fails.
pub fn certificate(key: &Path, cert: &Path) -> Result<()> {
    let (key, cert) = (key.display().to_string(), cert.display().to_string());
    let mut arguments = vec!["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"];
    arguments.extend(["-keyout", &key, "-out", &cert, "-subj", "/CN=localhost"]);
    arguments.extend(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]);
    arguments.extend(["-addext", "basicConstraints=critical,CA:FALSE"]);
    run("openssl", &arguments)?;
    Ok(())
}

/// Runs a program to its end, which must be a good one; what it wrote.
///
/// # Errors
/// When it does not start or fails, with what it said.
pub fn run(program: &str, arguments: &[&str]) -> Result<Vec<u8>> {
    let output = Command::new(program).args(arguments).output().context(program.to_owned())?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {arguments:?}: {said}");
    Ok(output.stdout)
}

fn is_installed(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}
