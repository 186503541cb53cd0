//! STATUS frames: what the platform says about a shell, as JSON.
//!
//! The members and their order are those of the service. Clamshell adds members to `metadata`, and
//! only beside `shellId`: published clients take any STATUS without `metadata.shellId` for the end
//! of the shell and drop the others, so the additions are invisible to them.

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// What a STATUS frame says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Status {
    /// The connection stands. Sent first, and a second time after a replay that lost bytes.
    Confirmed {
        /// Id of the shell.
        shell_id: String,
        /// Whether the shell was running before this connection.
        reconnected: bool,
        /// Bytes of output this shell's replays could not deliver, cumulative.
        bytes_dropped: Option<u64>,
        /// Log offset of the next STDOUT byte. Clamshell only.
        offset: Option<u64>,
    },
    /// Output `from..to` is no longer in the log; STDOUT goes on at `to`. Clamshell only.
    Gap {
        /// Id of the shell.
        shell_id: String,
        /// First missing offset.
        from: u64,
        /// First offset that is there again, above `from`.
        to: u64,
    },
    /// Another client changed the terminal's size. Clamshell only.
    Resized {
        /// Id of the shell.
        shell_id: String,
        /// Columns, at least 1.
        cols: u16,
        /// Rows, at least 1.
        rows: u16,
    },
    /// The next `bytes` bytes of STDOUT paint the screen as it was at `offset` and do not count as
    /// log bytes; the log goes on at `offset` after them. Clamshell only.
    Screen {
        /// Id of the shell.
        shell_id: String,
        /// Offset that the picture shows.
        offset: u64,
        /// Length of the picture.
        bytes: u64,
    },
    /// Which run of the shell this is, and its size now. Follows the confirmation of a connection with a window.
    /// Clamshell only.
    Run {
        /// Id of the shell.
        shell_id: String,
        /// Log offset of the first byte of this run: another one means another program.
        offset: u64,
        /// End of the log at attaching: what comes before it is old.
        end: u64,
        /// Columns.
        cols: u16,
        /// Rows.
        rows: u16,
    },
    /// Whether this client answers what the program asks the terminal, from the next STDOUT byte on. Only to a client
    /// that asked for it, which answers nothing before. Clamshell only.
    Answers {
        /// Id of the shell.
        shell_id: String,
        /// It does.
        answers: bool,
    },
    /// How many bytes of input of the client's writer were taken; for clients that named one. The first one of a
    /// connection says from which byte on to send; what later ones count has been passed on. Clamshell only.
    Typed {
        /// Id of the shell.
        shell_id: String,
        /// Bytes of input since the writer was first named.
        bytes: u64,
    },
    /// The shell ended. 128 plus the signal's number when a signal killed it.
    Exited {
        /// Exit code.
        code: i32,
        /// The signal that killed it.
        signal: Option<i32>,
    },
    /// The platform failed and the shell is lost to this client.
    Failed {
        /// For people.
        message: String,
    },
}

