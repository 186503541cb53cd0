//! XML as S3 speaks it: documents are written as text, and the few bodies that clients send are read into names and texts.
//!
//! The reader knows elements, text and the five entities. Attributes, comments and instructions are skipped; declarations of
//! types and entities are refused, so nothing can grow.

use super::error::{Code, S3Error};

/// Namespace of all documents.
pub(crate) const NAMESPACE: &str = "http://s3.amazonaws.com/doc/2006-03-01/";
/// Deepest element; the deepest of S3's bodies has four.
const DEPTH_MAX: usize = 16;

/// A document being written.
#[derive(Debug)]
pub(crate) struct Writer(String);

impl Writer {
    /// Opens the root.
    pub(crate) fn new(root: &str) -> Self {
        let namespace = if root == "Error" { String::new() } else { format!(" xmlns=\"{NAMESPACE}\"") };
        Self(format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<{root}{namespace}>"))
    }

    /// An element with a text.
    pub(crate) fn text(&mut self, name: &str, text: &str) -> &mut Self {
        self.open(name);
        for c in text.chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                // What XML cannot say at all; clients ask for `encoding-type=url` because of these.
                '\0'..='\x08' | '\x0b' | '\x0c' | '\x0e'..='\x1f' | '\u{fffe}' | '\u{ffff}' => {
                    self.0.push('\u{fffd}')
                }
                '\r' => self.0.push_str("&#13;"),
                c => self.0.push(c),
            }
        }
        self.close(name)
    }

    pub(crate) fn open(&mut self, name: &str) -> &mut Self {
        self.0.push('<');
        self.0.push_str(name);
        self.0.push('>');
        self
    }

    pub(crate) fn close(&mut self, name: &str) -> &mut Self {
        self.0.push_str("</");
        self.0.push_str(name);
        self.0.push('>');
        self
    }

    /// Closes the root.
    pub(crate) fn finish(mut self, root: &str) -> String {
        self.close(root);
        self.0
    }
}

/// An element of a document.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Element {
    /// Name without its prefix.
    pub(crate) name: String,
    /// Its own text.
    pub(crate) text: String,
    /// Elements in it.
    pub(crate) children: Vec<Element>,
}

impl Element {
    /// Text of the first child of that name.
    pub(crate) fn child_text(&self, name: &str) -> Option<&str> {
        self.children.iter().find(|child| child.name == name).map(|child| child.text.trim())
    }
}

/// Reads a document.
pub(crate) fn read(bytes: &[u8]) -> Result<Element, S3Error> {
    let text = std::str::from_utf8(bytes).map_err(|_| Code::MalformedXML)?;
    parse(text.trim_start_matches('\u{feff}')).ok_or_else(|| Code::MalformedXML.into())
}

fn parse(mut rest: &str) -> Option<Element> {
    let mut open: Vec<Element> = Vec::new();
    loop {
        let (text, after) = rest.split_once('<')?;
        match open.last_mut() {
            Some(element) => unescape(text, &mut element.text)?,
            None if text.trim().is_empty() => {}
            None => return None,
        }
        if let Some(comment) = after.strip_prefix("!--") {
            rest = comment.split_once("-->")?.1;
        } else if let Some(instruction) = after.strip_prefix('?') {
            rest = instruction.split_once("?>")?.1;
        } else if after.starts_with('!') {
            return None;
        } else if let Some(closing) = after.strip_prefix('/') {
            let (name, after) = closing.split_once('>')?;
            let element = open.pop().filter(|element| element.name == local(name.trim()))?;
            rest = after;
            match open.last_mut() {
                Some(parent) => parent.children.push(element),
                None => return rest.trim().is_empty().then_some(element),
            }
        } else {
            let end = tag_end(after)?;
            let (tag, after) = (&after[..end], &after[end + 1..]);
            let is_empty = tag.ends_with('/');
            let name = tag.trim_end_matches('/').split_whitespace().next()?;
            let element = Element { name: local(name).to_owned(), ..Element::default() };
            rest = after;
            if open.len() >= DEPTH_MAX {
                return None;
            }
            match open.last_mut() {
                Some(parent) if is_empty => parent.children.push(element),
                None if is_empty => return rest.trim().is_empty().then_some(element),
                _ => open.push(element),
            }
        }
    }
}

fn local(name: &str) -> &str {
    name.rsplit(':').next().unwrap_or(name)
}

/// The `>` that ends a tag, not one inside of an attribute.
fn tag_end(text: &str) -> Option<usize> {
    let mut quote = None;
    for (at, byte) in text.bytes().enumerate() {
        match (quote, byte) {
            (None, b'>') => return Some(at),
            (None, b'"' | b'\'') => quote = Some(byte),
            (Some(open), byte) if open == byte => quote = None,
            _ => {}
        }
    }
    None
}

fn unescape(text: &str, out: &mut String) -> Option<()> {
    let mut rest = text;
    while let Some((plain, after)) = rest.split_once('&') {
        out.push_str(plain);
        let (entity, after) = after.split_once(';')?;
        out.push(match entity {
            "amp" => '&',
            "lt" => '<',
            "gt" => '>',
            "quot" => '"',
            "apos" => '\'',
            numeric => {
                let number = numeric.strip_prefix('#')?;
                let code = match number.strip_prefix(['x', 'X']) {
                    Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                    None => number.parse().ok()?,
                };
                char::from_u32(code)?
            }
        });
        rest = after;
    }
    out.push_str(rest);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_of_clients_are_read() {
        let body = b"<?xml version='1.0'?><!-- x --><s3:Delete xmlns:s3=\"a>b\"><Object><Key>a&amp;b&#x41;</Key></Object>\
                     <Quiet/></s3:Delete>\n";
        let delete = read(body).unwrap();
        assert_eq!((delete.name.as_str(), delete.children.len()), ("Delete", 2));
        assert_eq!(delete.children[0].child_text("Key"), Some("a&bA"));
        let deep = "<a>".repeat(17) + &"</a>".repeat(17);
        for bad in [
            "",
            "x",
            "<a>",
            "<a></b>",
            "<a/>x",
            "<!DOCTYPE a><a/>",
            "<a>&b;</a>",
            "<a>&#xd800;</a>",
            "<a",
            "<>",
            &deep,
        ] {
            assert!(parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn texts_are_escaped() {
        let mut xml = Writer::new("Error");
        xml.text("Key", "a<b>&\"\r\x01");
        let text = xml.finish("Error");
        assert!(text.ends_with("<Error><Key>a&lt;b&gt;&amp;&quot;&#13;\u{fffd}</Key></Error>"), "{text}");
    }
}
