//! What real shells make of the hub.

#![expect(clippy::disallowed_methods, reason = "these are real shells, in real time")]

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use pve_edge_guest_protocol::Unique;

use super::super::{
    hub::{script, version},
    line::{End, Exit, File, PIECE, Replies, Reply, Stands, Started, doubled, put, sum, summed},
};

/// Time in which all of this happens, on a machine that is busy.
const LONG: Duration = Duration::from_secs(20);
/// Lines among which a reply is, and looks until something is so.
const LINES: usize = 1000;
/// What the hub's cleaner waits for, and what it waits for here: it ends a hub after 12 quiet moments, and tidies up at each.
const QUICK: [(&str, &str); 3] =
    [("while sleep 5", "while sleep 0.1"), ("$m -lt 12", "$m -lt 1"), ("-lt 900", "-lt 0")];

pub(super) fn shells() -> Vec<Vec<&'static str>> {
    let all = [vec!["bash"], vec!["dash"], vec!["busybox", "sh"]];
    let there = |it: &Vec<&str>| Command::new(it[0]).args(&it[1..]).args(["-c", ":"]).output().is_ok();
    let found: Vec<_> = all.into_iter().filter(there).collect();
    assert!(found.len() >= 2, "bash and dash are needed: {found:?}");
    found
}

/// A hub in a folder.
pub(super) struct Hub {
    child: Child,
    shown: Receiver<String>,
    pub(super) folder: PathBuf,
    questions: u32,
}

impl Hub {
    pub(super) fn start(shell: &[&str], memory: &Path, script: &str) -> Self {
        let words = [shell, &["-c", script]].concat();
        Self::run(&words, memory)
    }

    fn run(words: &[&str], memory: &Path) -> Self {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).env("PVE_EDGE_RUN", memory).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::null()).spawn().expect("a shell");
        let (tell, shown) = channel();
        let output = BufReader::new(child.stdout.take().expect("its output"));
        thread::spawn(move || {
            output
                .split(b'\n')
                .map_while(Result::ok)
                .try_for_each(|it| tell.send(format!("{}\n", String::from_utf8_lossy(&it))))
        });
        let folder = memory.join("pve-edge-console");
        let mut hub = Self { child, shown, folder, questions: 0 };
        let first = hub.hear(|it| it.process().is_none());
        assert!(matches!(first, Some(Reply::Ready(..))), "{words:?}: {first:?}");
        hub
    }

    fn hear(&mut self, is_wanted: impl Fn(&Reply) -> bool) -> Option<Reply> {
        let mut replies = Replies::default();
        let lines = (0..LINES).map_while(|_| self.shown.recv_timeout(LONG).ok());
        lines.flat_map(|it| replies.push(it.as_bytes())).find(is_wanted)
    }

    pub(super) fn ask(&mut self, request: &[u8]) -> Reply {
        let input = self.child.stdin.as_mut().expect("its input");
        input.write_all(request).expect("it reads");
        self.hear(|it| it.process().is_some()).expect("an answer")
    }

    /// Puts a script in place, and asks for its start.
    pub(super) fn begin(&mut self, process: Unique, script: &str, ms: u32, is_kept: bool) -> Reply {
        for (number, piece) in (0..).zip(script.as_bytes().chunks(PIECE)) {
            let told = self.ask(&put(process, File::Script, number, piece));
            if told != Reply::Put(process, File::Script, number) {
                return told;
            }
        }
        self.run_again(process, script, ms, is_kept)
    }

    fn run_again(&mut self, process: Unique, script: &str, ms: u32, is_kept: bool) -> Reply {
        let kept = u8::from(is_kept);
        self.run_of(process, script, &format!("{ms} - 8388608 {kept}"))
    }

    /// Asks for the start of a script that is in place.
    pub(super) fn run_of(&mut self, process: Unique, script: &str, how: &str) -> Reply {
        let sum = sum(script.as_bytes());
        self.ask(&summed(&format!("{process} run {sum} - {how}")))
    }

    /// Puts a script in place that is one piece.
    pub(super) fn put(&mut self, process: Unique, script: &str) -> Reply {
        self.ask(&put(process, File::Script, 0, script.as_bytes()))
    }

    pub(super) fn stands(&mut self, process: Unique) -> Option<Stands> {
        self.questions += 1;
        let ask = doubled(&format!("{process} p 0 {} 0 0 0 0 500", self.questions));
        match self.ask(&ask) {
            Reply::Stands(_, stands) => Some(stands),
            Reply::None(_) => None,
            other => panic!("{other:?}"),
        }
    }

    /// How it ends.
    pub(super) fn end(&mut self, process: Unique) -> End {
        let mut end = None;
        eventually("it ends", || {
            end = self.stands(process).expect("it is known").end;
            end.is_some()
        });
        end.expect("an end")
    }

    pub(super) fn exit(&mut self, process: Unique) -> Exit {
        match self.end(process) {
            End::Exit(exit) => exit,
            End::Lost => panic!("it is lost"),
        }
    }

    fn has(&self, process: Unique, file: &str) -> bool {
        self.folder.join(process.to_string()).join(file).exists()
    }

    /// Waits until it ends by itself.
    fn wait(&mut self) {
        eventually("it ends", || self.child.try_wait().expect("a child").is_some());
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let is_so = (0..LINES).any(|_| {
        let is_so = is_so();
        thread::sleep(if is_so { Duration::ZERO } else { LONG / 1000 });
        is_so
    });
    assert!(is_so, "{what}: never");
}

