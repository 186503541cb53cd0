//! The user's side: keys, output, size, signals.
//!
//! Reading and writing a terminal can block for as long as the user likes, so each has a thread, and
//! a short queue between it and the connection.

use std::{
    fs::File,
    io::{self, ErrorKind, IsTerminal, Read, Write},
    os::fd::AsFd,
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use clamshell_term::{
    escape::{DetachKey, EscapeScanner},
    raw_mode::{DEFAULT_SIZE, window_size},
};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::{mpsc, oneshot},
    time::timeout,
};

/// One read of the terminal. A paste comes in pieces of this size.
pub(super) const READ_BYTES: usize = 16 << 10;
/// Pieces of input waiting: enough to gather a frame's worth, little enough that a paste waits in the
/// terminal.
const INPUT_QUEUE: usize = 4;
/// Messages of output waiting, each at most 64 KiB from a server of ours: one is written while the
/// next is read. More would only delay Ctrl+C's effect on what is seen.
const OUTPUT_QUEUE: usize = 2;
/// A terminal that another program made non-blocking is asked again after this.
const NON_BLOCKING_PAUSE: Duration = Duration::from_millis(5);
/// A terminal that takes nothing for so long does not hold up the end.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(5);

/// For the thread that writes.
pub(super) enum Output {
    /// Write these.
    Bytes(Bytes),
    /// Tell when everything before has been written.
    Flush(oneshot::Sender<()>),
}

/// Keys, output, size and signals of this process's terminal.
pub(super) struct Terminal {
    /// What was typed, in order; closed at the end of input.
    pub(super) input: mpsc::Receiver<Vec<u8>>,
    /// What is to be shown, in order; closed when stdout is gone.
    pub(super) output: mpsc::Sender<Output>,
    /// The size changed.
    pub(super) resized: Signal,
    /// Signals that end the client.
    pub(super) ends: Ends,
    /// Finds the key that detaches.
    pub(super) scanner: EscapeScanner,
    /// Clock of the scanner and of rates.
    pub(super) started: Instant,
    key: DetachKey,
}

/// Signals that end the client.
pub(super) struct Ends {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Ends {
    /// The number of the next one. Cancel-safe.
    pub(super) async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.interrupt.recv() => 2,
            _ = self.terminate.recv() => 15,
            _ = self.hang_up.recv() => 1,
        }
    }
}

impl Terminal {
    /// Starts both threads. The one that reads ends with the process: nothing can wake it.
    pub(super) fn open(key: DetachKey) -> io::Result<Self> {
        let (input_tx, input) = mpsc::channel(INPUT_QUEUE);
        let (output, output_rx) = mpsc::channel(OUTPUT_QUEUE);
        let stdin = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        let stdout = File::from(io::stdout().as_fd().try_clone_to_owned()?);
        thread::Builder::new().name("keys".to_owned()).spawn(move || read_keys(stdin, &input_tx))?;
        thread::Builder::new().name("screen".to_owned()).spawn(move || write_screen(stdout, output_rx))?;
        Ok(Self {
            input,
            output,
            resized: signal(SignalKind::window_change())?,
            ends: Ends {
                interrupt: signal(SignalKind::interrupt())?,
                terminate: signal(SignalKind::terminate())?,
                hang_up: signal(SignalKind::hangup())?,
            },
            scanner: EscapeScanner::new(key),
            started: Instant::now(),
            key,
        })
    }

    /// Columns and rows.
    pub(super) fn size(&self) -> (u16, u16) {
        size()
    }

    /// Name of the key that detaches, or `none`.
    pub(super) fn detach_key(&self) -> String {
        self.key.to_string()
    }

    /// The number of the next signal that ends the client.
    pub(super) async fn interrupted(&mut self) -> i32 {
        self.ends.next().await
    }

    /// Shows bytes that are not from the shell, and waits until they are written.
    pub(super) async fn print(&mut self, bytes: Vec<u8>) {
        if !bytes.is_empty() && io::stdout().is_terminal() {
            let _ = timeout(FLUSH_TIMEOUT, self.output.send(Output::Bytes(bytes.into()))).await;
        }
        self.flush().await;
    }

    /// Waits until all output is written.
    pub(super) async fn flush(&mut self) {
        let (done, written) = oneshot::channel();
        let flush = async {
            if self.output.send(Output::Flush(done)).await.is_ok() {
                // An error means that stdout is gone, and then nothing is left to wait for.
                let _ = written.await;
            }
        };
        let _ = timeout(FLUSH_TIMEOUT, flush).await;
    }
}

/// Columns and rows of the terminal, wherever it is.
pub(super) fn size() -> (u16, u16) {
    window_size(&io::stdout()).or_else(|| window_size(&io::stdin())).unwrap_or(DEFAULT_SIZE)
}

fn read_keys(mut stdin: File, keys: &mpsc::Sender<Vec<u8>>) {
    let mut buffer = vec![0; READ_BYTES];
    loop {
        match stdin.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => {
                if keys.blocking_send(buffer[..count].to_vec()).is_err() {
                    return;
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(NON_BLOCKING_PAUSE),
            Err(_) => return,
        }
    }
}

fn write_screen(mut stdout: File, mut queue: mpsc::Receiver<Output>) {
    while let Some(output) = queue.blocking_recv() {
        match output {
            Output::Bytes(bytes) => {
                if write_all(&mut stdout, &bytes).is_err() {
                    return;
                }
            }
            Output::Flush(done) => {
                let _ = done.send(());
            }
        }
    }
}

fn write_all(stdout: &mut File, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match stdout.write(bytes) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(NON_BLOCKING_PAUSE),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
