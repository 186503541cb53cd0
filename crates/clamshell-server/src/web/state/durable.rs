//! A shell's state across processes: what is written of it, and how it is found again.

use std::io;

use clamshell_term::screen::LazyScreen;

use super::{RING_BYTES, State};
use crate::web::{
    journal::{Base, Journal, Journals, KEPT_BYTES, Record, records},
    typing::{Typing, note_passing},
};

impl State {
    /// What an earlier process left in a file; `None` when it is nothing that can be believed.
    pub(in crate::web) fn restored(file: &[u8], boot: &str) -> Option<Self> {
        let mut records = records(file, boot);
        let Some(Record::Base(base)) = records.next() else { return None };
        if base.start > base.heard_start.max(base.run_start) + RING_BYTES as u64 {
            return None;
        }
        let mut state = Self { is_known: true, ..Self::new(base.start, base.size) };
        (state.run_start, state.heard_start, state.upstream) =
            (base.run_start, base.heard_start, base.upstream);
        let (mut typed, mut doubt) = (base.typed, base.doubt);
        let mut passing = Vec::new();
        for record in records {
            match record {
                // One snapshot, one base.
                Record::Base(_) => return None,
                Record::Picture(picture) => state.show(picture),
                Record::Kept(bytes) => state.ring.push(bytes),
                Record::Output(bytes) => state.on_output(bytes),
                Record::Resized(cols, rows) => state.set_size((cols, rows)),
                Record::Anew => state.begin_anew(),
                Record::Heard(upstream) => state.hear(upstream),
                Record::Passing(counts) => {
                    passing = counts.iter().map(|(name, _)| name.clone()).collect();
                    note_passing(&mut typed, &mut doubt, counts);
                }
                Record::Passed => doubt.retain(|(name, _)| !passing.contains(name)),
            }
        }
        state.typing = Typing::restored(typed, doubt);
        Some(state)
    }

    /// Writes down from now on what happens.
    ///
    /// # Errors
    /// When that is not possible.
    pub(in crate::web) fn keep(&mut self, journals: &Journals, path: std::path::PathBuf) -> io::Result<()> {
        let (base, picture, kept) = self.snapshot();
        let snapshot = [Record::Base(base), Record::Picture(&picture), Record::Kept(&kept)];
        self.journal = Some(journals.begin(path, &snapshot)?);
        Ok(())
    }

    fn snapshot(&self) -> (Base, Vec<u8>, Vec<u8>) {
        let kept = self.ring.tail(0, KEPT_BYTES);
        let (typed, doubt) = self.typing.counts();
        let base = Base {
            start: self.ring.end() - kept.len() as u64,
            run_start: self.run_start,
            heard_start: self.heard_start,
            upstream: self.upstream,
            size: self.size,
            typed,
            doubt,
        };
        (base, self.picture(self.ring.start()), kept)
    }

    /// Writes down what is about to be done. Where that fails, nothing is kept of the shell: a later process must not go on
    /// from what is old.
    pub(super) fn note(&mut self, record: &Record<'_>) {
        let Some(mut journal) = self.journal.take() else { return };
        let noted = journal.add(record);
        self.noted(journal, noted);
    }

    /// Puts a snapshot in the place of a file that has grown long. What was noted last has been done.
    pub(super) fn shorten(&mut self) {
        let Some(mut journal) = self.journal.take_if(|journal| journal.is_long()) else { return };
        let (base, picture, kept) = self.snapshot();
        let renewed = journal.renew(&[Record::Base(base), Record::Picture(&picture), Record::Kept(&kept)]);
        self.noted(journal, renewed);
    }

    fn noted(&mut self, journal: Journal, result: io::Result<()>) {
        match result {
            Ok(()) => self.journal = Some(journal),
            Err(error) => {
                tracing::error!(%error, "cannot keep a shell: a restart will not find its output");
                forget(journal);
            }
        }
    }

    /// The shell has ended: nobody comes back to it.
    pub(super) fn end_journal(&mut self) {
        if let Some(journal) = self.journal.take() {
            forget(journal);
        }
    }

    /// What comes is the upstream's, from this offset of its own on.
    pub(super) fn hear(&mut self, upstream: Option<u64>) {
        self.note(&Record::Heard(upstream));
        (self.heard_start, self.upstream) = (self.ring.end(), upstream);
    }

    /// Takes a size.
    pub(super) fn set_size(&mut self, size: (u16, u16)) {
        self.note(&Record::Resized(size.0, size.1));
        self.size = size;
        self.screen.resize_at(self.screen.offset(), size.0, size.1);
    }

    /// Another program runs under the same name.
    pub(super) fn begin_anew(&mut self) {
        self.note(&Record::Anew);
        self.ring.push(super::CLEAR);
        self.screen = LazyScreen::new(0, self.size.0, self.size.1);
        self.run_start = self.ring.end();
        (self.heard_start, self.upstream) = (self.run_start, None);
    }
}

fn forget(journal: Journal) {
    if let Err(error) = journal.remove()
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::error!(%error, "cannot remove what is kept of a shell");
    }
}
