//! The key that detaches a client from its shell, found in what the user types.
//!
//! One press detaches, two presses send the key itself once. A single press at the end of what was
//! read may be the first of two, so the scanner waits a moment: the caller asks
//! [`EscapeScanner::deadline_ms`] how long. Time is passed in.

use std::str::FromStr;

use thiserror::Error;

/// Longest time between the two presses that mean the key itself.
const DOUBLE_PRESS_MS: u64 = 400;

/// An encoded key press is some ten bytes; longer sequences are something else.
const SEQUENCE_BYTES_MAX: usize = 32;

/// Ctrl plus a key, or none. `Ctrl+]` unless chosen otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DetachKey(Option<u8>);

/// Text that names no key.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("a detach key is written ^X, with X a letter or one of @ [ \\ ] ^ _, or none: {text:?}")]
pub struct DetachKeyError {
    /// The text.
    pub text: String,
}

impl DetachKey {
    /// No key detaches.
    pub const NONE: Self = Self(None);
}

impl Default for DetachKey {
    fn default() -> Self {
        Self(Some(0x1d))
    }
}

impl FromStr for DetachKey {
    type Err = DetachKeyError;

    /// Reads `^]` notation, or `none`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.eq_ignore_ascii_case("none") {
            return Ok(Self::NONE);
        }
        match text.as_bytes() {
            [b'^', key] if matches!(key.to_ascii_uppercase(), b'@'..=b'_') => Ok(Self(Some(key & 0x1f))),
            _ => Err(DetachKeyError { text: text.chars().take(20).collect() }),
        }
    }
}

impl std::fmt::Display for DetachKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(byte) => write!(formatter, "Ctrl+{}", char::from(byte | 0x40)),
            None => formatter.write_str("none"),
        }
    }
}

/// What a scan found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scan {
    /// Bytes for the shell.
    pub send: Vec<u8>,
    /// Detach after sending them. What was typed behind the key is dropped.
    pub detach: bool,
}

/// Looks for the key in a stream of input.
#[derive(Debug, Clone)]
pub struct EscapeScanner {
    key: DetachKey,
    pressed_at_ms: Option<u64>,
}

impl EscapeScanner {
    /// A scanner for `key`.
    pub fn new(key: DetachKey) -> Self {
        Self { key, pressed_at_ms: None }
    }

    /// Takes what was read from the terminal.
    pub fn scan(&mut self, bytes: &[u8], now_ms: u64) -> Scan {
        let mut scan = self.expire(now_ms);
        let Some(key) = self.key.0 else {
            scan.send.extend_from_slice(bytes);
            return scan;
        };
        let mut rest = bytes;
        while !scan.detach && !rest.is_empty() {
            let press = key_press(key, rest);
            match (self.pressed_at_ms.take(), press) {
                (None, 0) => {
                    scan.send.push(rest[0]);
                    rest = &rest[1..];
                }
                (None, length) => {
                    self.pressed_at_ms = Some(now_ms);
                    rest = &rest[length..];
                }
                (Some(_), 0) => scan.detach = true,
                (Some(_), length) => {
                    scan.send.extend_from_slice(&rest[..length]);
                    rest = &rest[length..];
                }
            }
        }
        scan
    }

    /// When to call [`EscapeScanner::expire`] if nothing is typed before.
    pub fn deadline_ms(&self) -> Option<u64> {
        self.pressed_at_ms.map(|pressed_at_ms| pressed_at_ms + DOUBLE_PRESS_MS)
    }

    /// Detaches if the key was pressed once and the time for the second press is over.
    pub fn expire(&mut self, now_ms: u64) -> Scan {
        let detach = self.deadline_ms().is_some_and(|deadline_ms| now_ms >= deadline_ms);
        if detach {
            self.pressed_at_ms = None;
        }
        Scan { send: Vec::new(), detach }
    }
}

