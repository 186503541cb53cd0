//! The guest: the first process of a sandbox, and the only one that the server talks to.
//!
//! It owns the terminals and pipes of everything it starts, keeps the terminals' logs, reaps orphans,
//! and answers the metadata service. One thread and one epoll loop: nothing here blocks, every queue
//! has a bound, and a full one stops reading its source.
//!
//! Programs of the sandbox are hostile: they get three descriptors, never a path that the guest opens
//! later, and the guest's memory is closed to them (not dumpable).

mod agent;
mod agent_log;
mod attachments;
mod buffer;
mod clock;
mod commands;
mod connect;
mod connection;
mod identity;
mod metadata;
mod poll;
mod process;
mod relay;
mod requests;
mod secrets;
mod shell;
mod shell_traffic;
mod shells;
mod spawn;

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    io,
    os::fd::{AsFd, FromRawFd, OwnedFd},
    process::ExitCode,
    time::Duration,
};

use clamshell_protocol::{Exit, GuestConfig, Reply, User};
use rustix::{
    fs::{self, Mode, OFlags},
    process::{DumpableBehavior, Signal},
};

use self::{
    agent::Agent,
    commands::Command,
    connection::Connection,
    metadata::Metadata,
    poll::{Poller, Token, Watch},
    process::Processes,
    relay::Relay,
    shell::Shell,
    shells::Ended,
};

/// Most bytes read from one source per wake, so that no source keeps the others waiting.
const READ_BYTES: usize = 64 * 1024;

/// How long ended processes may take to be gone after SIGKILL. The kernel needs far less.
const GIVE_UP_MS: u64 = 2000;

/// Time that programs get when the guest itself is asked to end by a signal.
const SIGNALED_GRACE_MS: u64 = 5000;

/// Runs the guest until it is told to shut down, on the listener and the folder of shells given or else inherited.
pub(crate) fn run(config: Option<OsString>, given: Option<(OwnedFd, OwnedFd)>) -> ExitCode {
    match Guest::start(config, given) {
        Ok(mut guest) => guest.serve(),
        Err(error) => {
            log(&format!("guest cannot start: {error}"));
            ExitCode::from(1)
        }
    }
}

/// One line on standard error, which is a log file or `/dev/null`. Start and end only: never on a
/// path that a program of the sandbox can take often.
fn log(line: &str) {
    let _ = rustix::io::write(rustix::stdio::stderr(), format!("{line}\n").as_bytes());
}

struct Guest {
    config: GuestConfig,
    poller: Poller,
    listener: Watch,
    signals: Watch,
    shells_dir: OwnedFd,
    dev_null: OwnedFd,
    dev_pts: Option<OwnedFd>,
    processes: Processes,
    connections: BTreeMap<u64, Connection>,
    commands: BTreeMap<u64, Command>,
    shells: BTreeMap<u64, Shell>,
    /// Running shells by id; a shell in `shells` but not here has ended and is being read to its end.
    running: BTreeMap<String, u64>,
    ended: BTreeMap<String, Ended>,
    agent: Option<Agent>,
    relays: BTreeMap<u64, Relay>,
    relays_max: usize,
    /// Whether a socket of the sandbox means something outside: not where a kernel is between.
    passes_sockets: bool,
    metadata: Option<Metadata>,
    shutdown: Option<Shutdown>,
    scratch: Vec<u8>,
    next_id: u64,
    started_ms: u64,
    /// Monotonic time of this turn of the loop.
    now_ms: u64,
}

struct Shutdown {
    kill_at_ms: u64,
    /// The hang-up is repeated then.
    hang_up_at_ms: Option<u64>,
    killed: bool,
}

