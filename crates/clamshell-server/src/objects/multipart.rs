//! Uploads in parts: each part is a file of its own until the upload is completed or aborted.

use std::{collections::BTreeMap, fs, io, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{
    error::{Code, S3Error},
    store::{Bucket, Incoming, Meta, Object, make_folder, open_object, sync, tag_of_parts},
};

/// Highest part number, as of S3.
pub(crate) const PART_MAX: u32 = 10_000;
/// Smallest part but the last, as of S3.
const PART_BYTES_MIN: u64 = 5 << 20;
/// Uploads of one bucket that are not finished: each may hold any number of bytes.
const UPLOADS_MAX: usize = 1000;
/// Uploads that nobody finished are removed after so long.
const ABANDONED_MS: u64 = 7 * 86_400_000;

/// What an upload will become.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Upload {
    pub(crate) key: String,
    pub(crate) started_ms: u64,
    pub(crate) headers: BTreeMap<String, String>,
}

/// A part as it is listed.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) number: u32,
    pub(crate) size: u64,
    pub(crate) meta: Meta,
}

fn folder(bucket: &Bucket, id: &str) -> Result<PathBuf, S3Error> {
    // Ids are ours, and nothing else leads anywhere.
    if id.len() != 32 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(Code::NoSuchUpload.into());
    }
    Ok(bucket.uploads().join(id))
}

/// Starts an upload and gives its id.
pub(crate) fn start(bucket: &Bucket, upload: &Upload) -> Result<String, S3Error> {
    remove_abandoned(bucket, upload.started_ms)?;
    if fs::read_dir(bucket.uploads())?.count() >= UPLOADS_MAX {
        return Err(S3Error::of(Code::InvalidArgument, "too many uploads of this bucket are not finished"));
    }
    let id = uuid::Uuid::new_v4().simple().to_string();
    let folder = folder(bucket, &id)?;
    make_folder(&folder)?;
    let text = serde_json::to_vec(upload).map_err(io::Error::from)?;
    let path = folder.join("upload.json");
    fs::write(&path, text)?;
    fs::File::open(&path)?.sync_all()?;
    sync(&folder)?;
    sync(&bucket.uploads())?;
    Ok(id)
}

/// An upload by its id and key.
pub(crate) fn open(bucket: &Bucket, id: &str, key: &str) -> Result<Upload, S3Error> {
    let upload = read(&folder(bucket, id)?).ok_or(Code::NoSuchUpload)?;
    if upload.key == key { Ok(upload) } else { Err(Code::NoSuchUpload.into()) }
}

fn read(folder: &std::path::Path) -> Option<Upload> {
    serde_json::from_slice(&fs::read(folder.join("upload.json")).ok()?).ok()
}

/// Gives a part its place; an earlier one of that number goes.
pub(crate) fn add_part(
    bucket: &Bucket,
    id: &str,
    number: u32,
    incoming: Incoming,
    meta: &Meta,
) -> Result<(), S3Error> {
    let folder = folder(bucket, id)?;
    if !folder.is_dir() {
        return Err(Code::NoSuchUpload.into());
    }
    incoming.finish(meta, &folder.join(format!("part-{number:05}")), false)
}

/// Parts by their numbers.
pub(crate) fn parts(bucket: &Bucket, id: &str) -> Result<Vec<Part>, S3Error> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder(bucket, id)?)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("part-")?.parse::<u32>().ok());
        if let Some(number) = number
            && let Some(part) = open_object(&entry.path())?
        {
            found.push(Part { number, size: part.size, meta: part.meta });
        }
    }
    found.sort_unstable_by_key(|part| part.number);
    Ok(found)
}

/// Puts the parts together. `wanted` are numbers and tags in the order of the client.
pub(crate) fn complete(
    bucket: &Bucket,
    id: &str,
    key: &str,
    wanted: &[(u32, String)],
    now_ms: u64,
    bytes_max: u64,
    is_new: bool,
) -> Result<String, S3Error> {
    let upload = open(bucket, id, key)?;
    if wanted.is_empty() {
        return Err(Code::MalformedXML.into());
    }
    if wanted.windows(2).any(|two| two[0].0 >= two[1].0) {
        return Err(Code::InvalidPartOrder.into());
    }
    let folder = folder(bucket, id)?;
    let mut digests = Vec::with_capacity(wanted.len());
    let mut whole = bucket.incoming()?;
    for (index, (number, etag)) in wanted.iter().enumerate() {
        let part = open_object(&folder.join(format!("part-{number:05}")))?;
        let mut part: Object = part.ok_or(Code::InvalidPart)?;
        if part.meta.etag != etag.trim_matches('"') {
            return Err(Code::InvalidPart.into());
        }
        if part.size < PART_BYTES_MIN && index + 1 < wanted.len() {
            return Err(Code::EntityTooSmall.into());
        }
        if whole.length.saturating_add(part.size) > bytes_max {
            return Err(Code::EntityTooLarge.into());
        }
        digests.push(digest(&part.meta.etag).ok_or(Code::InternalError)?);
        whole.add_object(&mut part)?;
    }
    let etag = tag_of_parts(&digests);
    let meta = Meta { etag: etag.clone(), modified_ms: now_ms, headers: upload.headers };
    whole.finish(&meta, &bucket.path(key)?, is_new)?;
    // The object is there; what stays of its parts is removed with the abandoned ones.
    let _ = fs::remove_dir_all(folder);
    Ok(etag)
}

/// Ends an upload without an object.
pub(crate) fn abort(bucket: &Bucket, id: &str, key: &str) -> Result<(), S3Error> {
    open(bucket, id, key)?;
    fs::remove_dir_all(folder(bucket, id)?)?;
    Ok(())
}

/// Uploads that are not finished, by key and id.
pub(crate) fn uploads(bucket: &Bucket) -> Result<Vec<(String, Upload)>, S3Error> {
    let mut found = Vec::new();
    for entry in fs::read_dir(bucket.uploads())? {
        let entry = entry?;
        if let (Some(id), Some(upload)) = (entry.file_name().to_str(), read(&entry.path())) {
            found.push((id.to_owned(), upload));
        }
    }
    found.sort_unstable_by(|(a_id, a), (b_id, b)| (&a.key, a_id).cmp(&(&b.key, b_id)));
    Ok(found)
}

/// Removes uploads that nobody finished in a week.
pub(crate) fn remove_abandoned(bucket: &Bucket, now_ms: u64) -> Result<(), S3Error> {
    for (id, upload) in uploads(bucket)? {
        if upload.started_ms.saturating_add(ABANDONED_MS) < now_ms {
            let _ = fs::remove_dir_all(folder(bucket, &id)?);
        }
    }
    Ok(())
}

fn digest(etag: &str) -> Option<[u8; 16]> {
    let mut digest = [0; 16];
    for (index, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(etag.get(index * 2..index * 2 + 2)?, 16).ok()?;
    }
    Some(digest)
}
