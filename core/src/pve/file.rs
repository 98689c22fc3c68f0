//! The way to the files of a sandbox: the project's own daemon in it, or the console of a container.

use pve_edge_guest_protocol::file::{At, Mkdir, Move, Remove};

use super::{
    cluster::Cluster,
    console::{
        Console,
        files::{LIMIT, too_large},
    },
    guest::{Located, located::locate, reach},
    ready::{explain, ready},
    within::{Instead, Within},
};
use crate::{
    access::keys::Caller,
    daemon::{Daemon, broke_off, ensure_whole},
    error::Error,
    io::{Failure, Io, collect},
    sandbox::{
        channel::Channel,
        defaults::Defaults,
        file::{Archive, Bytes, Content, Entry, Listing, Reading, Unpacked, Writing},
        id::SandboxId,
    },
};

/// Way to the files of one sandbox.
pub enum Files<'c, I: Io> {
    /// The project's own daemon, through which bytes pass as they come.
    Daemon(Daemon<'c, I>),
    /// The console of a container, and where and as which user files of its template are meant.
    Console(Shell<I>, Defaults),
}

/// Console of a container, by which files are reached, and why the daemon is not, if there is one.
pub struct Shell<I: Io>(Box<Console<I>>, Instead);

/// The way to the files of a sandbox that is up: where its daemon is not reached, its console. A sandbox that has another
/// daemon is refused.
pub async fn files<'c, I: Io>(
    cluster: &'c Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
) -> Result<Files<'c, I>, Error> {
    let found = ready(cluster, caller, id).await?;
    let defaults = found.mark.defaults.clone();
    refuse_others(&found, "a file")?;
    Ok(match Within::of(cluster, &found).await? {
        Within::Daemon(mut daemon) => {
            daemon.set_defaults(defaults);
            Files::Daemon(daemon)
        }
        Within::Console(console, instead) => Files::Console(Shell(console, instead), defaults),
    })
}

/// Refuses a sandbox with a daemon that is not ours.
fn refuse_others(found: &Located, what: &str) -> Result<(), Error> {
    match found.mark.channel() {
        None | Some(Channel::Guest | Channel::Terminal) => Ok(()),
        Some(other) => Err(other.lacks(what)),
    }
}

