//! What is known of one shell that runs at the upstream: its newest output, its screen, the pages that show it. Sans-I/O.
//!
//! Offsets are of this process: they begin at a number that no earlier process has used for the shell, so a page that
//! comes back with an older one is painted anew and is never given bytes that it did not count.

use std::collections::HashMap;

use clamshell_term::{
    answers::{Answers, Turn},
    screen::{ScreenModel, ShpoolScreen},
    status::Status,
};

use super::{
    joint::{Joint, REPLAY_BYTES},
    ring::{Piece, Ring},
};

/// Output kept for pages that fall behind or come back.
const RING_BYTES: usize = 4 << 20;

/// How far the slowest writer may be behind before nothing more is read from the upstream.
const LEAD_BYTES_MAX: u64 = 1 << 20;

/// A picture of the screen with its scrollback; what is longer is left to the replay of the newest output.
const PICTURE_BYTES_MAX: usize = 1 << 20;

/// Cleared before output that does not join on: terminal reset, and its scrollback.
const CLEAR: &[u8] = b"\x1bc\x1b[3J";

/// What people are told of the upstream.
const AWAY: &str = "The endpoint cannot be reached. What is typed waits for it.";
const BACK: &str = "The endpoint is reached again.";

/// Sizes a page may ask for: as the guest's.
const CELLS_MAX: u16 = 1000;

/// How the shell came to its end, for this server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// The program ended.
    Exited {
        /// Its exit code.
        code: i32,
        /// The signal that ended it.
        signal: Option<i32>,
    },
    /// Another client of the upstream has it now.
    Replaced,
    /// It goes on at the upstream, without this process: nobody was there, or the process ends.
    Detached,
    /// The upstream gave up on it, or could not be reached for too long.
    Failed {
        /// For people.
        message: String,
    },
}

/// Connection to the upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Link {
    /// Not confirmed yet; this attempt in a row.
    Connecting(u32),
    /// Confirmed.
    Live,
}

/// One page.
#[derive(Debug)]
struct Page {
    cursor: u64,
    writes: bool,
    /// It has taken nothing for a while.
    lags: bool,
    size: (u16, u16),
    /// It was told that the upstream cannot be reached.
    told_away: bool,
}

/// Where a page begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum From {
    /// With a picture of the screen.
    Screen,
    /// Behind the bytes that it has.
    Offset(u64),
    /// With what comes next.
    End,
}

/// What a page is sent next.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Output.
    Output(Vec<u8>),
    /// Output in between is gone.
    Gap(u64, u64),
    /// Another page changed the size.
    Resized(u16, u16),
    /// Whether this page answers what the program asks the terminal, from the next byte of output on.
    Answers(bool),
    /// The upstream cannot be reached, or is reached again: for people.
    Notice(&'static str),
    /// A newer program runs under this name: the page has to begin again.
    Anew,
    /// It has all there is, and no more will come.
    Ended(End),
    /// It has all there is.
    Nothing,
}

/// State of one shell.
pub(super) struct State {
    ring: Ring,
    screen: ShpoolScreen,
    size: (u16, u16),
    /// Offset of the first byte of the program that runs now.
    run_start: u64,
    link: Link,
    end: Option<End>,
    pages: HashMap<u64, Page>,
    next_page: u64,
    /// Which of the writers answers what the program asks the terminal.
    answers: Answers,
}

impl State {
    /// A shell that was not reached yet; its output begins at `start`.
    pub(super) fn new(start: u64, size: (u16, u16)) -> Self {
        Self {
            ring: Ring::new(start, RING_BYTES),
            screen: ShpoolScreen::new(size.0, size.1),
            size,
            run_start: start,
            link: Link::Connecting(1),
            end: None,
            pages: HashMap::new(),
            next_page: 0,
            answers: Answers::new(),
        }
    }

    pub(super) fn link(&self) -> Link {
        self.link
    }

    pub(super) fn end(&self) -> Option<&End> {
        self.end.as_ref()
    }

    pub(super) fn size(&self) -> (u16, u16) {
        self.size
    }

    /// Offset of the first byte of the program that runs now.
    pub(super) fn run_start(&self) -> u64 {
        self.run_start
    }

    /// Offset of the oldest byte kept, and of the next one.
    pub(super) fn range(&self) -> (u64, u64) {
        (self.ring.start(), self.ring.end())
    }

    /// Pages that write, and those that watch.
    pub(super) fn attached(&self) -> (usize, usize) {
        let writers = self.pages.values().filter(|page| page.writes).count();
        (writers, self.pages.len() - writers)
    }

