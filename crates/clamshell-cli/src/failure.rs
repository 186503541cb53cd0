//! Why a command failed: what, why, and one hint.

use std::fmt;

use serde_json::{Value, json};

use crate::output;

/// A failure as people see it: the end of a log where one tells more, `error: what: why`, then at most one `hint:` line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    what: String,
    why: Option<String>,
    hint: Option<String>,
    /// Entries of an agent's log.
    log: Vec<Value>,
    verbatim: bool,
    code: i32,
}

impl Failure {
    /// What could not be done, in lower case, no period.
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), why: None, hint: None, log: Vec::new(), verbatim: false, code: 1 }
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

    /// Adds the end of an agent's log, which people see first.
    pub(crate) fn log(mut self, entries: Vec<Value>) -> Self {
        self.log = entries;
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
            output::print_json(&self.to_json());
        } else {
            output::print_log_end(&self.log);
            eprintln!("{self}");
        }
    }

    fn to_json(&self) -> Value {
        let mut report = json!({"success": false, "error": self.message()});
        if let Some(hint) = &self.hint {
            report["hint"] = json!(hint);
        }
        if !self.log.is_empty() {
            report["log"] = json!(self.log);
        }
        report
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

    #[test]
    fn programs_are_told_as_much_as_people() {
        assert_eq!(Failure::new("no").to_json(), json!({"success": false, "error": "no"}));
        let entry = json!({"timestamp": "t", "message": "m"});
        let whole = Failure::new("no").because("x").hint("look").log(vec![entry.clone()]).to_json();
        assert_eq!(whole, json!({"success": false, "error": "no: x", "hint": "look", "log": [entry]}));
    }
}
