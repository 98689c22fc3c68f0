//! `watch`: what changes in a folder, by inotify.

use std::{
    io::{self, Write},
    mem::MaybeUninit,
    os::{fd::AsFd, unix::ffi::OsStrExt},
    path::Path,
    time::{Duration, Instant},
};

use pve_edge_guest_protocol::{
    answer::Code,
    file::{Change, Changed, Watch},
    process::Bytes,
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::inotify::{self, CreateFlags, Event, ReadFlags, Reader},
    io::Errno,
};

use super::{
    channel::{Channel, Head},
    name,
    part::{Actor, Stop},
    refuse,
    unpack::os,
    watched::Folders,
};

/// Time after which a line is sent even if nothing has changed.
const PULSE: Duration = Duration::from_secs(15);

/// Bytes of events that are read at a time.
const BUFFER: usize = 64 << 10;

/// Tells what changes in a folder until it is gone, or nobody listens any more.
pub(super) fn watch(args: &Watch, actor: &Actor, channel: &mut Channel) -> Result<(), Stop> {
    let path = actor.path(&args.path)?;
    let too_many = |errno| match errno {
        Errno::MFILE | Errno::NOSPC => {
            refuse::refusal(Code::Busy, &path, "the user watches as many folders as the guest allows")
        }
        errno => refuse::at(&path)(errno),
    };
    let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(too_many)?;
    let folders = Folders::new(inotify, path.clone(), args.recursive).map_err(too_many)?;
    Ok(Follower { folders, channel, last: None }.follow(PULSE)?)
}

struct Follower<'a> {
    folders: Folders,
    channel: &'a mut Channel,
    /// Change that was told last, so that it is not told again and again.
    last: Option<Change>,
}

impl Follower<'_> {
    fn follow(&mut self, pulse: Duration) -> io::Result<()> {
        let inotify = self.folders.inotify().try_clone_to_owned()?;
        let mut buffer = [MaybeUninit::uninit(); BUFFER];
        let mut events = Reader::new(inotify.as_fd(), &mut buffer);
        self.channel.head(&Head::Lines)?;
        self.channel.add_line(&Change::Watching)?;
        let mut told = Instant::now();
        loop {
            self.channel.flush()?;
            let left = pulse.saturating_sub(told.elapsed());
            if left.is_zero() {
                self.channel.add_line(&Change::Alive)?;
            } else if !self.wait(&inotify, left)? {
                return Ok(());
            } else if !self.events(&mut events)? {
                self.channel.add_line(&Change::Gone)?;
                return self.channel.end();
            } else if self.last.take().is_none() {
                continue;
            }
            told = Instant::now();
        }
    }

    /// Waits for events, for some time; false if nobody listens any more.
    fn wait(&self, inotify: &impl AsFd, most: Duration) -> io::Result<bool> {
        let listener = PollFlags::IN | PollFlags::RDHUP;
        let mut polled = [PollFd::new(inotify, PollFlags::IN), PollFd::new(self.channel.socket(), listener)];
        let timeout = Timespec::try_from(most).unwrap_or_default();
        match poll(&mut polled, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => Ok(polled.get(1).is_some_and(|it| it.revents().is_empty())),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Tells events of which the kernel has kept some; false if the folder is gone.
    fn events(&mut self, events: &mut Reader<'_, impl AsFd>) -> io::Result<bool> {
        loop {
            match events.next() {
                Ok(event) => {
                    if !self.event(&event)? {
                        return Ok(false);
                    }
                }
                Err(Errno::AGAIN | Errno::INTR) => return Ok(true),
                Err(errno) => return Err(errno.into()),
            }
            if events.is_buffer_empty() {
                return Ok(true);
            }
        }
    }

    fn event(&mut self, event: &Event<'_>) -> io::Result<bool> {
        let flags = event.events();
        if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
            self.folders.look_again();
            return self.tell(Change::Overflow).map(|()| true);
        }
        let Some(folder) = self.folders.path(event.wd()) else { return Ok(true) };
        let ends = ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::UNMOUNT | ReadFlags::IGNORED;
        if flags.intersects(ends) {
            if flags.contains(ReadFlags::IGNORED) {
                self.folders.forget(event.wd());
            }
            return Ok(!folder.as_os_str().is_empty());
        }
        let Some(name) = event.file_name().map(|it| os(it.to_bytes())) else { return Ok(true) };
        if name::is_hidden(name) {
            return Ok(true);
        }
        let path = folder.join(name);
        let directory = flags.contains(ReadFlags::ISDIR);
        if flags.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO) {
            self.tell(Change::Created(changed(&path, directory)))?;
            if directory {
                self.enter(&path)?;
            }
        } else if flags.intersects(ReadFlags::DELETE | ReadFlags::MOVED_FROM) {
            if directory {
                self.folders.leave(&path);
            }
            self.tell(Change::Removed(changed(&path, directory)))?;
        } else if flags.contains(ReadFlags::MODIFY) {
            self.tell(Change::Modified(changed(&path, directory)))?;
        } else if flags.contains(ReadFlags::ATTRIB) && self.folders.has(&path) {
            self.tell(Change::Attributes(changed(&path, directory)))?;
        }
        Ok(true)
    }

    /// Watches a folder that is new here, and tells what is in it already.
    fn enter(&mut self, path: &Path) -> io::Result<()> {
        let mut found = Ok(());
        let channel = &mut *self.channel;
        let entered = self.folders.enter(path, |path, directory| {
            if found.is_ok() {
                found = channel.add_line(&Change::Created(changed(path, directory)));
            }
        });
        found?;
        if entered.is_err() { self.tell(Change::Overflow) } else { Ok(()) }
    }

    fn tell(&mut self, change: Change) -> io::Result<()> {
        if self.last.as_ref() != Some(&change) {
            self.channel.add_line(&change)?;
            self.last = Some(change);
        }
        Ok(())
    }
}