pub(super) fn name(number: u8) -> Unique {
    Unique([number; 16])
}

fn quick() -> String {
    QUICK.iter().fold(script(), |script, (slow, fast)| {
        assert!(script.contains(slow), "{slow}");
        script.replace(slow, fast)
    })
}

pub(super) fn memory() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

#[test]
fn a_name_runs_once_whatever_the_hub_tidies_up() {
    for shell in shells() {
        let memory = memory();
        let line = format!("echo x >>{}/ran", memory.path().display());
        let quick = quick().replace("-lt 0", "-lt 900");
        let mut hub = Hub::start(&shell, memory.path(), &quick);
        assert_eq!(hub.begin(name(1), &line, 0, false), Reply::Run(name(1), Started::Now), "{shell:?}");
        assert_eq!(hub.exit(name(1)).code, 0);
        hub.wait();
        let mut hub = Hub::start(&shell, memory.path(), &quick);
        let again = hub.begin(name(1), &line, 0, false);
        assert_eq!(again, Reply::Run(name(1), Started::Before), "{shell:?}");
        assert_eq!(fs::read_to_string(memory.path().join("ran")).expect("it ran"), "x\n", "{shell:?}");
    }
}

#[test]
fn what_nobody_asks_for_any_more_goes() {
    for shell in shells() {
        let memory = memory();
        let mut hub = Hub::start(&shell, memory.path(), &quick().replace("-lt 12", "-lt 9999"));
        let [unstarted, runs, ended, kept] = [1, 2, 3, 4].map(name);
        hub.ask(&put(unstarted, File::Script, 0, b"never run"));
        hub.begin(runs, "sleep 6", 0, false);
        hub.begin(ended, "exit 3", 0, false);
        hub.begin(kept, "exit 4", 0, true);
        eventually("both go", || !hub.has(unstarted, "c") && !hub.has(ended, "c"));
        assert_eq!(hub.exit(kept).code, 4, "{shell:?}");
        assert!(hub.has(runs, "go"), "{shell:?}");
        assert_eq!(hub.exit(runs).code, 0, "{shell:?}");
    }
}

#[test]
fn the_last_that_were_told_to_their_end_stay_a_while() {
    for shell in shells() {
        let memory = memory();
        let mut hub = Hub::start(&shell, memory.path(), &script());
        for number in 1..=6 {
            hub.begin(name(number), &format!("exit {number}"), 0, false);
            hub.exit(name(number));
            let input = hub.child.stdin.as_mut().expect("its input");
            let bye = if number == 6 { "bye" } else { "bye keep" };
            input.write_all(&doubled(&format!("{} {bye}", name(number)))).expect("it reads");
        }
        let there = [1, 2, 5, 6].map(|it| hub.stands(name(it)).is_some());
        assert_eq!(there, [false, true, true, false], "{shell:?}");
        assert!((1..=6).all(|it| hub.has(name(it), "go")), "what is left proves that it was run");
    }
}

#[test]
fn a_new_hub_leaves_keepers_that_run_alone() {
    for shell in shells() {
        let memory = memory();
        let mut hub = Hub::start(&shell, memory.path(), &script());
        hub.begin(name(1), "sleep 1; exit 7", 0, true);
        let keeper = hub.folder.join(format!("keeper.{}", version()));
        let written = fs::metadata(&keeper).and_then(|it| it.modified()).expect("its script");
        drop(hub);
        let mut hub = Hub::start(&shell, memory.path(), &script());
        assert_eq!(hub.exit(name(1)).code, 7, "{shell:?}");
        let now = fs::metadata(&keeper).and_then(|it| it.modified()).expect("its script");
        assert_eq!(now, written, "{shell:?}");
    }
}

