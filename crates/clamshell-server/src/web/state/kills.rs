//! A process that is killed at any instruction, again and again, in front of an endpoint that goes on: what pages have
//! counted must be the program's output, once and whole.

use clamshell_domain::{SessionId, ShellId};
use clamshell_term::status::Status;

use super::{Connected, From, Next, State};
use crate::web::{
    joint::{Joined, Joint, REPLAY_BYTES},
    journal::Journals,
    state::CLEAR,
    typing::{Input, Took},
};

/// Small, because models of screens are slow in programs built for tests.
const SIZE: (u16, u16) = (20, 4);

/// Numbers that look random, the same for the same seed (splitmix64).
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % limit as u64).unwrap()
    }
}

/// The endpoint: a program that prints, and takes what is typed.
struct Endpoint {
    output: Vec<u8>,
    printed: usize,
    counts: bool,
    typed: Vec<u8>,
}

impl Endpoint {
    fn replay(&self) -> (Vec<u8>, Option<u64>) {
        let start = self.printed.saturating_sub(REPLAY_BYTES);
        (self.output[start..self.printed].to_vec(), self.counts.then_some(start as u64))
    }
}

/// A connection to it.
struct Line {
    joint: Option<Joint>,
    /// Sent by the endpoint, and not read.
    coming: Vec<u8>,
    seen: usize,
}

/// A page, which counts.
#[derive(Default)]
struct Page {
    id: Option<u64>,
    run: Option<u64>,
    offset: u64,
    shown: Vec<u8>,
    /// All that is typed here, how much of it is told to be passed on, and how much was sent in this connection.
    keys: Vec<u8>,
    sent: usize,
    notices: Vec<String>,
}

impl Page {
    fn attach(&mut self, state: &mut State) {
        let from = if self.run.is_some() { From::Offset(self.offset) } else { From::End };
        let (id, statuses, picture) = state.attach("s", from, true, Some("window"));
        assert!(picture.is_empty(), "nothing is painted: all is known");
        self.id = Some(id);
        for status in statuses {
            match status {
                Status::Confirmed { offset: Some(offset), .. } => {
                    if self.run.is_some() {
                        assert_eq!(offset, self.offset);
                    }
                    self.offset = offset;
                }
                Status::Run { offset, .. } => {
                    assert_eq!(*self.run.get_or_insert(offset), offset, "the program is the same");
                }
                Status::Typed { bytes, .. } => self.sent = usize::try_from(bytes).unwrap(),
                other => unreachable!("{other:?}"),
            }
        }
    }

    fn read(&mut self, state: &mut State, most: usize) {
        let Some(id) = self.id else { return };
        match state.next(id, most) {
            Next::Output(bytes) => {
                self.offset += bytes.len() as u64;
                self.shown.extend(bytes);
            }
            Next::Typed(_) | Next::Nothing => {}
            Next::Notice(text) => self.notices.push(text.into_owned()),
            other => unreachable!("{other:?}"),
        }
    }

    fn type_in(&mut self, state: &mut State, key: u8) {
        self.keys.push(key);
        let Some(id) = self.id else { return };
        let rest = self.keys[self.sent..].to_vec();
        self.sent = self.keys.len();
        assert_eq!(state.type_in(id, Input::Bytes(rest)), Took::Waits);
    }
}

struct Scene {
    random: Seeded,
    endpoint: Endpoint,
    journals: Journals,
    path: std::path::PathBuf,
    kills: usize,
}

impl Scene {
    /// A process: what the earlier one left, and a connection.
    fn start(&mut self) -> (State, Option<Line>) {
        let file = self.journals.read(&self.path);
        let known = State::restored(&file, self.journals.boot());
        assert!(known.is_some() || self.kills == 0, "what is there is believed");
        let mut state = known.unwrap_or_else(|| State::new(5000, SIZE));
        state.keep(&self.journals, self.path.clone()).unwrap();
        (state, None)
    }

    fn connect(&self, state: &mut State) -> Line {
        let (coming, offset) = self.endpoint.replay();
        let joint = match state.on_connected(Some(true), offset) {
            Connected::Goes => None,
            Connected::Joins(joint) | Connected::Unsure(joint) => Some(joint),
        };
        Line { joint, coming, seen: self.endpoint.printed }
    }

