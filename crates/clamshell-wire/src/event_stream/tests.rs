//! Vectors of the service, splitting, UTF-8 and round trips.

use aws_smithy_eventstream::frame::read_message_from;
use proptest::prelude::*;

use super::*;
use crate::percent::hex_digit;

const START: &str = "0000006e0000004ba22e8e5d0b3a6576656e742d747970650700056368756e6b0d3a636f6e74656e742d74797065070010\
    6170706c69636174696f6e2f6a736f6e0d3a6d6573736167652d747970650700056576656e747b22636f6e74656e745374617274223a7b7d7d\
    29591517";
const GONE: &str = "0000008200000060e3b65dc30f3a657863657074696f6e2d7479706507001272756e74696d65436c69656e744572726f720d\
    3a636f6e74656e742d747970650700106170706c69636174696f6e2f6a736f6e0d3a6d6573736167652d747970650700096578636570746\
    96f6e7b226d657373616765223a22676f6e65227d8476a815";

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter_map(hex_digit).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn payloads(mut bytes: Bytes) -> Vec<String> {
    let mut out = Vec::new();
    while !bytes.is_empty() {
        let message = read_message_from(&mut bytes).unwrap();
        out.push(String::from_utf8(message.payload().to_vec()).unwrap());
    }
    out
}

#[test]
fn vectors() {
    let mut events = CommandEvents::new();
    assert_eq!(events.content_start(), unhex(START));
    assert_eq!(events.exception(ErrorCode::RuntimeClientError, "gone"), unhex(GONE));
    assert_eq!((unhex(START).len(), unhex(GONE).len()), (110, 130));
}

