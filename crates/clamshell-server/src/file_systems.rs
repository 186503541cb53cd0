//! What sessions show beside their own folders: turns the file systems that a runtime version names
//! (`filesystemConfigurations`) into mounts, by what the operator has mapped their ARNs to.
//!
//! A folder, an export or a prefix of a bucket is looked at anew at each start of a session; what cannot be shown fails that
//! start, and says why in the runtime's log.

mod copies;
mod working;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
    path::Path,
    sync::Arc,
    time::Duration,
};

use clamshell_domain::{Clock, FileSystem, MountSource, MountSpec, ObjectError};
use thiserror::Error;
use tokio_util::task::TaskTracker;

use self::{copies::Copies, working::Working};
use crate::{
    config::{AccessPoint, AccessPointSource, WorkingPrefix},
    logs::SessionLog,
    objects::{BucketSource, Objects},
};

/// All that happens here for one session (`runtime.md` section 9); the keeper has as long again for mounting.
const WITHIN: Duration = Duration::from_secs(30);

/// How long the end of a session waits for what it changed to be written back.
const WRITE_BACK_WITHIN: Duration = Duration::from_secs(10);

/// Port of NFS 4.
const NFS_PORT: u16 = 2049;

/// A file system cannot be shown. What it says is for the runtime's log.
#[derive(Debug, Error)]
pub(crate) enum FileSystemError {
    /// The operator has mapped nothing to the ARN.
    #[error("{mount_path}: access point {arn} is not in the [access_points] of this server's configuration")]
    NotMapped {
        /// Where it should be.
        mount_path: String,
        /// Its ARN.
        arn: String,
    },
    /// The NFS server's name leads nowhere.
    #[error("{mount_path}: NFS server {server} has no address")]
    NoAddress {
        /// Where it should be.
        mount_path: String,
        /// Its name.
        server: String,
        /// Why.
        #[source]
        error: Option<io::Error>,
    },
    /// A prefix cannot be copied.
    #[error("{mount_path}: bucket {bucket} cannot be copied")]
    Copy {
        /// Where it should be.
        mount_path: String,
        /// The bucket.
        bucket: String,
        /// Why.
        #[source]
        error: CopyError,
    },
    /// It takes too long.
    #[error("{mount_path}: not there within {} s", WITHIN.as_secs())]
    Timeout {
        /// Where it should be.
        mount_path: String,
    },
}

/// A prefix cannot be copied.
#[derive(Debug, Error)]
pub(crate) enum CopyError {
    /// The bucket cannot be read.
    #[error("it cannot be read")]
    Source(#[from] ObjectError),
    /// The copy cannot be written.
    #[error("the copy cannot be written")]
    Write(#[from] io::Error),
    /// Larger than what is copied.
    #[error("the prefix has more than {most}")]
    TooLarge {
        /// What there is too much of.
        most: &'static str,
    },
    /// The server ends.
    #[error("the server ends")]
    Ended,
}

/// Makes mounts of file systems.
pub(crate) struct FileSystems {
    points: BTreeMap<String, AccessPoint>,
    buckets: BTreeMap<String, BucketSource>,
    copies: Arc<Copies>,
    working: Arc<Working>,
    tasks: TaskTracker,
}

impl std::fmt::Debug for FileSystems {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileSystems").field("points", &self.points).finish_non_exhaustive()
    }
}

impl FileSystems {
    /// Those of a configuration.
    pub(crate) fn new(
        data_dir: &Path,
        points: BTreeMap<String, AccessPoint>,
        buckets: BTreeMap<String, BucketSource>,
        clock: &Arc<dyn Clock>,
        tasks: TaskTracker,
    ) -> Self {
        let objects = Objects::new(data_dir, buckets.clone(), Arc::clone(clock));
        let root = data_dir.join("copies");
        let copies = Copies::new(root.clone(), objects.clone(), Arc::clone(clock), tasks.clone());
        let working = Working::new(root, objects, Arc::clone(clock), tasks.clone());
        Self { points, buckets, copies: Arc::new(copies), working: Arc::new(working), tasks }
    }

    /// Whether any of them needs more than the session's own folder, and so may fail or be out of date soon.
    pub(crate) fn are_foreign(file_systems: &[FileSystem]) -> bool {
        file_systems.iter().any(|file_system| matches!(file_system, FileSystem::AccessPoint { .. }))
    }

