//! The `host` image: this machine's own system, read-only, without its secrets.
//!
//! `/usr` and the like are shown as they are but belong to nobody inside, so by the kernel's own
//! rules only what every user of this machine may read can be read. `/etc` is a filtered copy, and
//! homes, `/var` and the rest are empty.

use std::{
    fmt::Write as _,
    fs,
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
};

use clamshell_protocol::BindSpec;

use super::{ImageError, RootImage, layer_spec, text};

/// Changes with what this file puts into the skeleton.
const FORMAT: u32 = 1;

/// Folders shown whenever they exist.
const SHOWN: [&str; 2] = ["/usr", "/opt"];

/// Top-level names that are links into `/usr` on current systems and folders on old ones.
const MERGED: [&str; 7] = ["/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store"];

/// Files and folders of `/etc` that are this machine's own business or tell about it. Most are
/// unreadable for ordinary users anyway, and those are never copied.
const LEFT_OUT: &[&str] = &[
    "shadow",
    "shadow-",
    "gshadow",
    "gshadow-",
    "passwd",
    "passwd-",
    "group",
    "group-",
    "subuid",
    "subuid-",
    "subgid",
    "subgid-",
    "sudoers",
    "sudoers.d",
    "sudo.conf",
    "machine-id",
    "fstab",
    "crypttab",
    "mtab",
    "hostname",
    "hosts",
    "resolv.conf",
    "docker",
    "containerd",
    "containers",
    "kubernetes",
    "rancher",
    "cni",
    "cron.d",
    "cron.daily",
    "cron.hourly",
    "cron.monthly",
    "cron.weekly",
    "cron.yearly",
    "crontab",
    "anacrontab",
    "ssh",
    "ssl/private",
    "pki/tls/private",
    "letsencrypt",
    "wireguard",
    "openvpn",
    "ipsec.d",
    "ipsec.secrets",
    "ppp",
    "NetworkManager",
    "netplan",
    "network",
    "wpa_supplicant",
    "systemd",
    "udev",
    "init.d",
    "rc0.d",
    "rc1.d",
    "rc2.d",
    "rc3.d",
    "rc4.d",
    "rc5.d",
    "rc6.d",
    "rcS.d",
    "krb5.keytab",
    "security/opasswd",
    "apt/auth.conf",
    "apt/auth.conf.d",
    "cloud",
    "exports",
    "iscsi",
    "samba",
    "postgresql",
    "mysql",
    "redis",
    "nginx",
    "apache2",
    "clamshell",
    "default/grub",
    "grub.d",
    "motd",
    "issue",
    "issue.net",
    "update-motd.d",
    "environment",
    "lvm",
    "modprobe.d",
];

/// Bounds of the copy; a usual `/etc` has a few thousand files of a few MiB.
const ENTRIES_MAX: usize = 20_000;
const FILE_BYTES_MAX: u64 = 4 << 20;
const TOTAL_BYTES_MAX: u64 = 64 << 20;
const DEPTH_MAX: usize = 16;

/// User inside that interactive shells run as.
const AGENT: &str = "agentcore-runtime-user";
const AGENT_ID: u32 = 1000;

/// Builds the skeleton if the machine changed since it was built, and lists what to show.
pub(super) fn build(data_dir: &Path, includes: &[PathBuf]) -> Result<RootImage, ImageError> {
    let mut plan = Plan::default();
    plan.list(Path::new("/etc"), Path::new(""), 0).map_err(ImageError::io("reading /etc"))?;
    let mut binds = Vec::new();
    let mut links = Vec::new();
    for name in SHOWN.iter().chain(&MERGED).map(Path::new) {
        match fs::symlink_metadata(name) {
            Ok(found) if found.is_symlink() => {
                let target = fs::read_link(name).map_err(ImageError::io("reading a link"))?;
                links.push((name.to_owned(), target));
            }
            Ok(found) if found.is_dir() => binds.push(bind(name)?),
            _ => {}
        }
    }
    for include in includes {
        if !include.is_absolute() || include.components().count() < 2 || !include.is_dir() {
            return Err(ImageError::NotAnImage {
                reason: format!("`{}` is not an absolute path of a folder", include.display()),
            });
        }
        binds.push(bind(include)?);
    }

    let own = Own { root: rustix::process::geteuid().is_root() };
    let digest = plan.digest(&binds, &links, &own);
    let images = data_dir.join("images");
    let skeleton = images.join(format!("host-{digest}"));
    if !skeleton.is_dir() {
        fs::create_dir_all(&images).map_err(ImageError::io("making the image store"))?;
        let new = images.join(format!(".host-{digest}.{}.new", std::process::id()));
        let _ = fs::remove_dir_all(&new);
        let built =
            fill(&new, &plan, &binds, &links, &own).and_then(|()| match fs::rename(&new, &skeleton) {
                // Another server was faster.
                Err(error) if !skeleton.is_dir() => Err(error),
                _ => Ok(()),
            });
        let _ = fs::remove_dir_all(&new);
        built.map_err(ImageError::io("building the host image"))?;
    }
    Ok(RootImage { layers: vec![layer_spec(&skeleton)?], binds, add_account: false, config: None })
}

