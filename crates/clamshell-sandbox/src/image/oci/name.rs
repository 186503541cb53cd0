//! Names of archive entries, parsed once: relative, no `..`, bounded.

use super::error::ImageError;

/// Components of a name below the root of a layer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::image) struct EntryName(Vec<Vec<u8>>);

/// Longest name, as everywhere in Linux.
const NAME_BYTES_MAX: usize = 4095;
/// Longest component, as on every file system.
const COMPONENT_BYTES_MAX: usize = 255;
/// Deepest entry. Removing a tree recurses, and no real package tree comes near.
const DEPTH_MAX: usize = 256;

impl EntryName {
    /// Takes a name as it stands in an archive.
    pub(in crate::image) fn parse(name: &[u8]) -> Result<Self, ImageError> {
        let refuse = |reason| Err(ImageError::hostile(name, reason));
        if name.len() > NAME_BYTES_MAX {
            return refuse("the name is too long");
        }
        if name.contains(&0) {
            return refuse("the name has a zero byte");
        }
        // `/` alone is how some tools write the root, and leads nowhere else.
        if name.first() == Some(&b'/') && name != b"/" {
            return refuse("the name is absolute");
        }
        let mut components = Vec::new();
        for component in name.split(|byte| *byte == b'/') {
            match component {
                b"" | b"." => {}
                b".." => return refuse("the name goes up"),
                component if component.len() > COMPONENT_BYTES_MAX => {
                    return refuse("a part of the name is too long");
                }
                component => components.push(component.to_vec()),
            }
        }
        if components.len() > DEPTH_MAX {
            return refuse("the name is too deep");
        }
        Ok(Self(components))
    }

    pub(in crate::image) fn root() -> Self {
        Self(Vec::new())
    }

    pub(in crate::image) fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    pub(in crate::image) fn depth(&self) -> usize {
        self.0.len()
    }

    pub(in crate::image) fn prefix(&self, depth: usize) -> Self {
        Self(self.0[..depth.min(self.0.len())].to_vec())
    }

    /// The folder and the last component; `None` for the root.
    pub(in crate::image) fn split_last(&self) -> Option<(Self, &[u8])> {
        let (last, parent) = self.0.split_last()?;
        Some((Self(parent.to_vec()), last))
    }

    /// The same folder with another last component.
    pub(in crate::image) fn sibling(&self, last: &[u8]) -> Self {
        let mut components = self.0.clone();
        components.pop();
        components.push(last.to_vec());
        Self(components)
    }

    pub(in crate::image) fn joined(&self) -> Vec<u8> {
        self.0.join(&b'/')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_cleaned_or_refused() {
        let check = |name: &[u8], expect: Option<&[u8]>| {
            assert_eq!(EntryName::parse(name).ok().map(|name| name.joined()).as_deref(), expect);
        };
        check(b"./usr//bin/./sh/", Some(b"usr/bin/sh"));
        check(b"./", Some(b""));
        check(b"/", Some(b""));
        check(b"//", None);
        check(b"...", Some(b"..."));
        check(b"/etc/passwd", None);
        check(b"a/../b", None);
        check(b"..", None);
        check(b"a\0b", None);
        check(&[b'a'; 256], None);
        check(&b"a/".repeat(300), None);
    }
}