    /// Removes copies of prefixes that no access point names any more. To be called while no session shows one.
    pub(crate) fn remove_unneeded(&self) {
        let prefixes: Vec<(&str, &str)> = self
            .points
            .values()
            .filter_map(|point| match &point.source {
                AccessPointSource::Prefix { bucket, prefix } if point.read_only => {
                    Some((bucket.as_str(), prefix.as_str()))
                }
                _ => None,
            })
            .collect();
        self.copies.keep_only(&prefixes);
    }

    /// The mounts of a session that starts now.
    ///
    /// # Errors
    /// [`FileSystemError`] of the first that cannot be shown.
    pub(crate) async fn mounts(
        &self,
        file_systems: &[FileSystem],
    ) -> Result<Vec<MountSpec>, FileSystemError> {
        futures_util::future::try_join_all(file_systems.iter().map(|file_system| async move {
            let target = file_system.mount_path().to_owned();
            match file_system {
                FileSystem::SessionStorage { .. } => {
                    Ok(MountSpec { source: MountSource::Workspace, target, read_only: false })
                }
                FileSystem::AccessPoint { arn, .. } => {
                    let point = self.points.get(arn).ok_or_else(|| FileSystemError::NotMapped {
                        mount_path: target.clone(),
                        arn: arn.clone(),
                    })?;
                    let source = tokio::time::timeout(WITHIN, self.source(point, &target)).await;
                    let source = source
                        .map_err(|_| FileSystemError::Timeout { mount_path: target.clone() })
                        .flatten()?;
                    Ok(MountSpec { source, target, read_only: point.read_only })
                }
            }
        }))
        .await
    }

    /// Prefixes that sessions may change.
    pub(crate) fn working_prefixes(&self) -> BTreeSet<WorkingPrefix> {
        self.points.values().filter_map(AccessPoint::working_prefix).collect()
    }

    /// Those of them that a runtime version shows.
    pub(crate) fn shown_prefixes(&self, file_systems: &[FileSystem]) -> BTreeSet<WorkingPrefix> {
        let points = file_systems.iter().filter_map(|file_system| match file_system {
            FileSystem::AccessPoint { arn, .. } => self.points.get(arn),
            FileSystem::SessionStorage { .. } => None,
        });
        points.filter_map(AccessPoint::working_prefix).collect()
    }

    /// Writes back what a session changed, now that it ended. Goes on in the background after a while.
    pub(crate) async fn write_back_now(&self, file_systems: &[FileSystem], log: &Arc<SessionLog>) {
        let written =
            self.shown_prefixes(file_systems).into_iter().map(|WorkingPrefix { bucket, prefix }| {
                let (working, log) = (Arc::clone(&self.working), Arc::clone(log));
                self.tasks.spawn(async move {
                    let report = working.write_back(&bucket, &prefix, true).await;
                    report.notes.into_iter().chain(report.failure).for_each(|note| log.note(note));
                })
            });
        let written = futures_util::future::join_all(written);
        let _ = tokio::time::timeout(WRITE_BACK_WITHIN, written).await;
    }

    /// Writes a prefix back from time to time: while sessions show it, and until nothing is left. `shown` gives the logs of
    /// those sessions.
    pub(crate) async fn keep_written(
        &self,
        WorkingPrefix { bucket, prefix }: WorkingPrefix,
        shown: impl Fn() -> Vec<Arc<SessionLog>>,
    ) {
        loop {
            let logs = shown();
            if !logs.is_empty() || self.working.is_pending(&bucket, &prefix) {
                let report = self.working.write_back(&bucket, &prefix, false).await;
                if let Some(failure) = &report.failure {
                    tracing::warn!("{failure}");
                }
                let failure = report.failure.filter(|_| report.is_new_failure);
                for note in report.notes.into_iter().chain(failure) {
                    logs.iter().for_each(|log| log.note(note.clone()));
                }
            }
            tokio::time::sleep(working::EVERY).await;
        }
    }