/// Bytes that are no STATUS.
#[derive(Debug, Error)]
pub enum StatusError {
    /// Not JSON of the right shape.
    #[error("STATUS is not the JSON it should be")]
    Json(#[source] serde_json::Error),
    /// `kind` or `apiVersion` is something else.
    #[error("STATUS has an unknown kind or version")]
    UnknownKind,
    /// A number in it is out of its range.
    #[error("STATUS holds a number out of range")]
    OutOfRange,
}

// One struct for all, in the order of the service's members.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    kind: String,
    api_version: String,
    #[serde(default)]
    metadata: WireMetadata,
    status: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    details: Option<WireDetails>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    code: Option<i64>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct WireMetadata {
    #[serde(skip_serializing_if = "Option::is_none")]
    shell_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reconnected: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    bytes_dropped: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    offset: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gap: Option<WireGap>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resized: Option<WireSize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    screen: Option<WireScreen>,
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<WireRun>,
    #[serde(skip_serializing_if = "Option::is_none")]
    answers: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    typed: Option<u64>,
}

#[derive(Serialize, Deserialize)]
struct WireGap {
    from: u64,
    to: u64,
}

#[derive(Serialize, Deserialize)]
struct WireSize {
    cols: u16,
    rows: u16,
}

#[derive(Serialize, Deserialize)]
struct WireScreen {
    offset: u64,
    bytes: u64,
}

#[derive(Serialize, Deserialize)]
struct WireRun {
    offset: u64,
    end: u64,
    cols: u16,
    rows: u16,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct WireDetails {
    causes: Vec<WireCause>,
}

#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct WireCause {
    reason: String,
    message: String,
}

impl Status {
    /// The JSON text, members in the order of the service.
    pub fn to_json(&self) -> String {
        let metadata = |shell_id: &String| WireMetadata {
            shell_id: Some(shell_id.clone()),
            // Additions follow a confirmation; a client that reads every STATUS with a shell id as
            // one must not conclude that its shell was replaced.
            reconnected: Some(true),
            ..WireMetadata::default()
        };
        let wire = match self {
            Self::Confirmed { shell_id, reconnected, bytes_dropped, offset } => success(WireMetadata {
                reconnected: Some(*reconnected),
                bytes_dropped: *bytes_dropped,
                offset: *offset,
                ..metadata(shell_id)
            }),
            Self::Gap { shell_id, from, to } => {
                success(WireMetadata { gap: Some(WireGap { from: *from, to: *to }), ..metadata(shell_id) })
            }
            Self::Resized { shell_id, cols, rows } => success(WireMetadata {
                resized: Some(WireSize { cols: *cols, rows: *rows }),
                ..metadata(shell_id)
            }),
            Self::Screen { shell_id, offset, bytes } => success(WireMetadata {
                screen: Some(WireScreen { offset: *offset, bytes: *bytes }),
                ..metadata(shell_id)
            }),
            Self::Run { shell_id, offset, end, cols, rows } => success(WireMetadata {
                run: Some(WireRun { offset: *offset, end: *end, cols: *cols, rows: *rows }),
                ..metadata(shell_id)
            }),
            Self::Answers { shell_id, answers } => {
                success(WireMetadata { answers: Some(*answers), ..metadata(shell_id) })
            }
            Self::Typed { shell_id, bytes } => {
                success(WireMetadata { typed: Some(*bytes), ..metadata(shell_id) })
            }
            Self::Exited { code: 0, signal: None } => success(WireMetadata::default()),
            Self::Exited { code, signal } => {
                let mut causes = vec![WireCause { reason: "ExitCode".into(), message: code.to_string() }];
                if let Some(signal) = signal {
                    causes.push(WireCause { reason: "Signal".into(), message: signal.to_string() });
                }
                Wire {
                    details: Some(WireDetails { causes }),
                    ..failure("NonZeroExitCode", format!("command terminated with exit code {code}"))
                }
            }
            Self::Failed { message } => Wire { code: Some(500), ..failure("InternalError", message.clone()) },
        };
        serde_json::to_string(&wire).expect("our members have string keys")
    }

