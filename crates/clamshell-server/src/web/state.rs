//! What is known of one shell that runs at the upstream: its newest output, its screen, the pages that show it. Sans-I/O.
//!
//! Offsets go on from process to process (`state/durable.rs`). Where nothing is known of an earlier process they begin at a
//! number that it has not used for the shell, so a page that comes back with an older one is painted anew and is never
//! given bytes that it did not count.

mod durable;
#[cfg(test)]
mod kills;
#[cfg(test)]
mod tests;

use std::{
    borrow::Cow,
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use clamshell_term::{
    answers::{Answers, Turn},
    screen::LazyScreen,
    status::Status,
};

use super::{
    joint::{Begins, Joint, REPLAY_BYTES},
    journal::{Journal, Record},
    ring::{Piece, Ring},
    typing::{Input, Took, Typing},
};

/// Output kept for pages that fall behind or come back.
const RING_BYTES: usize = 4 << 20;

/// How far the slowest writer may be behind before nothing more is read from the upstream.
const LEAD_BYTES_MAX: u64 = 1 << 20;

/// A picture of the screen with its scrollback; what is longer is left to the replay of the newest output.
const PICTURE_BYTES_MAX: usize = 1 << 20;

/// What the model gives when its picture does not fit.
const RESET: &[u8] = b"\x1bc";

/// Cleared before output that does not join on: terminal reset, and its scrollback.
pub(super) const CLEAR: &[u8] = b"\x1bc\x1b[3J";

/// Bytes of input that wait for the upstream: a paste that a program reads slowly.
pub(super) const INPUT_BYTES_MAX: usize = 4 << 20;

/// Input of pages that count none of it, typed while the upstream could not be reached.
pub(super) const HELD_BYTES_MAX: usize = 64 * 1024;

/// What people are told of the upstream.
const AWAY: &str = "The endpoint cannot be reached. What is typed waits for it.";
const BACK: &str = "The endpoint is reached again.";
const IN_DOUBT: &str = "The connection to the endpoint was lost as you typed: the last of it may be missing.";
const DOUBTFUL: &str =
    "The output repeats itself: where the connection was renewed, some of it may be missing.";

/// Sizes a page may ask for: as the guest's.
const CELLS_MAX: u16 = 1000;

/// Notices that wait for a page; older ones are worth more.
const NOTICES_MAX: usize = 8;

/// How a confirmed connection goes on.
#[derive(Debug)]
pub(super) enum Connected {
    /// With what comes: nothing is here that it could repeat.
    Goes,
    /// With a replay.
    Joins(Joint),
    /// With a replay, and whether it is of the same program is known when it was joined.
    Unsure(Joint),
}

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
    /// The name of its writer, and how many bytes of it were told to be passed on: none when it comes.
    writer: Option<(Arc<str>, u64)>,
    /// For people.
    notices: VecDeque<Cow<'static, str>>,
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
    /// So many bytes of the page's writer were passed on.
    Typed(u64),
    /// For people: what the platform says, or that the upstream cannot be reached.
    Notice(Cow<'static, str>),
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
    /// Fed with all that comes, at once; its offsets are its own.
    screen: LazyScreen,
    size: (u16, u16),
    /// Offset of the first byte of the program that runs now.
    run_start: u64,
    /// From here on the output is what the upstream sent, and nothing else.
    heard_start: u64,
    /// The upstream's own offset of that byte, if it counts.
    upstream: Option<u64>,
    /// An earlier process knew the shell.
    is_known: bool,
    typing: Typing,
    /// `None` when nothing is written down.
    journal: Option<Journal>,
    link: Link,
    end: Option<End>,
    pages: HashMap<u64, Page>,
    next_page: u64,
    /// Which of the writers answers what the program asks the terminal.
    answers: Answers,
    /// Where the replay that is being joined begins, if the upstream counts.
    replay_at: Option<u64>,
}

impl State {
    /// A shell that was not reached yet; its output begins at `start`.
    pub(super) fn new(start: u64, size: (u16, u16)) -> Self {
        Self {
            ring: Ring::new(start, RING_BYTES),
            screen: LazyScreen::new(0, size.0, size.1),
            size,
            run_start: start,
            heard_start: start,
            upstream: None,
            is_known: false,
            typing: Typing::default(),
            journal: None,
            link: Link::Connecting(1),
            end: None,
            pages: HashMap::new(),
            next_page: 0,
            answers: Answers::new(),
            replay_at: None,
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

    /// The upstream confirmed; `offset` is its own count of where its replay begins, if it counts.
    pub(super) fn on_connected(&mut self, same_program: Option<bool>, offset: Option<u64>) -> Connected {
        self.link = Link::Live;
        let known = self.ring.end() - self.run_start;
        if known == 0 {
            self.hear(offset);
            return Connected::Goes;
        }
        if same_program == Some(false) {
            self.on_other_program();
            self.hear(offset);
            return Connected::Goes;
        }
        let heard = self.ring.end() - self.heard_start;
        let begins = offset.zip(self.upstream).map(|(begins, heard_start)| {
            // The endpoint may say any number.
            let expected = heard_start.saturating_add(heard);
            match expected.checked_sub(begins) {
                Some(before) => Begins::Before(usize::try_from(before).unwrap_or(usize::MAX)),
                None => Begins::Behind(begins - expected),
            }
        });
        let tail = self.ring.tail(self.heard_start, REPLAY_BYTES);
        let whole = tail.len() as u64 == known;
        let joint = Joint::new(tail, whole, begins);
        self.replay_at = offset;
        if same_program.is_none() { Connected::Unsure(joint) } else { Connected::Joins(joint) }
    }

    /// Output of the program.
    pub(super) fn on_output(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        self.note(&Record::Output(bytes));
        self.ring.push(bytes);
        self.show(bytes);
        self.shorten();
    }

    /// Output that does not join on to what is here: it is all there is to show now.
    pub(super) fn on_output_afresh(&mut self, bytes: &[u8], missed: Option<u64>) {
        let what =
            missed.map_or_else(|| "some output".to_owned(), |missed| format!("{missed} bytes of output"));
        self.on_output(
            &[CLEAR, format!("\x1b[2m[{what} before this may be missing]\x1b[22m\r\n").as_bytes()].concat(),
        );
        let replay_at = self.replay_at;
        self.hear(replay_at);
        self.on_output(bytes);
    }

    /// Output whose place is not certain.
    pub(super) fn on_doubtful(&mut self) {
        self.tell(DOUBTFUL.into());
    }

    /// Something for the people who are there.
    pub(super) fn tell(&mut self, text: Cow<'static, str>) {
        for page in self.pages.values_mut() {
            page.notices.truncate(NOTICES_MAX - 1);
            page.notices.push_back(text.clone());
        }
    }

    /// What comes is another program's: nothing that was typed is for it.
    pub(super) fn on_other_program(&mut self) {
        self.begin_anew();
        self.typing.forget();
    }

    /// Its session was stopped.
    pub(super) fn on_stopped(&mut self) {
        self.end_journal();
        self.on_end(End::Failed { message: "the session was stopped".to_owned() });
    }

    /// No more will come. The first end counts.
    pub(super) fn on_end(&mut self, end: End) {
        if matches!(end, End::Exited { .. }) {
            self.end_journal();
        }
        // A later task may go on with the file from now on.
        self.journal = None;
        self.end.get_or_insert(end);
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
    pub(super) fn attach(
        &mut self,
        shell_id: &str,
        from: From,
        writes: bool,
        writer: Option<&str>,
    ) -> (u64, Vec<Status>, Vec<u8>) {
        let (start, end) = self.range();
        let (cursor, picture) = match from {
            From::Offset(offset) if (self.run_start..=end).contains(&offset) => (offset, None),
            From::End => (end, None),
            From::Offset(_) | From::Screen => (end, Some(self.picture(start))),
        };
        let id = self.next_page;
        self.next_page += 1;
        let mut notices = VecDeque::new();
        let writer = writer.filter(|_| writes).map(|name| {
            let (name, received, doubt) = self.typing.join(name, id);
            if doubt > 0 {
                let text =
                    format!("The web terminal was restarted: {doubt} bytes typed just before may be lost.");
                notices.push_back(text.into());
            }
            (name, received)
        });
        let typed = writer.as_ref().map(|(_, received)| *received);
        let writer = writer.map(|(name, _)| (name, 0));
        self.pages.insert(
            id,
            Page { cursor, writes, lags: false, size: self.size, told_away: false, writer, notices },
        );
        let shell_id = shell_id.to_owned();
        let mut statuses = vec![Status::Confirmed {
            shell_id: shell_id.clone(),
            reconnected: self.is_known || end > self.run_start,
            bytes_dropped: None,
            offset: Some(cursor),
        }];
        if let Some(bytes) = typed {
            statuses.push(Status::Typed { shell_id: shell_id.clone(), bytes });
        }
        statuses.push(Status::Run {
            shell_id: shell_id.clone(),
            offset: self.run_start,
            end,
            cols: self.size.0,
            rows: self.size.1,
        });
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
        let picture = self.screen.dump(PICTURE_BYTES_MAX);
        if picture == RESET { self.ring.tail(start, REPLAY_BYTES) } else { picture }
    }

    fn show(&mut self, bytes: &[u8]) {
        let before = self.screen.offset();
        let until = before + bytes.len() as u64;
        while self.screen.offset() < until {
            let read = |offset: u64, buffer: &mut [u8]| {
                let from = usize::try_from(offset - before).unwrap_or(usize::MAX);
                let rest = bytes.get(from..).unwrap_or_default();
                let count = rest.len().min(buffer.len());
                buffer[..count].copy_from_slice(&rest[..count]);
                Ok(count)
            };
            if self.screen.catch_up(until, read).is_err() {
                // All of it is there to be read.
                return;
            }
        }
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
            return Next::Notice(if away { AWAY } else { BACK }.into());
        }
        if let Some(text) = page.notices.pop_front() {
            return Next::Notice(text);
        }
        if let Some((name, told)) = &mut page.writer
            && let Some(passed) = self.typing.passed_of(name)
            && passed > *told
        {
            *told = passed;
            return Next::Typed(passed);
        }
        let bytes_max = match self.answers.next(id, page.cursor) {
            Turn::News(answers) => return Next::Answers(answers),
            Turn::Until(until) => {
                usize::try_from(until - page.cursor).map_or(bytes_max, |n| n.min(bytes_max))
            }
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
        self.set_size(size);
        true
    }

    /// Takes input of a page.
    pub(super) fn type_in(&mut self, id: u64, input: Input) -> Took {
        let writer =
            self.pages.get(&id).and_then(|page| page.writer.as_ref()).map(|(name, _)| Arc::clone(name));
        // Pages that are told what was passed on send little beyond that.
        let bytes_max =
            if self.link == Link::Live || writer.is_some() { INPUT_BYTES_MAX } else { HELD_BYTES_MAX };
        self.typing.push(input, id, writer.as_ref(), bytes_max)
    }

    /// Ends the shell, for its owner.
    pub(super) fn close(&mut self) {
        // It needs no room.
        let _ = self.typing.push(Input::Close, u64::MAX, None, INPUT_BYTES_MAX);
    }

    /// The input that the upstream is sent next. From now on it counts as passed on, should this process end.
    pub(super) fn take_input(&mut self) -> Option<Input> {
        let (input, counts) = self.typing.take()?;
        if !counts.is_empty() {
            self.note(&Record::Passing(counts));
        }
        Some(input)
    }

    /// The upstream has it; `true` when a page waits for that news.
    pub(super) fn on_passed(&mut self) -> bool {
        if self.typing.is_passing() {
            self.note(&Record::Passed);
        }
        let news = self.typing.passed();
        self.shorten();
        news
    }

    /// The connection is lost: what was on its way may have come or not, and is not sent again.
    pub(super) fn on_lost(&mut self) {
        if self.typing.is_passing() {
            self.on_passed();
            self.tell(IN_DOUBT.into());
        }
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