/// Length of the key press at the front of `bytes`; 0 when there is none.
///
/// Besides the control byte, a program that asked the terminal for them gets presses as sequences:
/// `ESC [ 93 ; 5 u` (kitty) or `ESC [ 27 ; 5 ; 93 ~` (xterm). Coding agents do ask.
fn key_press(key: u8, bytes: &[u8]) -> usize {
    if bytes.first() == Some(&key) {
        return 1;
    }
    let Some(sequence) = bytes.strip_prefix(b"\x1b[") else {
        return 0;
    };
    let end = sequence.iter().take(SEQUENCE_BYTES_MAX).position(|byte| matches!(byte, 0x40..=0x7e));
    let Some(end) = end else {
        return 0;
    };
    let Ok(parameters) = std::str::from_utf8(&sequence[..end]) else {
        return 0;
    };
    let mut parameters = parameters.split(';');
    let (code, modifiers) = match sequence[end] {
        b'u' => (parameters.next(), parameters.next()),
        b'~' if parameters.next() == Some("27") => {
            let modifiers = parameters.next();
            (parameters.next(), modifiers)
        }
        _ => return 0,
    };
    // Kitty appends alternates to the code and the kind of event to the modifiers, after colons.
    let code = code.and_then(|code| code.split(':').next()?.parse::<u32>().ok());
    let mut modifiers = modifiers.unwrap_or_default().split(':');
    let held = modifiers.next().and_then(|held| held.parse::<u32>().ok()?.checked_sub(1));
    let released = modifiers.next() == Some("3");
    // Caps and num lock (64 and 128) do not count; control alone is 4.
    let control_only = held.is_some_and(|held| held & 0x3f == 4);
    let plain = u32::from((key | 0x40).to_ascii_lowercase());
    if code == Some(plain) && control_only && !released { 2 + end + 1 } else { 0 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(chunks: &[&[u8]], send: &[u8], detach: bool) {
        let mut scanner = EscapeScanner::new(DetachKey::default());
        let mut sent = Vec::new();
        let mut detached = false;
        for (index, chunk) in (0u64..).zip(chunks) {
            let scan = scanner.scan(chunk, 100 * index);
            sent.extend(scan.send);
            detached |= scan.detach;
        }
        detached |= scanner.deadline_ms().is_some_and(|deadline_ms| scanner.expire(deadline_ms).detach);
        assert_eq!((sent.as_slice(), detached), (send, detach), "{chunks:?}");
    }

    #[test]
    fn one_press_detaches_wherever_it_is() {
        check(&[b"\x1d"], b"", true);
        check(&[b"ls\n\x1d"], b"ls\n", true);
        check(&[b"ls\n\x1dpwd\n"], b"ls\n", true);
        check(&[b"\x1d", b"x"], b"", true);
        check(&[b"ls\n"], b"ls\n", false);
    }

    #[test]
    fn two_presses_send_the_key() {
        check(&[b"a\x1d\x1db"], b"a\x1db", false);
        check(&[b"a\x1d", b"\x1db"], b"a\x1db", false);
        check(&[b"\x1d\x1d\x1d"], b"\x1d", true);
    }

    #[test]
    fn the_second_press_can_be_too_late() {
        let mut scanner = EscapeScanner::new(DetachKey::default());
        assert_eq!(scanner.scan(b"\x1d", 1_000), Scan::default());
        assert_eq!(scanner.deadline_ms(), Some(1_400));
        assert!(!scanner.expire(1_399).detach);
        assert!(scanner.scan(b"\x1d", 1_400).detach);
    }

    #[test]
    fn presses_come_as_sequences_too() {
        for press in ["\x1b[93;5u", "\x1b[93;5:1u", "\x1b[93:125;69u", "\x1b[27;5;93~"] {
            check(&[b"a", press.as_bytes()], b"a", true);
            check(&[press.as_bytes(), press.as_bytes()], press.as_bytes(), false);
        }
        for other in ["\x1b[93;5:3u", "\x1b[93;6u", "\x1b[94;5u", "\x1b[93u", "\x1b[A", "\x1b[", "\x1b[27;5~"]
        {
            check(&[other.as_bytes()], other.as_bytes(), false);
        }
    }

    #[test]
    fn keys_have_names() {
        let check = |text: &str, byte: Option<u8>, shown: &str| {
            let key: DetachKey = text.parse().unwrap();
            assert_eq!((key, key.to_string().as_str()), (DetachKey(byte), shown));
        };
        check("^]", Some(0x1d), "Ctrl+]");
        check("^a", Some(1), "Ctrl+A");
        check("^P", Some(16), "Ctrl+P");
        check("^^", Some(0x1e), "Ctrl+^");
        check("^@", Some(0), "Ctrl+@");
        check("None", None, "none");
        for text in ["", "^", "]", "^]]", "^1", "^\u{e9}", "ctrl-a"] {
            assert!(text.parse::<DetachKey>().is_err(), "{text}");
        }
        assert_eq!(EscapeScanner::new(DetachKey::NONE).scan(b"\x1d", 0).send, b"\x1d");
    }

    proptest! {
        #[test]
        fn all_but_the_key_passes(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let bytes: Vec<u8> = bytes.into_iter().filter(|byte| !matches!(byte, 0x1d | 0x1b)).collect();
            let scan = EscapeScanner::new(DetachKey::default()).scan(&bytes, 0);
            prop_assert_eq!(scan, Scan { send: bytes, detach: false });
        }
    }
}