#[test]
fn a_timeout_kills_however_short_it_is() {
    for shell in shells() {
        let memory = memory();
        let mut hub = Hub::start(&shell, memory.path(), &script());
        for number in 1..=5 {
            hub.begin(name(number), "exec sleep 1000", number.into(), false);
            let exit = hub.exit(name(number));
            assert_eq!((exit.code, exit.why.as_deref()), (137, Some("timeout")), "{shell:?}");
        }
        // What has ended by itself, and left something behind that writes, is not killed.
        hub.begin(name(9), "sleep 3 & exit 5", 900, false);
        let exit = hub.exit(name(9));
        assert_eq!((exit.code, exit.why), (5, None), "{shell:?}");
    }
}

/// Words before a shell that has a file system of its own at a folder, of so many KiB; `None` where that is not to be had.
fn small(folder: &Path, kib: u32) -> Option<[String; 5]> {
    let mount = format!("mount -t tmpfs -o size={kib}k none {} && exec \"$@\"", folder.display());
    let words = ["unshare", "-rm", "sh", "-c", &mount].map(str::to_owned);
    let tried = Command::new(&words[0]).args(&words[1..]).args(["x", "true"]).output();
    tried.is_ok_and(|it| it.status.success()).then_some(words)
}

#[test]
fn output_that_fills_the_folder_ends_and_locks_nobody_out() {
    for shell in shells() {
        let memory = memory();
        let Some(words) = small(memory.path(), 1200) else { return };
        let script = script();
        let mut all: Vec<_> = words.iter().map(|it| &**it).collect();
        all.push("x");
        all.extend_from_slice(&shell);
        all.extend(["-c", &*script]);
        let mut hub = Hub::run(&all, memory.path());
        hub.begin(name(1), "exec head -c 5000000 /dev/zero", 0, true);
        let exit = hub.exit(name(1));
        assert_eq!(exit.why.as_deref(), Some("full"), "{shell:?}");
        // There is room for some that are small, and then the answer says that there is none.
        hub.begin(name(2), "exit 3", 0, false);
        assert_eq!(hub.exit(name(2)).code, 3, "{shell:?}");
        let fill = "exec head -c 5000000 /dev/zero";
        let filled = (3..20).map(name).find(|it| {
            let told = hub.begin(*it, fill, 0, true);
            if told != Reply::Full(*it) {
                hub.exit(*it);
            }
            told == Reply::Full(*it)
        });
        assert!(filled.is_some_and(|it| !hub.has(it, "go")), "{shell:?}");
        // Whoever forgets a process makes room again.
        let forget = |number| doubled(&format!("{} forget", name(number)));
        assert_eq!(hub.ask(&forget(1)), Reply::Gone(name(1)), "{shell:?}");
        assert_eq!(hub.ask(&forget(1)), Reply::None(name(1)), "{shell:?}");
        hub.begin(name(30), "exit 3", 0, false);
        assert_eq!(hub.exit(name(30)).code, 3, "{shell:?}");
    }
}

#[test]
fn a_guest_that_lacks_a_program_gets_no_hub() {
    for shell in shells().into_iter().filter(|it| it[0] != "busybox") {
        let (memory, programs) = (memory(), memory());
        for program in ["rm", "mkdir", "sleep", "dd", "base64", "cat", "env", "head"] {
            let found = String::from_utf8(Command::new("which").arg(program).output().expect("it").stdout);
            let found = found.expect("a path");
            std::os::unix::fs::symlink(found.trim(), programs.path().join(program)).expect("a link");
        }
        let shell = String::from_utf8(Command::new("which").arg(shell[0]).output().expect("it").stdout);
        let mut command = Command::new(shell.expect("a path").trim());
        command.args(["-c", &script()]).env("PATH", programs.path()).env("PVE_EDGE_RUN", memory.path());
        let output = command.stdin(Stdio::null()).output().expect("it ends");
        assert_eq!(Replies::default().push(&output.stdout), [Reply::Lacks("fold".into())]);
    }
}

#[test]
fn what_is_forgotten_is_killed_and_never_run_again() {
    for shell in shells() {
        let memory = memory();
        let mut hub = Hub::start(&shell, memory.path(), &script());
        let line = format!("while :; do echo x >>{}/beat; sleep 0.05; done", memory.path().display());
        hub.begin(name(1), &line, 0, true);
        let beat = || fs::metadata(memory.path().join("beat")).map_or(0, |it| it.len());
        eventually("it runs", || beat() > 0);
        assert_eq!(hub.ask(&doubled(&format!("{} forget", name(1)))), Reply::Gone(name(1)), "{shell:?}");
        let last = beat();
        thread::sleep(Duration::from_millis(300));
        assert_eq!((beat(), hub.stands(name(1)).is_none()), (last, true), "{shell:?}");
        assert_eq!(hub.run_again(name(1), &line, 0, true), Reply::Run(name(1), Started::Before));
    }
}
