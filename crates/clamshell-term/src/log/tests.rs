//! The log against a model: a vector of all bytes ever written.

use std::os::fd::{AsFd, OwnedFd};

use proptest::prelude::*;

use super::*;

fn open_dir(path: &std::path::Path) -> OwnedFd {
    std::fs::File::open(path).unwrap().into()
}

#[derive(Debug, Clone)]
enum Step {
    Append(usize),
    Reopen,
    Resize(u16),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0usize..20_000).prop_map(Step::Append),
        1 => Just(Step::Reopen),
        1 => (1u16..500).prop_map(Step::Resize),
    ];
    proptest::collection::vec(step, 1..40)
}

fn read_all(mut read: impl FnMut(u64, &mut [u8]) -> usize, from: u64) -> Vec<u8> {
    let mut out = Vec::new();
    let mut buffer = [0; 1000];
    loop {
        let count = read(from + out.len() as u64, &mut buffer);
        if count == 0 {
            return out;
        }
        out.extend_from_slice(&buffer[..count]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn appends_trims_and_reopens_equal_a_model(steps in steps(), bytes_max in 16_384u64..100_000) {
        let folder = tempfile::tempdir().unwrap();
        let shells = open_dir(folder.path());
        let mut model: Vec<u8> = Vec::new();
        let mut resizes = Vec::new();
        let mut log = LogWriter::open(shells.as_fd(), "s", bytes_max).unwrap();
        for (index, step) in steps.iter().enumerate() {
            match step {
                Step::Append(count) => {
                    let bytes: Vec<u8> = (0..*count).map(|at| u8::try_from((at * 7 + index * 31 + at / 251) % 256).unwrap()).collect();
                    let start = log.start_after(bytes.len() as u64);
                    log.append(&bytes, index as u64).unwrap();
                    prop_assert_eq!(log.start(), start);
                    model.extend_from_slice(&bytes);
                }
                Step::Reopen => {
                    drop(log);
                    log = LogWriter::open(shells.as_fd(), "s", bytes_max).unwrap();
                }
                Step::Resize(cols) => {
                    log.record_resize(*cols, 5, index as u64);
                    resizes.push((model.len() as u64, *cols));
                }
            }
            prop_assert_eq!(log.end(), model.len() as u64);
            let kept = log.end() - log.start();
            prop_assert!(kept <= bytes_max);
            prop_assert!(kept + bytes_max / 16 + 4096 >= bytes_max.min(model.len() as u64));
        }
        let start = log.start();
        let expect = &model[usize::try_from(start).unwrap()..];
        prop_assert_eq!(&read_all(|at, buffer| log.read_at(at, buffer).unwrap(), start)[..], expect);
        let reader = LogReader::open(folder.path(), "s").unwrap();
        if !model.is_empty() {
            prop_assert_eq!(reader.extent().unwrap(), (start, model.len() as u64));
        }
        prop_assert_eq!(&read_all(|at, buffer| reader.read_at(at, buffer).unwrap(), start)[..], expect);
        let seen: Vec<_> = reader.events(0, usize::MAX).unwrap().iter().filter_map(|event| match event.kind {
            EventKind::Resize { cols, .. } => Some((event.offset, cols)),
            _ => None,
        }).collect();
        prop_assert_eq!(seen, resizes);
    }

    #[test]
    fn any_record_is_refused_or_taken(bytes in proptest::array::uniform24(any::<u8>())) {
        if let Some(event) = Event::from_bytes(&bytes) {
            prop_assert_eq!(Event::from_bytes(&event.to_bytes()), Some(event));
        }
    }
}

#[test]
fn output_records_are_at_least_ten_milliseconds_apart() {
    let folder = tempfile::tempdir().unwrap();
    let shells = open_dir(folder.path());
    let mut log = LogWriter::open(shells.as_fd(), "s", 1 << 20).unwrap();
    log.record_start(80, 24, 100);
    for now in [100, 105, 109, 110, 115, 500] {
        log.append(b"ab", now).unwrap();
    }
    log.record_end(501);
    let reader = LogReader::open(folder.path(), "s").unwrap();
    let events: Vec<_> =
        reader.events(0, 100).unwrap().iter().map(|e| (e.offset, e.time_ms, e.kind)).collect();
    assert_eq!(
        events,
        [
            (0, 100, EventKind::Start { cols: 80, rows: 24 }),
            (0, 100, EventKind::Output),
            (6, 110, EventKind::Output),
            (10, 500, EventKind::Output),
            (12, 501, EventKind::End),
        ]
    );
    assert_eq!(reader.events(3, 1).unwrap().len(), 1);
    assert_eq!(reader.events(50, 1).unwrap(), []);
}

#[test]
fn the_size_survives_the_oldest_events() {
    let folder = tempfile::tempdir().unwrap();
    let shells = open_dir(folder.path());
    let mut log = LogWriter::open(shells.as_fd(), "s", 16_384).unwrap();
    log.record_start(132, 43, 0);
    for at in 0..60_000 {
        log.append(b"x", at * 10).unwrap();
    }
    let events = LogReader::open(folder.path(), "s").unwrap().events(0, usize::MAX).unwrap();
    assert_eq!(events[0].kind, EventKind::Resize { cols: 132, rows: 43 });
    assert!(events.len() < 30_000, "{}", events.len());
    assert_eq!(events.last().map(|event| event.offset), Some(59_999));
}

#[test]
fn meta_is_replaced_whole() {
    let folder = tempfile::tempdir().unwrap();
    let shells = open_dir(folder.path());
    let log = LogWriter::open(shells.as_fd(), "s", 1 << 20).unwrap();
    let mut meta = LogMeta {
        argv: vec!["/bin/bash".to_owned()],
        pid: 7,
        created_at_ms: 1,
        run_offset: 0,
        cols: 80,
        rows: 24,
        keep: false,
        exit: None,
        ended_at_ms: None,
        last_output_at_ms: 1,
    };
    log.write_meta(&meta).unwrap();
    meta.exit = Some(MetaExit { code: 137, signal: Some(9) });
    log.write_meta(&meta).unwrap();
    assert_eq!(LogReader::open(folder.path(), "s").unwrap().meta().unwrap(), meta);
    assert_eq!(LogReader::list(folder.path()).unwrap(), ["s"]);
    LogWriter::remove(shells.as_fd(), "s").unwrap();
    assert_eq!(LogReader::list(folder.path()).unwrap(), Vec::<String>::new());
}

#[test]
fn links_pipes_and_impossible_files_are_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("s");
    std::fs::create_dir(&dir).unwrap();
    std::fs::write(folder.path().join("secret"), b"secret").unwrap();
    std::os::unix::fs::symlink(folder.path().join("secret"), dir.join("00000000000000000000.log")).unwrap();
    std::os::unix::fs::symlink(folder.path().join("secret"), dir.join("meta.json")).unwrap();
    std::fs::write(dir.join("18446744073709551615.log"), b"overflow").unwrap();
    std::fs::write(dir.join("7.log"), b"short name").unwrap();
    let reader = LogReader::open(folder.path(), "s").unwrap();
    assert_eq!(reader.extent().unwrap(), (0, 0));
    assert_eq!(reader.read_at(0, &mut [0; 10]).unwrap(), 0);
    assert!(matches!(reader.meta(), Err(LogError::Io { .. })));
    std::os::unix::fs::symlink(&dir, folder.path().join("link")).unwrap();
    assert!(LogReader::open(folder.path(), "link").is_err());
    for id in ["", "..", ".", "a/b", "-a", "_a", "a.b", &"a".repeat(129)] {
        assert!(matches!(LogReader::open(folder.path(), id), Err(LogError::ShellId)), "{id:?}");
    }
}

#[test]
fn files_that_no_writer_makes_cost_no_time() {
    let folder = tempfile::tempdir().unwrap();
    let shells = open_dir(folder.path());
    let mut log = LogWriter::open(shells.as_fd(), "s", 16_384).unwrap();
    log.record_start(80, 24, 1);
    // A terabyte of nothing, which is read for an hour.
    let events =
        std::fs::File::options().write(true).open(folder.path().join("s/00000000000000000000.events"));
    events.unwrap().set_len(1 << 40).unwrap();
    let reader = LogReader::open(folder.path(), "s").unwrap();
    assert_eq!(reader.events(0, usize::MAX).unwrap().len(), 1);
    assert_eq!(reader.events(1, usize::MAX).unwrap(), []);

    for number in 0..5000 {
        std::fs::create_dir(folder.path().join(format!("-{number}"))).unwrap();
    }
    assert!(LogReader::list(folder.path()).unwrap().len() <= 1, "only so many entries are looked at");
}