    /// Reads JSON text. Unknown members are ignored; a failure without an exit code is
    /// [`Status::Failed`].
    ///
    /// # Errors
    /// [`StatusError`]; published clients ignore such a frame.
    pub fn parse(json: &[u8]) -> Result<Self, StatusError> {
        let wire: Wire = serde_json::from_slice(json).map_err(StatusError::Json)?;
        if wire.kind != "Status" || wire.api_version != "v1" {
            return Err(StatusError::UnknownKind);
        }
        match wire.metadata {
            WireMetadata { shell_id: Some(shell_id), gap: Some(WireGap { from, to }), .. } => {
                if to <= from {
                    return Err(StatusError::OutOfRange);
                }
                Ok(Self::Gap { shell_id, from, to })
            }
            WireMetadata { shell_id: Some(shell_id), resized: Some(WireSize { cols, rows }), .. } => {
                if cols == 0 || rows == 0 {
                    return Err(StatusError::OutOfRange);
                }
                Ok(Self::Resized { shell_id, cols, rows })
            }
            WireMetadata { shell_id: Some(shell_id), screen: Some(WireScreen { offset, bytes }), .. } => {
                Ok(Self::Screen { shell_id, offset, bytes })
            }
            WireMetadata {
                shell_id: Some(shell_id), run: Some(WireRun { offset, end, cols, rows }), ..
            } => Ok(Self::Run { shell_id, offset, end, cols, rows }),
            WireMetadata { shell_id: Some(shell_id), answers: Some(answers), .. } => {
                Ok(Self::Answers { shell_id, answers })
            }
            WireMetadata { shell_id: Some(shell_id), typed: Some(bytes), .. } => {
                Ok(Self::Typed { shell_id, bytes })
            }
            WireMetadata { shell_id: Some(shell_id), reconnected, bytes_dropped, offset, .. } => {
                let reconnected = reconnected.unwrap_or(false);
                Ok(Self::Confirmed { shell_id, reconnected, bytes_dropped, offset })
            }
            WireMetadata { shell_id: None, .. } => {
                parse_end(&wire.status, wire.reason, wire.message, wire.details.unwrap_or_default())
            }
        }
    }

