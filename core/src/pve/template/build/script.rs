//! Scripts of a build, and what one of them tells.

use crate::{
    pve::marks::Build,
    sandbox::{nonce::Nonce, process::State},
    text::shell::quote,
};

/// Where a build has its folder on the guest's disk: what was begun is known after a restart too.
const ALL: &str = "/var/lib/pve-edge-build";
/// What says in which start of a VM the build is over: work that an agent begins late finds no folder any more.
const OVER: &str = "/run/pve-edge-built";
/// Where the program of the daemon goes.
const PROGRAM: &str = "/usr/local/bin/pve-edge-guest";
/// Bytes of output that are told.
const TOLD: usize = 2000;
/// Exit code where what was pushed is another program.
pub(super) const CHANGED: i32 = 3;
/// Exit code where what a build has left could not be removed.
pub(super) const UNTIDY: i32 = 75;

/// What a build has left on the disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Left {
    /// The step that it was at; `None` where nothing was begun.
    pub(super) step: Option<String>,
    /// Exit code of its packages and its script.
    pub(super) code: Option<i32>,
    /// Bytes of the program that were pushed.
    pub(super) pushed: u64,
    /// Digest of the program that is in place.
    pub(super) program: Option<String>,
    /// Digest of the program that was installed, and runs.
    pub(super) installed: Option<String>,
    /// The processor.
    pub(super) arch: String,
    /// The last lines.
    pub(super) output: String,
}

/// Folder of one build: its name says whose it is, since a copied disk may have another build's.
pub(super) fn folder(build: &Build, nonce: Nonce) -> String {
    if build.named { format!("{ALL}/{nonce}") } else { ALL.to_owned() }
}

/// The script that installs packages and runs what is to be run.
pub(super) fn work(folder: &str, build: &Build) -> String {
    let packages: String = build.packages.iter().map(|it| format!(" {}", quote(it))).collect();
    let run = quote(&build.run);
    format!("F={folder}\nA={ALL}\nO={OVER}\nR={run}\nset --{packages}\n{}", include_str!("work.sh"))
}

/// The script that starts another one, once at most, ends it after some seconds, and does not wait for it: a guest agent
/// has nothing for that. Where it is a service of systemd, what it starts ends with it, and packages may restart it.
pub(super) fn detached(folder: &str, work: &str, seconds: u64) -> String {
    format!("F={folder}\nS={seconds}\nW={}\n{}", quote(work), include_str!("detached.sh"))
}

/// The script that tells how one stands that was so started, in a line of its own.
pub(super) fn state(folder: &str) -> String {
    format!("F={folder}\n{}", include_str!("state.sh"))
}

/// Reads what [`state`] has told.
pub(super) fn process(line: &[u8]) -> Option<Option<State>> {
    Some(match line.trim_ascii_end() {
        b"none" => None,
        b"starting" => Some(State::Starting),
        b"running" => Some(State::Running),
        b"exited" => Some(State::Exited),
        b"lost" => Some(State::Lost),
        _ => return None,
    })
}

/// The script that tells what a build has left.
pub(super) fn look(folder: &str) -> String {
    format!(
        "cd {folder} 2>/dev/null || cd /; s=-; c=-; i=-; p=-\n\
         [ -e step ] && read -r s <step; [ -e code ] && read -r c <code; [ -e installed ] && read -r i <installed\n\
         [ -f {PROGRAM} ] && {{ p=$(sha256sum <{PROGRAM}); p=${{p%% *}}; }}\n\
         n=0; [ -e program ] && n=$(wc -c <program)\n\
         echo ${{s:--}} ${{c:--}} $n ${{p:--}} ${{i:--}} $(uname -m); [ ! -e log ] || tail -c {TOLD} log\n"
    )
}

/// Reads what [`look`] has told.
pub(super) fn left(said: &[u8]) -> Option<Left> {
    let text = String::from_utf8_lossy(said);
    let (line, output) = text.split_once('\n')?;
    let words: Vec<_> = line.split(' ').collect();
    let [step, code, pushed, program, installed, arch] = words[..] else { return None };
    let known = |it: &str| (it != "-").then(|| it.to_owned());
    Some(Left {
        step: known(step),
        code: known(code).and_then(|it| it.parse().ok()),
        pushed: pushed.parse().ok()?,
        program: known(program),
        installed: known(installed),
        arch: arch.to_owned(),
        output: plain(output),
    })
}

/// Output as it may be shown and kept: its end, without what moves a cursor.
pub(super) fn plain(output: &str) -> String {
    let from = output.ceil_char_boundary(output.len().saturating_sub(TOLD));
    let kept = output.get(from..).unwrap_or_default();
    kept.chars()
        .filter(|it| !it.is_control() || matches!(it, '\n' | '\t'))
        .collect::<String>()
        .trim()
        .to_owned()
}

/// The script that puts its input in place as a piece of the program. It may be run again.
pub(super) fn piece(folder: &str, number: usize, size: usize) -> String {
    format!("cd {folder} && dd of=program bs={size} seek={number} conv=notrunc 2>/dev/null\n")
}

