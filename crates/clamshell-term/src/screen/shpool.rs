//! The screen model over `shpool-vterm`.

use std::panic::{AssertUnwindSafe, catch_unwind};

use shpool_vterm::{ContentRegion, Size, Term};

use super::{SCROLLBACK_LINES, ScreenModel};

/// Largest screen that is modeled; a larger terminal is modeled cut to it. The size comes from a
/// client, and memory and time for a picture grow with the area.
const COLS_MAX: u16 = 1000;
const ROWS_MAX: u16 = 500;

/// What a picture starts with. End of synchronized output: a picture taken in the middle of an update would
/// otherwise stay invisible until the program's next frame. The user's own shape of the cursor, which the
/// model sets only when a program has chosen another.
const START: &[u8] = b"\x1b[?2026l\x1b[0 q";

/// A [`ScreenModel`] over `shpool_vterm::Term`.
pub struct ShpoolScreen {
    term: Term,
    size: Size,
}

impl std::fmt::Debug for ShpoolScreen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ShpoolScreen").field("size", &self.size).finish_non_exhaustive()
    }
}

fn size(cols: u16, rows: u16) -> Size {
    Size { width: cols.clamp(1, COLS_MAX).into(), height: rows.clamp(1, ROWS_MAX).into() }
}

impl ShpoolScreen {
    /// An empty screen.
    pub fn new(cols: u16, rows: u16) -> Self {
        let size = size(cols, rows);
        Self { term: Term::new(size.height + SCROLLBACK_LINES, size), size }
    }

    /// Runs a step of the model; should it panic on what a program sent, an empty screen is shown
    /// rather than the sandbox lost.
    fn guarded(&mut self, step: impl FnOnce(&mut Term)) {
        let term = &mut self.term;
        if catch_unwind(AssertUnwindSafe(|| step(term))).is_err() {
            self.term = Term::new(self.size.height + SCROLLBACK_LINES, self.size);
        }
    }
}

impl ScreenModel for ShpoolScreen {
    fn process(&mut self, bytes: &[u8]) {
        self.guarded(|term| term.process(bytes));
    }

    fn resize(&mut self, cols: u16, rows: u16) {
        let size = size(cols, rows);
        self.size = size;
        self.guarded(|term| {
            term.resize(size);
            term.set_scrollback_lines(size.height + SCROLLBACK_LINES);
        });
    }

    fn dump(&self, bytes_max: usize) -> Option<Vec<u8>> {
        for region in [ContentRegion::All, ContentRegion::Screen] {
            let picture = catch_unwind(AssertUnwindSafe(|| self.term.contents(region))).ok()?;
            if picture.len() + START.len() <= bytes_max {
                return Some([START, &picture].concat());
            }
        }
        None
    }

    fn lines(&self) -> usize {
        self.size.height + SCROLLBACK_LINES
    }
}
