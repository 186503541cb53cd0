//! Results on stdout: one JSON object, or a table.

use std::io::{IsTerminal, Write};

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;

use crate::client::printable;

/// Prints one JSON object on one line. A closed stdout is nobody's error.
pub(crate) fn print_json(value: &impl serde::Serialize) {
    if let Ok(mut text) = serde_json::to_string(value) {
        text.push('\n');
        print_text(&text);
    }
}

/// Says that something was done: with JSON by what there is now.
pub(crate) fn print_done(json: bool, value: &Value, sentence: &str) {
    if json {
        print_json(value);
    } else {
        eprintln!("{sentence}");
    }
}

/// Prints text as it is. A closed stdout is nobody's error.
pub(crate) fn print_text(text: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
}

/// A word as a shell reads it: in quotes for sh and fish alike, and without where nothing needs them.
pub(crate) fn quote(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./:@%+=,".contains(&byte);
    if !text.is_empty() && text.bytes().all(plain) {
        return text.to_owned();
    }
    // Fish reads \' inside quotes, sh does not; leaving the quotes works in both.
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// Prints a table: with lines on a terminal, columns of text elsewhere.
pub(crate) fn print_table(columns: &[&str], rows: Vec<Vec<String>>) {
    let terminal = std::io::stdout().is_terminal();
    print_text(&table(columns, rows, terminal));
}

/// Prints names and values, one pair a line, without the empty ones.
pub(crate) fn print_fields(fields: &[(&str, String)]) {
    print_text(&field_lines(fields));
}

fn field_lines(fields: &[(&str, String)]) -> String {
    let width = fields.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    fields
        .iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| format!("{:<width$}  {value}\n", format!("{name}:"), width = width + 1))
        .collect()
}

fn table(columns: &[&str], rows: Vec<Vec<String>>, terminal: bool) -> String {
    let mut table = Table::new();
    // Ids are never cut or wrapped: people copy them.
    table.set_content_arrangement(ContentArrangement::Disabled);
    table.load_style(if terminal { presets::UTF8_HORIZONTAL_ONLY } else { presets::NOTHING });
    table.set_header(columns.iter().map(|column| column.to_uppercase()).collect::<Vec<_>>());
    for row in rows {
        table.add_row(row);
    }
    table.lines().map(|line| format!("{}\n", if terminal { &line } else { line.trim() })).collect()
}

/// A member as text; empty when absent or null.
pub(crate) fn text(value: &Value, member: &str) -> String {
    match &value[member] {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// A time without its fraction of a second, as tables have it.
pub(crate) fn time(value: &Value, member: &str) -> String {
    let text = text(value, member);
    match text.split_once('.') {
        Some((seconds, rest)) if rest.ends_with('Z') => format!("{seconds}Z"),
        _ => text,
    }
}

/// An entry of a log, for people.
pub(crate) fn log_line(entry: &Value) -> String {
    // What an agent prints may hold escape sequences: they are not for this terminal.
    let message = text(entry, "message");
    let message: String =
        message.trim_end().chars().map(|c| if c.is_control() && c != '\n' { ' ' } else { c }).collect();
    let message = message.replace('\n', "\n    ");
    let note = if entry["source"] == "platform" { "[platform] " } else { "" };
    format!("{}  {note}{message}\n", printable(&text(entry, "timestamp")))
}

/// Prints the end of a log beside a failure.
pub(crate) fn print_log_end(entries: &[Value]) {
    for entry in entries {
        eprint!("  {}", log_line(entry));
    }
}

/// A number of bytes for people.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut unit = 0;
    let mut whole = count;
    let mut tenths = 0;
    while whole >= 1024 && unit + 1 < UNITS.len() {
        tenths = (whole % 1024) * 10 / 1024;
        whole /= 1024;
        unit += 1;
    }
    if unit == 0 { format!("{whole} B") } else { format!("{whole}.{tenths} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_plain_text_without_a_terminal() {
        let text = table(&["a", "id"], vec![vec!["1".into(), "x y".into()]], false);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines, vec![vec!["A", "ID"], vec!["1", "x", "y"]]);
    }

    #[test]
    fn fields_line_up_and_skip_the_empty() {
        let fields = [("id", "7".to_owned()), ("gone", String::new()), ("state", "Active".to_owned())];
        assert_eq!(field_lines(&fields), "id:     7\nstate:  Active\n");
    }

    #[test]
    fn counts_of_bytes_are_short() {
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(3 << 30), "3.0 GiB");
    }

    #[test]
    fn times_lose_their_fraction() {
        let value = serde_json::json!({"at": "2026-01-02T03:04:05.678Z", "other": null});
        assert_eq!(time(&value, "at"), "2026-01-02T03:04:05Z");
        assert_eq!(time(&value, "other"), "");
    }
}
