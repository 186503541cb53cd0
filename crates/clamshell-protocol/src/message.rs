//! What the frames of kind request, reply and exit say.

use serde::{Deserialize, Serialize};

/// Version of this protocol; a guest answers [`Request::Hello`] with its own.
/// Sandboxes outlive server upgrades, so a server speaks to every version it knows.
pub const PROTOCOL_VERSION: u32 = 1;

/// What the server asks of the guest. One per connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case")]
pub enum Request {
    /// Is the guest up? Answered with [`Reply::Hello`]; connection ends.
    Hello,
    /// Run a command without a terminal. [`Reply::Started`], then `Stdout`/`Stderr` frames as produced and one
    /// `Exit`. The guest stops reading the pipes while the connection is full. When the server
    /// hangs up the process tree is killed, unless `keep_running`.
    Command(CommandSpec),
    /// Attach to a shell, creating it when it is not running and `create` is given.
    /// [`Reply::Shell`], then output frames from where `from` says.
    Shell {
        /// `[a-zA-Z0-9][a-zA-Z0-9_-]{0,127}`; used as a folder name.
        shell_id: String,
        /// How to start it when no such shell is running; `None`: [`ErrorCode::NotFound`].
        create: Option<Box<ShellSpec>>,
        /// Where output starts.
        from: AttachFrom,
        /// What this attachment may do.
        access: Access,
        /// For a writer: the program is held while its newest output is further ahead than this of what has been
        /// sent here, as a terminal holds it. With several such writers the fastest one counts; one that takes nothing
        /// for a while holds nobody. `None` holds nothing as long as the log keeps it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lead_bytes_max: Option<u64>,
        /// For a writer that answers what the program asks its terminal only while it is told to, by
        /// [`Frame::Answers`](crate::Frame::Answers): one of these at a time, the one that typed last, and none while a
        /// writer is there that did not ask for this. A guest that tells says so in the reply.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        answers_when_told: bool,
    },
    /// All shells, running and ended, that this guest started. [`Reply::Shells`]; connection ends.
    ShellList,
    /// End a shell: SIGHUP to its session, SIGKILL after `grace_ms`. [`Reply::Done`] when it is gone.
    ShellClose {
        /// Which.
        shell_id: String,
        /// Milliseconds between SIGHUP and SIGKILL.
        grace_ms: u64,
    },
    /// Start the hosted agent, unless it was started already: a guest starts one agent in its life. [`Reply::Agent`];
    /// connection ends. The agent outlives this connection and the server.
    AgentStart(Box<AgentSpec>),
    /// The agent. [`Reply::Agent`], or [`ErrorCode::NotFound`] when none was started; connection ends.
    AgentShow,
    /// What the agent printed. [`Reply::Agent`], then `Output` frames from this offset (a `Gap` first when the log no longer
    /// reaches back to it), and one `Exit` when the agent has ended and all was sent. Watching keeps nothing alive.
    AgentLog {
        /// Offset of the first byte wanted.
        from_offset: u64,
    },
    /// Connect to a port that a program of the sandbox listens on, on its loopback interface. [`Reply::Connected`]; then the
    /// connection carries the program's bytes and no frames, in both directions, until both sides have ended theirs.
    /// With `pass` the guest passes the connected socket along with the reply (`SCM_RIGHTS`) where it can, and the
    /// connection ends.
    Connect {
        /// TCP port.
        port: u16,
        /// The server can take a descriptor.
        pass: bool,
    },
    /// Temporary credentials of the execution role, for the metadata service to give out in place of those before.
    /// [`Reply::Done`]; connection ends. They are kept in memory alone: a guest that is started again has none until it is
    /// given some.
    SetRoleCredentials(Box<RoleCredentials>),
    /// End everything: SIGTERM and SIGHUP to all, SIGKILL after `grace_ms`, flush logs, exit.
    /// [`Reply::Done`] just before the guest exits.
    Shutdown {
        /// Milliseconds between the polite signals and SIGKILL.
        grace_ms: u64,
    },
}

/// Temporary credentials of a role. `Debug` hides the secrets.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RoleCredentials {
    /// Name of the role.
    pub role: String,
    /// `ASIA` and 16 capital letters or digits.
    pub access_key_id: String,
    /// What requests are signed with.
    pub secret_access_key: String,
    /// Goes along as `X-Amz-Security-Token`.
    pub token: String,
    /// When they were made, RFC 3339.
    pub last_updated: String,
    /// When they end, RFC 3339.
    pub expiration: String,
}

