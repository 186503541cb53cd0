//! Listing keys in their order, page by page, with a delimiter or without.

use std::{fs, path::Path};

use super::{
    error::S3Error,
    store::{Bucket, Meta, open_object},
};

/// Most entries of a page, as of S3.
pub(crate) const PAGE_MAX: usize = 1000;

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wanted {
    pub(crate) prefix: String,
    pub(crate) delimiter: String,
    /// Only what comes after this key or common prefix.
    pub(crate) after: String,
    pub(crate) max: usize,
}

/// An entry of a page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Entry {
    Key {
        key: String,
        size: u64,
        meta: Meta,
    },
    /// All keys that start so, told once.
    Prefix(String),
}

impl Entry {
    /// Where the next page goes on.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Key { key, .. } => key,
            Self::Prefix(prefix) => prefix,
        }
    }
}

/// A page.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) entries: Vec<Entry>,
    /// There is more.
    pub(crate) is_truncated: bool,
}

/// The next page. Blocks.
pub(crate) fn list(bucket: &Bucket, wanted: &Wanted) -> Result<Page, S3Error> {
    let mut page = Page::default();
    if wanted.max > 0 {
        Walk { wanted, page: &mut page }.folder(&bucket.data(), "")?;
    }
    Ok(page)
}

/// The first key with this prefix.
pub(crate) fn first(bucket: &Bucket, prefix: &str) -> Result<Option<String>, S3Error> {
    let wanted = Wanted { prefix: prefix.to_owned(), max: 1, ..Wanted::default() };
    Ok(list(bucket, &wanted)?.entries.pop().map(|entry| entry.name().to_owned()))
}

struct Walk<'a> {
    wanted: &'a Wanted,
    page: &'a mut Page,
}