    fn print(&mut self, state: &State, line: &mut Option<Line>, most: usize) {
        let heard = usize::try_from(state.range().1 - state.run_start()).unwrap();
        if self.endpoint.printed - heard > REPLAY_BYTES / 2 {
            // More would not all be replayed.
            return;
        }
        let end = (self.endpoint.printed + 1 + self.random.below(most)).min(self.endpoint.output.len());
        self.endpoint.printed = end;
        if let Some(line) = line {
            line.coming.extend_from_slice(&self.endpoint.output[line.seen..end]);
            line.seen = end;
        }
    }

    fn take(state: &mut State, line: &mut Line, count: usize) {
        let bytes: Vec<u8> = line.coming.drain(..count).collect();
        let joined = match &mut line.joint {
            None => return state.on_output(&bytes),
            Some(joint) if bytes.is_empty() => joint.on_quiet(),
            Some(joint) => joint.on_output(&bytes),
        };
        match joined {
            Joined::Waiting => return,
            Joined::Continues { bytes, doubtful } => {
                assert!(!doubtful);
                state.on_output(&bytes);
            }
            Joined::Afresh { .. } => unreachable!("all that was missed is replayed"),
        }
        line.joint = None;
    }

    /// Kills the process. The write that it was in may have been cut anywhere.
    fn kill(&mut self, state: State) {
        drop(state);
        self.kills += 1;
        if self.random.below(2) == 0 {
            let mut file = std::fs::OpenOptions::new().append(true).open(&self.path).unwrap();
            let half = [&[4, 200, 0, 0, 0][..], b"half a record"].concat();
            let cut = self.random.below(half.len());
            std::io::Write::write_all(&mut file, &half[..cut]).unwrap();
        }
    }
}

fn run(seed: u64, length: usize, counts: bool) -> usize {
    let folder = tempfile::tempdir().unwrap();
    let journals = Journals::open(folder.path().to_owned(), &[]).unwrap().with_behind_max(length as u64 / 4);
    let key = (SessionId::parse("s".repeat(33)).unwrap(), ShellId::parse("shell").unwrap());
    let path = journals.path(&key.0, &key.1);
    let mut random = Seeded(seed);
    let mut output = Vec::new();
    while output.len() < length {
        let number = output.len();
        output.extend(format!("\x1b[3{}m{number} {}\r\n", number % 8, random.below(1000)).bytes());
    }
    let endpoint = Endpoint { output, printed: 0, counts, typed: Vec::new() };
    let mut scene = Scene { random, endpoint, journals, path, kills: 0 };
    let mut page = Page::default();
    let (mut state, mut line) = scene.start();
    page.attach(&mut state);
    while page.shown.len() < scene.endpoint.output.len() || page.keys.len() < 30 {
        let dice = scene.random.below(100);
        match dice {
            0..30 => scene.print(&state, &mut line, length / 60),
            30..60 => {
                if let Some(line) = &mut line {
                    // A replay is over when nothing comes any more.
                    let count = line.coming.len().min(1 + scene.random.below(length / 30));
                    if count > 0 || line.joint.is_some() {
                        Scene::take(&mut state, line, count);
                    }
                } else {
                    line = Some(scene.connect(&mut state));
                }
            }
            60..85 => page.read(&mut state, 1 + scene.random.below(length / 20)),
            85..92 => {
                let key = b'a' + u8::try_from(scene.random.below(26)).unwrap();
                page.type_in(&mut state, key);
                if line.is_some()
                    && let Some(Input::Bytes(bytes)) = state.take_input()
                {
                    scene.endpoint.typed.extend(bytes);
                    state.on_passed();
                }
            }
            92..94 => {
                line = None;
                state.on_connecting(1);
            }
            94..97 => {
                if let Some(id) = page.id.take() {
                    state.detach(id);
                }
                page.attach(&mut state);
            }
            _ => {
                scene.kill(state);
                (state, line) = scene.start();
                page.id = None;
                page.attach(&mut state);
            }
        }
    }
    // What still waits.
    page.type_in(&mut state, b'.');
    while let Some(input) = state.take_input() {
        let Input::Bytes(bytes) = input else { unreachable!("{input:?}") };
        scene.endpoint.typed.extend(bytes);
        state.on_passed();
    }
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(page.shown == scene.endpoint.output, "seed {seed}: the output differs");
    assert_eq!(text(&scene.endpoint.typed), text(&page.keys), "seed {seed}");
    assert_eq!(page.notices, Vec::<String>::new());
    // And whoever comes now is painted what the output looks like.
    let mut never_killed = State::new(0, SIZE);
    never_killed.on_output(&scene.endpoint.output);
    assert_eq!(text(&state.picture(0)), text(&never_killed.picture(0)), "seed {seed}");
    scene.kills
}