impl std::fmt::Debug for RoleCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RoleCredentials")
            .field("role", &self.role)
            .field("access_key_id", &self.access_key_id)
            .field("expiration", &self.expiration)
            .finish_non_exhaustive()
    }
}

/// A user inside the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum User {
    /// uid 0 of the sandbox.
    Root,
    /// `agentcore-runtime-user`, uid and gid 1000.
    Agent,
}

/// A command without a terminal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandSpec {
    /// Program and arguments; the program is a path or a name looked up in the PATH of `env`.
    pub argv: Vec<String>,
    /// The whole environment of the program.
    pub env: Vec<(String, String)>,
    /// Working directory inside the sandbox.
    pub cwd: String,
    /// Who runs it.
    pub user: User,
    /// The whole process tree is killed after this many milliseconds; `None`: never.
    pub timeout_ms: Option<u64>,
    /// Whether `Input` frames will come; otherwise standard input is `/dev/null`.
    pub stdin: bool,
    /// Go on when the server hangs up; output is dropped from then on.
    pub keep_running: bool,
}

/// How to start the hosted agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentSpec {
    /// Program and arguments; the program is a path or a name looked up in the PATH of `env`.
    pub argv: Vec<String>,
    /// The whole environment of the program; `HOME` is added from the account when it is missing.
    pub env: Vec<(String, String)>,
    /// Working directory inside the sandbox; made when it is missing, as container runtimes do.
    pub cwd: String,
    /// As an image's `User`: empty, `name`, `uid`, `name:group`, `uid:gid`; looked up inside. Empty is root.
    pub user: String,
    /// Bytes of output kept on disk; the oldest go first.
    pub log_bytes_max: u64,
    /// What it gets first when the sandbox is shut down; SIGTERM when `None`.
    pub stop_signal: Option<i32>,
}

/// The hosted agent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentInfo {
    /// Process id inside the sandbox.
    pub pid: u32,
    /// Milliseconds since 1970.
    pub started_at_ms: u64,
    /// Oldest offset that its log still has.
    pub start_offset: u64,
    /// Offset at which the output of this agent starts.
    pub run_offset: u64,
    /// Offset after the newest byte.
    pub end_offset: u64,
    /// How it ended; `None` while it runs.
    pub exit: Option<Exit>,
}

/// A secret for one program at a terminal: a file that it may read, in memory and never anywhere else. `Debug` hides the
/// value, and dropping it wipes the memory.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShellSecret {
    /// Name of the file: letters, digits and `_`.
    pub name: String,
    /// Its content.
    pub value: String,
}

impl std::fmt::Debug for ShellSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShellSecret").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Drop for ShellSecret {
    fn drop(&mut self) {
        wipe(&mut std::mem::take(&mut self.value).into_bytes());
    }
}

/// Overwrites with zeros; `black_box` keeps the compiler from seeing that nobody reads them.
pub(crate) fn wipe(bytes: &mut [u8]) {
    bytes.fill(0);
    std::hint::black_box(bytes);
}

/// How to start a shell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShellSpec {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// The whole environment of the program.
    pub env: Vec<(String, String)>,
    /// Working directory inside the sandbox.
    pub cwd: String,
    /// Who runs it.
    pub user: User,
    /// Columns at the start.
    pub cols: u16,
    /// Rows at the start.
    pub rows: u16,
    /// Bytes of output kept on disk; the oldest go first.
    pub log_bytes_max: u64,
    /// Running shells allowed in this guest, this one included.
    pub shells_max: u32,
    /// Ended this many milliseconds after the last attachment that can write is gone; `None`: never.
    pub detached_timeout_ms: Option<u64>,
    /// Never end it for being detached while it has a program in the foreground.
    pub keep: bool,
    /// Shown to the program alone, as files in a folder that `CLAMSHELL_SECRETS` names, until it ends.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<ShellSecret>,
}

/// Where the output of an attachment starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttachFrom {
    /// At this offset; a `Gap` comes first when the log no longer reaches back to it. An offset beyond the end of the log is
    /// [`ErrorCode::OffsetOutOfRange`].
    Offset(u64),
    /// The newest so many bytes of this run of the shell.
    Tail(u64),
    /// One `Screen` frame that paints the terminal, then what follows it.
    Screen,
    /// Only what comes from now on.
    End,
}

