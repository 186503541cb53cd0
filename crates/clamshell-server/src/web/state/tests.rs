//! One shell and its pages.

use super::*;
use crate::web::joint::Joined;

fn state() -> State {
    let mut state = State::new(1000, (80, 24));
    assert!(matches!(state.on_connected(Some(true), None), Connected::Goes));
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
    let (id, statuses, picture) = state.attach("s", From::Offset(1006), true, None);
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
        let (_, statuses, picture) = state.attach("s", From::Offset(offset), false, None);
        assert!(String::from_utf8_lossy(&picture).contains("hello"), "{offset}");
        let bytes = picture.len() as u64;
        assert_eq!(statuses[2], Status::Screen { shell_id: "s".to_owned(), offset: 1005, bytes });
    }
}

#[test]
fn an_endpoint_may_count_as_it_likes() {
    for first in [0, 7, u64::MAX] {
        for second in [None, Some(0), Some(7), Some(1 << 60), Some(u64::MAX)] {
            let mut state = State::new(1000, (80, 24));
            assert!(matches!(state.on_connected(Some(true), Some(first)), Connected::Goes));
            state.on_output(b"hello");
            let Connected::Joins(mut joint) = state.on_connected(Some(true), second) else {
                unreachable!("it is the same program");
            };
            let came = (0..9).any(|_| joint.on_output(&[b'x'; 60_000]) != Joined::Waiting);
            assert!(came, "{first} {second:?}: what comes is shown");
        }
    }
}

#[test]
fn what_a_slow_watcher_missed_is_told_and_a_slow_writer_holds_the_rest_back() {
    let mut state = state();
    let (watcher, ..) = state.attach("s", From::End, false, None);
    let big = vec![b'x'; RING_BYTES];
    state.on_output(&big);
    state.on_output(b"tail");
    assert!(state.has_room());
    assert_eq!(state.next(watcher, 1), Next::Gap(1000, 1004));
    let (writer, ..) = state.attach("s", From::End, true, None);
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
    let (asleep, ..) = state.attach("s", From::End, true, None);
    let big = vec![b'x'; usize::try_from(LEAD_BYTES_MAX).unwrap()];
    state.on_output(&big);
    state.set_lags(asleep, true);
    assert!(!state.has_room(), "nobody else is there who could want more");
    let (awake, ..) = state.attach("s", From::End, true, None);
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
    let (id, ..) = state.attach("s", From::End, true, None);
    assert!(matches!(state.on_connected(Some(false), None), Connected::Goes));
    state.on_output(b"second");
    assert_eq!(all(&mut state, id), [Next::Anew]);
    let (_, _, picture) = state.attach("s", From::Screen, true, None);
    let picture = String::from_utf8_lossy(&picture).into_owned();
    assert!(picture.contains("second") && !picture.contains("first"), "{picture:?}");
}

#[test]
fn a_replay_is_joined() {
    let mut state = state();
    state.on_output(b"$ make\n");
    let Connected::Joins(mut joint) = state.on_connected(Some(true), None) else {
        unreachable!("there is output to join")
    };
    let expect = Joined::Continues { bytes: b"ok\n".to_vec(), doubtful: false };
    assert_eq!(joint.on_output(b"$ make\nok\n"), expect);
}

#[test]
fn people_are_told_when_the_upstream_is_away_for_longer() {
    let mut state = state();
    let (id, ..) = state.attach("s", From::End, true, None);
    state.on_connecting(1);
    assert_eq!(all(&mut state, id), []);
    state.on_connecting(2);
    assert_eq!(all(&mut state, id), [Next::Notice(AWAY.into())]);
    // Whoever comes meanwhile is told as well, and everybody once.
    let (late, ..) = state.attach("s", From::End, false, None);
    state.on_connecting(3);
    assert_eq!((all(&mut state, late), all(&mut state, id)), (vec![Next::Notice(AWAY.into())], vec![]));
    state.on_connecting(1);
    assert_eq!(all(&mut state, id), []);
    assert!(matches!(state.on_connected(Some(true), None), Connected::Goes));
    assert_eq!(all(&mut state, id), [Next::Notice(BACK.into())]);
    assert_eq!(all(&mut state, id), []);
}

#[test]
fn sizes_are_told_to_the_others() {
    let mut state = state();
    let (first, ..) = state.attach("s", From::End, true, None);
    let (second, ..) = state.attach("s", From::End, true, None);
    assert!(state.resize(first, 100, u16::MAX));
    assert!(!state.resize(first, 100, u16::MAX));
    assert_eq!(all(&mut state, second), [Next::Resized(100, CELLS_MAX)]);
    assert_eq!(all(&mut state, first), []);
    assert_eq!(state.others(first), [second]);
}

#[test]
fn one_page_answers_from_one_byte_on() {
    let mut state = state();
    let (first, ..) = state.attach("s", From::End, true, None);
    state.join_answers(first, true);
    let (second, ..) = state.attach("s", From::End, true, None);
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