#[test]
fn payloads_of_the_events() {
    let mut events = CommandEvents::new();
    let bytes = events.deltas(OutputStream::Stdout, b"a\"\\\n\r\t\x08\x1b\x7f\xc3\xa9");
    assert_eq!(
        payloads(bytes),
        ["{\"contentDelta\":{\"stdout\":\"a\\\"\\\\\\n\\r\\t\\u0008\\u001b\u{7f}é\"}}"]
    );
    let bytes = events.deltas(OutputStream::Stderr, b"oh");
    assert_eq!(payloads(bytes), [r#"{"contentDelta":{"stderr":"oh"}}"#]);
    assert!(events.deltas(OutputStream::Stdout, b"").is_empty());
    assert_eq!(events.output_bytes(), 13);
    let bytes = events.content_stop(0, CommandStatus::Completed);
    assert_eq!(payloads(bytes), [r#"{"contentStop":{"exitCode":0,"status":"COMPLETED"}}"#]);
    let bytes = events.content_stop(-1, CommandStatus::TimedOut);
    assert_eq!(payloads(bytes), [r#"{"contentStop":{"exitCode":-1,"status":"TIMED_OUT"}}"#]);
}

#[test]
fn sequences_are_kept_whole_per_stream() {
    let mut events = CommandEvents::new();
    assert!(events.deltas(OutputStream::Stdout, b"\xe2").is_empty());
    assert_eq!(
        payloads(events.deltas(OutputStream::Stderr, b"\x82")),
        ["{\"contentDelta\":{\"stderr\":\"\u{fffd}\"}}"]
    );
    assert!(events.deltas(OutputStream::Stdout, b"\x82").is_empty());
    assert_eq!(
        payloads(events.deltas(OutputStream::Stdout, b"\xac!")),
        ["{\"contentDelta\":{\"stdout\":\"€!\"}}"]
    );
    let bytes = events.deltas(OutputStream::Stdout, b"x\xff\xf0\x9f");
    assert_eq!(payloads(bytes), ["{\"contentDelta\":{\"stdout\":\"x\u{fffd}\"}}"]);
    let last = payloads(events.content_stop(1, CommandStatus::Completed));
    assert_eq!(last[0], "{\"contentDelta\":{\"stdout\":\"\u{fffd}\"}}");
    assert_eq!(last.len(), 2);
}

#[test]
fn large_output_is_split_within_the_limit() {
    for input in [vec![b'a'; 300_000], vec![0; 100_000], "€".repeat(70_000).into_bytes()] {
        let mut events = CommandEvents::new();
        let bytes = events.deltas(OutputStream::Stdout, &input);
        let payloads = payloads(bytes.clone());
        assert!(payloads.iter().all(|payload| payload.len() <= PAYLOAD_BYTES_MAX));
        assert!(payloads.iter().rev().skip(1).all(|payload| payload.len() > PAYLOAD_BYTES_MAX - 8));
        let mut text = String::new();
        for event in CommandEventReader::new().feed(&bytes).unwrap() {
            let CommandEvent::Stdout(piece) = event else { panic!("{event:?}") };
            text.push_str(&piece);
        }
        assert!(text.as_bytes() == input);
    }
}

#[test]
fn exception_texts_are_bounded() {
    let bytes = CommandEvents::new().exception(ErrorCode::Throttling, &"é".repeat(10_000));
    let events = CommandEventReader::new().feed(&bytes).unwrap();
    let expect = CommandEvent::Exception { name: "throttlingException".into(), message: "é".repeat(2048) };
    assert_eq!(events, [expect]);
}

#[test]
fn reads_what_other_servers_send() {
    let write = |headers: &[(&'static str, &'static str)], payload: &'static str| {
        let header = |(name, value): &(&'static str, &'static str)| {
            Header::new(StrBytes::from(*name), HeaderValue::String(StrBytes::from(*value)))
        };
        let message = Message::new_from_parts(headers.iter().map(header).collect(), payload.as_bytes());
        let mut out = BytesMut::new();
        write_message_to(&message, &mut out).unwrap();
        out.freeze()
    };
    let event = [(":message-type", "event"), (":event-type", "chunk")];
    let mut reader = CommandEventReader::new();
    let both = write(&event, r#"{"contentDelta":{"stdout":"a","stderr":"b","new":1},"x":{}}"#);
    let expect = [CommandEvent::Stdout("a".into()), CommandEvent::Stderr("b".into())];
    assert_eq!(reader.feed(&both).unwrap(), expect);
    assert_eq!(reader.feed(&write(&[(":message-type", "event"), (":event-type", "new")], "?")).unwrap(), []);
    assert_eq!(reader.feed(&write(&[], "")).unwrap(), []);
    assert!(!reader.is_ended());
    let error = [(":message-type", "error"), (":error-code", "Oops"), (":error-message", "m")];
    let expect = [CommandEvent::Exception { name: "Oops".into(), message: "m".into() }];
    assert_eq!(reader.feed(&write(&error, "")).unwrap(), expect);
    assert!(reader.is_ended());
    let status = write(&event, r#"{"contentStop":{"exitCode":0,"status":"MAYBE"}}"#);
    assert!(matches!(reader.feed(&status), Err(EventStreamError::Status)));
    assert!(matches!(reader.feed(b""), Err(EventStreamError::Failed)));
    let bad = write(&event, "{");
    assert!(matches!(CommandEventReader::new().feed(&bad), Err(EventStreamError::Event(_))));
}

#[test]
fn damage_is_noticed() {
    let good = CommandEvents::new().content_stop(3, CommandStatus::Completed);
    let mut reader = CommandEventReader::new();
    assert_eq!(reader.feed(&good[..20]).unwrap(), []);
    assert!(matches!(reader.finish(), Err(EventStreamError::Truncated)));
    for index in 4..good.len() {
        let mut bad = good.to_vec();
        bad[index] ^= 1;
        assert!(CommandEventReader::new().feed(&bad).is_err(), "{index}");
    }
    for length in [0_u32, 15, 0x7fff_ffff, u32::MAX] {
        let fed = CommandEventReader::new().feed(&length.to_be_bytes());
        assert!(matches!(fed, Err(EventStreamError::Length { .. })), "{length}");
    }
}

proptest! {
    #[test]
    fn round_trip_in_any_cut(
        pieces in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..40)), 0..8),
        cut in 1..50_usize,
        exit_code: i32,
    ) {
        let mut events = CommandEvents::new();
        let mut wire = events.content_start().to_vec();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        for (is_out, bytes) in &pieces {
            let (stream, sum) = if *is_out { (OutputStream::Stdout, &mut out) } else { (OutputStream::Stderr, &mut err) };
            sum.extend_from_slice(bytes);
            wire.extend_from_slice(&events.deltas(stream, bytes));
        }
        wire.extend_from_slice(&events.content_stop(exit_code, CommandStatus::Completed));
        let mut reader = CommandEventReader::new();
        let mut read = Vec::new();
        for piece in wire.chunks(cut) {
            read.extend(reader.feed(piece).unwrap());
        }
        reader.finish().unwrap();
        let (mut seen_out, mut seen_err) = (String::new(), String::new());
        for event in &read {
            match event {
                CommandEvent::Stdout(text) => seen_out.push_str(text),
                CommandEvent::Stderr(text) => seen_err.push_str(text),
                _ => {}
            }
        }
        // However the bytes were cut, the text is that of the whole.
        prop_assert_eq!(seen_out, String::from_utf8_lossy(&out));
        prop_assert_eq!(seen_err, String::from_utf8_lossy(&err));
        prop_assert_eq!(read.first(), Some(&CommandEvent::Start));
        prop_assert_eq!(read.last(), Some(&CommandEvent::Stop { exit_code, status: CommandStatus::Completed }));
    }

    #[test]
    fn hostile_streams_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = CommandEventReader::new().feed(&bytes);
    }
}
