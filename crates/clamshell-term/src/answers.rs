//! Who of a shell's clients answers what its program asks the terminal.
//!
//! A program asks where the cursor is or which colors there are, by bytes in its output, and the terminal answers as if
//! somebody typed. Shown by several terminals, one question would have several answers, and all but the first are junk in
//! the input of whatever reads next. So one client answers: who typed last. The turn passes at one offset of the output
//! for all, whatever each of them has been sent by then, so no question has two answers.
//!
//! Some clients cannot be told: behind them is a terminal of its own, which answers all that it is shown. While there is
//! one, the others are silent.
//!
//! Sans-I/O. Offsets count bytes of output; a client's position is the next byte that it is sent.

use std::collections::VecDeque;

/// Changes that wait for a client that is behind. One that is behind so many learns of the last ones only.
const CHANGES_MAX: usize = 32;

/// What a client is sent next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// The news whether it answers from here on.
    News(bool),
    /// Output, but no further than here: then there is news.
    Until(u64),
    /// Output.
    Output,
}

#[derive(Debug)]
struct Client {
    id: u64,
    /// `None` for one that cannot be told.
    told: Option<bool>,
    /// Where it begins to answer, or ends; by offset.
    changes: VecDeque<(u64, bool)>,
}

/// The writers of one shell.
#[derive(Debug, Default)]
pub struct Answers {
    /// In the order in which they came.
    clients: Vec<Client>,
    /// Whose turn it is; nobody's while there is one that cannot be told.
    current: Option<u64>,
    /// Where the turn passed the last time.
    since: u64,
}

impl Answers {
    /// Nobody is there.
    pub fn new() -> Self {
        Self::default()
    }

    /// A writer comes, at `position`. It answers nothing until it is told to, unless it cannot be told.
    pub fn join(&mut self, id: u64, can_be_told: bool, position: u64, position_of: impl Fn(u64) -> u64) {
        let told = can_be_told.then_some(false);
        self.clients.push(Client { id, told, changes: VecDeque::new() });
        self.choose(None, position, position_of);
    }

    /// A client leaves that has been sent all before `position`.
    pub fn leave(&mut self, id: u64, position: u64, position_of: impl Fn(u64) -> u64) {
        let before = self.clients.len();
        self.clients.retain(|client| client.id != id);
        if self.clients.len() < before {
            // Of a question that it was not sent it cannot be waited for the answer.
            self.choose(None, position, position_of);
        }
    }

    /// A client sent input.
    pub fn typed(&mut self, id: u64, position_of: impl Fn(u64) -> u64) {
        if self.current != Some(id) {
            self.choose(Some(id), 0, position_of);
        }
    }

    /// What a client at `position` is sent next.
    pub fn next(&mut self, id: u64, position: u64) -> Turn {
        let Some(client) = self.clients.iter_mut().find(|client| client.id == id) else {
            return Turn::Output;
        };
        while let Some((at, answers)) = client.changes.front().copied() {
            if position < at {
                return Turn::Until(at);
            }
            client.changes.pop_front();
            if client.told != Some(answers) {
                client.told = Some(answers);
                return Turn::News(answers);
            }
        }
        Turn::Output
    }

