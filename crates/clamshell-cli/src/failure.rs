//! Why a command failed: what, why, and one hint.

use std::fmt;

use crate::output;

/// A failure as people see it: `error: what: why`, then at most one `hint:` line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    what: String,
    why: Option<String>,
    hint: Option<String>,
    verbatim: bool,
    code: i32,
}

impl Failure {
    /// What could not be done, in lower case, no period.
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), why: None, hint: None, verbatim: false, code: 1 }
    }

    /// A text that users of the `agentcore` command line know; printed after `Error: `.
    pub(crate) fn known(text: impl Into<String>) -> Self {
        Self { verbatim: true, ..Self::new(text) }
    }

    /// Adds the cause.
    pub(crate) fn because(mut self, why: impl fmt::Display) -> Self {
        self.why = Some(why.to_string());
        self
    }

    /// Adds the cause and all its causes.
    pub(crate) fn because_of(self, error: &dyn std::error::Error) -> Self {
        let mut text = error.to_string();
        let mut source = error.source();
        // A chain is short; the bound is for sources that point at themselves.
        for _ in 0..8 {
            let Some(error) = source else { break };
            text = format!("{text}: {error}");
            source = error.source();
        }
        self.because(text)
    }

    /// Adds what to do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Another exit code than 1.
    pub(crate) fn exit_code(mut self, code: i32) -> Self {
        self.code = code;
        self
    }

    /// The exit code.
    pub(crate) fn code(&self) -> i32 {
        self.code
    }

    /// What and why in one line, as `error` in JSON has it.
    pub(crate) fn message(&self) -> String {
        match &self.why {
            Some(why) => format!("{}: {why}", self.what),
            None => self.what.clone(),
        }
    }

    /// Prints it: as JSON on stdout, or for people on stderr.
    pub(crate) fn report(&self, json: bool) {
        if json {
            output::print_json(&serde_json::json!({"success": false, "error": self.message()}));
        } else {
            eprintln!("{self}");
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prefix = if self.verbatim { "Error" } else { "error" };
        write!(f, "{prefix}: {}", self.message())?;
        match &self.hint {
            Some(hint) => write!(f, "\nhint: {hint}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_one_line_and_a_hint() {
        let failure = Failure::new("cannot stop the session").because("not running").hint("look");
        assert_eq!(failure.to_string(), "error: cannot stop the session: not running\nhint: look");
        assert_eq!(failure.message(), "cannot stop the session: not running");
        assert_eq!(
            Failure::known("Command timed out after 2s").to_string(),
            "Error: Command timed out after 2s"
        );
    }
}