fn changed(path: &Path, directory: bool) -> Changed {
    let bytes = path.as_os_str().as_bytes();
    let is_text = path.to_str().is_some();
    let bytes = (!is_text).then(|| Bytes(bytes.to_vec()));
    Changed { path: path.to_string_lossy().into_owned(), directory, bytes }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        io::{BufRead, BufReader, Read},
        os::unix::net::UnixStream,
        thread,
    };

    use super::*;
    use crate::file::channel::LENGTH;

    fn follow(folder: &Path, pulse: Duration) -> impl Iterator<Item = Change> + use<> {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).unwrap();
        let folders = Folders::new(inotify, folder.to_owned(), true).unwrap();
        thread::spawn(move || {
            let mut channel = Channel::new(theirs);
            Follower { folders, channel: &mut channel, last: None }.follow(pulse)
        });
        let mut ours = BufReader::new(ours);
        ours.read_line(&mut String::new()).unwrap();
        let mut lines = Vec::new().into_iter();
        std::iter::from_fn(move || {
            if let Some(line) = lines.next() {
                return Some(line);
            }
            let mut length = [0; LENGTH];
            ours.read_exact(&mut length).unwrap();
            let mut frame = vec![0; u32::from_le_bytes(length) as usize];
            ours.read_exact(&mut frame).unwrap();
            let frame = serde_json::Deserializer::from_slice(&frame).into_iter();
            lines = frame.map(Result::unwrap).collect::<Vec<Change>>().into_iter();
            lines.next()
        })
    }

    #[test]
    fn a_silent_folder_is_alive_until_it_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let mut changes = follow(folder.path(), Duration::from_millis(1));
        assert_eq!(changes.next(), Some(Change::Watching));
        assert_eq!(changes.next(), Some(Change::Alive));
        assert_eq!(changes.next(), Some(Change::Alive));
        fs::remove_dir(folder.path()).unwrap();
        let rest: Vec<_> = changes.collect();
        assert_eq!(rest.last(), Some(&Change::Gone));
        assert!(rest.iter().rev().skip(1).all(|it| *it == Change::Alive), "{rest:?}");
    }
}
