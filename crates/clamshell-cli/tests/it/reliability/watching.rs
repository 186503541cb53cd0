//! Those who watch lose nothing to `kill -9`: the next stream begins with all there is, titles and audit trail included.

use clamshell_testkit::{Client, skip};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::*;

/// The stream of events as text, with whatever HTTP puts in between.
struct Stream {
    socket: TcpStream,
    text: String,
}

impl Stream {
    async fn open(client: &Client) -> Self {
        let path = "/clamshell/v1/events?topics=sessions,shells,audit";
        let headers = client.signed("GET", path, &[], b"").unwrap();
        let mut request = format!("GET {path} HTTP/1.1\r\n");
        for (name, value) in &headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        let mut socket = TcpStream::connect(&client.authority).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        Self { socket, text: String::new() }
    }

    /// Reads on until all of these were seen, in any order, since the stream began; `false` when it ended before.
    async fn reads(&mut self, wanted: &[&str]) -> bool {
        let read = async {
            let mut buffer = vec![0; 64 * 1024];
            while !wanted.iter().all(|text| self.text.contains(text)) {
                match self.socket.read(&mut buffer).await {
                    Ok(0) | Err(_) => return false,
                    Ok(count) => self.text.push_str(&String::from_utf8_lossy(&buffer[..count])),
                }
            }
            true
        };
        tokio::time::timeout(PATIENCE, read)
            .await
            .unwrap_or_else(|_| panic!("{wanted:?} not in {}", self.text))
    }
}

#[tokio::test]
async fn kill_9_while_somebody_watches() {
    if !clamshell_testkit::is_root() {
        return skip::<()>("needs root").unwrap_or_default();
    }
    let (mut server, client) = start("").await;
    let session = session_id("kill-nine-watching");
    let mut stream = Stream::open(&client).await;
    assert!(stream.reads(&["{\"sessions\":[]}", "{\"shells\":[]}", "{\"records\":[]}"]).await);
    let shell = client.attach(&session, "build", "create=true").await.unwrap();
    let title = format!("/clamshell/v1/sessions/{session}/shells/build/title");
    let headers = [("content-type", "application/json")];
    let named = client.request("PUT", &title, &headers, b"{\"title\":\"nightly\"}").await.unwrap();
    assert_eq!(named.status, 200);
    let told = ["event: session\n", "event: shell\n", "\"title\":\"nightly\"", "clamshell:RenameShell"];
    assert!(stream.reads(&told).await);
    server.kill_9().unwrap();
    assert!(!stream.reads(&["nothing more"]).await, "the stream ends");
    drop(shell);

    server.start_again().await.unwrap();
    let mut stream = Stream::open(&client).await;
    // Whoever was told of the new title finds it in the trail.
    let picture = [
        "event: sessions\n",
        "event: shells\n",
        "event: audit\n",
        &session,
        "\"title\":\"nightly\"",
        "clamshell:AttachShell",
        "clamshell:RenameShell",
    ];
    assert!(stream.reads(&picture).await);
    let closed = client.request("DELETE", &title.replace("/title", ""), &[], b"").await.unwrap();
    assert_eq!(closed.status, 204);
    assert!(stream.reads(&["event: shell\n", "\"state\":\"Ended\"", "clamshell:CloseShell"]).await);
}
