//! A client that counts every byte of a shell's log and comes back where it was.

use std::fmt::Write as _;

use clamshell_term::{frame::ShellFrame, status::Status};
use clamshell_testkit::{Client, ShellEvent, ShellSocket};

use super::next_event;

/// Follows one shell from offset 0 on.
pub(super) struct Follower {
    pub(super) session: String,
    pub(super) shell: String,
    /// The log as it arrived, each byte at the index of its offset.
    pub(super) log: Vec<u8>,
    socket: ShellSocket,
}

impl Follower {
    /// Starts a shell and follows it.
    pub(super) async fn start(client: &Client, session: &str, shell: &str) -> Self {
        let socket = attach(client, session, shell, 0, true).await;
        Self { session: session.to_owned(), shell: shell.to_owned(), log: Vec::new(), socket }
    }

    /// Breaks the connection, if it still stands, and comes back at the byte after the last one counted.
    pub(super) async fn come_back(&mut self, client: &Client) {
        self.socket = attach(client, &self.session, &self.shell, self.log.len(), false).await;
    }

    pub(super) async fn type_line(&mut self, line: &str) {
        self.socket.input(format!("{line}\n").as_bytes()).await.unwrap();
    }

    pub(super) async fn resize(&mut self, width: u16, height: u16) {
        self.socket.send(&ShellFrame::Resize { width, height }).await.unwrap();
    }

    /// Reads until the log is at least so long; what comes beyond it in the same message is forgotten, as if the
    /// connection had broken inside the message.
    pub(super) async fn read_exactly(&mut self, length: usize) {
        self.read(length).await;
        self.log.truncate(length);
    }

    /// Reads until the log is at least so long.
    pub(super) async fn read(&mut self, length: usize) {
        while self.log.len() < length {
            match next_event(&mut self.socket).await {
                ShellEvent::Output(bytes) => self.log.extend_from_slice(&bytes),
                ShellEvent::Status(Status::Resized { .. }) | ShellEvent::Heartbeat => {}
                other => panic!("{other:?} at {} of {}", self.log.len(), self.shell),
            }
        }
    }

    /// Reads until `text` has come.
    pub(super) async fn read_to(&mut self, text: &str) {
        let mut from = 0;
        while !self.log[from..].windows(text.len()).any(|window| window == text.as_bytes()) {
            from = self.log.len().saturating_sub(text.len());
            self.read(self.log.len() + 1).await;
        }
    }
}

async fn attach(client: &Client, session: &str, shell: &str, offset: usize, create: bool) -> ShellSocket {
    let query = format!("from=offset:{offset}&create={create}");
    let mut socket = client.attach(session, shell, &query).await.unwrap();
    let expected = Status::Confirmed {
        shell_id: shell.to_owned(),
        reconnected: !create,
        bytes_dropped: None,
        offset: Some(offset as u64),
    };
    assert_eq!(next_event(&mut socket).await, ShellEvent::Status(expected));
    socket
}

/// Fails with the first difference rather than with megabytes.
pub(super) fn assert_same(what: &str, got: &[u8], expected: &[u8]) {
    if got == expected {
        return;
    }
    let at = got.iter().zip(expected).take_while(|(a, b)| a == b).count();
    let around = |bytes: &[u8]| {
        let piece = &bytes[at.saturating_sub(20).min(bytes.len())..(at + 40).min(bytes.len())];
        piece.escape_ascii().to_string()
    };
    let mut text = format!("{what}: {} bytes instead of {}, different at {at}", got.len(), expected.len());
    let _ = write!(text, "\n     got {}\nexpected {}", around(got), around(expected));
    panic!("{text}");
}