    /// Whether a client must stop after this one.
    pub fn ends_the_shell(&self) -> bool {
        matches!(self, Self::Exited { .. } | Self::Failed { .. })
    }
}

fn success(metadata: WireMetadata) -> Wire {
    Wire {
        kind: "Status".into(),
        api_version: "v1".into(),
        metadata,
        status: "Success".into(),
        reason: None,
        message: None,
        details: None,
        code: None,
    }
}

fn failure(reason: &str, message: String) -> Wire {
    Wire {
        status: "Failure".into(),
        reason: Some(reason.into()),
        message: Some(message),
        ..success(WireMetadata::default())
    }
}

fn parse_end(
    status: &str,
    reason: Option<String>,
    message: Option<String>,
    details: WireDetails,
) -> Result<Status, StatusError> {
    if status == "Success" {
        return Ok(Status::Exited { code: 0, signal: None });
    }
    let cause = |reason: &str| -> Result<Option<i32>, StatusError> {
        let Some(cause) = details.causes.iter().find(|cause| cause.reason == reason) else {
            return Ok(None);
        };
        cause.message.trim().parse().map(Some).map_err(|_| StatusError::OutOfRange)
    };
    Ok(match cause("ExitCode")? {
        Some(code) => Status::Exited { code, signal: cause("Signal")? },
        None => Status::Failed { message: message.or(reason).unwrap_or_default() },
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(status: &Status, rest: &str) {
        let json = format!(r#"{{"kind":"Status","apiVersion":"v1",{rest}}}"#);
        assert_eq!(status.to_json(), json);
        assert_eq!(&Status::parse(json.as_bytes()).unwrap(), status);
    }

    fn build() -> String {
        "build".to_owned()
    }

    #[test]
    fn texts_of_the_service() {
        let confirmed = |reconnected, bytes_dropped| Status::Confirmed {
            shell_id: build(),
            reconnected,
            bytes_dropped,
            offset: None,
        };
        check(
            &confirmed(false, None),
            r#""metadata":{"shellId":"build","reconnected":false},"status":"Success""#,
        );
        check(
            &confirmed(true, Some(4096)),
            r#""metadata":{"shellId":"build","reconnected":true,"bytesDropped":4096},"status":"Success""#,
        );
        check(&Status::Exited { code: 0, signal: None }, r#""metadata":{},"status":"Success""#);
        check(
            &Status::Exited { code: 7, signal: None },
            r#""metadata":{},"status":"Failure","reason":"NonZeroExitCode","message":"command terminated with exit code 7","details":{"causes":[{"reason":"ExitCode","message":"7"}]}"#,
        );
        check(
            &Status::Exited { code: 137, signal: Some(9) },
            r#""metadata":{},"status":"Failure","reason":"NonZeroExitCode","message":"command terminated with exit code 137","details":{"causes":[{"reason":"ExitCode","message":"137"},{"reason":"Signal","message":"9"}]}"#,
        );
        check(
            &Status::Failed { message: "the sandbox is gone".into() },
            r#""metadata":{},"status":"Failure","reason":"InternalError","message":"the sandbox is gone","code":500"#,
        );
    }

    #[test]
    fn additions_sit_beside_the_shell_id() {
        check(
            &Status::Confirmed {
                shell_id: build(),
                reconnected: true,
                bytes_dropped: Some(1),
                offset: Some(70_000),
            },
            r#""metadata":{"shellId":"build","reconnected":true,"bytesDropped":1,"offset":70000},"status":"Success""#,
        );
        check(
            &Status::Gap { shell_id: build(), from: 5, to: 9 },
            r#""metadata":{"shellId":"build","reconnected":true,"gap":{"from":5,"to":9}},"status":"Success""#,
        );
        check(
            &Status::Resized { shell_id: build(), cols: 120, rows: 40 },
            r#""metadata":{"shellId":"build","reconnected":true,"resized":{"cols":120,"rows":40}},"status":"Success""#,
        );
        check(
            &Status::Screen { shell_id: build(), offset: 9, bytes: 2000 },
            r#""metadata":{"shellId":"build","reconnected":true,"screen":{"offset":9,"bytes":2000}},"status":"Success""#,
        );
    }

    #[test]
    fn the_run_of_a_shell() {
        check(
            &Status::Run { shell_id: build(), offset: 7, end: 9, cols: 120, rows: 40 },
            r#""metadata":{"shellId":"build","reconnected":true,"run":{"offset":7,"end":9,"cols":120,"rows":40}},"status":"Success""#,
        );
    }

    #[test]
    fn who_answers() {
        check(
            &Status::Answers { shell_id: build(), answers: false },
            r#""metadata":{"shellId":"build","reconnected":true,"answers":false},"status":"Success""#,
        );
    }

    #[test]
    fn what_was_typed() {
        check(
            &Status::Typed { shell_id: build(), bytes: 70_000 },
            r#""metadata":{"shellId":"build","reconnected":true,"typed":70000},"status":"Success""#,
        );
    }

    #[test]
    fn hostile_texts_are_refused() {
        for json in [
            "",
            "[]",
            "{}",
            r#"{"kind":"Pod","apiVersion":"v1","metadata":{},"status":"Success"}"#,
            r#"{"kind":"Status","apiVersion":"v2","metadata":{},"status":"Success"}"#,
            r#"{"kind":"Status","apiVersion":"v1","metadata":{"shellId":7},"status":"Success"}"#,
            r#"{"kind":"Status","apiVersion":"v1","metadata":{"shellId":"a","gap":{"from":9,"to":9}},"status":"Success"}"#,
            r#"{"kind":"Status","apiVersion":"v1","metadata":{"shellId":"a","resized":{"cols":0,"rows":9}},"status":"Success"}"#,
            r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","details":{"causes":[{"reason":"ExitCode","message":"many"}]}}"#,
        ] {
            assert!(Status::parse(json.as_bytes()).is_err(), "{json}");
        }
    }

    #[test]
    fn unknown_members_do_not_matter() {
        let json = br#"{"new":1,"status":"Failure","kind":"Status","apiVersion":"v1","reason":"Timeout"}"#;
        assert_eq!(Status::parse(json).unwrap(), Status::Failed { message: "Timeout".into() });
    }

    proptest! {
        #[test]
        fn any_bytes_are_refused_or_taken(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Status::parse(&bytes);
        }

        #[test]
        fn exits_survive(code in 1i32..256, signal in proptest::option::of(1i32..65)) {
            let status = Status::Exited { code, signal };
            prop_assert_eq!(Status::parse(status.to_json().as_bytes()).unwrap(), status);
        }

        #[test]
        fn messages_survive(message in ".{0,80}") {
            let status = Status::Failed { message };
            prop_assert_eq!(Status::parse(status.to_json().as_bytes()).unwrap(), status);
        }
    }
}
