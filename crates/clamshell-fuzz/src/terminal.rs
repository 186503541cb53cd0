//! The terminal WebSocket, and what clients make of a shell's output.

use clamshell_term::{
    asciicast::Utf8Carry,
    escape::{DetachKey, EscapeScanner},
    frame::{STDIN_BYTES_MAX, ShellFrame, stdin_messages, stdout_messages},
    modes::ModeTracker,
    status::Status,
};

use super::pieces;

/// Messages are refused or taken, and what is taken survives encoding.
pub(super) fn frame(bytes: &[u8]) {
    if let Ok(frame) = ShellFrame::from_client(bytes) {
        assert_eq!(ShellFrame::from_client(&frame.encode()), Ok(frame));
    }
    if let Ok(frame) = ShellFrame::from_server(bytes) {
        assert_eq!(ShellFrame::from_server(&frame.encode()), Ok(frame));
        if let ShellFrame::Status(json) = frame {
            status(json);
        }
    }
    let mut typed = Vec::new();
    for message in stdin_messages(bytes) {
        assert!(message.len() <= STDIN_BYTES_MAX + 1);
        assert!(matches!(ShellFrame::from_client(&message), Ok(ShellFrame::Stdin(_))));
        typed.extend_from_slice(&message[1..]);
    }
    assert_eq!(typed, bytes);
    let shown: Vec<u8> = stdout_messages(bytes).flat_map(|message| message[1..].to_vec()).collect();
    assert_eq!(shown, bytes);
}

pub(super) fn frame_seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![
        ShellFrame::Stdin(b"ls\r").encode(),
        ShellFrame::Stdout(b"\x1b[31mred").encode(),
        ShellFrame::Resize { width: 80, height: 24 }.encode(),
        ShellFrame::Heartbeat.encode(),
        ShellFrame::Consumed(1 << 20).encode(),
        ShellFrame::Close.encode(),
    ];
    seeds.extend(status_seeds().iter().map(|json| ShellFrame::Status(json).encode()));
    seeds
}

/// A status that was read is written so that it reads the same.
pub(super) fn status(bytes: &[u8]) {
    if let Ok(status) = Status::parse(bytes) {
        let again = Status::parse(status.to_json().as_bytes()).unwrap();
        assert_eq!(again.to_json(), status.to_json());
    }
}

pub(super) fn status_seeds() -> Vec<Vec<u8>> {
    let shell_id = || "build".to_owned();
    [
        Status::Confirmed {
            shell_id: shell_id(),
            reconnected: true,
            bytes_dropped: Some(7),
            offset: Some(1 << 40),
        },
        Status::Gap { shell_id: shell_id(), from: 1, to: 9 },
        Status::Resized { shell_id: shell_id(), cols: 80, rows: 24 },
        Status::Screen { shell_id: shell_id(), offset: 3, bytes: 4 },
        Status::Run { shell_id: shell_id(), offset: 3, end: 9, cols: 80, rows: 24 },
        Status::Answers { shell_id: shell_id(), answers: true },
        Status::Typed { shell_id: shell_id(), bytes: 7 },
        Status::Exited { code: 0, signal: None },
        Status::Exited { code: 137, signal: Some(9) },
        Status::Failed { message: "no".to_owned() },
    ]
    .iter()
    .map(|status| status.to_json().into_bytes())
    .collect()
}

/// Followers of output come to the same end however the stream was cut, and input is not changed by
/// a scanner without a key.
pub(super) fn output(bytes: &[u8]) {
    let (mut whole, mut cut) = (ModeTracker::new(), ModeTracker::new());
    let (mut carry, mut text) = (Utf8Carry::default(), String::new());
    let (mut scanner, mut typed) = (EscapeScanner::new(DetachKey::NONE), Vec::new());
    whole.on_output(bytes);
    for piece in pieces(bytes) {
        cut.on_output(piece);
        text.push_str(&carry.push(piece));
        typed.extend_from_slice(&scanner.scan(piece, 0).send);
    }
    text.push_str(&carry.finish());
    assert_eq!(whole.reset(), cut.reset());
    assert_eq!(text, String::from_utf8_lossy(bytes));
    assert_eq!(typed, bytes);

    let mut scanner = EscapeScanner::new(DetachKey::default());
    for (now_ms, piece) in (0_u64..).zip(pieces(bytes)) {
        let scan = scanner.scan(piece, now_ms * 300);
        assert!(scan.send.len() <= piece.len());
        if scan.detach {
            break;
        }
    }
}

pub(super) fn output_seeds() -> Vec<Vec<u8>> {
    vec![
        b"\x1b[?1049h\x1b[?25l\x1b[?2004h\x1b[?1000;1006h\x1b[>1u\x1b=\x1b[>4;2m".to_vec(),
        b"\x1b]0;title\x07\x1bPq\x1b\\text\x1b[0m\x1b[?1049l\x1bc".to_vec(),
        "a\u{e9}\u{20ac}\u{1F41A}\u{fffd}z".as_bytes().to_vec(),
        b"\xf0\x9f\x90\xed\xa0\x80\xc0\x80\xe2\x82".to_vec(),
        b"\x1d\x1d \x1b[93;5u\x1b[27;5;93~ \x1d".to_vec(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_good() {
        for seed in status_seeds() {
            assert!(Status::parse(&seed).is_ok(), "{}", seed.escape_ascii());
        }
        let modes = &output_seeds()[0];
        let mut tracker = ModeTracker::new();
        tracker.on_output(modes);
        assert!(!tracker.reset().is_empty());
    }
}
