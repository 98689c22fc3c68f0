//! A session: what `dtach` keeps of a container's console. It outlives its clients.

use std::{
    collections::VecDeque,
    future::ready,
    io,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use rustix::process::Pid;
use tokio::sync::{Notify, mpsc, oneshot};

use super::{
    Login, Order,
    device::Device,
    getty::Getty,
    outlet::Outlet,
    pty::{Pty, Shell},
    relay::Relay,
};

/// Most bytes of a client's input that travel as one.
const PACKET: usize = 8;
/// Most bytes of output that travel as one.
const BLOCK: usize = 4096;
/// As the first byte of a packet it detaches the client.
const DETACH: u8 = 0x1c;
/// What termproxy says first.
const OK: &[u8] = b"OK";
/// What it says when it is followed by a client of `dtach`.
const HELLO: &[u8] = b"OK\x1b[H\x1b[J";
const DETACHED: &[u8] = b"\x1b[999H\r\n[detached]\r\n";
const ENDED: &[u8] = b"\x1b[999H\r\n[EOF - dtach terminating]\r\n";

/// A session that runs until its terminal ends, or until it is dropped.
pub(crate) struct Session {
    shared: Arc<Shared>,
    input: mpsc::Sender<Input>,
    /// Ends the session when it is dropped.
    _end: oneshot::Sender<()>,
    leader: Option<Pid>,
}

/// Whether a session is what `dtach` keeps, or a terminal for a real client of that, which says all by itself.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Dtach,
    Terminal,
}

/// Who is attached.
struct Shared {
    part: Part,
    /// `None` when the session has ended.
    clients: Mutex<Option<Vec<Arc<Outlet>>>>,
    stirred: Arc<Notify>,
}

/// What a client sends.
enum Input {
    Packet(Vec<u8>),
    Size(u16, u16),
}

/// One who is attached; leaves when it is dropped.
pub struct Client {
    outlet: Arc<Outlet>,
    input: mpsc::Sender<Input>,
    part: Part,
    /// What is its own alone.
    terminal: Option<Session>,
    is_detached: AtomicBool,
    /// Whether it stays when it is dropped.
    hangs: bool,
}

impl Session {
    /// Starts one, with its first client.
    pub(crate) fn start(order: &Order, shell: &Shell) -> io::Result<(Self, Client)> {
        Self::begin(order, shell, Part::Dtach)
    }

    /// A client of a real `dtach`, which is started for it, and the process that it is.
    pub(crate) fn of_dtach(order: &Order, dtach: &Shell) -> io::Result<(Option<Pid>, Client)> {
        let (session, mut client) = Self::begin(order, dtach, Part::Terminal)?;
        let leader = session.leader;
        client.terminal = Some(session);
        Ok((leader, client))
    }

    fn begin(order: &Order, shell: &Shell, part: Part) -> io::Result<(Self, Client)> {
        let device = match order.login {
            Login::Shell => Device::Shell(Box::new(Pty::start(shell)?)),
            Login::Getty => Device::Getty(Getty::new()),
        };
        let stirred = Arc::new(Notify::new());
        let outlet = Arc::new(Outlet::new(part.hello(), stirred.clone()));
        let shared = Arc::new(Shared { part, clients: Mutex::new(Some(vec![outlet.clone()])), stirred });
        let (input, typed) = mpsc::channel(1);
        let (end, ended) = oneshot::channel();
        let client = Client::new(outlet, input.clone(), part);
        let relay = Relay::new(order.settings.clone());
        let session = Self { shared: shared.clone(), input, _end: end, leader: device.leader() };
        tokio::spawn(async move {
            tokio::select! {
                () = run(device, relay, &shared, typed) => {}
                _ = ended => {}
            }
            shared.end();
        });
        Ok((session, client))
    }

    /// The process that leads it.
    pub(crate) fn leader(&self) -> Option<Pid> {
        self.leader
    }

    /// Another client, unless the session has ended.
    pub(crate) fn attach(&self) -> Option<Client> {
        let outlet = Arc::new(Outlet::new(HELLO, self.shared.stirred.clone()));
        self.shared.clients().as_mut()?.push(outlet.clone());
        self.shared.stirred.notify_one();
        Some(Client::new(outlet, self.input.clone(), self.shared.part))
    }
}