impl<I: Io> Files<'_, I> {
    /// Opens a file.
    pub async fn read(&mut self, reading: Reading) -> Result<Content<Bytes<I::Body>>, Error> {
        match self {
            Self::Daemon(daemon) => Ok(daemon.read_file(&reading).await?.map(Bytes::Streamed)),
            Self::Console(Shell(console, _), defaults) => {
                let reading = Reading { at: defaults.at(reading.at), ..reading };
                Ok(console.read_file(&reading).await?.map(Bytes::Whole))
            }
        }
    }

    /// Puts a client's body into a file: nothing is in place before all of it has come, and is what the client sent.
    pub async fn write(
        &mut self,
        writing: Writing,
        length: Option<u64>,
        body: I::Upload,
    ) -> Result<Entry, Error> {
        match self {
            Self::Daemon(daemon) => daemon.write_file(&writing, length, body).await,
            Self::Console(Shell(console, _), defaults) => {
                let content = whole::<I>("the file", length, body).await?;
                console.stream();
                let writing = Writing { at: defaults.at(writing.at), ..writing };
                console.write_file(&writing, content).await
            }
        }
    }

    /// Unpacks an archive, which is a client's body, into a folder.
    pub async fn unpack(
        &mut self,
        at: At,
        mkdirs: bool,
        archive: Archive,
        (length, body): (Option<u64>, I::Upload),
    ) -> Result<Unpacked, Error> {
        match self {
            Self::Daemon(daemon) => daemon.unpack_files(&at, mkdirs, archive, length, body).await,
            Self::Console(Shell(console, _), defaults) => {
                let content = whole::<I>("the archive", length, body).await?;
                console.stream();
                console.unpack_files(&defaults.at(at), mkdirs, archive, content).await
            }
        }
    }

    /// Packs a folder, or a file, into an archive.
    pub async fn pack(&mut self, at: At, archive: Archive) -> Result<Bytes<I::Body>, Error> {
        match self {
            Self::Daemon(daemon) => daemon.pack_files(&at, archive).await.map(Bytes::Streamed),
            Self::Console(Shell(console, _), defaults) => {
                console.pack_files(&defaults.at(at), archive).await.map(Bytes::Whole)
            }
        }
    }

    /// Lists a folder so many levels deep; no level is the file or folder itself.
    pub async fn list(&mut self, at: At, depth: u32, most: u64) -> Result<Listing, Error> {
        match self {
            Self::Daemon(daemon) => daemon.list_files(&at, depth, most).await,
            Self::Console(Shell(console, _), defaults) => {
                console.list_files(&defaults.at(at), depth, most).await
            }
        }
    }

    /// Makes a folder.
    pub async fn mkdir(&mut self, mkdir: Mkdir) -> Result<Entry, Error> {
        match self {
            Self::Daemon(daemon) => daemon.make_folder(mkdir).await,
            Self::Console(Shell(console, _), defaults) => {
                let At { path, user } = defaults.at(At { path: mkdir.path, user: mkdir.user });
                console.make_folder(&Mkdir { path, user, ..mkdir }).await
            }
        }
    }

    /// Renames a file or a folder.
    pub async fn rename(&mut self, renamed: Move) -> Result<Entry, Error> {
        match self {
            Self::Daemon(daemon) => daemon.move_file(renamed).await,
            Self::Console(Shell(console, _), defaults) => {
                let At { path: from, user } = defaults.at(At { path: renamed.from, user: renamed.user });
                let to = defaults.path(renamed.to);
                console.move_file(&Move { from, to, user, ..renamed }).await
            }
        }
    }

    /// Removes a file, or a folder.
    pub async fn remove(&mut self, remove: Remove) -> Result<(), Error> {
        match self {
            Self::Daemon(daemon) => daemon.remove_file(remove).await,
            Self::Console(Shell(console, _), defaults) => {
                let At { path, user } = defaults.at(At { path: remove.path, user: remove.user });
                console.remove_file(&Remove { path, user, ..remove }).await
            }
        }
    }

    /// Watches a folder, and returns the lines of its changes as they come.
    pub async fn watch(&mut self, at: &At, recursive: bool) -> Result<I::Body, Error> {
        match self {
            Self::Daemon(daemon) => daemon.watch_files(at, recursive).await,
            Self::Console(Shell(_, Some(failure)), _) => Err(failure.clone().into()),
            Self::Console(..) => Err(Channel::Terminal.lacks("a watch of a folder")),
        }
    }
}

/// A client's body in one piece, as far as it goes through a console.
async fn whole<I: Io>(what: &str, length: Option<u64>, body: I::Upload) -> Result<Vec<u8>, Error> {
    let too_large = || too_large(what, "send less at a time");
    if length.is_some_and(|it| it > LIMIT) {
        return Err(too_large());
    }
    let content = collect(body, LIMIT as usize).await.map_err(|error| match error.failure {
        Failure::TooLarge => too_large(),
        _ => broke_off(),
    })?;
    ensure_whole(length, content.len() as u64)?;
    Ok(content)
}

/// The project's own daemon in a sandbox that is up. A sandbox that has another is refused; `what` names the thing that
/// only ours can do.
pub async fn daemon<'c, I: Io>(
    cluster: &'c Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    what: &str,
) -> Result<Daemon<'c, I>, Error> {
    let found = ready(cluster, caller, id).await?;
    refuse_others(&found, "a file")?;
    if found.mark.channel() == Some(Channel::Terminal) {
        return Err(Channel::Terminal.lacks(what));
    }
    let mut daemon = reach::daemon(cluster, &found).await?;
    daemon.set_defaults(found.mark.defaults);
    Ok(daemon)
}

/// The error of a sandbox whose daemon was not reached, or the sandbox's state where that explains it.
pub async fn unreached<I: Io>(
    cluster: &Cluster<'_, I>,
    caller: &Caller,
    id: &SandboxId,
    error: Error,
) -> Error {
    match locate(cluster, caller, id).await {
        Ok(found) => explain(cluster, &found, error).await,
        Err(_) => error,
    }
}
