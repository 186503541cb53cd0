//! A screen model that follows a log from behind.

use std::{collections::VecDeque, io};

use super::{
    ScreenModel, ShpoolScreen,
    scan::{Piece, Scanner, TextRun},
};

/// Bytes fed at a time: two milliseconds of the model's time.
const SLICE_BYTES: usize = 64 * 1024;

/// How far ahead plain text is looked for: a few milliseconds of reading.
const AHEAD_BYTES_MAX: u64 = 2 << 20;

/// Resizes that wait for their offset. More of them replace the newest: nobody drags a window that
/// often between two quiet moments.
const RESIZES_MAX: usize = 1024;

/// Gives bytes of the log at an offset.
type Read<'a> = &'a mut dyn FnMut(u64, &mut [u8]) -> io::Result<usize>;

/// A screen model that is fed from a log when there is time, with resizes at their offsets.
#[derive(Debug)]
pub struct LazyScreen {
    model: ShpoolScreen,
    scanner: Scanner,
    offset: u64,
    resizes: VecDeque<(u64, u16, u16)>,
    size: (u16, u16),
    /// Before this offset looking for plain text to skip has failed.
    looked_until: u64,
}

impl LazyScreen {
    /// An empty screen that shows the log from `offset` on.
    pub fn new(offset: u64, cols: u16, rows: u16) -> Self {
        Self {
            model: ShpoolScreen::new(cols, rows),
            scanner: Scanner::new(rows),
            offset,
            resizes: VecDeque::new(),
            size: (cols, rows),
            looked_until: offset,
        }
    }

    /// Offset of the log that the screen shows.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Forgets everything and goes on at `offset`: what lies before it is no longer in the log.
    pub fn restart_at(&mut self, offset: u64) {
        while self.resizes.front().is_some_and(|(at, ..)| *at <= offset) {
            if let Some((_, cols, rows)) = self.resizes.pop_front() {
                self.size = (cols, rows);
            }
        }
        let resizes = std::mem::take(&mut self.resizes);
        *self = Self { resizes, ..Self::new(offset, self.size.0, self.size.1) };
    }

    /// The terminal has this size from `offset` of the log on.
    pub fn resize_at(&mut self, offset: u64, cols: u16, rows: u16) {
        if offset <= self.offset && self.resizes.is_empty() {
            return self.resize(cols, rows);
        }
        if self.resizes.len() >= RESIZES_MAX {
            self.resizes.pop_back();
        }
        self.resizes.push_back((offset, cols, rows));
    }

    fn resize(&mut self, cols: u16, rows: u16) {
        self.size = (cols, rows);
        self.model.resize(cols, rows);
        self.scanner.resize(rows);
    }

    /// Feeds one slice of the log, not beyond `until`; call it until [`LazyScreen::offset`] is there.
    /// `read` gives bytes of the log at an offset, 0 when it has none there.
    ///
    /// # Errors
    /// Those of `read`; and when the log has nothing at an offset before `until`.
    pub fn catch_up(
        &mut self,
        until: u64,
        mut read: impl FnMut(u64, &mut [u8]) -> io::Result<usize>,
    ) -> io::Result<()> {
        // Not generic from here on: what is generic is compiled with its user, who may be built for size.
        self.catch_up_slice(until, &mut read)
    }

    fn catch_up_slice(&mut self, until: u64, read: Read<'_>) -> io::Result<()> {
        while self.resizes.front().is_some_and(|(at, ..)| *at <= self.offset) {
            if let Some((_, cols, rows)) = self.resizes.pop_front() {
                self.resize(cols, rows);
            }
        }
        // A resize in the way is a border: text before and after it is laid out differently.
        let border = self.resizes.front().map_or(until, |(at, ..)| until.min(*at));
        if self.offset >= border {
            return Ok(());
        }
        let mut buffer = vec![0; SLICE_BYTES];
        let length = usize::try_from(border - self.offset).unwrap_or(usize::MAX).min(SLICE_BYTES);
        let count = read(self.offset, &mut buffer[..length])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let slice = &buffer[..count];
        if border - self.offset > 2 * SLICE_BYTES as u64
            && self.offset >= self.looked_until
            && self.scanner.is_plain()
            && let Some(first) = find_line_end(slice)
            && TextRun::default().accept(&slice[..first])
        {
            let from = self.offset + first as u64;
            if let Some((to, lasting)) = self.skippable(from, border, read)? {
                feed(&mut self.model, &mut self.scanner, &slice[..first]);
                feed(&mut self.model, &mut self.scanner, &lasting);
                self.offset = to;
                return Ok(());
            }
        }
        feed(&mut self.model, &mut self.scanner, slice);
        self.offset += count as u64;
        Ok(())
    }