impl Guest {
    fn start(config: Option<OsString>, given: Option<(OwnedFd, OwnedFd)>) -> io::Result<Self> {
        let invalid = |message: &str| io::Error::new(io::ErrorKind::InvalidInput, message.to_owned());
        let config =
            config.and_then(|config| config.into_string().ok()).ok_or_else(|| invalid("no configuration"))?;
        let config: GuestConfig = serde_json::from_str(&config)?;
        let processes = Processes::open();
        rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
        if !processes.is_init() {
            // Any process id turns it on. Orphans then come to the guest as they come to PID 1.
            rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
        }
        let passes_sockets = given.is_none();
        let (listener, shells_dir) = given.map_or_else(inherited, Ok)?;
        let flags = fs::fcntl_getfl(&listener)?;
        fs::fcntl_setfl(&listener, flags | OFlags::NONBLOCK)?;
        let dev_null = fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        let dev_pts =
            fs::open("/dev/pts", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok();
        let poller = Poller::new()?;
        let listener = Watch::new(listener, &poller, Token::Listener);
        listener.want(true, false);
        let signals = Watch::new(signal_fd()?, &poller, Token::Signals);
        signals.want(true, false);
        let metadata = if config.metadata { Metadata::start(&config, &poller) } else { None };
        let now_ms = clock::monotonic_ms();
        let mut guest = Self {
            ended: shells::recover(shells_dir.as_fd()),
            config,
            poller,
            listener,
            signals,
            shells_dir,
            dev_null,
            dev_pts,
            processes,
            connections: BTreeMap::new(),
            commands: BTreeMap::new(),
            shells: BTreeMap::new(),
            running: BTreeMap::new(),
            agent: None,
            relays: BTreeMap::new(),
            relays_max: relay::relays_max(),
            passes_sockets,
            metadata,
            shutdown: None,
            scratch: Vec::new(),
            next_id: 1,
            started_ms: now_ms,
            now_ms,
        };
        guest.forget_oldest_ended();
        Ok(guest)
    }

    fn serve(&mut self) -> ExitCode {
        let mut ready = Vec::new();
        loop {
            let timeout_ms = self.next_timer().map(|at| at.saturating_sub(clock::monotonic_ms()));
            if let Err(error) = self.poller.wait(timeout_ms, &mut ready) {
                log(&format!("guest cannot wait: {error}"));
                return ExitCode::from(1);
            }
            self.now_ms = clock::monotonic_ms();
            for event in &ready {
                match event.token {
                    Token::Listener => self.accept(),
                    Token::Signals => self.signaled(),
                    Token::Connection(id) => self.connection_ready(id, event.readable, event.writable),
                    Token::Shell(serial) => self.shell_ready(serial, event.readable, event.writable),
                    Token::CommandInput(id) => self.command_input_ready(id),
                    Token::CommandOutput(id) => self.read_command(id, commands::Stream::Stdout),
                    Token::CommandError(id) => self.read_command(id, commands::Stream::Stderr),
                    Token::AgentOutput => self.read_agent(agent::Stream::Stdout),
                    Token::AgentError => self.read_agent(agent::Stream::Stderr),
                    Token::Dial(id) => self.dial_ready(id),
                    Token::RelayNear(id) => self.pump_relay(id, event.hung_up),
                    Token::RelayFar(id) => self.pump_relay(id, false),
                    Token::MetadataListener | Token::Metadata(_) => {
                        if let Some(metadata) = &mut self.metadata {
                            metadata.ready(event.token, self.now_ms);
                        }
                    }
                }
            }
            self.run_command_timers();
            self.run_shell_timers();
            self.run_agent_timers();
            self.run_connection_timers();
            if let Some(metadata) = &mut self.metadata {
                metadata.run_timers(self.now_ms);
            }
            if self.shutdown_is_over() {
                self.finish_shutdown();
                return ExitCode::SUCCESS;
            }
        }
    }

    fn next_timer(&self) -> Option<u64> {
        let commands = self.commands.values().filter_map(Command::next_timer);
        let shells = self.shells.values().filter_map(|shell| self.shell_timer(shell));
        let connections = self.connections.values().filter_map(|connection| connection.deadline_ms);
        let metadata = self.metadata.as_ref().and_then(Metadata::next_timer);
        // Only what is left to die makes a shutdown wait; its end comes as a signal, the rest here.
        let shutdown = self.shutdown.as_ref().map(|shutdown| shutdown.kill_at_ms.min(self.now_ms + 20));
        let agent = self.agent.as_ref().and_then(Agent::next_timer);
        commands.chain(shells).chain(agent).chain(connections).chain(metadata).chain(shutdown).min()
    }

    fn fresh_id(&mut self) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        id
    }

    fn identity(&self, user: User) -> Option<(u32, u32)> {
        match user {
            _ if !self.config.switch_user => None,
            User::Root => Some((0, 0)),
            User::Agent => Some((self.config.agent_uid, self.config.agent_gid)),
        }
    }

    fn signaled(&mut self) {
        let mut info = [0; 1024];
        // SIGCHLDs merge, so all are reaped.
        while let Ok(Some(count)) = self.signals.read(&mut info) {
            let (records, _) = info[..count].as_chunks::<128>();
            if records.iter().any(|record| self.asks_to_end(record)) {
                self.begin_shutdown(SIGNALED_GRACE_MS);
            }
            if count < info.len() {
                break;
            }
        }
        while let Some((pid, exit)) = Processes::reap() {
            self.process_ended(pid, exit);
        }
    }

