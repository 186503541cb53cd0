//! What comes from the shell: output, and what the platform says about it. Sans-I/O.
//!
//! Counts the bytes of output, so that the next connection can start at the right one.

use bytes::Bytes;
use clamshell_term::{frame::ShellFrame, modes::ModeTracker, status::Status};

use super::pump::End;
use crate::client::printable;

/// What to do with a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received {
    /// Print it on stdout.
    Output(Bytes),
    /// Print it as a line on stderr.
    Notice(String),
    /// Stop.
    End(End),
    /// Nothing.
    Ignore,
}

/// State over all connections to one shell.
#[derive(Debug)]
pub(super) struct Receiver {
    /// Log offset of the next byte of output; `None` when the server does not count.
    offset: Option<u64>,
    /// Bytes of output still to come that paint a picture and do not count.
    picture_bytes: u64,
    /// Offset after the picture.
    after_picture: u64,
    /// Bytes lost that the user was told of.
    dropped_told: u64,
    modes: ModeTracker,
}

impl Receiver {
    /// Nothing came yet.
    pub(super) fn new() -> Self {
        Self { offset: None, picture_bytes: 0, after_picture: 0, dropped_told: 0, modes: ModeTracker::new() }
    }

    /// A connection stands; its output starts at `offset`. `dropped` counts the bytes that replays of
    /// this shell ever lost; gives a line about those that are new.
    pub(super) fn on_connected(&mut self, offset: Option<u64>, dropped: Option<u64>) -> Option<String> {
        self.offset = offset;
        self.picture_bytes = 0;
        match self.lost(dropped) {
            Received::Notice(text) => Some(text),
            Received::Output(_) | Received::End(_) | Received::Ignore => None,
        }
    }

    /// Log offset of the next byte.
    pub(super) fn offset(&self) -> Option<u64> {
        self.offset
    }

    /// Puts the terminal back in order; empty when it is.
    pub(super) fn reset(&self) -> Vec<u8> {
        self.modes.reset()
    }

    /// Whether a full-screen program has the terminal.
    pub(super) fn on_alternate_screen(&self) -> bool {
        let reset = self.modes.reset();
        [&b"\x1b[?1049l"[..], b"\x1b[?1047l", b"\x1b[?47l"]
            .iter()
            .any(|sequence| reset.windows(sequence.len()).any(|window| window == *sequence))
    }

    /// Takes one binary message.
    pub(super) fn on_message(&mut self, message: &Bytes) -> Received {
        match ShellFrame::from_server(message) {
            Ok(ShellFrame::Stdout(payload)) => {
                self.count(payload.len() as u64);
                self.modes.on_output(payload);
                Received::Output(message.slice(1..))
            }
            Ok(ShellFrame::Stderr(payload)) => {
                Received::Notice(format!("[{}]", printable(String::from_utf8_lossy(payload).trim())))
            }
            Ok(ShellFrame::Status(json)) => match Status::parse(json) {
                Ok(status) => self.on_status(status),
                // Published clients ignore what they cannot read.
                Err(_) => Received::Ignore,
            },
            Ok(ShellFrame::Close) => Received::End(End::Shutdown),
            Ok(
                ShellFrame::Stdin(_)
                | ShellFrame::Resize { .. }
                | ShellFrame::Heartbeat
                | ShellFrame::Consumed(_)
                | ShellFrame::Unknown { .. },
            ) => Received::Ignore,
            Err(error) => Received::End(End::Closed(Some(1009), error.to_string())),
        }
    }

    fn count(&mut self, mut bytes: u64) {
        let Some(offset) = self.offset else { return };
        let of_picture = bytes.min(self.picture_bytes);
        if of_picture > 0 {
            self.picture_bytes -= of_picture;
            bytes -= of_picture;
            if self.picture_bytes > 0 {
                return;
            }
            self.offset = Some(self.after_picture + bytes);
        } else {
            self.offset = Some(offset + bytes);
        }
    }

