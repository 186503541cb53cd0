//! A small reading of terminal output: just enough to know what may be skipped or must be cut.

/// Longest string (title, clipboard, image) that reaches the model. It buffers a string until its
/// end, and a program may never end one.
const STRING_BYTES_MAX: usize = 64 * 1024;

/// Bytes of a sequence's parameters that are looked at; the sequences of interest are shorter.
const PARAMETERS_MAX: usize = 32;

/// Bytes kept of a sequence that has not ended: a whole string, its introducer and terminator.
const UNFINISHED_BYTES_MAX: usize = STRING_BYTES_MAX + 16;

/// Longest hyperlink that is remembered: above what terminals take.
const LINK_BYTES_MAX: usize = 4096;

/// What opens a string that nobody shows, in place of one that was cut: one that BEL ends, and one of the others.
const CUT_TITLE: &[u8] = b"\x1b]9999;";
const CUT_OTHER: &[u8] = b"\x1bX";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Ground,
    Escape,
    /// ESC and intermediates: ends with one final byte.
    EscapeIntermediate,
    Sequence,
    /// OSC, which BEL ends too.
    Title,
    /// DCS, SOS, PM, APC.
    Other,
}

/// Follows a program's output.
#[derive(Debug)]
pub(super) struct Scanner {
    state: State,
    parameters: Vec<u8>,
    string_bytes: usize,
    /// Outside of [`State::Ground`], the sequence so far; inside, the last bytes of text.
    unfinished: Vec<u8>,
    /// The sequence that opened the hyperlink that text belongs to now; empty outside of one.
    link: Vec<u8>,
    alternate: bool,
    region: [bool; 2],
    /// A region was set that is the whole screen; it is not once the screen has another size.
    whole: bool,
    margins: bool,
    rows: u16,
}

/// Piece of the input and whether the model gets it.
pub(super) enum Piece<'a> {
    Feed(&'a [u8]),
    /// Ends the string that grew too long.
    Cancel,
}

impl Scanner {
    pub(super) fn new(rows: u16) -> Self {
        Self {
            state: State::Ground,
            parameters: Vec::new(),
            string_bytes: 0,
            unfinished: Vec::new(),
            link: Vec::new(),
            alternate: false,
            region: [false; 2],
            whole: false,
            margins: false,
            rows,
        }
    }

    pub(super) fn resize(&mut self, rows: u16) {
        self.region[0] |= self.whole && rows != self.rows;
        self.rows = rows;
    }

    /// Whether nothing is in effect or half received that makes plain text anything but lines that
    /// scroll up the whole main screen.
    pub(super) fn is_plain(&self) -> bool {
        self.state == State::Ground && !self.alternate && !self.margins && self.region == [false; 2]
    }

    /// What a terminal must have received to go on where the output stopped: the beginning of a sequence or of
    /// a character. At most [`UNFINISHED_BYTES_MAX`].
    pub(super) fn unfinished(&self) -> &[u8] {
        let over = self.string_bytes > STRING_BYTES_MAX || self.unfinished.len() >= UNFINISHED_BYTES_MAX;
        match self.state {
            State::Title if over => CUT_TITLE,
            State::Other if over => CUT_OTHER,
            State::Ground => unfinished_character(&self.unfinished),
            _ => &self.unfinished,
        }
    }

    /// What opens the hyperlink that text belongs to from here on, if any: the model knows it for cells alone.
    pub(super) fn link(&self) -> &[u8] {
        &self.link
    }

    /// A title, hyperlink or the like is whole.
    fn end_title(&mut self) {
        let Some(text) = self.unfinished.strip_prefix(b"\x1b]8;") else { return };
        self.link.clear();
        if text.len() <= LINK_BYTES_MAX && !text.ends_with(b";") && text.contains(&b';') {
            self.link.extend_from_slice(&self.unfinished);
            self.link.extend_from_slice(b"\x1b\\");
        }
    }

