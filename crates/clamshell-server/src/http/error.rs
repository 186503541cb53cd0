//! The only place where an internal error becomes an AWS code, status and message.
//!
//! Messages for clients carry no path of the host, no text of a lower layer and no secret; those go
//! to the log.

use clamshell_protocol::ErrorCode as GuestCode;
use clamshell_store::{StoreError, TERMINAL_SECRETS_MAX, TerminalSecretError};
use clamshell_wire::{AwsError, ErrorCode, sigv4::SigV4Error};
use thiserror::Error;

use super::{access::CallerError, envelope::Envelope};
use crate::{
    console::ConsoleError,
    files::FileError,
    guest::GuestError,
    http::ControlError,
    session::{AgentError, CallError, ClaimError, StopError},
    terminals::TerminalError,
};

/// Everything that can go wrong with a request.
#[derive(Debug, Error)]
pub(crate) enum ApiError {
    /// The wire layer refused the request and says how.
    #[error("request is not valid: {}", .0.message)]
    Wire(AwsError),
    /// The signature does not hold.
    #[error("request is not authenticated")]
    Signature(#[from] SigV4Error),
    /// The key is unknown or inactive.
    #[error("access key is not known")]
    UnknownAccessKey,
    /// No credentials at all.
    #[error("request carries no credentials")]
    MissingCredentials,
    /// The runtime takes another kind of credentials.
    #[error("authorization method mismatch")]
    AuthorizationMismatch,
    /// The caller may not do this.
    #[error("{principal} may not {action} on {resource}")]
    NotAuthorized {
        /// ARN of the caller.
        principal: String,
        /// What it asked to do.
        action: String,
        /// On what.
        resource: String,
    },
    /// A bearer token is missing or refused.
    #[error("bearer token is refused")]
    Token(#[source] Box<CallerError>),
    /// No such user or role.
    #[error("no such user or role")]
    PrincipalNotFound,
    /// There is such a user or role already, or it cannot be removed.
    #[error("user or role cannot be changed: {0}")]
    PrincipalConflict(&'static str),
    /// The body is longer than the operation takes.
    #[error("body is too long")]
    BodyTooLong,
    /// The client hung up in the middle of the body.
    #[error("body did not arrive")]
    BodyIncomplete,
    /// No such runtime or endpoint.
    #[error("no endpoint {qualifier} of {runtime}")]
    RuntimeNotFound {
        /// What the caller asked for.
        runtime: String,
        /// The endpoint's name.
        qualifier: String,
    },
    /// No such session, or nothing of it runs.
    #[error("no running session")]
    SessionNotFound,
    /// No such shell.
    #[error("no such shell")]
    ShellNotFound,
    /// The console refuses.
    #[error("the console refuses")]
    Console(#[from] ConsoleError),
    /// No such login.
    #[error("no such login")]
    LoginNotFound,
    /// No such access key.
    #[error("no such access key")]
    AccessKeyNotFound,
    /// The last active access key stays.
    #[error("last active access key")]
    LastAccessKey,
    /// A session cannot serve the call.
    #[error("session cannot serve the call")]
    Call(#[from] CallError),
    /// A session cannot be stopped.
    #[error("session cannot be stopped")]
    Stop(#[from] StopError),
    /// A shell is being claimed elsewhere.
    #[error("shell is being claimed")]
    Claim(#[from] ClaimError),
    /// The guest refused or cannot be reached.
    #[error("guest failed")]
    Guest(#[from] GuestError),
    /// The request is not a WebSocket upgrade, or not one we speak.
    #[error("not a WebSocket upgrade: {0}")]
    Upgrade(&'static str),
    /// The control plane does not make a change.
    #[error("change is refused")]
    Control(#[from] ControlError),
    /// The agent of a session cannot serve the call.
    #[error("agent cannot serve the call")]
    Agent(#[from] AgentError),
    /// The agent answered with an error, or not as it must.
    #[error("agent answered with {status}")]
    AgentFailed {
        /// Its status, or the one that says what happened.
        status: u16,
    },
    /// The agent answered with too many bytes.
    #[error("answer of the agent is too long")]
    AnswerTooLong,
    /// The session, or the agent in it, did not start.
    #[error("agent did not start")]
    InitializationExceeded {
        /// Seconds that it had.
        limit_s: u64,
    },
    /// An error that is told in the words of the agent's protocol.
    #[error("call of an agent is refused")]
    Within {
        /// The words.
        envelope: Envelope,
        /// The error.
        #[source]
        error: Box<ApiError>,
    },
    /// A file of a workspace cannot be had, or changed.
    #[error("file is not to be had")]
    File(#[from] FileError),
    /// A terminal's command or secret is refused.
    #[error("terminal is refused")]
    Terminal(#[from] TerminalError),
    /// The store failed.
    #[error("store failed")]
    Store(#[from] StoreError),
    /// A shell's log cannot be read.
    #[error("shell log cannot be read: {0}")]
    Log(String),
    /// Anything that should not be.
    #[error("internal error: {0}")]
    Internal(&'static str),
}

impl From<AwsError> for ApiError {
    fn from(error: AwsError) -> Self {
        Self::Wire(error)
    }
}

impl ApiError {
    /// Value of the `WWW-Authenticate` header of the answer.
    pub(crate) fn challenge(&self) -> Option<&str> {
        match self {
            Self::Token(refused) => refused.challenge.as_deref(),
            Self::Within { error, .. } => error.challenge(),
            _ => None,
        }
    }

    /// Seconds that the client should wait before it asks again.
    pub(crate) fn retry_after_s(&self) -> Option<u64> {
        match self {
            Self::Console(ConsoleError::LockedOut { retry_after_s }) => Some(*retry_after_s),
            Self::Console(ConsoleError::Busy | ConsoleError::TooManyLinks) => Some(5),
            _ => None,
        }
    }

    /// The words that the client is told it in.
    pub(super) fn envelope(&self) -> &Envelope {
        if let Self::Within { envelope, .. } = self { envelope } else { &Envelope::Aws }
    }

    /// This error, told in other words.
    pub(super) fn within(self, envelope: Envelope) -> Self {
        Self::Within { envelope, error: Box::new(self) }
    }

    /// What the client is told.
    pub(crate) fn to_aws(&self) -> AwsError {
        match self {
            Self::Wire(error) => error.clone(),
            Self::Signature(error) => AwsError::new(ErrorCode::AccessDenied, error.message()),
            Self::UnknownAccessKey => AwsError::new(
                ErrorCode::AccessDenied,
                "The security token included in the request is invalid.",
            ),
            Self::MissingCredentials => {
                AwsError::new(ErrorCode::AccessDenied, "Missing Authentication Token")
            }
            Self::AuthorizationMismatch => AwsError::new(
                ErrorCode::AccessDenied,
                "Authorization method mismatch. The agent is configured for a different authorization method \
                 than what was used in your request.",
            ),
            Self::NotAuthorized { principal, action, resource } => AwsError::new(
                ErrorCode::AccessDenied,
                format!("User: {principal} is not authorized to perform: {action} on resource: {resource}"),
            ),
            Self::Token(refused) => super::auth::token_refusal(&refused.error),
            Self::PrincipalNotFound => AwsError::new(ErrorCode::ResourceNotFound, "User or role not found"),
            Self::PrincipalConflict(reason) => AwsError::new(ErrorCode::Conflict, *reason),
            Self::BodyTooLong => AwsError::cannot_parse("Request body is too long"),
            Self::BodyIncomplete => AwsError::cannot_parse("Request body is incomplete"),
            Self::RuntimeNotFound { runtime, qualifier } => AwsError::new(
                ErrorCode::ResourceNotFound,
                format!("No endpoint or agent found with qualifier '{qualifier}' for agent '{runtime}'"),
            ),
            Self::SessionNotFound => AwsError::new(ErrorCode::ResourceNotFound, "Session not found"),
            Self::ShellNotFound => AwsError::new(ErrorCode::ResourceNotFound, "Shell not found"),
            Self::AccessKeyNotFound => AwsError::new(ErrorCode::ResourceNotFound, "Access key not found"),
            Self::LoginNotFound => AwsError::new(ErrorCode::ResourceNotFound, "Login not found"),
            Self::Console(error) => console(error),
            Self::LastAccessKey => AwsError::new(
                ErrorCode::Conflict,
                "The last active access key can be neither disabled nor removed",
            ),
            Self::Call(error) => call(error),
            Self::Stop(error) => stop(error),
            Self::Claim(ClaimError) => AwsError::new(
                ErrorCode::Conflict,
                "The shell is being claimed by another connection at the same moment",
            ),
            Self::Guest(error) => guest(error),
            Self::Upgrade(reason) => AwsError::cannot_parse(*reason),
            Self::Control(error) => control(error),
            Self::Agent(error) => agent(error),
            Self::AgentFailed { status } => agent_failed(*status),
            Self::AnswerTooLong => {
                AwsError::new(ErrorCode::RuntimeClientError, "The answer of the runtime is above 100 MB")
            }
            Self::InitializationExceeded { limit_s } => initialization_exceeded(*limit_s),
            Self::Within { error, .. } => error.to_aws(),
            Self::File(error) => file(error),
            Self::Terminal(error) => terminal(error),
            Self::Store(_) | Self::Log(_) | Self::Internal(_) => internal(),
        }
    }
}

fn internal() -> AwsError {
    AwsError::new(ErrorCode::InternalServer, "An internal error occurred")
}

fn control(error: &ControlError) -> AwsError {
    let conflict = |message: String| AwsError::new(ErrorCode::Conflict, message);
    let not_found = |message: String| AwsError::new(ErrorCode::ResourceNotFound, message);
    match error {
        ControlError::NameTaken { name } => {
            conflict(format!("An agent runtime with the name '{name}' already exists"))
        }
        ControlError::EndpointNameTaken { name } => {
            conflict(format!("An endpoint with the name '{name}' already exists for this agent runtime"))
        }
        ControlError::InProgress { what, status } => conflict(format!(
            "The {what} is in status {}; try again when the operation has ended",
            status.as_str()
        )),
        ControlError::BeingDeleted => conflict("The agent runtime is being deleted".to_owned()),
        ControlError::Changed => conflict("The agent runtime was changed by another request".to_owned()),
        ControlError::Declared { name } => conflict(format!(
            "The agent runtime '{name}' is declared in the configuration of this server and is changed there"
        )),
        ControlError::Quota { what, most } => AwsError::new(
            ErrorCode::ServiceQuotaExceeded,
            format!("The number of {what} has reached the limit of {most}"),
        ),
        ControlError::VersionNotFound { version } => {
            not_found(format!("The agent runtime has no version {version}"))
        }
        ControlError::VersionNotReady { version, status } => {
            conflict(format!("Version {version} of the agent runtime is in status {status}, not READY"))
        }
        ControlError::OnlyVersion => conflict(
            "The only version of an agent runtime cannot be deleted; delete the agent runtime".to_owned(),
        ),
        ControlError::VersionHasEndpoint { version, endpoint } => {
            conflict(format!("Version {version} is the version of endpoint '{endpoint}'"))
        }
        ControlError::VersionHasSessions { version } => {
            conflict(format!("Sessions are running with version {version}; stop them first"))
        }
        ControlError::DefaultStays => {
            conflict("The DEFAULT endpoint is deleted together with its agent runtime".to_owned())
        }
        ControlError::DefaultFollows => {
            conflict("The DEFAULT endpoint follows the newest version of its agent runtime".to_owned())
        }
        ControlError::ResourceNotFound { arn } => not_found(format!("Resource '{arn}' not found")),
        ControlError::NoPolicy { arn } => not_found(format!("Resource '{arn}' has no policy")),
        ControlError::Policy(error) => AwsError::invalid_field("policy", &error.to_string()),
        ControlError::NotReady { status } => AwsError::new(
            ErrorCode::Validation,
            format!("The agent runtime is not READY: its endpoint is in status {}", status.as_str()),
        ),
    }
}

fn file(error: &FileError) -> AwsError {
    let code = match error {
        FileError::Io(_) => return internal(),
        FileError::Path(_)
        | FileError::Link
        | FileError::Outside
        | FileError::NotAFile
        | FileError::NotAFolder
        | FileError::TooLong { .. } => ErrorCode::Validation,
        FileError::NotFound => ErrorCode::ResourceNotFound,
        FileError::NoWorkspace | FileError::Exists | FileError::NotEmpty => ErrorCode::Conflict,
        FileError::Closed { .. } => ErrorCode::AccessDenied,
        FileError::NoRoom { .. } => ErrorCode::ServiceQuotaExceeded,
    };
    AwsError::new(code, error.to_string())
}

fn terminal(error: &TerminalError) -> AwsError {
    let code = match error {
        TerminalError::Invalid { field, rule } => return AwsError::invalid_field(field, rule),
        TerminalError::SecretNotFound | TerminalError::NoTerminal => ErrorCode::ResourceNotFound,
        TerminalError::SecretMissing { .. } | TerminalError::TooLong => ErrorCode::Conflict,
        TerminalError::Secret(TerminalSecretError::TooMany) => {
            return AwsError::new(
                ErrorCode::ServiceQuotaExceeded,
                format!("The number of secrets has reached the limit of {TERMINAL_SECRETS_MAX}"),
            );
        }
        TerminalError::Secret(_) => return internal(),
    };
    AwsError::new(code, error.to_string())
}

fn console(error: &ConsoleError) -> AwsError {
    let denied = |message: String| AwsError::new(ErrorCode::AccessDenied, message);
    match error {
        ConsoleError::Off(reason) => AwsError::new(
            ErrorCode::ResourceNotFound,
            format!("This server has no browser console: {reason}"),
        ),
        ConsoleError::Host => denied(
            "This server does not answer browsers under this name. [console] hosts in its configuration lists further names"
                .to_owned(),
        ),
        ConsoleError::CrossSite(why) => {
            denied(format!("The request was not made by the page of this console: {why}"))
        }
        ConsoleError::Ended => AwsError::new(ErrorCode::Unauthorized, "The login has ended; sign in again"),
        ConsoleError::Wrong => denied("Wrong user name, password or link".to_owned()),
        ConsoleError::LockedOut { retry_after_s } => AwsError::new(
            ErrorCode::Throttling,
            format!("Too many failed attempts; try again in {retry_after_s} s"),
        ),
        ConsoleError::Busy => AwsError::new(ErrorCode::Throttling, "Too many people sign in at once; try again"),
        ConsoleError::NeedsSignature => denied("Only a signed request may do this, not a login".to_owned()),
        ConsoleError::NeedsLogin => denied("Only a login of the console may do this".to_owned()),
        ConsoleError::NotAUser => denied("Only users have logins".to_owned()),
        ConsoleError::Password => AwsError::invalid_field(
            "password",
            "Member must have at least 12 characters and at most 1024 bytes",
        ),
        ConsoleError::NotFresh => denied(
            "This login is too old to set a first password; sign in again with a link (`clamshell console`)".to_owned(),
        ),
        ConsoleError::TooManyLinks => {
            AwsError::new(ErrorCode::Throttling, "Too many links of this user wait to be used")
        }
        ConsoleError::Hash => internal(),
    }
}

fn in_progress() -> AwsError {
    AwsError::new(ErrorCode::RetryableConflict, "Session operation in progress, please retry")
}

fn call(error: &CallError) -> AwsError {
    match error {
        CallError::Conflict | CallError::ShuttingDown => in_progress(),
        CallError::StartFailed { .. } => AwsError::new(
            ErrorCode::RuntimeClientError,
            "The runtime could not be started. Please check your CloudWatch logs for more information.",
        )
        .with_error("RuntimeUnreachable"),
        CallError::Quota => AwsError::new(
            ErrorCode::ServiceQuotaExceeded,
            "The number of sessions has reached the limit maxVms of this server",
        ),
        CallError::Store(_) => internal(),
    }
}

/// Clients match the words `initialization time exceeded`.
fn initialization_exceeded(limit_s: u64) -> AwsError {
    AwsError::new(
        ErrorCode::RuntimeClientError,
        format!(
            "Runtime initialization time exceeded. Please make sure that initialization completes in {limit_s}s."
        ),
    )
}

/// What an agent itself says never leaves this server.
fn agent_failed(status: u16) -> AwsError {
    AwsError::new(
        ErrorCode::RuntimeClientError,
        format!(
            "Received error ({status}) from runtime. Please check your CloudWatch logs for more information."
        ),
    )
}

fn agent(error: &AgentError) -> AwsError {
    match error {
        AgentError::NoAgent => AwsError::new(
            ErrorCode::Validation,
            "The agent runtime hosts no agent: it serves commands and shells only",
        ),
        AgentError::StartTimeout { limit_s } => initialization_exceeded(*limit_s),
        AgentError::StartFailed { .. } | AgentError::Exited { .. } | AgentError::Unreachable => {
            agent_failed(502)
        }
        AgentError::Ended => AwsError::new(ErrorCode::RuntimeClientError, "The session was stopped"),
    }
}

fn stop(error: &StopError) -> AwsError {
    match error {
        StopError::NotRunning => AwsError::new(ErrorCode::ResourceNotFound, "Session not found"),
        StopError::Conflict => in_progress(),
        StopError::Failed { .. } => internal(),
    }
}

fn guest(error: &GuestError) -> AwsError {
    match error {
        GuestError::Refused(refusal) => match refusal.code {
            GuestCode::NotFound => AwsError::new(ErrorCode::ResourceNotFound, "Shell not found"),
            GuestCode::TooManyShells => AwsError::new(
                ErrorCode::RuntimeClientError,
                "Maximum number of open shells reached for this session. Close a shell and retry.",
            )
            .with_error("ShellLimitExceeded"),
            GuestCode::Busy => {
                AwsError::new(ErrorCode::Throttling, "Too many operations at once in this session")
            }
            GuestCode::Invalid => AwsError::new(ErrorCode::RuntimeClientError, "The shell id is not valid")
                .with_error("InvalidShellId"),
            GuestCode::OffsetOutOfRange => {
                AwsError::invalid_field("from", "Offset must not lie beyond the end")
            }
            GuestCode::SpawnFailed => AwsError::new(
                ErrorCode::RuntimeClientError,
                "The program could not be started in the runtime. Its image must contain /bin/bash.",
            )
            .with_error("SpawnFailed"),
            GuestCode::ShuttingDown => in_progress(),
            GuestCode::Internal | GuestCode::Refused => unreachable_runtime(),
        },
        GuestError::Io(_)
        | GuestError::Protocol(_)
        | GuestError::HungUp
        | GuestError::Timeout
        | GuestError::Unexpected => unreachable_runtime(),
    }
}

fn unreachable_runtime() -> AwsError {
    AwsError::new(ErrorCode::RuntimeClientError, "The runtime cannot be reached")
        .with_error("RuntimeUnreachable")
}

/// An error with all its causes in one line, for the log.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
