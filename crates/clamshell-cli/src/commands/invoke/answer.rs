//! From the bytes of an answer to what people read. Bytes in, bytes out; every buffer is bounded.

use serde_json::Value;

/// A line of events longer than this is passed on in pieces: agents send text by the word.
const LINE_BYTES_MAX: usize = 16 << 20;
/// An answer that is one JSON value is held back until it is whole, up to this size.
const JSON_BYTES_MAX: usize = 32 << 20;

/// What an answer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Server-sent events.
    Events,
    /// One JSON value.
    Json,
    /// Anything else, and everything with --raw.
    Bytes,
}

impl Form {
    /// By the type of the answer.
    pub(super) fn of(content_type: &str, raw: bool) -> Self {
        let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        match kind.as_str() {
            _ if raw => Self::Bytes,
            "text/event-stream" => Self::Events,
            kind if kind == "application/json" || kind.ends_with("+json") => Self::Json,
            _ => Self::Bytes,
        }
    }
}

/// Turns an answer into text for people, or into lines for `value`.
#[derive(Debug)]
pub(super) struct Printer {
    form: Form,
    /// Keep events apart, one a line, as they were.
    apart: bool,
    buffer: Vec<u8>,
    error: Option<String>,
    /// What was printed last ended a line.
    at_line_start: bool,
    /// The buffer was given out already: the rest follows as it is.
    is_through: bool,
}

impl Printer {
    /// `apart` for a JSON report.
    pub(super) fn new(form: Form, apart: bool) -> Self {
        Self { form, apart, buffer: Vec::new(), error: None, at_line_start: true, is_through: false }
    }

    /// Takes bytes, gives what can be printed.
    pub(super) fn feed(&mut self, bytes: &[u8]) -> Vec<u8> {
        if self.form == Form::Bytes || self.is_through {
            return bytes.to_vec();
        }
        self.buffer.extend_from_slice(bytes);
        match self.form {
            Form::Events => self.lines(),
            Form::Json if self.buffer.len() > JSON_BYTES_MAX => {
                self.is_through = true;
                std::mem::take(&mut self.buffer)
            }
            Form::Json | Form::Bytes => Vec::new(),
        }
    }

    /// The rest, and the agent's error when it told one.
    pub(super) fn end(mut self) -> (Vec<u8>, Option<String>) {
        let mut out = Vec::new();
        match self.form {
            Form::Events => {
                let line = std::mem::take(&mut self.buffer);
                self.line(&line, &mut out);
                if !self.at_line_start && !self.apart {
                    out.push(b'\n');
                }
            }
            Form::Json if !self.is_through => {
                let whole = std::mem::take(&mut self.buffer);
                match serde_json::from_slice::<Value>(&whole) {
                    Ok(value) if !self.apart => {
                        self.error = error_of(&value);
                        out = for_people(&value).into_bytes();
                        out.push(b'\n');
                    }
                    Ok(value) => {
                        self.error = error_of(&value);
                        out = whole;
                    }
                    Err(_) => out = whole,
                }
            }
            Form::Json | Form::Bytes => {}
        }
        (out, self.error)
    }

    fn lines(&mut self) -> Vec<u8> {
        let mut out = Vec::new();
        while let Some(at) = self.buffer.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.buffer.drain(..=at).collect();
            self.line(&line, &mut out);
        }
        if self.buffer.len() > LINE_BYTES_MAX {
            let line = std::mem::take(&mut self.buffer);
            self.line(&line, &mut out);
        }
        out
    }

    fn line(&mut self, line: &[u8], out: &mut Vec<u8>) {
        let line = String::from_utf8_lossy(line);
        let line = line.trim_end_matches(['\r', '\n']);
        // Names, ids and comments of events are for programs.
        let Some(data) = line.strip_prefix("data:") else { return };
        let data = data.strip_prefix(' ').unwrap_or(data);
        let value = serde_json::from_str::<Value>(data);
        if let Ok(value) = &value
            && let Some(error) = error_of(value)
        {
            self.error.get_or_insert(error);
            if !self.apart {
                return;
            }
        }
        if self.apart {
            out.extend_from_slice(data.as_bytes());
            out.push(b'\n');
            return;
        }
        match value {
            // Pieces of a text that belong together.
            Ok(Value::String(text)) => {
                self.at_line_start = if text.is_empty() { self.at_line_start } else { text.ends_with('\n') };
                out.extend_from_slice(text.as_bytes());
            }
            _ if data.is_empty() => {}
            _ => {
                if !self.at_line_start {
                    out.push(b'\n');
                }
                out.extend_from_slice(data.as_bytes());
                out.push(b'\n');
                self.at_line_start = true;
            }
        }
    }
}

