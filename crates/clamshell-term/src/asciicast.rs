//! Recordings in asciicast version 2: a header line, then one line for each event.
//!
//! Streaming: an iterator of events becomes an iterator of lines, and only the few bytes of a
//! character that two events share are kept in between.

use std::collections::BTreeMap;

use serde::Serialize;

/// First line of a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CastHeader {
    /// Columns at the start.
    pub cols: u16,
    /// Rows at the start.
    pub rows: u16,
    /// When it started, milliseconds since 1970.
    pub started_at_ms: u64,
    /// What to note of the environment, such as `TERM` and `SHELL`.
    pub env: BTreeMap<String, String>,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CastEvent {
    /// When, milliseconds since 1970. An event before its predecessor is put at the same time.
    pub at_ms: u64,
    /// What.
    pub kind: CastEventKind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CastEventKind {
    /// The terminal showed these bytes.
    Output(Vec<u8>),
    /// The terminal has this size now.
    Resize {
        /// Columns.
        cols: u16,
        /// Rows.
        rows: u16,
    },
}

#[derive(Serialize)]
struct HeaderLine<'a> {
    version: u8,
    width: u16,
    height: u16,
    timestamp: u64,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    env: &'a BTreeMap<String, String>,
}

/// The lines of a recording, each with its newline.
pub fn lines<I: IntoIterator<Item = CastEvent>>(header: &CastHeader, events: I) -> CastLines<I::IntoIter> {
    let line = HeaderLine {
        version: 2,
        width: header.cols,
        height: header.rows,
        timestamp: header.started_at_ms / 1000,
        env: &header.env,
    };
    let mut first = serde_json::to_string(&line).expect("our members have string keys");
    first.push('\n');
    CastLines {
        first: Some(first),
        events: Some(events.into_iter()),
        started_at_ms: header.started_at_ms,
        last_ms: 0,
        text: Utf8Carry::default(),
    }
}

/// See [`lines`].
#[derive(Debug)]
pub struct CastLines<I> {
    first: Option<String>,
    /// `None` once it ended.
    events: Option<I>,
    started_at_ms: u64,
    last_ms: u64,
    text: Utf8Carry,
}

impl<I: Iterator<Item = CastEvent>> Iterator for CastLines<I> {
    type Item = String;

    fn next(&mut self) -> Option<String> {
        if let Some(first) = self.first.take() {
            return Some(first);
        }
        while let Some(event) = self.events.as_mut()?.next() {
            self.last_ms = self.last_ms.max(event.at_ms.saturating_sub(self.started_at_ms));
            match event.kind {
                CastEventKind::Output(bytes) => {
                    let text = self.text.push(&bytes);
                    if !text.is_empty() {
                        return Some(self.line("o", &text));
                    }
                }
                CastEventKind::Resize { cols, rows } => {
                    return Some(self.line("r", &format!("{cols}x{rows}")));
                }
            }
        }
        self.events = None;
        let text = self.text.finish();
        (!text.is_empty()).then(|| self.line("o", &text))
    }
}

impl<I> CastLines<I> {
    fn line(&self, code: &str, data: &str) -> String {
        let data = serde_json::to_string(data).expect("text always serializes");
        let (seconds, millis) = (self.last_ms / 1000, self.last_ms % 1000);
        format!("[{seconds}.{millis:03}, \"{code}\", {data}]\n")
    }
}

/// Turns pieces of a byte stream into text; a character cut between two pieces stays whole, and what
/// is no UTF-8 becomes U+FFFD.
#[derive(Debug, Clone, Default)]
pub struct Utf8Carry {
    /// At most three bytes: the front of a character.
    carry: Vec<u8>,
}

impl Utf8Carry {
    /// The text of the next piece.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        let mut input = std::mem::take(&mut self.carry);
        input.extend_from_slice(bytes);
        let mut text = String::with_capacity(input.len());
        let mut rest = input.as_slice();
        loop {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    return text;
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    text.push_str(std::str::from_utf8(valid).unwrap_or_default());
                    let Some(length) = error.error_len() else {
                        self.carry = after.to_vec();
                        return text;
                    };
                    text.push(char::REPLACEMENT_CHARACTER);
                    rest = &after[length..];
                }
            }
        }
    }

    /// The stream is over: a character that never came to its end becomes U+FFFD.
    pub fn finish(&mut self) -> String {
        if std::mem::take(&mut self.carry).is_empty() {
            return String::new();
        }
        char::REPLACEMENT_CHARACTER.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header() -> CastHeader {
        CastHeader { cols: 80, rows: 24, started_at_ms: 1_700_000_000_250, env: BTreeMap::new() }
    }

    fn output(after_ms: u64, bytes: &[u8]) -> CastEvent {
        CastEvent { at_ms: header().started_at_ms + after_ms, kind: CastEventKind::Output(bytes.to_vec()) }
    }

    #[test]
    fn a_recording() {
        let header = CastHeader { env: [("TERM".into(), "xterm-256color".into())].into(), ..header() };
        let resize = CastEvent {
            at_ms: header.started_at_ms + 61_007,
            kind: CastEventKind::Resize { cols: 100, rows: 30 },
        };
        let events = [
            output(0, b"$ "),
            output(1_500, b"\x1b[1m\"\xc3"),
            output(1_501, b""),
            resize,
            output(61_000, b"\xa9\xff\r\n"),
            output(62_000, b"\xe2\x82"),
        ];
        let expected = [
            r#"{"version":2,"width":80,"height":24,"timestamp":1700000000,"env":{"TERM":"xterm-256color"}}"#,
            r#"[0.000, "o", "$ "]"#,
            r#"[1.500, "o", "\u001b[1m\""]"#,
            r#"[61.007, "r", "100x30"]"#,
            "[61.007, \"o\", \"\u{e9}\u{fffd}\\r\\n\"]",
            "[62.000, \"o\", \"\u{fffd}\"]",
        ];
        let lines: String = lines(&header, events).collect();
        assert_eq!(lines, expected.map(|line| format!("{line}\n")).concat());
    }

    #[test]
    fn an_empty_recording_is_its_header() {
        assert_eq!(lines(&header(), []).count(), 1);
    }

    proptest! {
        #[test]
        fn text_does_not_depend_on_the_cuts(
            bytes in prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..200),
                "\\PC{0,60}".prop_map(String::into_bytes),
            ],
            cut in 1usize..9,
        ) {
            let mut carry = Utf8Carry::default();
            let mut text: String = bytes.chunks(cut).map(|piece| carry.push(piece)).collect();
            prop_assert!(carry.carry.len() <= 3);
            text.push_str(&carry.finish());
            prop_assert_eq!(text, String::from_utf8_lossy(&bytes));
        }

        #[test]
        fn every_line_is_json(
            pieces in proptest::collection::vec((0u64..10_000, proptest::collection::vec(any::<u8>(), 0..50)), 0..20),
        ) {
            let events = pieces.iter().map(|(after_ms, bytes)| output(*after_ms, bytes));
            for line in lines(&header(), events) {
                prop_assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok());
            }
        }
    }
}