/// What an attachment may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// See output only. Does not count as attached: watching never keeps a shell alive.
    Watch,
    /// Input, resize and kill as well.
    Write,
}

/// The guest's answer to a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Reply {
    /// To [`Request::Hello`].
    Hello(GuestInfo),
    /// To [`Request::Command`].
    Started {
        /// Process id inside the sandbox.
        pid: u32,
    },
    /// To [`Request::Shell`].
    Shell(ShellOpened),
    /// To [`Request::ShellList`].
    Shells {
        /// By shell id.
        shells: Vec<ShellInfo>,
    },
    /// To the requests about the agent.
    Agent(AgentInfo),
    /// To [`Request::Connect`].
    Connected {
        /// A descriptor of the connected socket came with this message.
        passed: bool,
    },
    /// To the requests that only do something.
    Done,
    /// The request was refused and changed nothing.
    Error(WireError),
}

/// Why a request was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WireError {
    /// For the server to act on.
    pub code: ErrorCode,
    /// For its log; never shown to a client.
    pub message: String,
}

/// Kinds of refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// No such running shell, or no agent.
    NotFound,
    /// The limit of running shells is reached.
    TooManyShells,
    /// Too many connections or commands at once.
    Busy,
    /// The shell id, or another part of the request, is not allowed.
    Invalid,
    /// The offset lies beyond the end of the log.
    OffsetOutOfRange,
    /// The program could not be started.
    SpawnFailed,
    /// Nothing listens on the port.
    Refused,
    /// The guest is shutting down.
    ShuttingDown,
    /// Anything else, for instance a log that cannot be written.
    Internal,
}

/// The guest about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestInfo {
    /// See [`PROTOCOL_VERSION`].
    pub protocol: u32,
    /// Version of the program.
    pub version: String,
    /// Milliseconds since it started.
    pub uptime_ms: u64,
    /// Running shells.
    pub shells: u32,
    /// Running commands.
    pub commands: u32,
}

/// An attachment was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShellOpened {
    /// This request started the shell.
    pub created: bool,
    /// First offset of this run of the shell. A shell id that is used again goes on in the same log.
    pub run_offset: u64,
    /// Oldest offset that the log still has.
    pub start_offset: u64,
    /// Offset after the newest byte, at the moment of attaching.
    pub end_offset: u64,
    /// Offset at which output of this attachment starts.
    pub from_offset: u64,
    /// Offset up to which output had been handed to a writing attachment before this one.
    pub seen_offset: u64,
    /// Bytes of this run that writing attachments could not be given any more, this attachment's included: what an
    /// [`AttachFrom::Tail`] did not reach back to, and gaps met later. Never falls; 0 from a guest that does not count.
    #[serde(default)]
    pub dropped_bytes: u64,
    /// Columns now.
    pub cols: u16,
    /// Rows now.
    pub rows: u16,
    /// The guest tells when to answer, as was asked; not one that is older than that question.
    #[serde(default)]
    pub tells_answers: bool,
}

/// A shell as listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShellInfo {
    /// Its id.
    pub shell_id: String,
    /// Process id inside the sandbox of the program started.
    pub pid: u32,
    /// What was started.
    pub argv: Vec<String>,
    /// Columns.
    pub cols: u16,
    /// Rows.
    pub rows: u16,
    /// Start of this run, milliseconds since 1970.
    pub created_at_ms: u64,
    /// Newest output, milliseconds since 1970.
    pub last_output_at_ms: u64,
    /// Oldest offset in the log.
    pub start_offset: u64,
    /// First offset of this run.
    pub run_offset: u64,
    /// Offset after the newest byte.
    pub end_offset: u64,
    /// Attachments that may write.
    pub writers: u32,
    /// Attachments that only see.
    pub watchers: u32,
    /// When the last writing attachment left, milliseconds since 1970.
    pub detached_at_ms: Option<u64>,
    /// See [`ShellSpec::keep`].
    pub keep: bool,
    /// How it ended; `None` while it runs.
    pub exit: Option<Exit>,
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Exit status; 128 + signal when a signal ended it.
    pub code: i32,
    /// The signal.
    pub signal: Option<i32>,
    /// Its time was up.
    pub timed_out: bool,
}
