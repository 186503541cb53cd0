//! A TCP relay between a client and the server: it gives the server another address, and breaks connections.

use std::net::SocketAddr;

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
};

/// Forwards every connection to the server; TLS goes through untouched.
pub(super) struct Relay {
    address: SocketAddr,
    cut: mpsc::Sender<()>,
    /// Ends with the relay.
    _task: JoinSet<()>,
}

impl Relay {
    /// Listens on `address` and forwards to `server`.
    pub(super) async fn start(address: SocketAddr, server: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        // One order at a time is given, by one test.
        let (cut, mut orders) = mpsc::channel(1);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                tokio::select! {
                    accepted = listener.accept() => {
                        let Ok((mut client, _)) = accepted else { return };
                        connections.spawn(async move {
                            if let Ok(mut upstream) = TcpStream::connect(server).await {
                                let _ = copy_bidirectional(&mut client, &mut upstream).await;
                            }
                        });
                    }
                    order = orders.recv() => match order {
                        Some(()) => connections.shutdown().await,
                        None => return,
                    },
                    Some(_) = connections.join_next() => {}
                }
            }
        });
        Ok(Self { address, cut, _task: task })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Breaks every connection without a word.
    pub(super) async fn cut(&self) {
        self.cut.send(()).await.unwrap();
    }
}