    /// Whether a signal record is a SIGTERM that counts. `ssi_signo` is the first field, `ssi_pid` the
    /// fourth; a sender outside of the namespace has no process id here. PID 1 takes none from inside:
    /// it is not for a program of the sandbox to end it.
    fn asks_to_end(&self, record: &[u8; 128]) -> bool {
        let terminate = i32::to_ne_bytes(libc::SIGTERM);
        record.starts_with(&terminate) && (!self.processes.is_init() || record[12..16] == [0; 4])
    }

    fn process_ended(&mut self, pid: i32, exit: Exit) {
        if let Some(id) = self.commands.iter().find(|(_, command)| command.is_running(pid)).map(|(id, _)| *id)
        {
            self.command_exited(id, exit);
        } else if let Some(serial) =
            self.shells.iter().find(|(_, shell)| shell.is_running(pid)).map(|(id, _)| *id)
        {
            self.shell_exited(serial, exit);
        } else if self.agent.as_ref().is_some_and(|agent| agent.is_running(pid)) {
            self.agent_exited(exit);
        }
    }

    fn begin_shutdown(&mut self, grace_ms: u64) {
        let kill_at_ms = self.now_ms.saturating_add(grace_ms);
        if let Some(shutdown) = &mut self.shutdown {
            shutdown.kill_at_ms = shutdown.kill_at_ms.min(kill_at_ms);
            return;
        }
        let spared = self.ask_agent_to_end();
        self.ask_to_end(&spared);
        let hang_up_at_ms = Some(self.now_ms + shells::HANG_UP_AGAIN_MS);
        self.shutdown = Some(Shutdown { kill_at_ms, hang_up_at_ms, killed: false });
    }

    /// Asks all programs but those `spared` to end.
    fn ask_to_end(&self, spared: &BTreeSet<i32>) {
        for signal in [Signal::TERM, Signal::HUP, Signal::CONT] {
            self.processes.signal_others(signal, spared);
        }
    }

    fn shutdown_is_over(&mut self) -> bool {
        let now_ms = self.now_ms;
        let Some(shutdown) = &mut self.shutdown else { return false };
        if !self.processes.any_left() {
            return true;
        }
        if shutdown.hang_up_at_ms.is_some_and(|at| at <= now_ms) {
            shutdown.hang_up_at_ms = None;
            let spared = self.agent_tree();
            self.processes.signal_others(Signal::HUP, &spared);
            return false;
        }
        if now_ms < shutdown.kill_at_ms {
            return false;
        }
        if shutdown.killed {
            return true;
        }
        shutdown.killed = true;
        shutdown.kill_at_ms = now_ms.saturating_add(GIVE_UP_MS);
        self.processes.signal_all(Signal::KILL);
        false
    }

    fn finish_shutdown(&mut self) {
        self.signaled();
        let running: Vec<u64> = self.running.values().copied().collect();
        for serial in running {
            // What a dead program left in its terminal is far less than so many reads.
            for _ in 0..16 {
                self.shell_ready(serial, true, false);
            }
            self.finish_shell(serial);
        }
        for shell in self.shells.values() {
            shell.log.flush();
        }
        self.finish_agent_at_shutdown();
        let waiting: Vec<u64> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.awaits_shutdown())
            .map(|(id, _)| *id)
            .collect();
        for id in waiting {
            self.reply(id, Reply::Done);
            if let Some(connection) = self.connections.get_mut(&id) {
                connection.flush_for(Duration::from_millis(200));
            }
        }
    }

    fn scratch(&mut self) -> Vec<u8> {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.resize(READ_BYTES, 0);
        scratch
    }
}

/// Descriptors 3 and 4 of the start contract, closed to every program that is started later.
fn inherited() -> io::Result<(OwnedFd, OwnedFd)> {
    for fd in [3, 4] {
        // SAFETY: asks about a number only.
        let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
        // SAFETY: changes a flag of a descriptor that the contract gives to us.
        if flags < 0 || unsafe { libc::fcntl(fd, libc::F_SETFD, flags | libc::FD_CLOEXEC) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    // SAFETY: both are open, see above, and by the start contract nobody else in this process owns
    // them: this runs once, before anything else was opened.
    Ok(unsafe { (OwnedFd::from_raw_fd(3), OwnedFd::from_raw_fd(4)) })
}

/// Blocks SIGCHLD and SIGTERM and gives a descriptor that tells of them; ignores what would end us.
fn signal_fd() -> io::Result<OwnedFd> {
    // SAFETY: sets live on this stack; the guest has one thread, so its mask is the process's.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
        libc::signal(libc::SIGHUP, libc::SIG_IGN);
        // A log at the limit of file sizes is an error to handle, not an end.
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        let mut set: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        libc::sigaddset(&raw mut set, libc::SIGTERM);
        if libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()) < 0 {
            return Err(io::Error::last_os_error());
        }
        let fd = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd)) }
    }
}