/// The answer as a value, of what a printer with `apart` gave.
pub(super) fn value(form: Form, collected: &[u8]) -> Value {
    let text = String::from_utf8_lossy(collected);
    match form {
        Form::Json => serde_json::from_str(&text).unwrap_or_else(|_| Value::from(text.as_ref())),
        Form::Events => {
            let events: Vec<Value> = text
                .lines()
                .map(|line| serde_json::from_str(line).unwrap_or_else(|_| Value::from(line)))
                .collect();
            if !events.is_empty() && events.iter().all(Value::is_string) {
                return events.iter().filter_map(Value::as_str).collect::<String>().into();
            }
            events.into()
        }
        Form::Bytes => Value::from(text.as_ref()),
    }
}

/// What an agent of the SDK, JSON-RPC or AG-UI says when it failed.
fn error_of(value: &Value) -> Option<String> {
    if value["type"] == "RUN_ERROR" {
        return Some(value["message"].as_str().unwrap_or("the run failed").to_owned());
    }
    match &value["error"] {
        Value::Null | Value::Bool(false) => None,
        Value::String(text) if text.is_empty() => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other["message"].as_str().map_or_else(|| other.to_string(), str::to_owned)),
    }
}

/// `result` or the value itself: text as text, anything else as readable JSON.
fn for_people(value: &Value) -> String {
    let shown = match value {
        Value::Object(members) if members.len() == 1 => members.get("result").unwrap_or(value),
        _ => value,
    };
    match shown {
        Value::String(text) => text.clone(),
        other => serde_json::to_string_pretty(other).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same whatever the sizes of the pieces.
    fn check(form: Form, apart: bool, body: &str, expect: &str, error: Option<&str>) {
        for size in [1, 3, 4096] {
            let mut printer = Printer::new(form, apart);
            let mut out = Vec::new();
            for piece in body.as_bytes().chunks(size) {
                out.extend(printer.feed(piece));
            }
            let (rest, found) = printer.end();
            out.extend(rest);
            assert_eq!(String::from_utf8(out).unwrap(), expect);
            assert_eq!(found.as_deref(), error);
        }
    }

    #[test]
    fn texts_of_events_are_joined_and_objects_stand_alone() {
        let body =
            "event: x\ndata: \"Hel\"\n\ndata: \"lo é\"\r\n\r\ndata: {\"a\":1}\n\n: note\ndata: plain\n\n";
        check(Form::Events, false, body, "Hello é\n{\"a\":1}\nplain\n", None);
        check(Form::Events, true, body, "\"Hel\"\n\"lo é\"\n{\"a\":1}\nplain\n", None);
        check(Form::Events, false, "data: \"no end\"", "no end\n", None);
    }

    #[test]
    fn errors_of_agents_are_told_apart() {
        let body = "data: \"part\"\n\ndata: {\"error\":\"boom\",\"error_type\":\"E\"}\n\n";
        check(Form::Events, false, body, "part\n", Some("boom"));
        check(Form::Events, false, "data: {\"type\":\"RUN_ERROR\",\"message\":\"m\"}\n\n", "", Some("m"));
        let rpc = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32601,"message":"no such method"}}"#;
        let mut printer = Printer::new(Form::Json, true);
        printer.feed(rpc.as_bytes());
        assert_eq!(printer.end().1.as_deref(), Some("no such method"));
    }

    #[test]
    fn json_is_shown_as_people_read_it() {
        check(Form::Json, false, r#"{"result":"fine"}"#, "fine\n", None);
        check(Form::Json, false, r#""text""#, "text\n", None);
        check(Form::Json, false, r#"{"a":[1]}"#, "{\n  \"a\": [\n    1\n  ]\n}\n", None);
        check(Form::Json, false, "not json", "not json", None);
    }

    #[test]
    fn other_answers_pass_as_they_are() {
        assert_eq!(Form::of("text/event-stream; charset=utf-8", false), Form::Events);
        assert_eq!(Form::of("text/event-stream", true), Form::Bytes);
        assert_eq!(Form::of("application/problem+json", false), Form::Json);
        assert_eq!(Form::of("", false), Form::Bytes);
        check(Form::Bytes, false, "a\nb", "a\nb", None);
    }

    #[test]
    fn reports_have_one_value() {
        assert_eq!(value(Form::Events, b"\"a\"\n\"b\"\n"), Value::from("ab"));
        assert_eq!(value(Form::Events, b"\"a\"\n{\"b\":1}\n"), serde_json::json!(["a", {"b": 1}]));
        assert_eq!(value(Form::Json, b"{\"a\":1}"), serde_json::json!({"a": 1}));
        assert_eq!(value(Form::Bytes, b"x"), Value::from("x"));
    }
}