    async fn source(&self, point: &AccessPoint, target: &str) -> Result<MountSource, FileSystemError> {
        match &point.source {
            AccessPointSource::Folder(path) => Ok(MountSource::Folder(path.clone())),
            AccessPointSource::Nfs { server, path } => {
                let address = address(server).await.map_err(|error| FileSystemError::NoAddress {
                    mount_path: target.to_owned(),
                    server: server.clone(),
                    error,
                })?;
                let export = match server.contains(':') {
                    true => format!("[{server}]:{path}"),
                    false => format!("{server}:{path}"),
                };
                Ok(MountSource::Nfs { export, address })
            }
            AccessPointSource::Prefix { bucket, prefix } => {
                // A bucket that is a folder of this machine needs no copy.
                if let Some(BucketSource::Folder { path }) = self.buckets.get(bucket) {
                    return Ok(MountSource::Folder(path.join(prefix)));
                }
                let copied = match point.read_only {
                    true => self.copies.fresh(bucket, prefix).await,
                    false => self.working.open(bucket, prefix).await,
                };
                copied.map(MountSource::Folder).map_err(|error| FileSystemError::Copy {
                    mount_path: target.to_owned(),
                    bucket: bucket.clone(),
                    error,
                })
            }
        }
    }
}

async fn address(server: &str) -> Result<IpAddr, Option<io::Error>> {
    let mut found = tokio::net::lookup_host((server, NFS_PORT)).await.map_err(Some)?;
    found.next().map(|found| found.ip()).ok_or(None)
}

#[cfg(test)]
mod tests {
    use clamshell_domain::SystemClock;

    use super::*;

    const ARN: &str = "arn:aws:elasticfilesystem:us-west-2:111122223333:access-point/fsap-0123456789abcdef0";

    fn systems(point: Option<AccessPointSource>, data_dir: &Path) -> FileSystems {
        let points = point.map(|source| (ARN.to_owned(), AccessPoint { source, read_only: true }));
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let folder = BucketSource::Folder { path: "/srv/bucket".into() };
        let buckets = [("folder".to_owned(), folder)].into();
        FileSystems::new(data_dir, points.into_iter().collect(), buckets, &clock, TaskTracker::new())
    }

    async fn mount(point: Option<AccessPointSource>) -> Result<MountSource, String> {
        let data_dir = tempfile::tempdir().unwrap();
        let asked = [FileSystem::AccessPoint { arn: ARN.into(), mount_path: "/mnt/data/".into() }];
        let mounts = systems(point, data_dir.path()).mounts(&asked).await;
        let [mount] =
            <[MountSpec; 1]>::try_from(mounts.map_err(|error| crate::http::chain(&error))?).unwrap();
        assert_eq!((mount.target.as_str(), mount.read_only), ("/mnt/data", true));
        Ok(mount.source)
    }

    #[tokio::test]
    async fn access_points_become_mounts() {
        let folder = AccessPointSource::Folder("/srv/data".into());
        assert_eq!(mount(Some(folder)).await, Ok(MountSource::Folder("/srv/data".into())));
        let nfs = AccessPointSource::Nfs { server: "127.0.0.1".into(), path: "/a".into() };
        let export = MountSource::Nfs { export: "127.0.0.1:/a".into(), address: [127, 0, 0, 1].into() };
        assert_eq!(mount(Some(nfs)).await, Ok(export));
        let nfs = AccessPointSource::Nfs { server: "::1".into(), path: "/a".into() };
        let export =
            MountSource::Nfs { export: "[::1]:/a".into(), address: std::net::Ipv6Addr::LOCALHOST.into() };
        assert_eq!(mount(Some(nfs)).await, Ok(export));
        let bucket = AccessPointSource::Prefix { bucket: "folder".into(), prefix: "a/b/".into() };
        assert_eq!(mount(Some(bucket)).await, Ok(MountSource::Folder("/srv/bucket/a/b/".into())));
    }

    #[tokio::test]
    async fn what_is_not_mapped_says_so() {
        let reason = mount(None).await.unwrap_err();
        assert!(
            reason.starts_with("/mnt/data: ") && reason.contains(ARN) && reason.contains("[access_points]")
        );
        let bucket = AccessPointSource::Prefix { bucket: "nothing".into(), prefix: String::new() };
        let reason = mount(Some(bucket)).await.unwrap_err();
        assert!(reason.contains("there is no bucket named nothing"), "{reason}");
    }

    #[tokio::test]
    async fn session_storage_is_the_workspace_once_more() {
        let data_dir = tempfile::tempdir().unwrap();
        let asked = [FileSystem::SessionStorage { mount_path: "/mnt/own".into() }];
        let mounts = systems(None, data_dir.path()).mounts(&asked).await.unwrap();
        let own = MountSpec { source: MountSource::Workspace, target: "/mnt/own".into(), read_only: false };
        assert_eq!(mounts, [own]);
        assert!(!FileSystems::are_foreign(&asked));
    }
}