fn bind(path: &Path) -> Result<BindSpec, ImageError> {
    let path = text(path)?;
    Ok(BindSpec { source: path.clone(), target: path })
}

/// Ownership as far as this process may set it.
struct Own {
    root: bool,
}

impl Own {
    fn to(&self, path: &Path, id: u32) -> io::Result<()> {
        // An ordinary user's files are root's inside; the keeper gives the home to the agent.
        if self.root { chown(path, Some(id), Some(id)) } else { Ok(()) }
    }
}

/// What of `/etc` is copied.
#[derive(Default)]
struct Plan {
    entries: Vec<Entry>,
    bytes: u64,
}

struct Entry {
    name: PathBuf,
    kind: Kind,
    changed: (i64, i64),
}

enum Kind {
    Folder,
    Link(PathBuf),
    File { mode: u32, length: u64 },
}

impl Plan {
    fn list(&mut self, folder: &Path, below: &Path, depth: usize) -> io::Result<()> {
        let Ok(read) = fs::read_dir(folder) else { return Ok(()) };
        let mut names: Vec<_> = read.filter_map(|entry| entry.ok().map(|entry| entry.file_name())).collect();
        names.sort();
        for name in names {
            let relative = below.join(&name);
            if LEFT_OUT.iter().any(|left_out| Path::new(left_out) == relative) {
                continue;
            }
            let Ok(found) = fs::symlink_metadata(folder.join(&name)) else { continue };
            let mode = found.mode() & 0o777;
            let kind = if found.is_symlink() {
                match fs::read_link(folder.join(&name)) {
                    Ok(target) => Kind::Link(target),
                    Err(_) => continue,
                }
            } else if found.is_dir() && mode & 0o005 == 0o005 && depth < DEPTH_MAX {
                Kind::Folder
            } else if found.is_file()
                && mode & 0o004 != 0
                && found.len() <= FILE_BYTES_MAX
                && self.bytes + found.len() <= TOTAL_BYTES_MAX
            {
                self.bytes += found.len();
                Kind::File { mode, length: found.len() }
            } else {
                continue;
            };
            if self.entries.len() >= ENTRIES_MAX {
                return Ok(());
            }
            let is_folder = matches!(kind, Kind::Folder);
            self.entries.push(Entry {
                name: relative.clone(),
                kind,
                changed: (found.mtime(), found.mtime_nsec()),
            });
            if is_folder {
                self.list(&folder.join(&name), &relative, depth + 1)?;
            }
        }
        Ok(())
    }

