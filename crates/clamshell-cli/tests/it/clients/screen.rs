//! The picture that somebody who attaches gets, against xterm.js: the same terminal once shown every byte, once
//! only the picture, must look and go on alike.
//!
//! A picture is compared twice: at once, and after both terminals have got the rest of the stream, which shows
//! whether all that the rest relies on was carried over. The client's terminal is sometimes a fresh one and
//! sometimes one that another program has left in disorder.

mod programs;
mod streams;

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    path::Path,
    process::Command,
};

use clamshell_term::screen::LazyScreen;
use clamshell_testkit::{real_clients, skip};
use serde_json::{Value, json};

use super::harness::script_path;

/// Most bytes of a picture: far above what these screens need.
const PICTURE_BYTES_MAX: usize = 1 << 20;

/// What a terminal may be left with by a program that was killed. A title is not among it: a picture has none when
/// no program has set one, and the user's own stays. Nor is a
/// cursor saved on the alternate screen: nobody restores one that was not saved there, and it stays, too.
const DISORDER: &[u8] = b"old text\x1b[3;9r\x1b[?6h\x1b7\x1b[?1049holder\x1b[2;5r\x1b[?6h\x1b(0\x0e\
    \x1b[1;31;44m\x1b[4h\x1b[?25l\x1b[?7l\x1b[?1h\x1b=\x1b[?2004h\x1b[?1003h\x1b[?1006h\x1b[?1004h\x1b[4 q\x1b[3g";

/// Something that happens to a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Size(u16, u16),
    Output(Vec<u8>),
}

/// A moment of a stream: so many whole steps and so many bytes of the next one.
type Moment = (usize, usize);

/// Everything that happened to a terminal; the first step is its size.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Recording(Vec<Step>);

impl Recording {
    /// What came before a moment and what after it.
    fn split(&self, (whole, bytes): Moment) -> (Vec<Step>, Vec<Step>) {
        let (mut live, mut rest) = (self.0[..whole].to_vec(), self.0[whole..].to_vec());
        if bytes > 0
            && let Some(Step::Output(output)) = rest.first_mut()
        {
            live.push(Step::Output(output[..bytes].to_vec()));
            output.drain(..bytes);
        }
        (live, rest)
    }

    /// About `count` moments, spread over the bytes, and one after each new size; the last one is the end.
    fn moments(&self, count: usize) -> Vec<Moment> {
        let mut all: Vec<Moment> = Vec::new();
        for (at, step) in self.0.iter().enumerate().skip(1) {
            match step {
                Step::Size(..) => all.push((at + 1, 0)),
                Step::Output(output) => all.extend((1..=output.len()).map(|bytes| (at, bytes))),
            }
        }
        let apart = all.len().div_ceil(count).max(1);
        let spread: BTreeSet<Moment> = all.iter().rev().step_by(apart).copied().collect();
        all.into_iter().filter(|moment| moment.1 == 0 || spread.contains(moment)).collect()
    }

    /// The moment at which so many bytes and so many sizes beyond the first had come.
    fn moment(&self, offset: usize, sizes: usize) -> Moment {
        let (mut bytes, mut resized) = (0, 0);
        for (at, step) in self.0.iter().enumerate().skip(1) {
            match step {
                Step::Size(..) if resized == sizes => return (at, 0),
                Step::Size(..) => resized += 1,
                Step::Output(output) if bytes + output.len() > offset => return (at, offset - bytes),
                Step::Output(output) => bytes += output.len(),
            }
        }
        (self.0.len(), 0)
    }
}

/// A picture and the stream that it stands for.
#[derive(Debug)]
struct Case {
    live: Vec<Step>,
    picture: Vec<u8>,
    rest: Vec<Step>,
    is_fresh: bool,
}

impl Case {
    /// The picture that the model paints at a moment.
    fn painted(recording: &Recording, moment: Moment, is_fresh: bool) -> Self {
        let (live, rest) = recording.split(moment);
        let (mut screen, mut log) = (LazyScreen::new(0, 80, 24), Vec::new());
        for step in &live {
            match step {
                Step::Size(cols, rows) => screen.resize_at(log.len() as u64, *cols, *rows),
                Step::Output(output) => log.extend_from_slice(output),
            }
            while screen.offset() < log.len() as u64 {
                let read = |offset, buffer: &mut [u8]| {
                    let from = &log[usize::try_from(offset).unwrap()..];
                    let count = from.len().min(buffer.len());
                    buffer[..count].copy_from_slice(&from[..count]);
                    Ok(count)
                };
                screen.catch_up(log.len() as u64, read).unwrap();
            }
        }
        Self { live, picture: screen.dump(PICTURE_BYTES_MAX), rest, is_fresh }
    }

