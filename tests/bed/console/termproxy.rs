//! `termproxy`, with pveproxy's websocket before it: one client of a console.

use std::{collections::VecDeque, time::Duration};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    sync::mpsc,
    time::{sleep, timeout},
};

use super::{
    Host, Login, Order, Shared,
    faults::At,
    frame::{self, Frame},
    locked,
    protocol::{Incoming, Message},
    session::Client,
};
use crate::sim::Rng;

/// How long a client may take to say who it is.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a client may take to end a connection that is over.
const FAREWELL: Duration = Duration::from_secs(1);
/// Most bytes of input that wait: pveproxy ends a connection with more.
const PENDING: usize = 640 << 10;

/// One connection, as it was asked for.
pub(crate) struct Visit {
    /// Whose console.
    pub(crate) vmid: u32,
    /// Who has asked for it.
    pub(crate) user: String,
    /// What they were given.
    pub(crate) ticket: String,
    /// What a new session starts.
    pub(crate) login: Login,
    /// Where the container runs.
    pub(crate) host: Option<Host>,
    /// How consoles behave.
    pub(crate) settings: Shared,
    /// Of the sizes in which output comes.
    pub(crate) rng: Rng,
}

/// Serves a client until one of the two ends it; no frame says so. Returns whether it was let in.
pub(crate) async fn serve(stream: impl AsyncRead + AsyncWrite, visit: Visit) -> bool {
    let (reader, mut writer) = split(Box::pin(stream));
    let (answers, mut pongs) = mpsc::unbounded_channel();
    let mut reader = Reader { reader, raw: BytesMut::new(), incoming: Incoming::default(), answers };
    let login = timeout(PATIENCE, reader.login()).await.ok().flatten();
    let is_let_in = login.is_some_and(|(user, ticket)| user == visit.user && ticket == visit.ticket)
        && !(visit.user.contains('!') && locked(&visit.settings).faults.refuses_tokens);
    if is_let_in {
        let cut = locked(&visit.settings).faults.cuts.pop_front();
        let client = attach(&visit);
        tokio::select! {
            () = reader.pass(&client, cut) => {}
            () = write(&mut writer, &client, visit.rng, &mut pongs, cut) => {}
        }
        if client.is_detached() && locked(&visit.settings).faults.stays_detached {
            while reader.more().await.is_some() {}
        }
        let faults = &mut locked(&visit.settings).faults;
        if let Some(left) = faults.hung_clients.checked_sub(1) {
            faults.hung_clients = left;
            client.hang();
        }
    }
    let _ = writer.shutdown().await;
    // What the client still sends would make the last bytes to it void.
    let _ = timeout(FAREWELL, async { while reader.more().await.is_some() {} }).await;
    is_let_in
}

fn attach(visit: &Visit) -> Client {
    let order = Order { vmid: visit.vmid, login: visit.login, settings: visit.settings.clone() };
    let opened = match &visit.host {
        Some(host) => host(order),
        None => Err(not_running(visit.vmid)),
    };
    opened.unwrap_or_else(|text| Client::of_nothing(&text))
}

/// What `lxc-attach` says of a container that does not run.
pub(crate) fn not_running(vmid: u32) -> String {
    let said = |function: &str, line: u32, what: &str| {
        format!(
            "lxc-attach: {vmid}: ../src/lxc/attach.c: {function}: {line} Connection refused - Failed to get {what}\r\n"
        )
    };
    said("get_attach_context", 406, "init pid") + &said("lxc_attach", 1470, "attach context")
}

/// What comes from the client.
struct Reader<R> {
    reader: R,
    raw: BytesMut,
    incoming: Incoming,
    answers: mpsc::UnboundedSender<Vec<u8>>,
}

impl<R: AsyncRead + Unpin> Reader<R> {
    /// Reads until there is more; `None` at the end of the connection, whoever has ended it.
    async fn more(&mut self) -> Option<()> {
        loop {
            let mut has_more = false;
            while let Some(frame) = frame::take(&mut self.raw).ok()? {
                match frame {
                    Frame::Data(bytes) => {
                        self.incoming.push(&bytes);
                        has_more = true;
                    }
                    // Nobody writes any more when nobody takes it.
                    Frame::Ping(bytes) => drop(self.answers.send(frame::pong(&bytes))),
                    Frame::Pong => {}
                    Frame::Close => return None,
                }
            }
            if has_more {
                return Some(());
            }
            if self.reader.read_buf(&mut self.raw).await.ok()? == 0 {
                return None;
            }
        }
    }

    async fn login(&mut self) -> Option<(String, String)> {
        loop {
            self.more().await?;
            if let Some(login) = self.incoming.login().ok()? {
                return Some(login);
            }
        }
    }

    /// Passes what is typed, until the client leaves or is cut off.
    async fn pass(&mut self, client: &Client, cut: Option<At>) {
        let mut pending = VecDeque::new();
        let mut left = if let Some(At::Input(place)) = cut { place } else { u64::MAX };
        loop {
            loop {
                match self.incoming.message() {
                    Ok(Some(Message::Data(mut bytes))) => {
                        bytes.truncate(usize::try_from(left).unwrap_or(usize::MAX));
                        left -= bytes.len() as u64;
                        pending.extend(bytes);
                    }
                    Ok(Some(Message::Size(cols, rows))) => client.resize(cols, rows).await,
                    Ok(Some(Message::Nothing)) => {}
                    Ok(None) => break,
                    Err(_) => return,
                }
            }
            let is_cut = left == 0 && pending.is_empty();
            if is_cut || pending.len() + self.incoming.len() > PENDING {
                return;
            }
            tokio::select! {
                more = self.more(), if left > 0 => {
                    if more.is_none() {
                        return;
                    }
                }
                is_attached = client.send(&mut pending), if !pending.is_empty() => {
                    if !is_attached {
                        // The connection ends when the client has been told.
                        return sleep(FAREWELL).await;
                    }
                }
            }
        }
    }
}

/// Passes output, in pieces of any size, until there is no more or the client is cut off.
async fn write(
    writer: &mut (impl AsyncWrite + Unpin),
    client: &Client,
    mut rng: Rng,
    pongs: &mut mpsc::UnboundedReceiver<Vec<u8>>,
    cut: Option<At>,
) {
    let mut left = if let Some(At::Output(place)) = cut { place } else { u64::MAX };
    while left > 0 {
        let most = size(&mut rng).min(usize::try_from(left).unwrap_or(usize::MAX));
        let frame = tokio::select! {
            Some(pong) = pongs.recv() => pong,
            output = client.output(most) => match output {
                Some(bytes) => {
                    left -= bytes.len() as u64;
                    frame::binary(&bytes)
                }
                None => return,
            },
        };
        if writer.write_all(&frame).await.is_err() || writer.flush().await.is_err() {
            return;
        }
    }
}

/// Small ones are as frequent as large ones.
fn size(rng: &mut Rng) -> usize {
    let most = 1 << rng.below(13);
    1 + rng.below(most) as usize
}
