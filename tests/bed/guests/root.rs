//! The root of a container whose console is used: this machine's, below a layer of the container's own, which takes
//! whatever is written. What is done in it is not done to this machine.
//!
//! It is made of overlays in a mount namespace, one for each folder, whose first process lives as long as the container
//! runs. Nothing is mounted outside of it, and the end of its processes is the end of it.

use std::{
    fs, io,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Child, Command, Stdio},
};

use rustix::process::geteuid;
use tempfile::TempDir;

use super::group;

/// A file system in memory, which an overlay can write to wherever this machine's root is.
const MEMORY: &str = "/dev/shm";

/// Makes the root, enters it, and says that it is made. It ends with its standard input. What cannot be below a layer, as
/// other users' folders, is empty.
const MAKE: &str = r#"
set -e
cd "$1"
for d in /*; do
    n=${d#/}
    case $n in
    dev | proc | run | tmp) mkdir -p "root$d"; continue;;
    esac
    if [ -L "$d" ]; then
        [ -L "root$d" ] || cp -P "$d" "root$d"
    elif [ -d "$d" ]; then
        mkdir -p "root$d"
        [ -r "$d" ] && [ "$d" != /sys ] || continue
        [ -d "upper$d" ] || { mkdir "upper$d"; chmod "$(stat -c %a "$d")" "upper$d"; }
        mkdir -p "work$d"
        mount -t overlay overlay -o "lowerdir=$d,upperdir=upper$d,workdir=work$d$2" "root$d" || continue
    fi
done
mount --rbind /dev root/dev
mount --rbind /proc root/proc
for d in run tmp dev/shm; do mount -t tmpfs -o mode=1777 tmpfs "root/$d"; done
for d in "$3" "$4"; do mkdir -p "root$d"; mount --bind "$d" "root$d"; done
[ -z "$5" ] || { ip link set lo up; ip route add default dev lo; }
exec chroot root sh -c 'cd "$0" && echo made && exec cat' "$3"
"#;

/// What a container has written, beside what is in its folder.
pub(super) struct Layer(TempDir);

impl Layer {
    /// An empty one.
    pub(super) fn new() -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("pve-edge-root-").tempdir_in(MEMORY)?;
        for name in ["upper", "work", "root"] {
            fs::create_dir(folder.path().join(name))?;
            fs::set_permissions(folder.path().join(name), fs::Permissions::from_mode(0o755))?;
        }
        Ok(Self(folder))
    }

    /// One with the same in it.
    pub(super) fn copied(&self) -> io::Result<Self> {
        let copy = Self::new()?;
        let folders = [self.0.path().join("upper/."), copy.0.path().join("upper")];
        let made =
            Command::new("cp").arg("-a").args(folders).stdin(Stdio::null()).stderr(Stdio::null()).status()?;
        if made.success() { Ok(copy) } else { Err(io::Error::other("the root was not copied")) }
    }

    /// Has the kernel tell this hardware address of its network card.
    pub(super) fn set_card(&self, address: &str) -> io::Result<()> {
        let card = self.0.path().join("root/sys/class/net/eth0");
        fs::create_dir_all(&card)?;
        fs::write(card.join("address"), format!("{}\n", address.to_lowercase()))
    }

    /// Writes a program, as if an image had brought it.
    pub(super) fn add(&self, path: &str, text: &str) -> io::Result<()> {
        let file = self.0.path().join("upper").join(path.trim_start_matches('/'));
        fs::create_dir_all(file.parent().unwrap_or(&file))?;
        fs::write(&file, text)?;
        fs::set_permissions(file, fs::Permissions::from_mode(0o755))
    }
}

impl Drop for Layer {
    fn drop(&mut self) {
        // Overlays leave folders that nobody but root may look into.
        for entry in fs::read_dir(self.0.path().join("work")).into_iter().flatten().flatten() {
            let _ = fs::set_permissions(entry.path().join("work"), fs::Permissions::from_mode(0o700));
        }
    }
}

/// A root with processes in it.
pub(super) struct Root {
    first: Child,
    is_cut_off: bool,
    namespace: String,
}

impl Root {
    /// Makes the root of a container that has written this, and sees these two folders of this machine as they are. One
    /// that is cut off has a network of its own, which leads nowhere.
    pub(super) fn make(layer: &Layer, folder: &Path, memory: &Path, is_cut_off: bool) -> io::Result<Self> {
        let (unshare, option) = if geteuid().is_root() { ("-m", "") } else { ("-Urm", ",userxattr") };
        let mut first = Command::new("unshare")
            .arg(unshare)
            .args(is_cut_off.then_some("-n"))
            .args(["sh", "-c", MAKE, "sh"])
            .arg(layer.0.path())
            .arg(option)
            .args([folder, memory])
            .arg(if is_cut_off { "cut" } else { "" })
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        if let Some(output) = first.stdout.as_mut() {
            BufReader::new(output).read_line(&mut line)?;
        }
        let namespace = group::namespace(format!("/proc/{}", first.id()));
        match namespace.filter(|_| line == "made\n") {
            Some(namespace) => Ok(Self { first, is_cut_off, namespace }),
            None => {
                let _ = first.kill();
                let said = first.wait_with_output()?.stderr;
                let said = String::from_utf8_lossy(&said).trim().replace('\n', "; ");
                let text = "this machine cannot give it a root of its own (overlays in a mount namespace)";
                Err(io::Error::other(format!("{text}: {said}")))
            }
        }
    }

    /// The words before a command that runs in it.
    pub(super) fn enter(&self) -> Vec<String> {
        let user: &[&str] = if geteuid().is_root() { &[] } else { &["-U", "--preserve-credentials"] };
        let target = self.first.id().to_string();
        let network: &[&str] = if self.is_cut_off { &["-n"] } else { &[] };
        let words = [&["nsenter", "-t", &target][..], user, network, &["-m", "-r", "-w", "--"]].concat();
        words.into_iter().map(str::to_owned).collect()
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        group::kill_within(&self.namespace);
        let _ = self.first.wait();
    }
}
