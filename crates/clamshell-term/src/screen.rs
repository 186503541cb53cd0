//! What a shell's terminal shows, kept so that somebody who attaches sees it at once.
//!
//! [`ScreenModel`] is a terminal without a display; [`ShpoolScreen`] is the one in use. [`LazyScreen`]
//! follows a log behind its end, because the model is the slowest consumer of output, and passes over
//! plain text that would have scrolled away anyway.
//!
//! The bytes are a hostile program's: sizes are clamped, endless strings are cut, a picture has a
//! limit, and a model that panics starts afresh.

mod lazy;
mod scan;
mod shpool;

pub use lazy::LazyScreen;
pub use shpool::ShpoolScreen;

/// Lines of scrollback in a picture, above the visible ones.
pub const SCROLLBACK_LINES: usize = 100;

/// A terminal without a display.
pub trait ScreenModel {
    /// Takes output of the program.
    fn process(&mut self, bytes: &[u8]);

    /// Takes a new size.
    fn resize(&mut self, cols: u16, rows: u16);

    /// Bytes that paint the screen, with scrollback, cursor and modes, on any terminal of this size;
    /// `None` when it cannot be done in `bytes_max`.
    fn dump(&self, bytes_max: usize) -> Option<Vec<u8>>;

    /// Lines kept, visible ones included.
    fn lines(&self) -> usize;
}

#[cfg(test)]
mod tests;