/// The script that has its input, the installer, install the program that was pushed, or is in place.
pub(super) fn install(folder: &str, sum: &str) -> String {
    format!(
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin; export PATH; cd {folder} || exit\n\
         is() {{ s=$(sha256sum <\"$1\") && [ \"${{s%% *}}\" = {sum} ]; }}\n\
         if ! is {PROGRAM} 2>/dev/null; then\n\
         is program 2>/dev/null || {{ rm -f program; exit {CHANGED}; }}\n\
         mkdir -p {programs} && chmod 755 program && mv -f program {PROGRAM} || exit\n\
         fi\n\
         sh -s >install.log 2>&1; r=$?; cat install.log; cat install.log >>log\n\
         [ $r = 0 ] || exit $r\n\
         rm -f program; echo {sum} >installed.t && mv installed.t installed\n",
        programs = PROGRAM.rsplit_once('/').map_or("/", |it| it.0),
    )
}

/// The script that removes what is one machine's own, and what the build itself has left. In a VM it notes the start in
/// which that was.
pub(super) fn clean(is_vm: bool) -> String {
    format!("A={ALL}\nO={}\n{}", if is_vm { OVER } else { "" }, include_str!("clean.sh"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_read() {
        let left = left(b"running 7 65536 - - x86_64\none\r\n\x1b[1mtwo\n").expect("it is read");
        assert_eq!((left.step.as_deref(), left.code, left.pushed), (Some("running"), Some(7), 65536));
        assert_eq!((left.program, left.installed, &*left.arch), (None, None, "x86_64"));
        assert_eq!(left.output, "one\n[1mtwo");
        assert_eq!(super::left(b"- - 0 - - aarch64\n").map(|it| it.step), Some(None));
        assert_eq!(super::left(b"what is this\n"), None);
    }

    #[test]
    fn output_is_cut_at_its_beginning() {
        let long = format!("{}ä{}", "x".repeat(10), "y".repeat(TOLD - 1));
        assert_eq!(plain(&long), "y".repeat(TOLD - 1));
    }

    /// A folder in the place of `/`, and what a shell says of these scripts in it.
    struct Shell(String);

    /// Folder of the build.
    const OWN: &str = "/var/lib/pve-edge-build/0123456789abcdefghjkmnpq";

    impl Shell {
        fn new(name: &str) -> Self {
            let folder = std::env::temp_dir().join(format!("pve-edge-{name}-{}", std::process::id()));
            let _ = std::fs::remove_dir_all(&folder);
            std::fs::create_dir_all(folder.join("run")).unwrap();
            Self(folder.display().to_string())
        }

        fn run(&self, script: &str) -> String {
            self.run_in("/", script)
        }

        fn run_in(&self, cwd: &str, script: &str) -> String {
            let mut script = script.replace("/run/systemd", "/nowhere").replace("-ge 60", "-ge 0");
            for place in ["/etc/", "/home/", "/root/", "/run/pve-", "/var/"] {
                script = script.replace(place, &format!("{}{place}", self.0));
            }
            // This machine's own are not to be cleaned.
            let script =
                script.replace("command -v apt-get", "false").replace("command -v cloud-init", "false");
            let mut command = std::process::Command::new("sh");
            let output = command.current_dir(cwd).args(["-c", &script]).output().unwrap();
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        }

        fn state(&self) -> String {
            self.run(&state(OWN))
        }

        /// The state once it is this one, or another after five seconds.
        fn until(&self, wanted: &str) -> String {
            let ask = format!("n=$((n + 1)); s=$( {}\n)", state(OWN));
            let tries = format!(
                "n=0; while [ $n -lt 50 ]; do {ask}; [ $s != {wanted} ] || break; sleep 0.1; done; echo $s"
            );
            self.run(&tries)
        }

        /// The exit code of a script.
        fn code(&self, script: &str) -> String {
            self.run(&format!("({script}\n) >/dev/null 2>&1; echo $?"))
        }
    }

    impl Drop for Shell {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn work_of(run: &str) -> String {
        work(OWN, &Build { run: run.into(), ..Build::default() })
    }

    #[test]
    fn work_behind_an_agent_is_begun_once_and_tells_how_it_stands() {
        let shell = Shell::new("begun");
        let run = format!("echo x >>{0}/ran; until [ -e {0}/end ]; do sleep 0.1; done", shell.0);
        let begin = detached(OWN, &work_of(&run), 60);
        assert_eq!(shell.state(), "none");
        assert_eq!((shell.run(&begin), shell.run(&begin)), (String::new(), String::new()));
        assert_eq!(shell.state(), "running");
        // Whatever is begun beside it finds the folder.
        shell.run(&work_of(&format!("echo y >>{}/ran", shell.0)));
        shell.run(&format!("touch {}/end", shell.0));
        assert_eq!(shell.until("exited"), "exited");
        assert_eq!(shell.run(&format!("cat {}/ran; head -n 1 {OWN}/code", shell.0)), "x\n0");
    }

    #[test]
    fn what_another_build_has_left_is_not_this_ones() {
        let shell = Shell::new("left");
        let nonce: Nonce = "abuvloiazucki5md34kko2j3".parse().unwrap();
        assert_eq!(folder(&Build { named: true, ..Build::default() }, nonce), format!("{ALL}/{nonce}"));
        assert_eq!(folder(&Build::default(), nonce), ALL);
        shell.run(&format!(
            "mkdir -p {ALL}/other; cd {ALL}; echo running >step; echo 0 >code; echo 1 >other/code"
        ));
        assert_eq!(left(shell.run(&(look(OWN) + "echo")).as_bytes()).and_then(|it| it.step), None);
        assert_eq!(shell.state(), "none");
        shell.run(&work_of(&format!("echo ran >>{}/ran", shell.0)));
        assert_eq!(shell.run(&format!("cat {}/ran; ls {ALL}", shell.0)), "ran\n0123456789abcdefghjkmnpq");
        // One that an older version began has all for its folder, and is begun once too.
        let late = work(ALL, &Build { run: format!("echo again >>{}/ran", shell.0), ..Build::default() });
        assert_eq!((&*shell.code(&late), &*shell.run(&format!("cat {}/ran", shell.0))), ("75", "ran"));
    }

    #[test]
    fn work_that_is_gone_is_not_taken_for_one_that_runs() {
        let shell = Shell::new("gone");
        shell.run(&detached(OWN, &work_of("exec sleep 20"), 60));
        shell.run(&format!("read -r p b s <{OWN}/pid; c=$(pgrep -P $p); kill -9 $p $c"));
        assert_eq!(shell.until("exited"), "exited");
        // Of another start of the guest.
        shell.run(&format!("echo $$ other 1 >{OWN}/pid"));
        assert_eq!(shell.state(), "lost");
        shell.run(&format!("rm {OWN}/pid"));
        assert_eq!(shell.state(), "starting");
        shell.run(&format!("touch -d '2 minutes ago' {OWN}"));
        assert_eq!(shell.state(), "lost");
    }

    #[test]
    fn what_takes_too_long_is_ended() {
        let shell = Shell::new("long");
        shell.run(&detached(OWN, &work_of("exec sleep 20"), 1));
        assert_eq!(shell.until("exited"), "exited");
        assert_eq!(shell.run(&format!("cat {OWN}/code 2>&1 | wc -l")), "1");
    }

    #[test]
    fn work_that_comes_late_is_not_begun() {
        let shell = Shell::new("late");
        shell.run(&format!("mkdir -p {OWN}"));
        shell.run(&clean(true));
        assert_eq!((&*shell.code(&work_of("")), &*shell.state()), ("75", "none"));
        // What an earlier start has left says nothing.
        shell.run(&format!("echo earlier >{OVER}"));
        assert_eq!((&*shell.code(&work_of("")), &*shell.state()), ("0", "exited"));
    }

    #[test]
    fn what_is_one_machines_own_is_removed() {
        const FILES: &str = "/etc/machine-id /etc/ssh/ssh_host_rsa_key /etc/ssh/ssh_host_rsa_key.pub /etc/ssh/sshd_config \
                             /etc/dropbear/dropbear_ed25519_host_key /var/lib/dhcpcd/duid /var/lib/dhcpcd/secret \
                             /var/lib/systemd/random-seed /var/log/syslog /var/lib/pve-edge-build/x/run";
        let shell = Shell::new("clean");
        shell.run(&format!("for f in {FILES}; do mkdir -p ${{f%/*}}; echo own >$f; done"));
        assert_eq!(shell.code(&clean(false)), "0");
        let left = shell.run(&format!("for f in {FILES}; do [ ! -e $f ] || echo $f $(wc -c <$f); done"));
        let left = left.replace(&shell.0, "");
        assert_eq!(left, "/etc/machine-id 0\n/etc/ssh/sshd_config 4\n/var/log/syslog 0");
    }

    /// The hub is asked for the answer of the script that removes it.
    #[test]
    fn a_hub_goes_when_its_answer_was_fetched() {
        let shell = Shell::new("hub");
        let own = format!("{}/pve-edge-console/0a", shell.0);
        std::fs::create_dir_all(&own).unwrap();
        shell.run(&format!("sleep 20 >/dev/null 2>&1 & : >{own}/../beat.$!; echo script >{own}/c"));
        shell.run_in(&own, &clean(false));
        assert_eq!(shell.run(&format!("sleep 0.3; cat {own}/c")), "script");
        let gone = format!(
            "rm {own}/c; n=0; while [ -e {own}/.. ] && [ $n -lt 50 ]; do sleep 0.1; n=$((n + 1)); done"
        );
        let ended = "[ -z \"$(cat /proc/$p/cmdline 2>/dev/null)\" ] && echo ended";
        assert_eq!(shell.run(&format!("p=$(echo {own}/../beat.*); p=${{p##*.}}; {gone}; {ended}")), "ended");
        assert!(!std::path::Path::new(&own).exists());
    }
}
