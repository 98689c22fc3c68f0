//! Distance: a way to a server on which all that is sent arrives a while later.

use std::{io, net::Ipv4Addr, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep_until},
};

/// Way to a server, until it is dropped.
#[derive(Debug)]
pub(super) struct Distance {
    /// Host and port at which the way begins.
    pub(super) authority: String,
    _server: JoinSet<()>,
}

impl Distance {
    /// A way to the server of `authority`, of which each direction takes half of `round_trip`.
    pub(super) async fn to(authority: &str, round_trip: Duration) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let begins = listener.local_addr()?.to_string();
        let server = authority.to_owned();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let server = server.clone();
                connections.spawn(async move {
                    // Nobody is told of a connection that fails: it ends.
                    let _ = connect(near, &server, round_trip / 2).await;
                });
            }
        });
        Ok(Self { authority: begins, _server: tasks })
    }
}

async fn connect(near: TcpStream, server: &str, delay: Duration) -> io::Result<()> {
    let far = TcpStream::connect(server).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    let (near, far) = (near.into_split(), far.into_split());
    let there = carry(near.0, far.1, delay);
    let back = carry(far.0, near.1, delay);
    tokio::try_join!(there, back).map(|_| ())
}

/// Carries bytes, and the end of them, each a while after it has come.
async fn carry(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    delay: Duration,
) -> io::Result<()> {
    let (sender, mut on_the_way) = mpsc::unbounded_channel();
    let read = async {
        loop {
            let mut bytes = vec![0; 64 << 10];
            let length = from.read(&mut bytes).await?;
            bytes.truncate(length);
            if sender.send((Instant::now() + delay, bytes)).is_err() || length == 0 {
                return Ok::<_, io::Error>(());
            }
        }
    };
    let write = async {
        while let Some((arrives, bytes)) = on_the_way.recv().await {
            sleep_until(arrives).await;
            if bytes.is_empty() {
                return to.shutdown().await;
            }
            to.write_all(&bytes).await?;
        }
        Ok(())
    };
    tokio::try_join!(read, write).map(|_| ())
}