impl Walk<'_> {
    /// Walks a folder whose keys start with `above`; `false` when the page is full.
    fn folder(&mut self, folder: &Path, above: &str) -> Result<bool, S3Error> {
        let mut children: Vec<(String, bool)> = Vec::new();
        let entries = match fs::read_dir(folder) {
            // It went while we walked.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(true),
            entries => entries?,
        };
        for entry in entries {
            let name = entry?.file_name();
            let Some(name) = name.to_str() else { continue };
            if let Some(file) = name.strip_prefix("f-") {
                children.push((format!("{above}{file}"), false));
            } else if let Some(folder) = name.strip_prefix("d-") {
                // With the slash it sorts where its keys do.
                children.push((format!("{above}{folder}/"), true));
            }
        }
        children.sort_unstable();
        for (key, is_folder) in children {
            if !self.is_wanted(&key, is_folder) {
                continue;
            }
            let goes_on = match self.common(&key) {
                Some(common) if is_folder && key.len() >= common.len() => {
                    self.folder_prefix(folder, &key, common)?
                }
                Some(common) if !is_folder => self.add(Entry::Prefix(common)),
                _ if is_folder => self.folder(&folder.join(folder_name(&key)), &key)?,
                _ => self.key(folder, key)?,
            };
            if !goes_on {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether the key, or one below the folder, may be in the page.
    fn is_wanted(&self, key: &str, is_folder: bool) -> bool {
        let Wanted { prefix, after, .. } = self.wanted;
        let has_prefix = key.starts_with(prefix) || (is_folder && prefix.starts_with(key));
        let is_later = key > after.as_str() || (is_folder && after.starts_with(key));
        // A common prefix that was told is not told again.
        let is_told = !self.wanted.delimiter.is_empty()
            && after.ends_with(&self.wanted.delimiter)
            && after.len() > prefix.len()
            && key.starts_with(after);
        has_prefix && is_later && !is_told
    }

    /// The common prefix that a key is told by.
    fn common(&self, key: &str) -> Option<String> {
        let Wanted { prefix, delimiter, .. } = self.wanted;
        if delimiter.is_empty() {
            return None;
        }
        let rest = key.strip_prefix(prefix.as_str())?;
        let end = rest.find(delimiter.as_str())? + delimiter.len();
        Some(key[..prefix.len() + end].to_owned())
    }

    /// A folder that is told by a common prefix, if there is anything in it.
    fn folder_prefix(&mut self, folder: &Path, key: &str, common: String) -> Result<bool, S3Error> {
        let is_known = self.page.entries.last().is_some_and(|last| last.name() == common);
        if is_known || !has_file(&folder.join(folder_name(key)))? {
            return Ok(true);
        }
        Ok(self.add(Entry::Prefix(common)))
    }

    fn key(&mut self, folder: &Path, key: String) -> Result<bool, S3Error> {
        let name = key.rsplit('/').next().unwrap_or_default();
        match open_object(&folder.join(format!("f-{name}"))) {
            Ok(Some(object)) => Ok(self.add(Entry::Key { key, size: object.size, meta: object.meta })),
            Ok(None) => Ok(true),
            // One that is damaged must not hide all the others.
            Err(error) => {
                tracing::warn!(%error, "an object cannot be read");
                Ok(true)
            }
        }
    }

    fn add(&mut self, entry: Entry) -> bool {
        if self.page.entries.last() == Some(&entry) {
            return true;
        }
        if self.page.entries.len() >= self.wanted.max {
            self.page.is_truncated = true;
            return false;
        }
        self.page.entries.push(entry);
        true
    }
}

/// Name of the folder of a key that ends with its slash.
fn folder_name(key: &str) -> String {
    let bare = key.strip_suffix('/').unwrap_or(key);
    format!("d-{}", bare.rsplit('/').next().unwrap_or_default())
}

fn has_file(folder: &Path) -> Result<bool, S3Error> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(false),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_file() || has_file(&entry.path())? {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::store::Buckets;

    /// All pages of `max` entries, each as one text.
    fn pages(bucket: &Bucket, prefix: &str, delimiter: &str, max: usize) -> Vec<String> {
        let mut wanted =
            Wanted { prefix: prefix.into(), delimiter: delimiter.into(), max, ..Wanted::default() };
        let mut pages = Vec::new();
        loop {
            let page = list(bucket, &wanted).unwrap();
            pages.push(page.entries.iter().map(Entry::name).collect::<Vec<_>>().join(" "));
            assert!(pages.len() < 50, "{pages:?}");
            match page.entries.last() {
                Some(last) if page.is_truncated => wanted.after = last.name().to_owned(),
                _ => return pages,
            }
        }
    }

    #[test]
    fn keys_come_in_their_order_and_every_page_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let buckets = Buckets::new(folder.path().to_owned());
        buckets.create("bucket").unwrap();
        let bucket = buckets.open("bucket").unwrap();
        let mut keys =
            ["a", "a-b", "a/", "a/b", "a/b/c", "a//x", "a/c", "ab", "b/d/e", "b/d/f", "b.x", "c", "\u{e9}/x"];
        for key in keys {
            bucket.incoming().unwrap().finish(&Meta::default(), &bucket.path(key).unwrap(), false).unwrap();
        }
        keys.sort_unstable();
        for max in 1..keys.len() + 1 {
            assert_eq!(pages(&bucket, "", "", max).join(" "), keys.join(" "), "{max}");
            assert_eq!(pages(&bucket, "", "/", max).join(" "), "a a-b a/ ab b.x b/ c \u{e9}/", "{max}");
            assert_eq!(pages(&bucket, "a/", "/", max).join(" "), "a/ a// a/b a/b/ a/c", "{max}");
            assert_eq!(pages(&bucket, "a/b", "", max).join(" "), "a/b a/b/c", "{max}");
            assert_eq!(pages(&bucket, "b", "d", max).join(" "), "b.x b/d", "{max}");
            assert_eq!(
                pages(&bucket, "", "b", max).join(" "),
                "a a-b a/ a//x a/b a/c ab b c \u{e9}/x",
                "{max}"
            );
        }
        assert_eq!(pages(&bucket, "none", "/", 5), [""]);
        assert_eq!(first(&bucket, "a/b/").unwrap().as_deref(), Some("a/b/c"));
    }
}