    /// The attempt to connect has this number.
    pub(super) fn on_connecting(&mut self, attempt: u32) {
        self.link = Link::Connecting(attempt);
    }

    /// The upstream confirmed. Gives what joins its replay to the output that is here; `None` when nothing is.
    pub(super) fn on_connected(&mut self, same_program: bool) -> Option<Joint> {
        self.link = Link::Live;
        let known = self.ring.end() - self.run_start;
        if known == 0 {
            return None;
        }
        if !same_program {
            self.begin_anew();
            return None;
        }
        let tail = self.ring.tail(self.run_start, REPLAY_BYTES);
        let whole = tail.len() as u64 == known;
        Some(Joint::new(tail, whole))
    }

    /// Output of the program.
    pub(super) fn on_output(&mut self, bytes: &[u8]) {
        self.ring.push(bytes);
        self.screen.process(bytes);
    }

    /// Output that does not join on to what is here: it is all there is to show now.
    pub(super) fn on_output_afresh(&mut self, bytes: &[u8]) {
        self.on_output(CLEAR);
        self.on_output(bytes);
    }

    /// No more will come. The first end counts.
    pub(super) fn on_end(&mut self, end: End) {
        self.end.get_or_insert(end);
    }

    /// Another program runs under the same name.
    fn begin_anew(&mut self) {
        self.ring.push(CLEAR);
        self.screen = ShpoolScreen::new(self.size.0, self.size.1);
        self.run_start = self.ring.end();
    }

    /// Whether there is room for more output: the writers have kept up. One that takes nothing holds the others no longer,
    /// as a laptop that sleeps with a page open; alone it does, and then nothing is lost.
    pub(super) fn has_room(&self) -> bool {
        let slowest_of = |lags: bool| {
            let writers = self.pages.values().filter(move |page| page.writes && page.lags == lags);
            writers.map(|page| page.cursor).min()
        };
        let slowest = slowest_of(false).or_else(|| slowest_of(true));
        slowest.is_none_or(|cursor| self.ring.end().saturating_sub(cursor) < LEAD_BYTES_MAX)
    }

    /// A page comes. Gives its number, the confirmation and what is said and painted before the output.
    pub(super) fn attach(&mut self, shell_id: &str, from: From, writes: bool) -> (u64, Vec<Status>, Vec<u8>) {
        let (start, end) = self.range();
        let (cursor, picture) = match from {
            From::Offset(offset) if (self.run_start..=end).contains(&offset) => (offset, None),
            From::End => (end, None),
            From::Offset(_) | From::Screen => (end, Some(self.picture(start))),
        };
        let id = self.next_page;
        self.next_page += 1;
        self.pages.insert(id, Page { cursor, writes, lags: false, size: self.size, told_away: false });
        let shell_id = shell_id.to_owned();
        let mut statuses = vec![
            Status::Confirmed {
                shell_id: shell_id.clone(),
                reconnected: end > self.run_start,
                bytes_dropped: None,
                offset: Some(cursor),
            },
            Status::Run {
                shell_id: shell_id.clone(),
                offset: self.run_start,
                end,
                cols: self.size.0,
                rows: self.size.1,
            },
        ];
        if let Some(picture) = &picture {
            statuses.push(Status::Screen { shell_id, offset: cursor, bytes: picture.len() as u64 });
        }
        (id, statuses, picture.unwrap_or_default())
    }

    /// A page that writes answers what the program asks: only while it is told to, or whatever it is told.
    pub(super) fn join_answers(&mut self, id: u64, when_told: bool) {
        self.answers.join(id, when_told, self.ring.end(), |id| position(&self.pages, id));
    }

    /// A page sent input.
    pub(super) fn on_typed(&mut self, id: u64) {
        self.answers.typed(id, |id| position(&self.pages, id));
    }

    fn picture(&self, start: u64) -> Vec<u8> {
        self.screen.dump(PICTURE_BYTES_MAX).unwrap_or_else(|| self.ring.tail(start, REPLAY_BYTES))
    }