    /// Looks from `from`, which follows a CR LF, for a later place after a CR LF to go on at, such
    /// that the screen comes out the same once the attributes that come with the place are set.
    ///
    /// It does, because in between and for `needed` line feeds after it there is only text as [`TextRun`] has it,
    /// and neither a scroll region, margins nor the alternate screen are active:
    /// - such text changes nothing but cells, the cursor's position, attributes and what scrolls;
    ///   modes, tab stops, character sets and saved cursors stay as they are on both ways;
    /// - at both places the cursor is in column 0 with no wrap pending, so from there on both ways
    ///   lay out the same cells, only in rows that may differ;
    /// - the first `rows` line feeds bring the cursor to the last row whatever row it was in, and
    ///   each further one scrolls a line out at the top: after as many as there are lines, nothing
    ///   from before the place is left and all rows agree. (Wrapped lines only scroll more.)
    fn skippable(&mut self, from: u64, border: u64, read: Read<'_>) -> io::Result<Option<(u64, Vec<u8>)>> {
        let needed = self.model.lines() + usize::from(self.size.1) + 1;
        // A line end near the end of each slice, with the number of line feeds up to it and the attributes there.
        let mut places: Vec<(u64, usize, Vec<u8>)> = Vec::new();
        let mut at = from;
        let mut run = TextRun::default();
        let mut buffer = vec![0; SLICE_BYTES];
        let border = border.min(from.saturating_add(AHEAD_BYTES_MAX));
        while at < border {
            let length = usize::try_from(border - at).unwrap_or(usize::MAX).min(SLICE_BYTES);
            let count = read(at, &mut buffer[..length])?;
            let slice = &buffer[..count];
            let end = slice.windows(2).rposition(|pair| pair == b"\r\n").map_or(0, |end| end + 2);
            let (head, tail) = slice.split_at(end);
            if count == 0 || !run.accept(head) {
                break;
            }
            if end > 0 {
                places.push((at + end as u64, run.line_feeds(), run.lasting().to_vec()));
            }
            if !run.accept(tail) {
                break;
            }
            at += count as u64;
        }
        let place = places.into_iter().rev().find(|(_, up_to, _)| run.line_feeds() - up_to >= needed);
        // Of a place that was found nothing has been fed yet, and by the time it is, there may be more text after it.
        self.looked_until = place.as_ref().map_or(at, |(place, ..)| *place);
        Ok(place.map(|(place, _, lasting)| (place, lasting)))
    }

    /// Bytes that paint the screen on a terminal of its size; a plain reset when no picture fits in
    /// `bytes_max`. A sequence or character whose end is yet to come is begun at their end.
    pub fn dump(&self, bytes_max: usize) -> Vec<u8> {
        let end = [self.scanner.link(), self.scanner.unfinished()].concat();
        let room = bytes_max.saturating_sub(end.len());
        let mut picture = self.model.dump(room).unwrap_or_else(|| b"\x1bc".to_vec());
        if picture.len() + end.len() <= bytes_max {
            picture.extend_from_slice(&end);
        }
        picture
    }
}

fn feed(model: &mut ShpoolScreen, scanner: &mut Scanner, bytes: &[u8]) {
    // Neighboring pieces are one call: the model is faster on long ones.
    let mut from = 0;
    let mut to = 0;
    let mut taken = 0;
    scanner.scan(bytes, |piece| match piece {
        Piece::Feed(piece) => {
            // Pieces come in order, so each one's place follows from where it lies in `bytes`.
            let start = piece.as_ptr() as usize - bytes.as_ptr() as usize;
            if start != to {
                model.process(&bytes[from..to]);
                from = start;
            }
            to = start + piece.len();
            taken = to;
        }
        Piece::Cancel => {
            model.process(&bytes[from..to]);
            model.process(b"\x18");
            from = taken;
            to = taken;
        }
    });
    model.process(&bytes[from..to]);
}

fn find_line_end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(2).position(|pair| pair == b"\r\n").map(|at| at + 2)
}