    /// Notes bytes that were taken in `before`.
    fn note(&mut self, before: State, bytes: &[u8]) {
        match (before, self.state) {
            (State::Ground, State::Ground) => {
                // As much of it as a character may lack.
                let tail = bytes.len().saturating_sub(3);
                self.unfinished.extend_from_slice(&bytes[tail..]);
                let more = self.unfinished.len().saturating_sub(3);
                self.unfinished.drain(..more);
            }
            (_, State::Ground) => self.unfinished.clear(),
            // A sequence starts, maybe in the middle of another one, which is void then.
            (_, State::Escape) => {
                self.unfinished.clear();
                self.unfinished.push(0x1b);
            }
            _ => {
                let room = UNFINISHED_BYTES_MAX.saturating_sub(self.unfinished.len());
                self.unfinished.extend_from_slice(&bytes[..bytes.len().min(room)]);
            }
        }
    }

    /// Takes output; `sink` gets what the model shall get, in order.
    pub(super) fn scan<'a>(&mut self, bytes: &'a [u8], mut sink: impl FnMut(Piece<'a>)) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let before = self.state;
            let length = match self.state {
                State::Ground => rest.iter().position(|byte| *byte == 0x1b).map_or(rest.len(), |at| {
                    self.state = State::Escape;
                    at + 1
                }),
                State::Title | State::Other => {
                    let bell = self.state == State::Title;
                    let end = rest
                        .iter()
                        .position(|byte| matches!(byte, 0x1b | 0x18 | 0x1a) || (bell && *byte == 7));
                    let length = end.unwrap_or(rest.len());
                    let was_over = self.string_bytes > STRING_BYTES_MAX;
                    self.string_bytes = self.string_bytes.saturating_add(length);
                    let over = self.string_bytes > STRING_BYTES_MAX;
                    if over && !was_over {
                        sink(Piece::Cancel);
                    } else if !over {
                        sink(Piece::Feed(&rest[..length]));
                    }
                    self.note(before, &rest[..length]);
                    rest = &rest[length..];
                    let Some((last, after)) = rest.split_first() else { return };
                    if bell && !over && matches!(*last, 7 | 0x1b) {
                        self.end_title();
                    }
                    self.state = if *last == 0x1b { State::Escape } else { State::Ground };
                    if *last == 0x1b || !over {
                        sink(Piece::Feed(&rest[..1]));
                    }
                    self.note(before, &rest[..1]);
                    rest = after;
                    continue;
                }
                _ => {
                    self.step(rest[0]);
                    1
                }
            };
            self.note(before, &rest[..length]);
            sink(Piece::Feed(&rest[..length]));
            rest = &rest[length..];
        }
    }

    fn step(&mut self, byte: u8) {
        match byte {
            0x1b => return self.state = State::Escape,
            0x18 | 0x1a => return self.state = State::Ground,
            _ => {}
        }
        self.state = match (self.state, byte) {
            (state, ..0x20 | 0x7f..) => state,
            (State::Escape, b'[') => {
                self.parameters.clear();
                State::Sequence
            }
            (State::Escape, b']') => {
                self.string_bytes = 0;
                State::Title
            }
            (State::Escape, b'P' | b'X' | b'^' | b'_') => {
                self.string_bytes = 0;
                State::Other
            }
            (State::Escape | State::EscapeIntermediate, 0x20..0x30) => State::EscapeIntermediate,
            (State::Escape, b'c') => {
                *self = Self::new(self.rows);
                State::Ground
            }
            (State::Sequence, 0x40..) => {
                self.sequence(byte);
                State::Ground
            }
            (State::Sequence, _) => {
                if self.parameters.len() < PARAMETERS_MAX {
                    self.parameters.push(byte);
                }
                State::Sequence
            }
            _ => State::Ground,
        };
    }

    fn sequence(&mut self, last: u8) {
        let (private, parameters) = match self.parameters.split_first() {
            Some((b'?', rest)) => (true, rest),
            _ => (false, &self.parameters[..]),
        };
        let text = std::str::from_utf8(parameters).unwrap_or("");
        let mut numbers = text.split([';', ':']).map(|number| number.parse::<u32>().unwrap_or(0));
        match (private, last) {
            (true, b'h' | b'l') => {
                let on = last == b'h';
                for number in numbers {
                    match number {
                        47 | 1047 | 1049 => self.alternate = on,
                        69 => self.margins = on,
                        _ => {}
                    }
                }
                // What was cut may have been one of those.
                self.margins |= self.parameters.len() == PARAMETERS_MAX;
            }
            (false, b'r') => {
                let (top, bottom) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
                let explicit_whole = bottom == u32::from(self.rows);
                let set = top > 1 || !(bottom == 0 || explicit_whole);
                self.region[usize::from(self.alternate)] = set;
                self.whole |= explicit_whole;
            }
            _ => {}
        }
    }
}