    /// What a page is sent next; its cursor moves on.
    pub(super) fn next(&mut self, id: u64, bytes_max: usize) -> Next {
        let (size, run_start) = (self.size, self.run_start);
        let Some(page) = self.pages.get_mut(&id) else { return Next::Anew };
        if page.cursor < run_start {
            return Next::Anew;
        }
        if page.size != size {
            page.size = size;
            return Next::Resized(size.0, size.1);
        }
        // The first attempt to connect again is not worth a word.
        let away = matches!(self.link, Link::Connecting(2..));
        if page.told_away != away && (away || self.link == Link::Live) {
            page.told_away = away;
            return Next::Notice(if away { AWAY } else { BACK });
        }
        let bytes_max = match self.answers.next(id, page.cursor) {
            Turn::News(answers) => return Next::Answers(answers),
            Turn::Until(until) => usize::try_from(until - page.cursor).map_or(bytes_max, |n| n.min(bytes_max)),
            Turn::Output => bytes_max,
        };
        match self.ring.read(page.cursor, bytes_max) {
            Piece::Gone(to) => {
                let from = std::mem::replace(&mut page.cursor, to);
                Next::Gap(from, to)
            }
            Piece::Bytes(bytes) if bytes.is_empty() => match &self.end {
                Some(end) => Next::Ended(end.clone()),
                None => Next::Nothing,
            },
            Piece::Bytes(bytes) => {
                page.cursor += bytes.len() as u64;
                Next::Output(bytes)
            }
        }
    }

    /// A page asks for a size; `true` when it is another one.
    pub(super) fn resize(&mut self, id: u64, cols: u16, rows: u16) -> bool {
        let size = (cols.clamp(1, CELLS_MAX), rows.clamp(1, CELLS_MAX));
        if let Some(page) = self.pages.get_mut(&id) {
            page.size = size;
        }
        if self.size == size {
            return false;
        }
        self.size = size;
        self.screen.resize(size.0, size.1);
        true
    }

    /// A page takes nothing any more, or takes output again.
    pub(super) fn set_lags(&mut self, id: u64, lags: bool) {
        if let Some(page) = self.pages.get_mut(&id) {
            page.lags = lags;
        }
    }

    /// A page goes.
    pub(super) fn detach(&mut self, id: u64) {
        if let Some(page) = self.pages.remove(&id) {
            self.answers.leave(id, page.cursor, |id| position(&self.pages, id));
        }
    }

    /// All other writers go: this page takes the shell over. Gives their numbers.
    pub(super) fn others(&self, id: u64) -> Vec<u64> {
        self.pages
            .iter()
            .filter(|(other, page)| **other != id && page.writes)
            .map(|(other, _)| *other)
            .collect()
    }
}

