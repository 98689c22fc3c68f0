//! Part `keep`: one small process for each command. It owns the command's streams, its time and its descendants, so
//! that nothing is lost when the daemon ends.
//!
//! It is single-threaded and waits with `poll`. Its standard output is the file whose lock says that it lives.

mod child;
mod connection;
mod given;
mod request;
mod stdin;
pub(crate) mod tree;
mod wait;

use std::{
    ffi::OsString,
    fs::File,
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use pve_edge_guest_protocol::process::Exit;
use rustix::{
    io::{Errno, fcntl_dupfd_cloexec},
    process::{Signal, WaitOptions, WaitStatus, chdir, getpid, set_child_subreaper, setsid, wait},
    stdio::{dup2_stdin, stdin},
};
use signal_hook::{consts::SIGCHLD, low_level::pipe};

use self::{
    child::{Child, Streams},
    connection::Connection,
    given::Given,
};
use crate::process::{
    cgroup,
    folder::{Description, Ended, Folder, uptime_ms},
    keeper::{Answer, Order, refusal},
    log::Writer,
};

/// Time between the request to end and the kill.
const GRACE: Duration = Duration::from_secs(2);

/// Time between two kills, while descendants are left.
const AGAIN: Duration = Duration::from_millis(100);

/// Bytes of each stream that are read at most once the command has ended: more than a pipe or a terminal holds.
const DRAINED: usize = 1 << 20;

/// Bytes that are read at once.
const CHUNK: usize = 64 << 10;

/// Plays the part: keeps one command, which is told on standard input, until its last descendant has ended.
pub fn main(_arguments: Vec<OsString>) -> ExitCode {
    let Ok((order, input, mut channel)) = receive() else { return ExitCode::FAILURE };
    let (folder, is_given) = (order.folder.clone(), order.input.is_some());
    let kept = Kept::begin(order);
    let (answer, kept) = match kept {
        Ok(kept) => (Answer::Done, Some(kept)),
        Err(error) => (Answer::Refused(refusal("the process cannot be started", &error)), None),
    };
    // A daemon that was killed meanwhile reads the folder.
    let _ = serde_json::to_vec(&answer).map(|json| channel.write_all(&[&json, &b"\n"[..]].concat()));
    match kept {
        Some(mut kept) => {
            kept.given = is_given.then(|| Given::new(input, channel));
            kept.run();
        }
        None => folder.tidy(),
    }
    ExitCode::SUCCESS
}

/// The order, and the input that comes with it.
fn receive() -> io::Result<(Order, Vec<u8>, UnixStream)> {
    let channel = UnixStream::from(fcntl_dupfd_cloexec(stdin(), 3)?);
    dup2_stdin(File::open("/dev/null")?)?;
    let (mut line, mut from) = (Vec::new(), BufReader::new(&channel));
    from.read_until(b'\n', &mut line)?;
    let order: Order = serde_json::from_slice(&line)?;
    let mut input = vec![0; order.input.unwrap_or(0)];
    from.read_exact(&mut input)?;
    Ok((order, input, channel))
}

/// A command that is kept.
struct Kept {
    folder: Folder,
    log: Writer,
    stall: Duration,
    cgroup: Option<PathBuf>,
    child: Child,
    streams: Streams,
    /// Standard input that was given at the start.
    given: Option<Given>,
    /// Where a signal says that a child has ended.
    ends: UnixStream,
    listener: UnixListener,
    connections: Vec<Connection>,
    has_children: bool,
    ended: Option<Ended>,
    deadline: Option<Instant>,
    /// Time without a follower after which the command ends, if it is to end so.
    hangup: Option<Duration>,
    /// When a follower was attached last, or else the start.
    followed: Instant,
    timed_out: bool,
    /// When what is left is killed.
    kill_at: Option<Instant>,
    /// Since when the command waits for followers.
    blocked: Option<Instant>,
}

impl Kept {
    /// Starts the command. On an error nothing runs.
    fn begin(mut order: Order) -> io::Result<Self> {
        let folder = order.folder;
        chdir(&folder.path)?;
        // It is in no session of a terminal from which the daemon was started.
        setsid()?;
        set_child_subreaper(Some(getpid()))?;
        let (ends, their_end) = UnixStream::pair()?;
        ends.set_nonblocking(true)?;
        pipe::register(SIGCHLD, their_end)?;
        let listener = UnixListener::bind(Folder::SOCKET)?;
        listener.set_nonblocking(true)?;
        std::fs::create_dir(folder.log())?;
        // Without it, output is kept in the run folder.
        let _ = std::fs::create_dir_all(&order.log.disk);
        let name = folder.path.file_name().and_then(|it| it.to_str()).unwrap_or_default();
        order.launch.cgroup = order.launch.cgroup.and_then(|parent| cgroup::create(&parent, name).ok());
        let mut description = Description {
            keeper: getpid().as_raw_pid().unsigned_abs(),
            started_ms: uptime_ms(),
            cgroup: order.launch.cgroup.clone(),
            ..order.description
        };
        let started = folder.reserve(&description).and_then(|()| child::start(&order.launch));
        let (child, streams) = started.inspect_err(|_| remove_group(order.launch.cgroup.as_deref()))?;
        description.pid = Some(child.pid.as_raw_pid().unsigned_abs());
        // It runs now: from here on nothing can fail that would have it taken for a process that does not.
        let _ = folder.describe(&description);
        let now = Instant::now();
        Ok(Self {
            folder,
            log: Writer::new(order.log),
            stall: Duration::from_millis(order.stall_ms),
            cgroup: order.launch.cgroup,
            child,
            streams,
            given: None,
            ends,
            listener,
            connections: Vec::new(),
            has_children: true,
            ended: None,
            deadline: order.timeout_ms.and_then(|it| now.checked_add(Duration::from_millis(it))),
            hangup: order.hangup_ms.map(Duration::from_millis),
            followed: now,
            timed_out: false,
            kill_at: None,
            blocked: None,
        })
    }

    fn run(mut self) {
        while self.has_children || self.ended.is_none() {
            self.give();
            let ready = self.wait();
            if ready.child {
                self.reap();
            }
            for index in ready.out {
                self.read(index, CHUNK);
            }
            self.streams.out.retain(|it| !it.is_over);
            if ready.listener {
                self.accept();
            }
            self.serve(&ready.connections);
            self.pass_time(Instant::now());
            self.tell();
        }
        self.finish();
    }

    /// Takes the ends of children: of the command, and of descendants whose own parents are gone.
    fn reap(&mut self) {
        let mut ignored = [0; 64];
        while self.ends.read(&mut ignored).is_ok_and(|it| it == ignored.len()) {}
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) if pid == self.child.pid => self.end(status),
                Ok(Some(_)) | Err(Errno::INTR) => {}
                Ok(None) => break,
                Err(_) => break self.has_children = false,
            }
        }
    }

    /// The command has ended: what it has written is taken before it is told.
    fn end(&mut self, status: WaitStatus) {
        self.drain();
        let timed_out = self.timed_out;
        let exit = Exit { timed_out, ..self.child.exit(status, self.kill_at.is_some()) };
        let cursor = self.log.cursor();
        let ended = Ended { exit, cursor, end: cursor };
        let _ = self.folder.end(&ended);
        // Output of descendants may come behind it; that it did is lost if there is no room.
        let _ = self.folder.reserve_end();
        self.ended = Some(ended);
    }

    /// Reads what the streams hold now. For a follower that has not read on, the log becomes longer.
    fn drain(&mut self) {
        let unread = self.unread();
        for index in 0..self.streams.out.len() {
            let mut left = DRAINED;
            while left > 0 {
                self.log.is_ready(unread);
                match self.read(index, left.min(CHUNK)) {
                    0 => break,
                    length => left -= length,
                }
            }
        }
    }

    /// Reads from a stream what is there, and returns how much it was.
    fn read(&mut self, index: usize, most: usize) -> usize {
        let Some(source) = self.streams.out.get_mut(index) else { return 0 };
        let mut buffer = vec![0; most.min(self.log.room())];
        let data = source.read(&mut buffer);
        if !data.is_empty() {
            self.log.append(source.stream, data);
        }
        data.len()
    }

    /// Begins to end all that the command has started.
    fn kill(&mut self) {
        if self.kill_at.is_none() {
            tree::signal(getpid(), Signal::TERM);
            self.kill_at = Some(Instant::now() + GRACE);
        }
    }

    /// Does what is due.
    fn pass_time(&mut self, now: Instant) {
        if self.deadline.is_some_and(|it| it <= now) {
            self.deadline = None;
            self.timed_out = self.ended.is_none();
            self.kill();
        }
        if self.hangs_up_at().is_some_and(|it| it <= now) {
            self.hangup = None;
            self.kill();
        }
        if self.kill_at.is_some_and(|it| it <= now) {
            tree::kill(getpid(), self.cgroup.as_deref());
            self.kill_at = Some(now + AGAIN);
        }
        self.pass_stalled(now);
    }

    /// The last descendant has ended.
    fn finish(mut self) {
        self.drain();
        let end = self.log.cursor();
        if let Some(ended) = self.ended.take_if(|it| it.end < end) {
            let _ = self.folder.end(&Ended { end, ..ended });
        }
        self.folder.tidy();
        remove_group(self.cgroup.as_deref());
    }
}

fn remove_group(group: Option<&Path>) {
    group.map(cgroup::remove);
}