/// The end of `bytes` that is the beginning of a character.
fn unfinished_character(bytes: &[u8]) -> &[u8] {
    match std::str::from_utf8(bytes) {
        // What is wrong before the end is of a character whose beginning was dropped.
        Err(error) if error.error_len().is_some() => {
            unfinished_character(&bytes[error.valid_up_to() + error.error_len().unwrap_or(1)..])
        }
        Err(error) => &bytes[error.valid_up_to()..],
        Ok(_) => &[],
    }
}

/// Most bytes of attributes that a run of text may leave behind: far more than any combination needs.
const LASTING_BYTES_MAX: usize = 1024;

/// Follows output as long as it is text: printable characters, CR, LF, TAB, BS, BEL, and sequences that set attributes (SGR)
/// or touch nothing beyond the cursor's own line (EL, CUF, CUB, CHA).
///
/// Of all that only the attributes outlast the line, so they are kept.
#[derive(Debug, Default)]
pub(super) struct TextRun {
    state: TextState,
    parameters: Vec<u8>,
    before: u8,
    lasting: Vec<u8>,
    line_feeds: usize,
}

/// Bytes that are text whatever comes before them.
const PLAIN: [bool; 256] = {
    let mut plain = [false; 256];
    let mut byte = 0x20;
    while byte < 256 {
        plain[byte] = byte < 0x7f || byte >= 0xa0;
        byte += 1;
    }
    plain[b'\r' as usize] = true;
    plain[b'\n' as usize] = true;
    plain[b'\t' as usize] = true;
    plain[0x07] = true;
    plain[0x08] = true;
    plain
};

/// Bytes looked at together.
const LANES: usize = 64;

/// Length of the front of `bytes` that is [`PLAIN`], and the line feeds in it. What a flood is made of, printable
/// ASCII and line ends, is looked at a word at a time, the rest by the table.
fn plain_front(bytes: &[u8]) -> (usize, usize) {
    let (mut length, mut line_feeds) = (0, 0);
    loop {
        let (chunks, _) = bytes[length..].as_chunks::<LANES>();
        for chunk in chunks {
            let Some(count) = line_feeds_of_common(chunk) else { break };
            length += LANES;
            line_feeds += count;
        }
        // The chunk that has something else in it, or the end.
        let chunk = &bytes[length..bytes.len().min(length + LANES)];
        let plain = chunk.iter().take_while(|byte| PLAIN[usize::from(**byte)]).count();
        length += plain;
        line_feeds += chunk[..plain].iter().filter(|byte| **byte == b'\n').count();
        if plain < chunk.len() || chunk.is_empty() {
            return (length, line_feeds);
        }
    }
}