#[test]
fn no_byte_is_lost_or_doubled_in_100_lives() {
    let kills: usize = (0..12).map(|seed| run(seed, 3000, seed % 3 == 0)).sum();
    assert!(kills >= 100, "{kills}");
}

#[test]
fn output_that_is_longer_than_a_replay_is_joined_as_well() {
    let kills: usize = (0..2).map(|seed| run(1000 + seed, 400_000, seed % 2 == 0)).sum();
    assert!(kills > 5, "{kills}");
}

#[test]
fn what_cannot_be_joined_is_marked_and_counted_on() {
    let folder = tempfile::tempdir().unwrap();
    let journals = Journals::open(folder.path().to_owned(), &[]).unwrap();
    let path = folder.path().join("a.shell");
    let mut state = State::new(5000, SIZE);
    state.keep(&journals, path.clone()).unwrap();
    assert!(matches!(state.on_connected(Some(false), Some(70)), Connected::Goes));
    state.on_output(b"before");
    drop(state);
    let mut state = State::restored(&journals.read(&path), journals.boot()).unwrap();
    state.keep(&journals, path.clone()).unwrap();
    assert_eq!((state.run_start(), state.range().1), (5000, 5006));
    let Connected::Joins(mut joint) = state.on_connected(Some(true), Some(100)) else { unreachable!() };
    let Joined::Afresh { bytes, missed } = joint.on_output(b"after") else { unreachable!() };
    assert_eq!(missed, Some(24));
    state.on_output_afresh(&bytes, missed);
    let (id, ..) = state.attach("s", From::Offset(5006), true, None);
    let Next::Output(shown) = state.next(id, 1000) else { unreachable!() };
    let shown = String::from_utf8(shown).unwrap();
    assert!(shown.starts_with(str::from_utf8(CLEAR).unwrap()) && shown.ends_with("after"), "{shown:?}");
    assert!(shown.contains("[24 bytes of output before this may be missing]"), "{shown:?}");
    // The next process knows where it is.
    drop(state);
    let mut state = State::restored(&journals.read(&path), journals.boot()).unwrap();
    let Connected::Joins(mut joint) = state.on_connected(Some(true), Some(100)) else { unreachable!() };
    let goes_on = Joined::Continues { bytes: b"!".to_vec(), doubtful: false };
    assert_eq!(joint.on_output(b"after!"), goes_on);
}

#[test]
fn input_on_its_way_at_a_kill_is_told_of_and_not_sent_twice() {
    let folder = tempfile::tempdir().unwrap();
    let journals = Journals::open(folder.path().to_owned(), &[]).unwrap();
    let path = folder.path().join("a.shell");
    let mut state = State::new(5000, SIZE);
    state.keep(&journals, path.clone()).unwrap();
    let mut page = Page::default();
    page.attach(&mut state);
    page.type_in(&mut state, b'x');
    assert!(state.take_input().is_some());
    drop(state);
    let mut state = State::restored(&journals.read(&path), journals.boot()).unwrap();
    page.attach(&mut state);
    page.read(&mut state, 1);
    assert_eq!((page.sent, page.notices.len()), (1, 1), "{:?}", page.notices);
}

#[test]
fn another_boot_or_another_file_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let journals = Journals::open(folder.path().to_owned(), &[]).unwrap();
    let path = folder.path().join("a.shell");
    let mut state = State::new(5000, SIZE);
    state.keep(&journals, path.clone()).unwrap();
    state.on_output(b"hello");
    let file = journals.read(&path);
    assert!(State::restored(&file, journals.boot()).is_some());
    assert!(State::restored(&file, "another boot").is_none());
    assert!(State::restored(b"something else", journals.boot()).is_none());
    assert!(State::restored(b"", journals.boot()).is_none());
}