    fn json(&self) -> Value {
        let last = |step: &Step| match step {
            Step::Size(cols, rows) => Some((*cols, *rows)),
            Step::Output(_) => None,
        };
        json!({
            "live": steps(&self.live),
            "picture": text(&self.picture),
            "rest": steps(&self.rest),
            "at": self.live.iter().rev().find_map(last).unwrap(),
            "before": if self.is_fresh { String::new() } else { text(DISORDER) },
        })
    }
}

fn steps(steps: &[Step]) -> Vec<Value> {
    let json = |step: &Step| match step {
        Step::Size(cols, rows) => json!([cols, rows]),
        Step::Output(output) => text(output).into(),
    };
    steps.iter().map(json).collect()
}

/// Bytes as JSON can carry them: a character for each.
fn text(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

/// Kinds of differences, each with where it was seen.
type Differences = BTreeMap<String, Vec<String>>;

/// The folder of xterm.js, or `None` with the reason printed.
fn xterm() -> Option<std::path::PathBuf> {
    let folder = real_clients()?.join("xterm");
    if !folder.join("node_modules").exists() {
        return skip("xterm.js is not installed (run scripts/install-test-clients)");
    }
    Some(folder)
}

/// Shows all cases to xterm.js; the differences of each group of cases.
fn compare(xterm: &Path, cases: &[(&str, Case)]) -> BTreeMap<String, Differences> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    let all: Vec<Value> = cases.iter().map(|(_, case)| case.json()).collect();
    file.write_all(Value::from(all).to_string().as_bytes()).unwrap();
    let script = script_path("xterm_screen.mjs");
    let output = Command::new("node").arg(script).arg(file.path()).env("XTERM", xterm).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let answers: Vec<Differences> = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answers.len(), cases.len());
    let mut groups: BTreeMap<String, Differences> = BTreeMap::new();
    for ((name, case), answer) in cases.iter().zip(answers) {
        let group = groups.entry((*name).to_owned()).or_default();
        for (kind, places) in answer {
            let bytes: usize = case.live.iter().map(Step::bytes).sum();
            let terminal = if case.is_fresh { "fresh" } else { "used" };
            let place = format!("picture after {bytes} bytes, {terminal} terminal: {}", places.join("; "));
            group.entry(kind).or_default().push(place);
        }
    }
    groups
}

impl Step {
    fn bytes(&self) -> usize {
        match self {
            Self::Size(..) => 0,
            Self::Output(output) => output.len(),
        }
    }
}

/// A difference that is accepted: group, kind and why.
type Known = (&'static str, &'static str, &'static str);

/// Fails on every difference that is not known, and on every known one that is no longer there.
fn check(found: &BTreeMap<String, Differences>, known: &[Known]) {
    let mut report = String::new();
    for (group, differences) in found {
        for (kind, places) in differences {
            if !known.iter().any(|(its_group, its_kind, _)| its_group == group && its_kind == kind) {
                let shown: Vec<&str> = places.iter().take(3).map(String::as_str).collect();
                report.push_str(&format!("{group}: {kind} ({}): {}\n", places.len(), shown.join("\n      ")));
            }
        }
    }
    let seen: BTreeSet<(&str, &str)> = found
        .iter()
        .flat_map(|(group, kinds)| kinds.keys().map(move |kind| (group.as_str(), kind.as_str())))
        .collect();
    for (group, kind, reason) in known {
        if !seen.contains(&(*group, *kind)) {
            report.push_str(&format!(
                "{group}: {kind} no longer differs, so strike it from the list ({reason})\n"
            ));
        }
    }
    assert!(report.is_empty(), "\n{report}");
}

#[test]
fn recordings_are_split_at_any_moment() {
    let out = |text: &str| Step::Output(text.as_bytes().to_vec());
    let recording = Recording(vec![Step::Size(80, 24), out("abc"), Step::Size(40, 10), out("de")]);
    let check = |moment, live: &[Step], rest: &[Step]| {
        assert_eq!(recording.split(moment), (live.to_vec(), rest.to_vec()), "{moment:?}");
    };
    let all = &recording.0;
    check(recording.moment(2, 0), &[all[0].clone(), out("ab")], &[out("c"), all[2].clone(), all[3].clone()]);
    check(recording.moment(3, 0), &all[..2], &all[2..]);
    check(recording.moment(3, 1), &all[..3], &all[3..]);
    check(recording.moment(5, 1), all, &[]);
    assert_eq!(recording.moments(100), [(1, 1), (1, 2), (1, 3), (3, 0), (3, 1), (3, 2)]);
    assert_eq!(recording.moments(2), [(1, 3), (3, 0), (3, 2)]);
}
