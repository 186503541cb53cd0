//! Whether the images of declared runtimes are there, told at the start and by the doctor and not only by the first
//! session. It is a look at the path: whether it holds a good image is found out when it is unpacked.

use clamshell_domain::{Artifact, Capability};

use crate::config::DeclaredRuntime;

/// One entry for each runtime whose image lies on this machine, named after the runtime.
pub(crate) fn look(runtimes: &[DeclaredRuntime]) -> Vec<Capability> {
    let looked = runtimes.iter().filter_map(|runtime| {
        let (found, detail) = found(&runtime.artifact)?;
        Some(Capability {
            name: runtime.name.to_string(),
            available: found,
            detail,
            hint: (!found).then(|| "put the image there, or change the runtime's `image`".to_owned()),
        })
    });
    looked.collect()
}

/// Says in the log which images are missing.
pub(crate) fn warn_of_missing(runtimes: &[DeclaredRuntime]) {
    for missing in look(runtimes).into_iter().filter(|one| !one.available) {
        tracing::warn!(runtime = missing.name, why = missing.detail, "sessions of this runtime cannot start");
    }
}

/// Whether it is there, and what was looked for; `None` for what does not lie on this machine as it is.
fn found(artifact: &Artifact) -> Option<(bool, String)> {
    let (kind, path) = if let Artifact::Directory { path } = artifact {
        ("folder", path)
    } else if let Artifact::Oci { path, .. } = artifact {
        ("image", path)
    } else {
        return None;
    };
    let told = |why: &str| format!("{kind} {} {why}", path.display());
    Some(match std::fs::metadata(path) {
        Ok(found) if kind == "folder" && !found.is_dir() => (false, told("is not a folder")),
        Ok(_) => (true, format!("{kind} {}", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => (false, told("is missing")),
        Err(error) => (false, told(&format!("cannot be read: {error}"))),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let check = |artifact: Artifact, expect: Option<(bool, &str)>| {
            let found = found(&artifact);
            let seen = found.as_ref().map(|(found, detail)| (*found, detail.rsplit(' ').next().unwrap()));
            assert_eq!(seen, expect, "{found:?}");
        };
        let [here, none] = [folder.path(), &folder.path().join("none")].map(std::path::Path::to_path_buf);
        check(Artifact::Host, None);
        check(Artifact::Directory { path: here.clone() }, Some((true, here.to_str().unwrap())));
        check(Artifact::Directory { path: none.clone() }, Some((false, "missing")));
        check(Artifact::Directory { path: file.clone() }, Some((false, "folder")));
        check(Artifact::Oci { path: file.clone(), reference: None }, Some((true, file.to_str().unwrap())));
        check(Artifact::Oci { path: none, reference: None }, Some((false, "missing")));
    }
}
