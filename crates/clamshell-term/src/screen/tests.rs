//! The screen model: skipping changes nothing, and hostile output costs nothing.

use proptest::prelude::*;

use super::*;

fn eager(log: &[u8], cols: u16, rows: u16) -> Vec<u8> {
    let mut model = ShpoolScreen::new(cols, rows);
    model.process(log);
    model.dump(1 << 20).unwrap()
}

fn follow(screen: &mut LazyScreen, log: &[u8]) -> usize {
    let mut slices = 0;
    while screen.offset() < log.len() as u64 {
        screen
            .catch_up(log.len() as u64, |offset, buffer| {
                let at = usize::try_from(offset).unwrap();
                let count = buffer.len().min(log.len() - at);
                buffer[..count].copy_from_slice(&log[at..at + count]);
                Ok(count)
            })
            .unwrap();
        slices += 1;
    }
    slices
}

fn lazy(log: &[u8], cols: u16, rows: u16) -> (Vec<u8>, usize) {
    let mut screen = LazyScreen::new(0, cols, rows);
    let slices = follow(&mut screen, log);
    (screen.dump(1 << 20), slices)
}

fn text(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut out = Vec::with_capacity(bytes + 400);
    while out.len() < bytes {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        for at in 0..state % 150 {
            match (state >> (at % 40)) % 60 {
                40 => out.extend_from_slice(format!("\x1b[{}m", 30 + at % 8).as_bytes()),
                41 => out.extend_from_slice(b"\x1b[0;1;48;5;17m"),
                42 => out.extend_from_slice(b"\x1b[m\x1b[K"),
                43 => out.extend_from_slice(b"\x1b[3D"),
                44 => out.extend_from_slice(b"\x1b[2C"),
                45 => out.extend_from_slice(b"\x08\x07"),
                46 => out.extend_from_slice(b"\x1b[7G\x1b[4m"),
                0 => out.extend_from_slice("é".as_bytes()),
                1 => out.extend_from_slice("漢".as_bytes()),
                2 => out.push(b'\t'),
                3 => out.extend_from_slice("e\u{301}".as_bytes()),
                other => out.push(b'a' + (other % 26) as u8),
            }
        }
        match state % 50 {
            0 => out.push(b'\n'),
            1 => out.push(b'\r'),
            _ => out.extend_from_slice(b"\r\n"),
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn skipping_plain_text_changes_nothing(
        seed in any::<u64>(),
        front in prop_oneof![
            Just(&b""[..]), Just(&b"\x1b[31mred\x1b[5;10Hhere"[..]), Just(&b"\x1b[3;9r\x1b[r"[..]), Just(&b"\x1b[4h\x1b[?7l"[..]),
            Just(&b"\x1b[2;5r"[..]), Just(&b"\x1b[?1049h"[..]), Just(&b"\x1b]0;title\x07"[..]), Just(&b"\x1b[?69h\x1b[3;20s"[..]),
        ],
        back in prop_oneof![Just(&b""[..]), Just(&b"\x1b[Hx"[..]), Just(&b"\x1b[?1049hy"[..])],
        cols in 20u16..120,
        rows in 2u16..50,
    ) {
        let log = [front, &text(seed, 300_000), back].concat();
        let (picture, _) = lazy(&log, cols, rows);
        prop_assert!(picture == eager(&log, cols, rows));
    }

    #[test]
    fn any_bytes_are_taken(bytes in proptest::collection::vec(any::<u8>(), 0..5000), cols in any::<u16>(), rows in any::<u16>()) {
        let mut screen = LazyScreen::new(0, cols, rows);
        screen.resize_at(bytes.len() as u64 / 2, rows, cols);
        follow(&mut screen, &bytes);
        prop_assert!(screen.dump(1 << 20).len() <= 1 << 20);
    }
}

#[test]
fn much_plain_text_is_skipped() {
    let log = text(7, 4 << 20);
    let (picture, slices) = lazy(&log, 80, 24);
    assert!(slices < 10, "{slices} slices were fed");
    assert!(picture == eager(&log, 80, 24));
}

#[test]
fn resizes_are_applied_at_their_offset() {
    let first = text(3, 2000);
    let second = text(4, 2000);
    let mut model = ShpoolScreen::new(80, 24);
    model.process(&first);
    model.resize(40, 10);
    model.process(&second);
    let mut screen = LazyScreen::new(0, 80, 24);
    screen.resize_at(first.len() as u64, 40, 10);
    follow(&mut screen, &[first, second].concat());
    assert!(screen.dump(1 << 20) == model.dump(1 << 20).unwrap());
}

#[test]
fn an_endless_string_is_cut_and_a_long_one_does_no_harm() {
    let endless = [&b"before\x1b]52;c;"[..], &vec![b'A'; 1 << 20], b"\x07after"].concat();
    assert!(lazy(&endless, 80, 24).0 == eager(b"before\x1b]52;c;\x18after", 80, 24));
    let escaped = [&b"\x1b]0;"[..], &vec![b'A'; 1 << 20], b"\x1b\\after"].concat();
    let shown = String::from_utf8_lossy(&lazy(&escaped, 80, 24).0).into_owned();
    assert!(shown.contains("after") && shown.len() < 128 * 1024, "{} bytes", shown.len());
}

#[test]
fn a_picture_fits_or_is_a_reset() {
    let mut model = ShpoolScreen::new(200, 50);
    for at in 0..200 * 600_u32 {
        model
            .process(format!("\x1b[38;2;{};{};7m\x1b[48;2;9;{};1mx", at % 255, at % 199, at % 77).as_bytes());
    }
    let picture = model.dump(1 << 20).unwrap();
    assert!(picture.len() <= 1 << 20);
    assert!(picture.starts_with(b"\x1b[?2026l"));
    assert_eq!(model.dump(10), None);
}

#[test]
fn a_picture_ends_with_what_has_begun() {
    let check = |log: &[u8], expect: &[u8]| {
        // However it was cut into pieces.
        for size in [1, 2, 3, log.len().max(1)] {
            let mut screen = LazyScreen::new(0, 80, 24);
            for until in (size..log.len()).step_by(size).chain([log.len()]) {
                let until = until as u64;
                while screen.offset() < until {
                    let read = |offset, buffer: &mut [u8]| {
                        let at = usize::try_from(offset).unwrap();
                        let count = buffer.len().min(log.len() - at);
                        buffer[..count].copy_from_slice(&log[at..at + count]);
                        Ok(count)
                    };
                    screen.catch_up(until, read).unwrap();
                }
            }
            let mut picture = eager(log, 80, 24);
            picture.extend_from_slice(expect);
            assert_eq!(screen.dump(1 << 20).escape_ascii().to_string(), picture.escape_ascii().to_string());
        }
    };
    check(b"text", b"");
    check(b"a\x1b", b"\x1b");
    check(b"a\x1b[3", b"\x1b[3");
    check(b"a\x1b[31m", b"");
    check(b"a\x1b[3\x1b[4", b"\x1b[4");
    check(b"a\x1b[3\x18", b"");
    check(b"a\x1b(", b"\x1b(");
    check(b"a\x1b]2;tit", b"\x1b]2;tit");
    check(b"a\x1b]2;tit\x1b", b"\x1b");
    check(b"a\x1b]2;tit\x1b\\", b"");
    check(b"a\x1bP+q54", b"\x1bP+q54");
    check("a\u{6f22}".as_bytes(), b"");
    check(b"a\xe6\xbc", b"\xe6\xbc");
    check(b"a\xf0\x9f\x98", b"\xf0\x9f\x98");
    check(b"\xff\xe6", b"\xe6");
    check(b"\x80\x80\x80", b"");
    check(b"\xe6\x1b[m", b"");
}

#[test]
fn a_picture_goes_on_in_the_link_that_is_open() {
    let ends = |log: &[u8], end: &[u8]| assert!(lazy(log, 80, 24).0.ends_with(end), "{}", log.escape_ascii());
    let open = b"\x1b]8;id=1;https://example.com/\x1b\\";
    ends(open, open);
    ends(b"\x1b]8;id=1;https://example.com/\x07text", open);
    ends(b"\x1b]8;;https://example.com/\x07\x1b[3", b"\x1b]8;;https://example.com/\x1b\\\x1b[3");
    for closed in [
        &b"\x1b]8;;a\x07text\x1b]8;;\x07"[..],
        b"\x1b]8;;a\x07\x1bc",
        b"\x1b]8;;a\x18",
        b"\x1b]8\x07",
        b"\x1b]8;a\x07",
    ] {
        assert!(lazy(closed, 80, 24).0 == eager(closed, 80, 24), "{}", closed.escape_ascii());
    }
    let long = [&b"\x1b]8;;"[..], &vec![b'a'; 5000], b"\x07"].concat();
    assert!(lazy(&long, 80, 24).0 == eager(&long, 80, 24));
}

#[test]
fn the_rest_of_a_cut_string_stays_unseen() {
    for (opening, end) in
        [(&b"\x1b]52;c;"[..], &b"\x1b]9999;"[..]), (b"\x1bPq", b"\x1bX"), (b"\x1b_", b"\x1bX")]
    {
        let log = [opening, &vec![b'A'; 1 << 20]].concat();
        let (picture, _) = lazy(&log, 80, 24);
        assert!(picture.ends_with(end) && picture.len() < 4096, "{} bytes", picture.len());
    }
}
