//! The guest protocol and what keepers leave on disk.

use clamshell_protocol::{
    Access, AgentSpec, AttachFrom, CommandSpec, Decoder, Exit, Frame, GuestConfig, KeeperReport, KeeperSpec,
    KeeperState, Request, User, parse_process_stat,
};

use super::pieces;

/// Frames do not depend on how the stream was cut, and survive encoding.
pub(super) fn frames(bytes: &[u8]) {
    let (whole, whole_failed) = decode(&[bytes]);
    let (cut, cut_failed) = decode(&pieces(bytes));
    assert_eq!((&whole, whole_failed), (&cut, cut_failed));

    // A guest takes the same frames, up to the first that does not go to guests.
    let mut decoder = Decoder::new();
    decoder.extend(bytes);
    let to_guest = std::iter::from_fn(|| decoder.next_frame_to_guest().ok().flatten());
    let expect = whole.iter().take_while(|frame| goes_to_guests(frame));
    assert!(to_guest.eq(expect.cloned()));

    let mut stream = Vec::new();
    for frame in &whole {
        frame.encode(&mut stream);
    }
    assert_eq!(decode(&[&stream]), (whole, false));
}

fn goes_to_guests(frame: &Frame) -> bool {
    matches!(
        frame,
        Frame::Request(_) | Frame::Input(_) | Frame::InputEnd | Frame::Resize { .. } | Frame::Kill
    )
}

fn decode(pieces: &[&[u8]]) -> (Vec<Frame>, bool) {
    let mut decoder = Decoder::new();
    let mut frames = Vec::new();
    for piece in pieces {
        decoder.extend(piece);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(_) => return (frames, true),
            }
        }
    }
    (frames, false)
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let command = CommandSpec {
        argv: vec!["sh".to_owned(), "-c".to_owned(), "true".to_owned()],
        env: vec![("PATH".to_owned(), "/bin".to_owned())],
        cwd: "/".to_owned(),
        user: User::Agent,
        timeout_ms: Some(1_000),
        stdin: false,
        keep_running: false,
    };
    let shell = Request::Shell {
        shell_id: "build".to_owned(),
        create: None,
        from: AttachFrom::Offset(7),
        access: Access::Watch,
        lead_bytes_max: None,
        answers_when_told: false,
    };
    let agent = AgentSpec {
        argv: vec!["python".to_owned(), "agent.py".to_owned()],
        env: vec![("A".to_owned(), "b".to_owned())],
        cwd: "/app".to_owned(),
        user: "app:app".to_owned(),
        log_bytes_max: 1 << 20,
        stop_signal: Some(2),
    };
    let frames = [
        Frame::Request(Box::new(Request::Hello)),
        Frame::Request(Box::new(Request::AgentStart(Box::new(agent)))),
        Frame::Request(Box::new(Request::AgentLog { from_offset: 7 })),
        Frame::Request(Box::new(Request::Connect { port: 8080, pass: true })),
        Frame::Request(Box::new(Request::Command(command))),
        Frame::Request(Box::new(shell)),
        Frame::Input(b"ls\n".to_vec()),
        Frame::Resize { cols: 80, rows: 24 },
        Frame::Output { offset: 9, bytes: b"out".to_vec() },
        Frame::Gap { from: 1, to: 5 },
        Frame::CaughtUp { offset: 12 },
        Frame::Exit(Exit { code: 0, signal: None, timed_out: false }),
    ];
    let mut seeds: Vec<Vec<u8>> = frames.iter().map(Frame::to_bytes).collect();
    seeds.push(seeds.concat());
    seeds
}

/// JSON of keepers and lines of `/proc` are refused or taken; what is taken survives writing.
pub(super) fn keeper(bytes: &[u8]) {
    if let Ok(spec) = serde_json::from_slice::<KeeperSpec>(bytes) {
        let written = serde_json::to_vec(&spec).unwrap();
        assert_eq!(serde_json::from_slice::<KeeperSpec>(&written).unwrap(), spec);
    }
    if let Ok(state) = serde_json::from_slice::<KeeperState>(bytes) {
        let written = serde_json::to_vec(&state).unwrap();
        assert_eq!(serde_json::from_slice::<KeeperState>(&written).unwrap(), state);
    }
    let _ = serde_json::from_slice::<KeeperReport>(bytes);
    let _ = serde_json::from_slice::<GuestConfig>(bytes);
    let _ = parse_process_stat(&String::from_utf8_lossy(bytes));
}

pub(super) fn keeper_seeds() -> Vec<Vec<u8>> {
    let state = r#"{"keeper":{"pid":41,"start_ticks":12345},"guest":{"pid":42,"start_ticks":12346},
        "boot_id":"0f5c","started_at_ms":1700000000000,"degraded":["memory limit: no cgroup"],"exit":137}"#;
    let report = KeeperReport::Ready { guest_pid: 42, degraded: Vec::new() };
    vec![
        b"42 (a) b) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 12345 99 1".to_vec(),
        state.as_bytes().to_vec(),
        serde_json::to_vec(&report).unwrap(),
        serde_json::to_vec(&GuestConfig::default()).unwrap(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seeds_are_good() {
        let seeds = seeds();
        let single = seeds.len() - 1;
        for seed in &seeds[..single] {
            let (frames, failed) = decode(&[seed]);
            assert_eq!((frames.len(), failed), (1, false));
        }
        assert_eq!(decode(&[&seeds[single]]).0.len(), single);
        let seeds = keeper_seeds();
        assert!(parse_process_stat(std::str::from_utf8(&seeds[0]).unwrap()).is_some());
        assert!(serde_json::from_slice::<KeeperState>(&seeds[1]).is_ok());
    }
}
