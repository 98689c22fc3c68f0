//! What a process is to become: program, arguments, variables, user.

use std::{
    collections::BTreeMap,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use pve_edge_guest_protocol::{
    answer::{Code, Refusal},
    process::{Size, Spec},
};
use rustix::process::getuid;
use serde::{Deserialize, Serialize};

use crate::{layout::Layout, users::User};

/// Where programs are looked for.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Bytes that a tag may have.
const LONGEST_TAG: usize = 1024;

/// A process as it is before it runs.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Launch {
    /// Program and arguments; never empty.
    pub(crate) argv: Vec<String>,
    pub(crate) cwd: PathBuf,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) user: User,
    /// Whether standard input is a pipe; else it is empty, or the terminal.
    pub(crate) stdin: bool,
    pub(crate) pty: Option<Size>,
    /// Open files that it may have at first; `None` if that has no bound.
    pub(crate) open_files: Option<u64>,
    /// Control group that it enters.
    pub(crate) cgroup: Option<PathBuf>,
}

impl Launch {
    /// Reads a spec, and finds what it leaves out.
    pub(crate) fn of(layout: &Layout, spec: Spec) -> Result<Self, Refusal> {
        check(&spec)?;
        let user = user(layout, spec.user.as_deref())?;
        let mut env = BTreeMap::from([("PATH".to_owned(), PATH.to_owned())]);
        env.extend(layout.environment.clone());
        env.extend([
            ("HOME".to_owned(), user.home.to_string_lossy().into_owned()),
            ("USER".to_owned(), user.name.clone()),
            ("LOGNAME".to_owned(), user.name.clone()),
            ("SHELL".to_owned(), user.shell.to_string_lossy().into_owned()),
        ]);
        if spec.pty.is_some() {
            env.insert("TERM".to_owned(), "xterm-256color".to_owned());
        }
        env.extend(spec.env);
        let path = env.get("PATH").map_or(PATH, String::as_str);
        let argv = match (spec.command, spec.argv) {
            (Some(command), None) => vec![shell(path).to_owned(), "-c".to_owned(), command],
            (None, Some(argv)) if !argv.is_empty() => argv,
            _ => return Err(bad("either command or argv is needed")),
        };
        let cwd = spec.cwd.map_or_else(|| user.home.clone(), |cwd| user.path(&cwd));
        let open_files = layout.open_files;
        Ok(Self { argv, cwd, env, user, stdin: spec.stdin, pty: spec.pty, open_files, cgroup: None })
    }
}

/// The user that a spec names. A daemon that is not root's has but its own.
fn user(layout: &Layout, wanted: Option<&str>) -> Result<User, Refusal> {
    let own = getuid().as_raw();
    let mut user = User::find(&layout.etc, wanted)?;
    if own != 0 && user.uid != own {
        let detail = format!("the daemon is not root's, and cannot run as {:?}", user.name);
        return Err(Refusal::new(Code::NotPermitted, detail));
    }
    if let Some(home) = layout.home.as_ref().filter(|_| user.uid == own) {
        user.home.clone_from(home);
    }
    Ok(user)
}

/// The shell for a line: bash, if there is one.
fn shell(path: &str) -> &'static str {
    let is_program = |folder: &str| {
        let bash = Path::new(folder).join("bash");
        bash.metadata().is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0)
    };
    if path.split(':').any(is_program) { "bash" } else { "sh" }
}

fn check(spec: &Spec) -> Result<(), Refusal> {
    let texts = [&spec.command, &spec.cwd, &spec.user].into_iter().flatten();
    let words = spec.argv.iter().flatten();
    let mut all = texts.chain(words).chain(spec.env.iter().flat_map(|(name, value)| [name, value]));
    if all.any(|text| text.contains('\0')) {
        return Err(bad("a text holds a NUL byte"));
    }
    if spec.env.keys().any(|name| name.is_empty() || name.contains('=')) {
        return Err(bad("the name of a variable is empty, or holds an equals sign"));
    }
    if spec.tag.as_ref().is_some_and(|tag| tag.len() > LONGEST_TAG) {
        return Err(bad("the tag has more than 1,024 bytes"));
    }
    Ok(())
}

fn bad(detail: &str) -> Refusal {
    Refusal::new(Code::BadCall, detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(folder: &Path) -> Layout {
        std::fs::write(folder.join("passwd"), "root:x:0:0::/root:/bin/bash\nweb:x:1000:1000::/home/web:\n")
            .unwrap();
        Layout {
            keys: folder.join("keys"),
            run: folder.join("run"),
            state: folder.join("state"),
            etc: folder.into(),
            home: None,
            environment: BTreeMap::from([("LANG".into(), "C".into()), ("HOME".into(), "/nowhere".into())]),
            open_files: None,
            program: "/proc/self/exe".into(),
        }
    }

    #[test]
    fn what_a_spec_leaves_out_is_the_users() {
        let folder = tempfile::tempdir().unwrap();
        if !getuid().is_root() {
            println!("skipped: not root");
            return;
        }
        let spec = Spec {
            argv: Some(vec!["ls".into()]),
            user: Some("web".into()),
            cwd: Some("src".into()),
            env: BTreeMap::from([("SHELL".into(), "zsh".into()), ("X".into(), "a=b".into())]),
            ..Spec::default()
        };
        let launch = Launch::of(&layout(folder.path()), spec).unwrap();
        assert_eq!(launch.cwd, PathBuf::from("/home/web/src"));
        assert_eq!(launch.user.uid, 1000);
        let env: Vec<_> = launch.env.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let path = format!("PATH={PATH}");
        assert_eq!(env, ["HOME=/home/web", "LANG=C", "LOGNAME=web", &path, "SHELL=zsh", "USER=web", "X=a=b"]);
    }

    #[test]
    fn a_home_that_the_layout_has_is_roots() {
        let folder = tempfile::tempdir().unwrap();
        let mut layout = layout(folder.path());
        layout.home = Some("/elsewhere".into());
        let spec = Spec { command: Some("true".into()), ..Spec::default() };
        assert_eq!(Launch::of(&layout, spec).unwrap().cwd, PathBuf::from("/elsewhere"));
    }

    #[test]
    fn a_spec_that_names_nothing_or_too_much_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let layout = layout(folder.path());
        let command = Spec { command: Some("true".into()), ..Spec::default() };
        let env = |name: &str| BTreeMap::from([(name.to_owned(), String::new())]);
        for spec in [
            Spec::default(),
            Spec { argv: Some(vec![]), ..Spec::default() },
            Spec { argv: Some(vec!["true".into()]), ..command.clone() },
            Spec { command: Some("a\0b".into()), ..Spec::default() },
            Spec { env: env(""), ..command.clone() },
            Spec { env: env("A=B"), ..command.clone() },
            Spec { tag: Some("x".repeat(1025)), ..command.clone() },
        ] {
            assert_eq!(Launch::of(&layout, spec).unwrap_err().code, Code::BadCall);
        }
        let nobody = Spec { user: Some("nobody-there".into()), ..command };
        assert_eq!(Launch::of(&layout, nobody).unwrap_err().code, Code::NoSuchUser);
    }

    #[test]
    fn without_bash_a_line_is_for_sh() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap();
        std::fs::write(folder.path().join("bash"), "").unwrap();
        assert_eq!(shell(path), "sh", "it is not executable");
        std::fs::set_permissions(folder.path().join("bash"), PermissionsExt::from_mode(0o755)).unwrap();
        assert_eq!(shell(path), "bash");
        assert_eq!(shell(""), "sh");
    }
}
