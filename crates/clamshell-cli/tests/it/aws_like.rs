//! The client against a server without our additions: what it does with AWS.
//!
//! A relay in front of a real server takes the additions away, and breaks connections when told to.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

use clamshell_server::local::root_credentials;

use super::program::{Terminal, command, finish, server};

/// Text of the server and what clients see instead, of the same length.
const ADDITIONS: [(&[u8], &[u8]); 2] =
    [(b"x-clamshell-shell-offset", b"x-something-else-entirel"), (b"\"offset\":", b"\"0ffset\":")];

struct Relay {
    address: SocketAddr,
    streams: Arc<Mutex<Vec<TcpStream>>>,
}

impl Relay {
    fn start(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let streams = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&streams);
        let server = server.trim_start_matches("http://").to_owned();
        // Ends with the process of the tests.
        std::thread::spawn(move || {
            while let Ok((client, _)) = listener.accept() {
                let Ok(upstream) = TcpStream::connect(&server) else { continue };
                kept.lock().unwrap().extend([client.try_clone().unwrap(), upstream.try_clone().unwrap()]);
                let (from_client, to_server) = (client.try_clone().unwrap(), upstream.try_clone().unwrap());
                std::thread::spawn(move || copy(from_client, to_server, false));
                std::thread::spawn(move || copy(upstream, client, true));
            }
        });
        Self { address, streams }
    }

    fn cut(&self) {
        for stream in self.streams.lock().unwrap().drain(..) {
            // It may be closed already.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream, change: bool) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let bytes = &mut buffer[..count];
        for (text, instead) in ADDITIONS.iter().filter(|_| change) {
            while let Some(at) =
                bytes.windows(text.len()).position(|window| window.eq_ignore_ascii_case(text))
            {
                bytes[at..at + text.len()].copy_from_slice(instead);
            }
        }
        if to.write_all(bytes).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

#[tokio::test]
async fn a_shell_comes_back_with_its_replay() {
    let Some(server) = server("").await else { return };
    let info = server.info().unwrap();
    let relay = Relay::start(&info.endpoint);
    let keys = root_credentials(server.data_dir()).await.unwrap();
    let url = format!("http://{}", relay.address);
    // Nothing of the server's own folder: endpoint, keys and ARN, as for AWS.
    let elsewhere = tempfile::tempdir().unwrap();
    let as_for_aws = |args: &[&str]| {
        let mut command = command(elsewhere.path(), args);
        command
            .env("AWS_ACCESS_KEY_ID", &keys.access_key_id)
            .env("AWS_SECRET_ACCESS_KEY", &keys.secret_access_key)
            .env("AWS_ENDPOINT_URL_BEDROCK_AGENTCORE", &url);
        command
    };
    let arn = info.default_runtime_arn.as_str();
    let by_name =
        finish(as_for_aws(&["exec", "--region", "us-west-2", "--runtime", "default", "echo by-name"]));
    assert_eq!((by_name.code, by_name.stdout.as_str()), (Some(0), "by-name\n"), "{by_name:?}");

    let mut terminal = Terminal::start(as_for_aws(&["exec", "--it", "--runtime", arn]));
    terminal.expect("[connected");
    terminal.send("KEPT=still; echo before-$((1 + 1))\n");
    terminal.expect("before-2");
    relay.cut();
    terminal.expect("reconnecting (1/5)...]");
    terminal.expect("[reconnected]");
    // The replay has it again.
    terminal.expect("before-2");
    terminal.send("echo it-is-$KEPT; head -c 400000 /dev/zero | tr '\\0' x; echo; echo after-$((1 + 1))\n");
    terminal.expect("it-is-still");
    terminal.expect("after-2");
    relay.cut();
    terminal.expect("[reconnected]");
    terminal.expect("after-2");
    terminal.send("exit 5\n");
    terminal.expect("[session closed · exit 5]");
    assert_eq!(terminal.end().0, Some(5));
}
