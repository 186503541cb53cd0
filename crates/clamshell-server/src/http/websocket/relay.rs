//! Between the two sockets of a `/ws` connection (`runtime.md` 6.7): frames both ways, limits, and how it ends.

use std::{sync::OnceLock, time::Duration};

use bytes::Bytes;
use clamshell_term::rate::FrameBudget;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use super::frames::{FrameError, FrameReader, close};

/// After the agent hung up without a word: how long to wait for the news that the whole compute is going.
const NEWS: Duration = Duration::from_millis(500);

/// Why a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The client left.
    ClientGone,
    /// The agent left.
    AgentGone,
    /// One closed, the other one agreed or had its time to.
    Closed,
    /// We close, with this code and these words.
    Close(u16, &'static str),
}

/// What a connection is held to.
pub(super) struct Rules<A> {
    /// A side that takes no byte for this long is given up.
    pub(super) patience: Duration,
    /// Last words, and the answer to a close frame, have this long.
    pub(super) farewell: Duration,
    /// Told of every frame.
    pub(super) on_frame: A,
}

#[derive(Debug, Default)]
struct Ending {
    reason: OnceLock<End>,
    /// There is a reason.
    over: CancellationToken,
    /// A close frame went one way.
    closing: CancellationToken,
}

impl Ending {
    fn set(&self, end: End) {
        let _ = self.reason.set(end);
        self.over.cancel();
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Client,
    Agent,
}

/// Relays until either side leaves, a limit is passed, or `stop` says so. Gives why.
/// `ended` is cancelled when the agent's compute ends.
pub(super) async fn relay<C, G, A, S>(
    client: C,
    agent: G,
    rules: Rules<A>,
    stop: S,
    ended: &CancellationToken,
) -> End
where
    C: AsyncRead + AsyncWrite + Unpin,
    G: AsyncRead + AsyncWrite + Unpin,
    A: Fn(),
    S: Future<Output = End>,
{
    let (client_in, client_out) = tokio::io::split(client);
    let (agent_in, agent_out) = tokio::io::split(agent);
    let ending = Ending::default();
    let mut stop = std::pin::pin!(stop);
    let watch = async {
        let unanswered = async {
            ending.closing.cancelled().await;
            tokio::time::sleep(rules.farewell).await;
        };
        let end = tokio::select! {
            end = &mut stop => end,
            () = unanswered => End::Closed,
            () = ending.over.cancelled() => return,
        };
        ending.set(end);
    };
    let inward = pump(Side::Client, FrameReader::new(client_in, true), agent_out, &rules, &ending, ended);
    let outward = pump(Side::Agent, FrameReader::new(agent_in, false), client_out, &rules, &ending, ended);
    let (mut client_in, _, ()) = tokio::join!(inward, outward, watch);
    let end = ending.reason.get().copied().unwrap_or(End::Closed);
    if end != End::ClientGone {
        // Closing a socket with unread input would reset it and may take the close frame with it.
        let drained = async { while client_in.next().await.is_ok() {} };
        let _ = tokio::time::timeout(rules.farewell, drained).await;
    }
    end
}

/// Moves frames of one side until there is an end, and then says goodbye to the other side.
async fn pump<R, W, A>(
    from: Side,
    mut reader: FrameReader<R>,
    mut writer: W,
    rules: &Rules<A>,
    ending: &Ending,
    ended: &CancellationToken,
) -> FrameReader<R>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
    A: Fn(),
{
    let mut budget = FrameBudget::server();
    // Not the calendar's time: that may be set back, and then no second would ever be over.
    let started = Instant::now();
    let (source_gone, target_gone) = match from {
        Side::Client => (End::ClientGone, End::AgentGone),
        Side::Agent => (End::AgentGone, End::ClientGone),
    };
    loop {
        let frame = tokio::select! {
            frame = reader.next() => frame,
            () = ending.over.cancelled() => break,
        };
        let frame = match frame {
            Ok(frame) => frame,
            Err(FrameError::Gone) => {
                // An agent may hang up because all of its compute goes.
                let news = async { tokio::time::timeout(NEWS, ended.cancelled()).await.is_ok() };
                let stopped = from == Side::Agent && !ending.closing.is_cancelled() && news.await;
                ending.set(if stopped { End::Close(1001, "session stopped") } else { source_gone });
                break;
            }
            Err(FrameError::TooLong) => {
                ending.set(End::Close(1009, "frame is above 64 KiB"));
                break;
            }
            Err(error @ FrameError::Protocol(_)) => {
                tracing::debug!(%error, side = ?from, "not a WebSocket frame");
                ending.set(match from {
                    Side::Client => End::Close(1002, "not a WebSocket frame"),
                    Side::Agent => End::Close(1011, "the agent broke the protocol"),
                });
                break;
            }
        };
        (rules.on_frame)();
        let elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        // An agent harms nobody but its own client, and waits when that reads slowly.
        if from == Side::Client && !budget.take(elapsed_ms) {
            ending.set(End::Close(1008, "more than 250 frames per second"));
            break;
        }
        match write(&mut writer, frame.bytes, rules, ending).await {
            Written::Whole => {}
            Written::Gone => {
                ending.set(target_gone);
                return reader;
            }
            Written::Stalled => {
                ending.set(match from {
                    Side::Client => End::Close(1008, "the agent takes no input"),
                    Side::Agent => End::Close(1008, "client takes no output"),
                });
                return reader;
            }
        }
        if frame.is_close {
            // Nothing comes after it in this direction; the other one has some time to agree.
            let is_answer = ending.closing.is_cancelled();
            ending.closing.cancel();
            if is_answer {
                ending.set(End::Closed);
            }
            ending.over.cancelled().await;
            let _ = tokio::time::timeout(rules.farewell, writer.shutdown()).await;
            return reader;
        }
    }
    let goodbye = match (ending.reason.get(), from) {
        (Some(End::Close(code, reason)), _) => Some((*code, *reason)),
        // Told to the agent.
        (Some(End::ClientGone), Side::Client) => Some((1001, "client left")),
        // Told to the client.
        (Some(End::AgentGone), Side::Agent) => Some((1011, "agent cannot be reached")),
        (Some(End::ClientGone | End::AgentGone | End::Closed) | None, _) => None,
    };
    let farewell = async {
        if let Some((code, reason)) = goodbye {
            let _ = writer.write_all(&close(code, reason, from == Side::Client)).await;
        }
        let _ = writer.shutdown().await;
    };
    let _ = tokio::time::timeout(rules.farewell, farewell).await;
    reader
}

enum Written {
    Whole,
    Gone,
    Stalled,
}

/// Writes a frame to its end: half of one cannot be followed by another.
async fn write<W: AsyncWrite + Unpin, A>(
    writer: &mut W,
    bytes: Bytes,
    rules: &Rules<A>,
    ending: &Ending,
) -> Written {
    let written = async {
        writer.write_all(&bytes).await?;
        writer.flush().await
    };
    let last_chance = async {
        ending.over.cancelled().await;
        tokio::time::sleep(rules.farewell).await;
    };
    tokio::select! {
        written = written => if written.is_ok() { Written::Whole } else { Written::Gone },
        () = tokio::time::sleep(rules.patience) => Written::Stalled,
        () = last_chance => Written::Stalled,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::io::{AsyncReadExt, DuplexStream, duplex};

    use super::*;

    /// What each side read until its end, given what it sent, and how the relay ended.
    async fn run(from_client: &[u8], from_agent: &[u8], stop: Option<End>) -> (Vec<u8>, Vec<u8>, End, usize) {
        let ((mut client, client_far), (mut agent, agent_far)) = (duplex(1 << 20), duplex(1 << 20));
        let frames = AtomicUsize::new(0);
        let rules = Rules {
            patience: Duration::from_secs(60),
            farewell: Duration::from_millis(300),
            on_frame: || {
                frames.fetch_add(1, Ordering::Relaxed);
            },
        };
        let stop = async {
            match stop {
                Some(end) => end,
                None => std::future::pending().await,
            }
        };
        let talk = async |end: &mut DuplexStream, bytes: &[u8]| {
            let _ = end.write_all(bytes).await;
            if stopless(bytes) {
                let _ = end.shutdown().await;
            }
            let mut seen = Vec::new();
            let _ = end.read_to_end(&mut seen).await;
            let _ = end.shutdown().await;
            seen
        };
        let running = CancellationToken::new();
        let (end, to_client, to_agent) = tokio::join!(
            relay(client_far, agent_far, rules, stop, &running),
            talk(&mut client, from_client),
            talk(&mut agent, from_agent)
        );
        (to_client, to_agent, end, frames.load(Ordering::Relaxed))
    }

    /// Whether a side leaves after these bytes: the last one says so.
    fn stopless(bytes: &[u8]) -> bool {
        bytes.last() == Some(&b'!')
    }

    const CLIENT_PING: &[u8] = &[0x89, 0x80, 1, 2, 3, 4];

    #[tokio::test]
    async fn closes_are_passed_on_and_answered() {
        let ours = close(1000, "done", true);
        let answer = close(1000, "done", false);
        let sent = [CLIENT_PING, &ours[..]].concat();
        let (to_client, to_agent, end, frames) = run(&sent, &answer, None).await;
        assert_eq!((to_client, to_agent, end, frames), (answer.to_vec(), sent, End::Closed, 3));
    }

    #[tokio::test]
    async fn a_close_without_an_answer_ends_in_time() {
        let ours = close(1000, "", true);
        let (to_client, to_agent, end, _) = run(&ours, &[], None).await;
        assert_eq!((to_client, to_agent, end), (Vec::new(), ours.to_vec(), End::Closed));
    }

    #[tokio::test]
    async fn both_are_told_when_we_close() {
        let end = End::Close(1001, "session stopped");
        let (to_client, to_agent, seen, _) = run(&[], &[], Some(end)).await;
        let expect = [close(1001, "session stopped", false), close(1001, "session stopped", true)];
        assert_eq!(([Bytes::from(to_client), Bytes::from(to_agent)], seen), (expect, end));
    }

    #[tokio::test]
    async fn limits_close() {
        let check = async |from_client: &[u8], from_agent: &[u8], code: u16, reason: &'static str| {
            let (to_client, _, end, _) = run(from_client, from_agent, None).await;
            assert_eq!(end, End::Close(code, reason));
            assert!(to_client.ends_with(&close(code, reason, false)));
        };
        check(&CLIENT_PING.repeat(251), &[], 1008, "more than 250 frames per second").await;
        check(&[0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 1], &[], 1009, "frame is above 64 KiB").await;
        check(&[], &[0x82, 127, 0, 0, 0, 0, 0, 1, 0, 1], 1009, "frame is above 64 KiB").await;
        check(&[0xff, 0x80], &[], 1002, "not a WebSocket frame").await;
        check(&[], &[0xff, 0x00], 1011, "the agent broke the protocol").await;
    }

    #[tokio::test]
    async fn who_leaves_is_told_of() {
        let pong = [0x8a, 0x81, 1, 2, 3, 4, b'!'];
        let (_, to_agent, end, _) = run(&pong, &[], None).await;
        assert_eq!(end, End::ClientGone);
        assert_eq!(to_agent, [&pong[..], &close(1001, "client left", true)].concat());
        let pong = [0x8a, 0x01, b'!'];
        let (to_client, _, end, _) = run(&[], &pong, None).await;
        assert_eq!(end, End::AgentGone);
        assert_eq!(to_client, [&pong[..], &close(1011, "agent cannot be reached", false)].concat());
    }
}
