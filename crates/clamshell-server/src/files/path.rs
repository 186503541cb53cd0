//! Paths of files in a workspace: bytes, because that is what names are.

use super::FileError;

/// Longest path: as much as the kernel takes in one call.
const PATH_BYTES_MAX: usize = 4095;

/// A path below the workspace, without `.`, `..`, empty parts or NUL. The empty one is the workspace itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FilePath(Vec<u8>);

impl FilePath {
    /// Reads a path that starts at the workspace, with a slash in front or without.
    ///
    /// # Errors
    /// [`FileError::Path`].
    pub(crate) fn parse(path: &[u8]) -> Result<Self, FileError> {
        if path.len() > PATH_BYTES_MAX {
            return Err(FileError::Path("The path is too long"));
        }
        if path.contains(&0) {
            return Err(FileError::Path("The path has a NUL character"));
        }
        let mut parts = Vec::new();
        for part in path.split(|byte| *byte == b'/') {
            match part {
                b"" | b"." => {}
                b".." => return Err(FileError::Path("The path must not have '..' in it")),
                part => parts.push(part),
            }
        }
        Ok(Self(parts.join(&b'/')))
    }

    /// Without a slash in front.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// With a slash in front.
    pub(crate) fn absolute(&self) -> Vec<u8> {
        [b"/", self.0.as_slice()].concat()
    }

    /// Path of something in this folder.
    pub(crate) fn join(&self, name: &[u8]) -> Self {
        if self.0.is_empty() { Self(name.to_vec()) } else { Self([self.0.as_slice(), b"/", name].concat()) }
    }

    /// Its folder and its name; `None` for the workspace itself.
    pub(crate) fn split(&self) -> Option<(&[u8], &[u8])> {
        if self.0.is_empty() {
            return None;
        }
        let slash = self.0.iter().rposition(|byte| *byte == b'/');
        Some(slash.map_or((&[][..], &self.0[..]), |at| (&self.0[..at], &self.0[at + 1..])))
    }
}

/// A name or path as text: bytes that are no UTF-8 as `%XX`.
pub(crate) fn shown(name: &[u8]) -> String {
    let mut text = String::with_capacity(name.len());
    for chunk in name.utf8_chunks() {
        text.push_str(chunk.valid());
        for byte in chunk.invalid() {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_made_plain_or_refused() {
        let check = |path: &[u8], expect: Option<&[u8]>| {
            let parsed = FilePath::parse(path);
            assert_eq!(parsed.as_ref().ok().map(FilePath::as_bytes), expect, "{}", shown(path));
        };
        check(b"", Some(b""));
        check(b"/", Some(b""));
        check(b"/./a//b/.", Some(b"a/b"));
        check(b"a/..b/...", Some(b"a/..b/..."));
        check(b"a\n'\"\xff", Some(b"a\n'\"\xff"));
        for bad in [&b".."[..], b"/..", b"a/../b", b"a/..", b"../etc/passwd", b"/a/\0"] {
            check(bad, None);
        }
        check(&[b'a'; 4096], None);
    }

    #[test]
    fn a_path_is_a_folder_and_a_name() {
        let path = |text: &str| FilePath::parse(text.as_bytes()).unwrap();
        assert_eq!(path("/").split(), None);
        assert_eq!(path("a").split(), Some((&b""[..], &b"a"[..])));
        assert_eq!(path("a/b/c").split(), Some((&b"a/b"[..], &b"c"[..])));
        assert_eq!(path("").join(b"x"), path("x"));
        assert_eq!(path("a").join(b"x").absolute(), b"/a/x");
    }

    #[test]
    fn names_that_are_no_text_are_shown() {
        assert_eq!(shown("é\n".as_bytes()), "é\n");
        assert_eq!(shown(b"a\xffb\xc3"), "a%FFb%C3");
    }
}