    fn on_status(&mut self, status: Status) -> Received {
        match status {
            Status::Confirmed { bytes_dropped, offset, .. } => {
                if offset.is_some() {
                    self.offset = offset;
                }
                self.lost(bytes_dropped)
            }
            Status::Gap { from, to, .. } => {
                self.offset = Some(to);
                Received::Notice(lost_text(to - from))
            }
            Status::Screen { offset, bytes, .. } => {
                self.picture_bytes = bytes;
                self.after_picture = offset;
                if bytes == 0 {
                    self.offset = Some(offset);
                }
                Received::Ignore
            }
            Status::Resized { .. } | Status::Run { .. } | Status::Answers { .. } | Status::Typed { .. } => {
                Received::Ignore
            }
            Status::Exited { code, .. } => Received::End(End::Exited(code)),
            Status::Failed { message } => Received::End(End::Failed(printable(&message))),
        }
    }

    fn lost(&mut self, dropped: Option<u64>) -> Received {
        let more = dropped.unwrap_or(0).saturating_sub(self.dropped_told);
        self.dropped_told += more;
        if more == 0 { Received::Ignore } else { Received::Notice(lost_text(more)) }
    }
}

fn lost_text(bytes: u64) -> String {
    format!("[{bytes} bytes of output lost during disconnect]")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(receiver: &mut Receiver, channel: u8, payload: &[u8]) -> Received {
        let message: Vec<u8> = [&[channel], payload].concat();
        receiver.on_message(&Bytes::from(message))
    }

    fn status(receiver: &mut Receiver, status: &Status) -> Received {
        feed(receiver, 3, status.to_json().as_bytes())
    }

    #[test]
    fn output_is_counted_from_where_the_server_says() {
        let mut receiver = Receiver::new();
        receiver.on_connected(Some(100), None);
        assert_eq!(feed(&mut receiver, 1, b"abc"), Received::Output(Bytes::from_static(b"abc")));
        assert_eq!(receiver.offset(), Some(103));
        receiver.on_connected(None, None);
        feed(&mut receiver, 1, b"abc");
        assert_eq!(receiver.offset(), None);
    }

    #[test]
    fn a_picture_does_not_count() {
        let mut receiver = Receiver::new();
        receiver.on_connected(Some(7), None);
        let screen = Status::Screen { shell_id: "x".to_owned(), offset: 1000, bytes: 5 };
        assert_eq!(status(&mut receiver, &screen), Received::Ignore);
        feed(&mut receiver, 1, b"abc");
        assert_eq!(receiver.offset(), Some(7));
        feed(&mut receiver, 1, b"dexyz");
        assert_eq!(receiver.offset(), Some(1003));
        feed(&mut receiver, 1, b"!");
        assert_eq!(receiver.offset(), Some(1004));
    }

    #[test]
    fn lost_bytes_are_told_once() {
        let mut receiver = Receiver::new();
        receiver.on_connected(None, None);
        let dropped = |count| Status::Confirmed {
            shell_id: "x".to_owned(),
            reconnected: true,
            bytes_dropped: Some(count),
            offset: None,
        };
        let notice = Received::Notice("[5 bytes of output lost during disconnect]".to_owned());
        assert_eq!(status(&mut receiver, &dropped(5)), notice);
        assert_eq!(status(&mut receiver, &dropped(5)), Received::Ignore);
        let gap = Status::Gap { shell_id: "x".to_owned(), from: 10, to: 15 };
        assert_eq!(status(&mut receiver, &gap), notice);
        assert_eq!(receiver.offset(), Some(15));
    }

    #[test]
    fn the_end_has_a_code() {
        let mut receiver = Receiver::new();
        let end = Status::Exited { code: 7, signal: None };
        assert_eq!(status(&mut receiver, &end), Received::End(End::Exited(7)));
        assert_eq!(feed(&mut receiver, 0xff, b""), Received::End(End::Shutdown));
        assert_eq!(feed(&mut receiver, 3, b"garbage"), Received::Ignore);
        assert_eq!(feed(&mut receiver, 9, b"later"), Received::Ignore);
    }

    #[test]
    fn full_screen_programs_are_noticed() {
        let mut receiver = Receiver::new();
        feed(&mut receiver, 1, b"\x1b[?2004h$ ");
        assert!(!receiver.on_alternate_screen());
        feed(&mut receiver, 1, b"\x1b[?1049h");
        assert!(receiver.on_alternate_screen());
        feed(&mut receiver, 1, b"\x1b[?1049l");
        assert!(!receiver.on_alternate_screen());
    }
}