/// Passes packets to the terminal and its output to everybody, one after the other as they come.
async fn run(mut device: Device, mut relay: Relay, shared: &Shared, mut typed: mpsc::Receiver<Input>) {
    let mut buffer = [0; BLOCK];
    loop {
        tokio::select! {
            Some(input) = typed.recv() => match input {
                Input::Packet(packet) => {
                    if device.write(&relay.typed(packet)).await.is_err() {
                        return;
                    }
                }
                Input::Size(cols, rows) => device.resize(cols, rows),
            },
            () = ready(()), if !relay.human().is_empty() => {
                if device.write(&packet(relay.human())).await.is_err() {
                    return;
                }
            }
            read = device.read(&mut buffer) => match read {
                Ok(length) if length > 0 => {
                    for block in outer(&relay.printed(&buffer[..length])).chunks(BLOCK) {
                        shared.broadcast(block).await;
                    }
                }
                _ => return,
            },
        }
    }
}

/// The first packet of what was typed.
fn packet(typed: &mut VecDeque<u8>) -> Vec<u8> {
    typed.drain(..typed.len().min(PACKET)).collect()
}

/// The terminal around the terminal makes two bytes of each line's end.
fn outer(bytes: &[u8]) -> Vec<u8> {
    bytes
        .iter()
        .flat_map(|byte| if *byte == b'\n' { &b"\r\n"[..] } else { std::slice::from_ref(byte) })
        .copied()
        .collect()
}

impl Shared {
    fn clients(&self) -> MutexGuard<'_, Option<Vec<Arc<Outlet>>>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives a block to all who have room for it, as soon as anybody has; the others lose it, and all do while nobody is
    /// attached.
    async fn broadcast(&self, block: &[u8]) {
        while !self.gave(block) {
            self.stirred.notified().await;
        }
    }

    fn gave(&self, block: &[u8]) -> bool {
        let mut clients = self.clients();
        let Some(clients) = clients.as_mut() else { return true };
        clients.retain(|it| !it.is_over());
        if !clients.is_empty() && !clients.iter().any(|it| it.has_room()) {
            return false;
        }
        clients.iter().for_each(|it| it.push(block));
        true
    }

    fn end(&self) {
        for client in self.clients().take().into_iter().flatten() {
            client.end(if self.part == Part::Dtach { ENDED } else { &[] });
        }
    }
}

impl Part {
    fn hello(self) -> &'static [u8] {
        if self == Self::Dtach { HELLO } else { OK }
    }
}

impl Client {
    fn new(outlet: Arc<Outlet>, input: mpsc::Sender<Input>, part: Part) -> Self {
        Self { outlet, input, part, terminal: None, is_detached: AtomicBool::new(false), hangs: false }
    }

    /// One who finds no terminal, but this text.
    pub(super) fn of_nothing(text: &str) -> Self {
        let outlet = Outlet::new(HELLO, Arc::new(Notify::new()));
        outlet.push(text.as_bytes());
        outlet.end(ENDED);
        Self::new(Arc::new(outlet), mpsc::channel(1).0, Part::Dtach)
    }

    /// Sends the next packet of what is pending, once the session takes one; whether the client is still attached.
    pub(super) async fn send(&self, pending: &mut VecDeque<u8>) -> bool {
        let permit = self.input.reserve().await;
        let packet = packet(pending);
        if packet.first() == Some(&DETACH) && self.part == Part::Dtach {
            self.is_detached.store(true, Ordering::SeqCst);
            self.outlet.end(DETACHED);
            return false;
        }
        if let Ok(permit) = permit {
            permit.send(Input::Packet(packet));
        }
        true
    }

    /// Whether it has detached.
    pub(super) fn is_detached(&self) -> bool {
        self.is_detached.load(Ordering::SeqCst)
    }

    /// Leaves a client behind that is attached, and reads nothing.
    pub(super) fn hang(mut self) {
        self.hangs = true;
        // It ends with the container.
        std::mem::forget(self.terminal.take());
    }

    /// Gives the terminal a size.
    pub(super) async fn resize(&self, cols: u16, rows: u16) {
        let _ = self.input.send(Input::Size(cols, rows)).await;
    }

    /// At most so many bytes of output, once there are any; `None` at the end.
    pub(super) async fn output(&self, most: usize) -> Option<Vec<u8>> {
        self.outlet.take(most).await
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        if !self.hangs {
            self.outlet.end(&[]);
        }
    }
}