fn position(pages: &HashMap<u64, Page>, id: u64) -> u64 {
    pages.get(&id).map_or(0, |page| page.cursor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::joint::Joined;

    fn state() -> State {
        let mut state = State::new(1000, (80, 24));
        assert!(state.on_connected(true).is_none());
        state
    }

    fn all(state: &mut State, id: u64) -> Vec<Next> {
        let mut seen = Vec::new();
        loop {
            match state.next(id, 4) {
                Next::Nothing => return seen,
                next => {
                    let over = matches!(next, Next::Anew | Next::Ended(_));
                    seen.push(next);
                    if over {
                        return seen;
                    }
                }
            }
        }
    }

    #[test]
    fn a_page_comes_back_to_the_byte() {
        let mut state = state();
        state.on_output(b"hello world");
        let (id, statuses, picture) = state.attach("s", From::Offset(1006), true);
        assert_eq!(picture, b"");
        assert!(matches!(statuses[0], Status::Confirmed { reconnected: true, offset: Some(1006), .. }));
        let output = |text: &str| Next::Output(text.as_bytes().to_vec());
        assert_eq!(all(&mut state, id), [output("worl"), output("d")]);
        state.on_end(End::Exited { code: 3, signal: None });
        assert_eq!(all(&mut state, id), [Next::Ended(End::Exited { code: 3, signal: None })]);
    }

    #[test]
    fn an_offset_of_another_process_is_painted() {
        let mut state = state();
        state.on_output(b"hello");
        for offset in [0, 999, 1006, u64::MAX] {
            let (_, statuses, picture) = state.attach("s", From::Offset(offset), false);
            assert!(String::from_utf8_lossy(&picture).contains("hello"), "{offset}");
            let bytes = picture.len() as u64;
            assert_eq!(statuses[2], Status::Screen { shell_id: "s".to_owned(), offset: 1005, bytes });
        }
    }

    #[test]
    fn what_a_slow_watcher_missed_is_told_and_a_slow_writer_holds_the_rest_back() {
        let mut state = state();
        let (watcher, ..) = state.attach("s", From::End, false);
        let big = vec![b'x'; RING_BYTES];
        state.on_output(&big);
        state.on_output(b"tail");
        assert!(state.has_room());
        assert_eq!(state.next(watcher, 1), Next::Gap(1000, 1004));
        let (writer, ..) = state.attach("s", From::End, true);
        state.on_output(&big[..usize::try_from(LEAD_BYTES_MAX).unwrap()]);
        assert!(!state.has_room());
        assert!(matches!(state.next(writer, 1), Next::Output(_)));
        assert!(state.has_room());
        state.detach(writer);
        assert_eq!(state.attached(), (0, 1));
    }

    #[test]
    fn a_page_that_takes_nothing_holds_itself_alone() {
        let mut state = state();
        let (asleep, ..) = state.attach("s", From::End, true);
        let big = vec![b'x'; usize::try_from(LEAD_BYTES_MAX).unwrap()];
        state.on_output(&big);
        state.set_lags(asleep, true);
        assert!(!state.has_room(), "nobody else is there who could want more");
        let (awake, ..) = state.attach("s", From::End, true);
        assert!(state.has_room());
        state.on_output(&big);
        assert!(!state.has_room(), "the other one still counts");
        assert!(matches!(state.next(awake, 2 * big.len()), Next::Output(_)));
        assert!(state.has_room());
        state.set_lags(asleep, false);
        assert!(!state.has_room());
    }

    #[test]
    fn another_program_under_the_same_name_is_told() {
        let mut state = state();
        state.on_output(b"first");
        let (id, ..) = state.attach("s", From::End, true);
        assert!(state.on_connected(false).is_none());
        state.on_output(b"second");
        assert_eq!(all(&mut state, id), [Next::Anew]);
        let (_, _, picture) = state.attach("s", From::Screen, true);
        let picture = String::from_utf8_lossy(&picture).into_owned();
        assert!(picture.contains("second") && !picture.contains("first"), "{picture:?}");
    }

    #[test]
    fn a_replay_is_joined() {
        let mut state = state();
        state.on_output(b"$ make\n");
        let mut joint = state.on_connected(true).expect("there is output to join");
        assert_eq!(joint.on_output(b"$ make\nok\n"), Joined::Continues(b"ok\n".to_vec()));
    }

    #[test]
    fn people_are_told_when_the_upstream_is_away_for_longer() {
        let mut state = state();
        let (id, ..) = state.attach("s", From::End, true);
        state.on_connecting(1);
        assert_eq!(all(&mut state, id), []);
        state.on_connecting(2);
        assert_eq!(all(&mut state, id), [Next::Notice(AWAY)]);
        // Whoever comes meanwhile is told as well, and everybody once.
        let (late, ..) = state.attach("s", From::End, false);
        state.on_connecting(3);
        assert_eq!((all(&mut state, late), all(&mut state, id)), (vec![Next::Notice(AWAY)], vec![]));
        state.on_connecting(1);
        assert_eq!(all(&mut state, id), []);
        assert!(state.on_connected(true).is_none());
        assert_eq!(all(&mut state, id), [Next::Notice(BACK)]);
        assert_eq!(all(&mut state, id), []);
    }

    #[test]
    fn sizes_are_told_to_the_others() {
        let mut state = state();
        let (first, ..) = state.attach("s", From::End, true);
        let (second, ..) = state.attach("s", From::End, true);
        assert!(state.resize(first, 100, u16::MAX));
        assert!(!state.resize(first, 100, u16::MAX));
        assert_eq!(all(&mut state, second), [Next::Resized(100, CELLS_MAX)]);
        assert_eq!(all(&mut state, first), []);
        assert_eq!(state.others(first), [second]);
    }

    #[test]
    fn one_page_answers_from_one_byte_on() {
        let mut state = state();
        let (first, ..) = state.attach("s", From::End, true);
        state.join_answers(first, true);
        let (second, ..) = state.attach("s", From::End, true);
        state.join_answers(second, true);
        let output = |text: &str| Next::Output(text.as_bytes().to_vec());
        state.on_output(b"abcd");
        assert_eq!(all(&mut state, first), [Next::Answers(true), output("abcd")]);
        state.on_output(b"ef");
        // The second one has shown nothing yet; its turn begins where the first one is.
        state.on_typed(second);
        assert_eq!(all(&mut state, second), [output("abcd"), Next::Answers(true), output("ef")]);
        assert_eq!(all(&mut state, first), [Next::Answers(false), output("ef")]);
        state.detach(second);
        assert_eq!(all(&mut state, first), [Next::Answers(true)]);
    }
}