/// Line feeds in a chunk of printable ASCII, CR and LF; `None` if it holds anything else.
///
/// By hand, because the guest is built for size and gets no vector code from the compiler. Each byte of a word is
/// a lane whose highest bit is the answer; sums of seven bits never carry into the next lane.
fn line_feeds_of_common(chunk: &[u8; LANES]) -> Option<usize> {
    const fn each(byte: u8) -> u64 {
        u64::from_ne_bytes([byte; 8])
    }
    let not_equal = |word: u64, byte: u8| {
        let difference = word ^ each(byte);
        ((difference & each(0x7f)) + each(0x7f)) | difference
    };
    let (words, _) = chunk.as_chunks::<8>();
    let (mut other, mut line_feeds) = (0, 0);
    for word in words {
        let word = u64::from_ne_bytes(*word);
        let low = word & each(0x7f);
        let (below_delete, from_space) = (!(low + each(1)), low + each(0x60));
        let (no_line_feed, no_return) = (not_equal(word, b'\n'), not_equal(word, b'\r'));
        other |= word | !((below_delete & from_space) | !no_line_feed | !no_return);
        line_feeds += (!no_line_feed & each(0x80)) >> 7;
    }
    // The lanes hold 8 at most, so their sum fits the highest one.
    let sum = (line_feeds.wrapping_mul(each(1)) >> 56) as usize;
    (other & each(0x80) == 0).then_some(sum)
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum TextState {
    #[default]
    Ground,
    Escape,
    Sequence,
}

impl TextRun {
    /// Takes more output; `false` when it holds anything else, after which the run is over.
    pub(super) fn accept(&mut self, bytes: &[u8]) -> bool {
        let mut rest = bytes;
        loop {
            if self.state == TextState::Ground {
                // Nearly all of it is this, and this is what a flood waits for.
                let (length, line_feeds) = plain_front(rest);
                self.line_feeds += line_feeds;
                let (run, after) = rest.split_at(length);
                self.before = run.last().copied().unwrap_or(self.before);
                rest = after;
            }
            let Some((byte, after)) = rest.split_first() else { return true };
            if !self.step(*byte) {
                return false;
            }
            rest = after;
        }
    }

    /// What a terminal must receive to have the attributes that it has after the run.
    pub(super) fn lasting(&self) -> &[u8] {
        &self.lasting
    }

    /// Line feeds so far.
    pub(super) fn line_feeds(&self) -> usize {
        self.line_feeds
    }

    fn step(&mut self, byte: u8) -> bool {
        match (self.state, byte) {
            (TextState::Ground, 0x1b) => self.state = TextState::Escape,
            (TextState::Ground, byte) if PLAIN[usize::from(byte)] => {}
            // C1 controls hide in UTF-8 as C2 80..9F.
            (TextState::Ground, 0x80..=0x9f) if self.before != 0xc2 => {}
            (TextState::Escape, b'[') => {
                self.parameters.clear();
                self.state = TextState::Sequence;
            }
            (TextState::Sequence, b'0'..=b';') if self.parameters.len() < PARAMETERS_MAX => {
                self.parameters.push(byte);
            }
            (TextState::Sequence, b'K' | b'C' | b'D' | b'G') => self.state = TextState::Ground,
            (TextState::Sequence, b'm') => {
                self.state = TextState::Ground;
                let parameters = &self.parameters[..];
                if parameters.is_empty() || parameters == b"0" || parameters.starts_with(b"0;") {
                    self.lasting.clear();
                }
                if self.lasting.len() + parameters.len() + 3 > LASTING_BYTES_MAX {
                    return false;
                }
                self.lasting.extend_from_slice(b"\x1b[");
                self.lasting.extend_from_slice(parameters);
                self.lasting.push(b'm');
            }
            _ => return false,
        }
        self.before = byte;
        true
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Mostly text, so that runs get longer than what is looked at together.
    fn output() -> impl Strategy<Value = Vec<u8>> {
        let piece = prop_oneof![
            "[ -~\r\n]{0,200}".prop_map(String::into_bytes),
            proptest::collection::vec(any::<u8>(), 0..3),
        ];
        proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
    }

    proptest! {
        #[test]
        fn many_at_a_time_is_as_one_by_one(bytes in output()) {
            let plain = bytes.iter().take_while(|byte| PLAIN[usize::from(**byte)]).count();
            let line_feeds = bytes[..plain].iter().filter(|byte| **byte == b'\n').count();
            prop_assert_eq!(plain_front(&bytes), (plain, line_feeds));
        }
    }

    #[test]
    fn every_byte_in_every_lane() {
        for byte in 0..=255 {
            for at in 0..LANES {
                let mut chunk = [b'~'; LANES];
                chunk[at] = byte;
                let common = matches!(byte, b' '..=b'~' | b'\r' | b'\n');
                let line_feeds = usize::from(byte == b'\n');
                assert_eq!(line_feeds_of_common(&chunk), common.then_some(line_feeds), "{byte} at {at}");
            }
        }
        assert_eq!(line_feeds_of_common(&[b'\n'; LANES]), Some(LANES));
    }
}
