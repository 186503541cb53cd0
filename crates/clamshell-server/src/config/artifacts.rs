//! What the configuration says about images, registries and buckets.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use clamshell_domain::Artifact;
use clamshell_sandbox::{
    fetch::Url,
    image::registry::{Reference, Registries, RegistryConfig},
};
use serde::Deserialize;

use super::ConfigError;
use crate::objects::{BucketSource, EndpointBucket};

/// `[registries."HOST"]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FileRegistry {
    username: Option<String>,
    password_file: Option<PathBuf>,
    insecure: bool,
    ca_file: Option<PathBuf>,
}

/// `[buckets.NAME]`
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FileBucket {
    path: Option<PathBuf>,
    endpoint: Option<String>,
    region: Option<String>,
    bucket: Option<String>,
    access_key_id: Option<String>,
    secret_access_key_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
}

/// Registries by their hosts, beside what `docker login` left for the user that runs the server.
pub(super) fn registries(tables: BTreeMap<String, FileRegistry>) -> Result<Registries, ConfigError> {
    let mut registries = Registries::of_user();
    for (host, table) in tables {
        let refuse =
            |reason: &str| ConfigError::Value { key: "registries", reason: format!("{host}: {reason}") };
        let named =
            Reference::parse(&format!("{host}/name")).map_err(|_| refuse("is not HOST or HOST:PORT"))?;
        // A name without a dot or port would be a user of Docker's own registry.
        if named.repository() != "name" && named.repository() != "library/name" {
            return Err(refuse("is not HOST or HOST:PORT"));
        }
        if table.username.is_some() != table.password_file.is_some() {
            return Err(refuse("username and password_file are needed both"));
        }
        if table.insecure && table.ca_file.is_some() {
            return Err(refuse("insecure means plain HTTP, which has no certificates: leave out ca_file"));
        }
        let files = [&table.password_file, &table.ca_file];
        if files.into_iter().flatten().any(|path| !path.is_absolute()) {
            return Err(refuse("paths must be absolute"));
        }
        let config = RegistryConfig {
            username: table.username,
            password_file: table.password_file,
            insecure: table.insecure,
            ca_file: table.ca_file,
        };
        registries.hosts.insert(named.host().to_owned(), config);
    }
    Ok(registries)
}

/// Buckets by their names.
pub(super) fn buckets(
    tables: BTreeMap<String, FileBucket>,
    region: Option<&str>,
) -> Result<BTreeMap<String, BucketSource>, ConfigError> {
    let sources = tables.into_iter().map(|(name, table)| {
        let source = bucket(&name, table, region);
        let source = source
            .map_err(|reason| ConfigError::Value { key: "buckets", reason: format!("{name}: {reason}") })?;
        Ok((name, source))
    });
    sources.collect()
}

fn bucket(name: &str, table: FileBucket, region: Option<&str>) -> Result<BucketSource, &'static str> {
    let is_relative = |path: &Option<PathBuf>| path.as_deref().is_some_and(|path: &Path| !path.is_absolute());
    if is_relative(&table.path) || is_relative(&table.secret_access_key_file) || is_relative(&table.ca_file) {
        return Err("paths must be absolute");
    }
    match (table.path, table.endpoint) {
        (Some(path), None) => {
            let others = [table.region.is_some(), table.bucket.is_some(), table.access_key_id.is_some()];
            let files = [table.secret_access_key_file.is_some(), table.ca_file.is_some()];
            if others.into_iter().chain(files).any(|is_set| is_set) {
                return Err("a folder needs `path` alone");
            }
            Ok(BucketSource::Folder { path })
        }
        (None, Some(endpoint)) => {
            if !Url::parse(&endpoint).is_ok_and(|url| url.path_and_query() == "/") {
                return Err("endpoint must be http://HOST[:PORT] or https://HOST[:PORT]");
            }
            if table.access_key_id.is_some() != table.secret_access_key_file.is_some() {
                return Err("access_key_id and secret_access_key_file are needed both");
            }
            let region =
                table.region.or_else(|| region.map(str::to_owned)).unwrap_or_else(|| "us-east-1".to_owned());
            Ok(BucketSource::Endpoint(EndpointBucket {
                endpoint,
                region,
                bucket: table.bucket.unwrap_or_else(|| name.to_owned()),
                access_key_id: table.access_key_id,
                secret_access_key_file: table.secret_access_key_file,
                ca_file: table.ca_file,
            }))
        }
        _ => Err("either `path` or `endpoint` is needed"),
    }
}