    /// `least`: an offset before which the turn does not pass.
    fn choose(&mut self, typist: Option<u64>, least: u64, position_of: impl Fn(u64) -> u64) {
        let is_there = |id: &u64| self.clients.iter().any(|client| client.id == *id);
        let next = if self.clients.iter().any(|client| client.told.is_none()) {
            None
        } else {
            let stays = self.current.filter(is_there);
            typist.filter(is_there).or(stays).or_else(|| self.clients.first().map(|client| client.id))
        };
        let before = std::mem::replace(&mut self.current, next);
        if before == next {
            return;
        }
        let positions = before.iter().chain(&next).filter(|id| is_there(id)).map(|id| position_of(*id));
        let at = positions.fold(least.max(self.since), u64::max);
        self.since = at;
        for client in &mut self.clients {
            let answers = next == Some(client.id);
            if client.told.is_none() || (!answers && before != Some(client.id)) {
                continue;
            }
            if client.changes.len() >= CHANGES_MAX {
                client.changes.pop_back();
            }
            client.changes.push_back((at, answers));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    /// Clients that are sent bytes one by one, and who answered each byte.
    #[derive(Default)]
    struct Room {
        answers: Answers,
        /// Position, whether it answers, whether it can be told.
        clients: HashMap<u64, (u64, bool, bool)>,
        answered: HashMap<u64, u32>,
        next_id: u64,
    }

    impl Room {
        fn join(&mut self, position: u64, can_be_told: bool) -> u64 {
            self.next_id += 1;
            let id = self.next_id;
            self.clients.insert(id, (position, !can_be_told, can_be_told));
            let clients = &self.clients;
            self.answers.join(id, can_be_told, position, |id| clients[&id].0);
            id
        }

        fn leave(&mut self, id: u64) {
            let Some((position, ..)) = self.clients.remove(&id) else { return };
            let clients = &self.clients;
            self.answers.leave(id, position, |id| clients[&id].0);
        }

        fn typed(&mut self, id: u64) {
            let clients = &self.clients;
            self.answers.typed(id, |id| clients[&id].0);
        }

        /// Sends a client up to `end`.
        fn send(&mut self, id: u64, end: u64) {
            let Some((position, answers, _)) = self.clients.get_mut(&id) else { return };
            loop {
                let until = match self.answers.next(id, *position) {
                    Turn::News(news) => {
                        assert_ne!(*answers, news, "no news");
                        *answers = news;
                        continue;
                    }
                    Turn::Until(until) => until.min(end),
                    Turn::Output => end,
                };
                if *position >= until {
                    return;
                }
                for byte in *position..until {
                    *self.answered.entry(byte).or_default() += u32::from(*answers);
                }
                *position = until;
            }
        }
    }

    #[test]
    fn who_typed_last_answers_from_where_both_are() {
        let mut room = Room::default();
        let first = room.join(0, true);
        room.send(first, 10);
        let second = room.join(5, true);
        room.send(second, 8);
        room.typed(second);
        for id in [first, second] {
            room.send(id, 20);
        }
        let by: Vec<u32> = (0..20).map(|byte| room.answered[&byte]).collect();
        assert_eq!(by, [1; 20]);
        assert_eq!((room.clients[&first].1, room.clients[&second].1), (false, true));
    }

    #[test]
    fn the_turn_of_one_that_leaves_passes_on() {
        let mut room = Room::default();
        let first = room.join(0, true);
        let second = room.join(0, true);
        room.send(first, 7);
        room.send(second, 3);
        room.leave(first);
        room.send(second, 9);
        assert_eq!((0..9).map(|byte| room.answered[&byte]).collect::<Vec<_>>(), [1; 9]);
        room.leave(second);
        let third = room.join(9, true);
        assert_eq!(room.answers.next(third, 9), Turn::News(true));
    }

    #[test]
    fn a_terminal_that_cannot_be_told_silences_the_others() {
        let mut room = Room::default();
        let page = room.join(0, true);
        room.send(page, 4);
        let terminal = room.join(4, false);
        room.typed(page);
        for id in [page, terminal] {
            room.send(id, 8);
        }
        room.leave(terminal);
        room.send(page, 12);
        assert_eq!((0..12).map(|byte| room.answered[&byte]).collect::<Vec<_>>(), [1; 12]);
        assert_eq!(room.answers.next(terminal, 99), Turn::Output);
    }

    #[test]
    fn changes_that_wait_are_bounded() {
        let mut room = Room::default();
        let asleep = room.join(0, true);
        let awake = room.join(0, true);
        for end in 1..500 {
            room.send(awake, end);
            room.typed(if end % 2 == 0 { asleep } else { awake });
        }
        assert!(room.answers.clients.iter().all(|client| client.changes.len() <= CHANGES_MAX));
        // In the end it is the turn of who typed last.
        room.send(asleep, 500);
        room.send(awake, 500);
        assert_eq!((room.clients[&asleep].1, room.clients[&awake].1), (false, true));
    }

    proptest! {
        #[test]
        fn no_byte_is_answered_twice(steps in proptest::collection::vec((0u8..6, 0usize..4, 1u64..9), 1..80)) {
            let mut room = Room::default();
            let mut end = 0;
            let mut ids = vec![room.join(0, true)];
            let mut left = false;
            for (step, which, bytes) in steps {
                let id = ids[which % ids.len()];
                match step {
                    // Whoever comes is shown what is old, and answers none of it.
                    0 => ids.push(room.join(end, true)),
                    1 if room.clients.len() > 1 => {
                        left = true;
                        room.leave(id);
                    }
                    2 => room.typed(id),
                    3 => end += bytes,
                    _ => room.send(id, end),
                }
            }
            for id in ids {
                room.send(id, end);
            }
            for byte in 0..end {
                let count = room.answered.get(&byte).copied().unwrap_or(0);
                // One that left had not seen all.
                prop_assert!(count == 1 || (left && count == 0), "byte {byte}: {count}");
            }
        }
    }
}
