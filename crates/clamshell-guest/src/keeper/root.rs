//! Last touches to the root file system, made from inside as its root: the agent's account and home.
//!
//! The image is hostile, but names lead nowhere out of it any more, and every read is bounded.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, chown},
};

/// Name of the user that interactive shells run as.
const AGENT: &str = "agentcore-runtime-user";
const HOME: &str = "/home/agentcore-runtime-user";

/// Largest account file that is read; the rest of a longer one is not looked at.
const ACCOUNT_FILE_BYTES_MAX: u64 = 1 << 20;

/// Makes the agent's home belong to it, and its account known where the image lacks one.
pub(crate) fn prepare_account(add: bool, id: u32) -> io::Result<()> {
    if add && id != 0 {
        let shell = if fs::metadata("/bin/bash").is_ok() { "/bin/bash" } else { "/bin/sh" };
        add_line(
            "/etc/passwd",
            "root:x:0:0:root:/root:/bin/sh\n",
            &format!("{AGENT}:x:{id}:{id}::{HOME}:{shell}"),
        )?;
        add_line("/etc/group", "root:x:0:\n", &format!("{AGENT}:x:{id}:"))?;
        fs::create_dir_all(HOME)?;
    }
    if fs::symlink_metadata(HOME).is_ok_and(|home| home.is_dir()) {
        own_by_agent(HOME, id)?;
    }
    Ok(())
}

/// Gives a folder to the agent unless it is its already. Not what is in it.
pub(crate) fn own_by_agent(path: &str, id: u32) -> io::Result<()> {
    let owner = fs::metadata(path)?;
    if owner.uid() == id && owner.gid() == id {
        return Ok(());
    }
    chown(path, Some(id), Some(id))
}

/// Adds an account line unless the name is known. A file that is not there starts with `first`.
fn add_line(path: &str, first: &str, line: &str) -> io::Result<()> {
    fs::create_dir_all("/etc")?;
    let mut content = Vec::new();
    match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path) {
        Ok(file) => {
            if !file.metadata()?.is_file() {
                return Err(io::Error::other(format!("{path} of the image is not a file")));
            }
            file.take(ACCOUNT_FILE_BYTES_MAX).read_to_end(&mut content)?;
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => content.extend_from_slice(first.as_bytes()),
        Err(error) => return Err(error),
    }
    match with_line(&content, line) {
        None => Ok(()),
        Some(added) => {
            let mut file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o644)
                .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
                .open(path)?;
            file.write_all(&added)
        }
    }
}

/// The content with the line at its end; `None` when the line's name is there already.
fn with_line(content: &[u8], line: &str) -> Option<Vec<u8>> {
    let name = line.split(':').next().unwrap_or_default().as_bytes();
    if content
        .split(|byte| *byte == b'\n')
        .any(|other| other.split(|byte| *byte == b':').next() == Some(name))
    {
        return None;
    }
    let mut added = content.to_vec();
    if added.last().is_some_and(|last| *last != b'\n') {
        added.push(b'\n');
    }
    added.extend_from_slice(line.as_bytes());
    added.push(b'\n');
    Some(added)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn account_is_added_once() {
        let check = |content: &str, expect: Option<&str>| {
            let added = with_line(content.as_bytes(), "agent:x:1000:");
            assert_eq!(added.as_deref(), expect.map(str::as_bytes));
        };
        check("", Some("agent:x:1000:\n"));
        check("root:x:0:", Some("root:x:0:\nagent:x:1000:\n"));
        check("root:x:0:\nagent:x:7:\n", None);
        check("agents:x:0:\n", Some("agents:x:0:\nagent:x:1000:\n"));
    }
}