/// `host`, `dir:/PATH`, `oci:/PATH[#REFERENCE]`, `docker:REFERENCE` or a reference as it is.
pub(crate) fn artifact(text: &str) -> Option<Artifact> {
    let absolute = |path: &str| Some(PathBuf::from(path)).filter(|path| path.is_absolute());
    match text.split_once(':') {
        None if text == "host" => Some(Artifact::Host),
        Some(("dir", path)) => Some(Artifact::Directory { path: absolute(path)? }),
        Some(("oci", rest)) => {
            let (path, reference) = match rest.split_once('#') {
                Some((path, reference)) => (path, Some(reference.to_owned())),
                None => (rest, None),
            };
            Some(Artifact::Oci { path: absolute(path)?, reference })
        }
        _ => {
            let reference = text.strip_prefix("docker:").unwrap_or(text);
            Reference::parse(reference).ok()?;
            Some(Artifact::Image { reference: reference.to_owned(), digest: None })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_told_apart() {
        let check = |text: &str, expect: Option<Artifact>| assert_eq!(artifact(text), expect, "{text}");
        let image = |reference: &str| Some(Artifact::Image { reference: reference.to_owned(), digest: None });
        check("host", Some(Artifact::Host));
        check("dir:/a", Some(Artifact::Directory { path: "/a".into() }));
        check("oci:/a:b#c", Some(Artifact::Oci { path: "/a:b".into(), reference: Some("c".into()) }));
        check("docker:alpine:3", image("alpine:3"));
        check("ghcr.io/a/b:1", image("ghcr.io/a/b:1"));
        check("localhost:5000/a", image("localhost:5000/a"));
        for bad in ["", "dir:a", "oci:a", "dir:", "docker:", "Upper", "a b"] {
            check(bad, None);
        }
    }

    #[test]
    fn tables_are_checked() {
        let of = |text: &str| {
            let tables: BTreeMap<String, FileBucket> = toml::from_str(text).unwrap();
            buckets(tables, Some("eu-west-1")).map_err(|error| error.to_string())
        };
        assert_eq!(of("[a]\npath = \"/x\"").unwrap()["a"], BucketSource::Folder { path: "/x".into() });
        let BucketSource::Endpoint(endpoint) =
            of("[a]\nendpoint = \"http://b:9\"").unwrap().remove("a").unwrap()
        else {
            panic!("not an endpoint")
        };
        assert_eq!((endpoint.bucket.as_str(), endpoint.region.as_str()), ("a", "eu-west-1"));
        for bad in [
            "[a]",
            "[a]\npath = \"x\"",
            "[a]\npath = \"/x\"\nregion = \"y\"",
            "[a]\nendpoint = \"b\"",
            "[a]\nendpoint = \"http://b/c\"",
            "[a]\nendpoint = \"http://b\"\naccess_key_id = \"c\"",
        ] {
            assert!(of(bad).unwrap_err().starts_with("buckets: a: "), "{bad}");
        }
        let of = |text: &str| registries(toml::from_str(text).unwrap()).map_err(|error| error.to_string());
        let hosts: Vec<_> =
            of("[\"a.b:5000\"]\ninsecure = true\n[\"docker.io\"]").unwrap().hosts.into_keys().collect();
        assert_eq!(hosts, ["a.b:5000", "docker.io"]);
        for bad in [
            "[user]",
            "[\"a.b/c\"]",
            "[\"a.b\"]\nusername = \"x\"",
            "[\"a.b\"]\nca_file = \"x\"",
            "[\"a.b\"]\ninsecure = true\nca_file = \"/x\"",
        ] {
            assert!(of(bad).unwrap_err().starts_with("registries: "), "{bad}");
        }
    }
}