    fn digest(&self, binds: &[BindSpec], links: &[(PathBuf, PathBuf)], own: &Own) -> String {
        let mut text = format!("{FORMAT} {} {binds:?} {links:?}\n", own.root);
        for Entry { name, kind, changed } in &self.entries {
            let kind = match kind {
                Kind::Folder => "folder".to_owned(),
                Kind::Link(target) => format!("{target:?}"),
                Kind::File { mode, length } => format!("{mode:o} {length} {changed:?}"),
            };
            let _ = writeln!(text, "{name:?} {kind}");
        }
        for file in ["/etc/passwd", "/etc/group"] {
            text.push_str(&fs::read_to_string(file).unwrap_or_default());
        }
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
        digest.as_ref().iter().take(8).fold(String::new(), |mut hex, byte| {
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }
}

fn fill(
    root: &Path,
    plan: &Plan,
    binds: &[BindSpec],
    links: &[(PathBuf, PathBuf)],
    own: &Own,
) -> io::Result<()> {
    let folder = |name: &str, mode: u32| -> io::Result<PathBuf> {
        let path = root.join(name.trim_start_matches('/'));
        fs::create_dir_all(&path)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        Ok(path)
    };
    folder("", 0o755)?;
    for name in [
        "etc",
        "proc",
        "sys",
        "dev",
        "run",
        "home",
        "mnt",
        "mnt/workspace",
        "media",
        "srv",
        "var",
        "var/cache",
        "var/lib",
        "var/log",
        "var/spool",
        "var/opt",
        "var/local",
        "usr",
        "opt",
        "boot",
    ] {
        folder(name, 0o755)?;
    }
    for name in ["tmp", "var/tmp"] {
        folder(name, 0o1777)?;
    }
    symlink("/run", root.join("var/run"))?;
    symlink("/run/lock", root.join("var/lock"))?;
    folder("root", 0o700)?;
    for bind in binds {
        fs::create_dir_all(root.join(bind.target.trim_start_matches('/')))?;
    }
    for (name, target) in links {
        symlink(target, root.join(name.strip_prefix("/").unwrap_or(name)))?;
    }
    copy_etc(&root.join("etc"), plan)?;
    accounts(&root.join("etc"))?;

    let home = folder(&format!("home/{AGENT}"), 0o755)?;
    let bashrc = "# Interactive shells only.\ncase $- in *i*) ;; *) return ;; esac\nPS1='[\\u@\\h \\w]\\$ '\n\
                  alias ls='ls --color=auto'\n";
    for (folder, id) in [(&home, AGENT_ID), (&root.join("root"), 0)] {
        for (name, content) in [(".bashrc", bashrc), (".profile", "[ -n \"$BASH\" ] && . ~/.bashrc\n")] {
            let path = folder.join(name);
            write(&path, content.as_bytes(), 0o644)?;
            own.to(&path, id)?;
        }
        own.to(folder, id)?;
    }
    Ok(())
}

fn copy_etc(etc: &Path, plan: &Plan) -> io::Result<()> {
    for entry in &plan.entries {
        let target = etc.join(&entry.name);
        match &entry.kind {
            Kind::Folder => fs::create_dir(&target)?,
            Kind::Link(to) => symlink(to, &target)?,
            Kind::File { mode, length } => {
                let source = Path::new("/etc").join(&entry.name);
                let opened = fs::OpenOptions::new()
                    .read(true)
                    .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
                    .open(source);
                // Gone or replaced since it was listed: no reason to fail.
                let Ok(file) = opened else { continue };
                if !file.metadata()?.is_file() {
                    continue;
                }
                let mut content = Vec::new();
                file.take(*length).read_to_end(&mut content)?;
                write(&target, &content, mode & 0o755)?;
            }
        }
    }
    Ok(())
}

fn accounts(etc: &Path) -> io::Result<()> {
    let read = |name: &str| fs::read_to_string(Path::new("/etc").join(name)).unwrap_or_default();
    write(&etc.join("passwd"), passwd(&read("passwd")).as_bytes(), 0o644)?;
    write(&etc.join("group"), group(&read("group")).as_bytes(), 0o644)?;
    write(&etc.join("hosts"), b"127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n", 0o644)?;
    write(&etc.join("hostname"), b"localhost\n", 0o644)?;
    write(&etc.join("resolv.conf"), b"", 0o644)?;
    write(&etc.join("machine-id"), b"", 0o444)
}

/// System accounts of this machine, without its people and without passwords, and the agent's.
fn passwd(host: &str) -> String {
    let mut text = String::from("root:x:0:0:root:/root:/bin/bash\n");
    for line in host.lines().take(1_000) {
        let fields: Vec<&str> = line.split(':').collect();
        if let [name, _, uid, gid, _, home, shell] = fields[..]
            && name != "root"
            && name != AGENT
            && is_system(uid)
        {
            let _ = writeln!(text, "{name}:x:{uid}:{gid}::{home}:{shell}");
        }
    }
    let _ = writeln!(text, "{AGENT}:x:{AGENT_ID}:{AGENT_ID}::/home/{AGENT}:/bin/bash");
    text
}

fn group(host: &str) -> String {
    let mut text = String::from("root:x:0:\n");
    for line in host.lines().take(1_000) {
        let fields: Vec<&str> = line.split(':').collect();
        if let [name, _, gid, _] = fields[..]
            && name != "root"
            && name != AGENT
            && is_system(gid)
        {
            let _ = writeln!(text, "{name}:x:{gid}:");
        }
    }
    let _ = writeln!(text, "{AGENT}:x:{AGENT_ID}:");
    text
}

/// Below the ids of people, or the nobody of 16 bits.
fn is_system(id: &str) -> bool {
    id.parse::<u32>().is_ok_and(|id| (1..1000).contains(&id) || id == 65_534)
}

fn write(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    fs::write(path, content)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_keep_the_system_and_lose_the_people() {
        let host = "root:secret:0:0:Boss:/root:/bin/zsh\ndaemon:x:1:1:d,office:/usr/sbin:/usr/sbin/nologin\n\
                    jane:x:1000:1000:Jane:/home/jane:/bin/zsh\nnobody:x:65534:65534:n:/nonexistent:/bin/false\nbad line\n";
        assert_eq!(
            passwd(host),
            "root:x:0:0:root:/root:/bin/bash\ndaemon:x:1:1::/usr/sbin:/usr/sbin/nologin\n\
             nobody:x:65534:65534::/nonexistent:/bin/false\n\
             agentcore-runtime-user:x:1000:1000::/home/agentcore-runtime-user:/bin/bash\n"
        );
        assert_eq!(
            group("root:x:0:\njane:x:1000:\ntty:x:5:jane\n"),
            "root:x:0:\ntty:x:5:\nagentcore-runtime-user:x:1000:\n"
        );
    }

    #[test]
    fn skeleton_has_no_secrets_and_is_built_once() {
        let data_dir = tempfile::tempdir().unwrap();
        let image = build(data_dir.path(), &[]).unwrap();
        assert_eq!(build(data_dir.path(), &[]).unwrap(), image);
        let root = Path::new(&image.layers[0].path);
        for name in ["etc/shadow", "etc/ssh", "etc/sudoers", "etc/ssl/private"] {
            assert!(!root.join(name).exists(), "{name}");
        }
        assert_eq!(fs::read_to_string(root.join("etc/hostname")).unwrap(), "localhost\n");
        assert!(root.join("home/agentcore-runtime-user/.bashrc").is_file());
        assert!(image.binds.iter().any(|bind| bind.target == "/usr"));
        assert_eq!(fs::read_dir(data_dir.path().join("images")).unwrap().count(), 1);
    }
}
