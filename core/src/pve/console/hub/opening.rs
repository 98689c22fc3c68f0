//! How a hub is found, or started: who starts it is decided on the terminal itself (rule S11.2).
//!
//! 1. A client asks whether a hub is there. To a shell the question is a comment.
//! 2. Where none answers, it types a claim of 8 bytes: one packet of `dtach`, which all see whole and in the same order.
//! 3. It listens. Where another claim came before, or a start, it waits and begins again: the first claim is the same for
//!    all, so that one of a crowd goes on.
//! 4. Where its own claim is not shown, what is in the terminal is no shell: the console is in use.
//! 5. Else it has the shell print something, since a program in the foreground shows what is typed too: and that it is root's,
//!    and one of the guest's hardware addresses. Somebody may have left `su`, or `ssh` to another machine, in the console.
//! 6. The shell is replaced by one that reads the hub's script, and runs it if its digest is right. This reader answers the
//!    question of step 1, so that another client hands the script over where the first one has gone, and ends by itself.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use pve_edge_guest_protocol::Unique;

use super::{
    super::{
        floor::{Floor, PAUSE},
        line::{Replies, Reply, Version, doubled, sum},
        terminal::{Ended, Terminal},
    },
    Hub, REPLIES,
};
use crate::{
    error::{Code, Error},
    io::{Io, invocation::Invocation},
    text::shell::quote,
};

/// The hub's script.
const SCRIPT: &str = include_str!("../hub.sh");
/// What is typed to see whether a shell is there; 137 is `_` in octal, so that the answer differs from what is typed.
const PROVING: &str = " sh -c 'printf \"\\137%s\\n\"";
/// What is put behind that: its user's number, and all hardware addresses of its machine. Root's own shell may be any.
const IDENTITY: &str = "$(id -u) $(cat /sys/class/net/*/address)'";
/// What replaces it. The space keeps it out of its history.
const STARTER: &str = " exec sh -c";
/// Time for finding or starting a hub.
const OPENING: Duration = Duration::from_secs(18);
/// Time after which a hub that is there has answered, and a terminal has shown what was typed, beside the way there and
/// back.
const ANSWER: Duration = Duration::from_millis(150);
/// Time for a shell to prove that it is one.
const PROOF: Duration = Duration::from_millis(1200);
/// Time for the shell to be replaced.
const REPLACING: Duration = Duration::from_secs(3);
/// Seconds after which a reader ends that gets no script.
const READER: u32 = 45;
/// Time after which the script is sent again.
const SENDING: Duration = Duration::from_millis(900);
/// Number of times that the script is sent.
const SENDINGS: u32 = 5;
/// Time that a client waits for another's hub; it adds up to twice that, by chance.
const YIELDING: Duration = Duration::from_millis(300);
/// Number of times that a terminal may not act as a shell, and time in which: one that is new may begin late.
const PATIENCE: (u32, Duration) = (5, Duration::from_secs(4));
/// What the hub says that it lacks where it cannot write its files.
const ROOM: &str = "room";
/// Bytes that are kept of what a terminal shows while a hub is looked for.
const SHOWN: usize = 64 << 10;

/// What a terminal has shown for some time.
#[derive(Default)]
struct Shown {
    bytes: Vec<u8>,
    replies: Vec<Reply>,
}

/// What is in a terminal.
enum Seen {
    Hub(Unique),
    /// A reader of this name, which waits for the script: whoever has started it has gone, or is about to send it.
    Reader(String),
    /// A hub of another version, or one that is busy with others, or somebody who starts one.
    Another,
    Shell,
    Else,
}

impl<I: Io> Hub<I> {
    /// Finds the hub of a container, or starts one.
    pub(in super::super) async fn open(
        invocation: Arc<Invocation<I>>,
        terminal: Terminal<I>,
        addresses: &[String],
    ) -> Result<Self, Error> {
        let begun = invocation.now();
        let end = (begun + OPENING).min(invocation.end());
        let (replies, waiting, boot) = (Replies::default(), VecDeque::new(), Unique([0; 16]));
        let (process, floor) = (boot, Floor::default());
        let mut hub = Self { invocation, terminal, replies, waiting, boot, process, floor };
        let mut failures = 0;
        while hub.now() < end && (failures < PATIENCE.0 || hub.now() < begun + PATIENCE.1) {
            let found = match hub.look().await {
                Ok(Seen::Shell) => hub.start(addresses).await,
                Ok(Seen::Reader(name)) => hub.hand_over(&name).await,
                Ok(Seen::Hub(boot)) => Ok(Some(boot)),
                Ok(Seen::Another) => hub.give_way().await,
                Ok(Seen::Else) => {
                    failures += 1;
                    Ok(None)
                }
                Err(Ended) => Err(Failed::Ended),
            };
            match found {
                Ok(Some(boot)) => {
                    hub.boot = boot;
                    return Ok(hub);
                }
                Ok(None) => {}
                Err(Failed::NoHub) => failures += 1,
                Err(Failed::Ended) => return Err(ended()),
                Err(Failed::Lacks(program)) => return Err(lacks(&program)),
            }
        }
        // Whoever hears others served, and is not answered himself, has found a hub.
        if hub.is_shared() { Err(crowded()) } else { Err(in_use()) }
    }

    /// Looks at what is in the terminal.
    async fn look(&mut self) -> Result<Seen, Ended> {
        let name = self.draw();
        let wait = ANSWER + self.terminal.round_trip * 2;
        self.terminal.write(&[b"\n", &*doubled(&format!("{name} hi"))].concat())?;
        // What another client is told holds for all: the hub of a crowd is too busy to tell each of them in time.
        let is_here = |it: &Reply| matches!(it, Reply::Here(..));
        let shown = self.listen(wait, |shown| shown.replies.iter().any(is_here)).await?;
        if let Some(Reply::Here(told, version, boot)) = shown.replies.iter().find(|it| is_here(it)) {
            if *version == self::version() {
                self.meet(*told != name);
                return Ok(Seen::Hub(*boot));
            }
            // What it has started goes on.
            self.terminal.write(&doubled(&format!("{name} quit")))?;
            return Ok(Seen::Another);
        }
        if !shown.replies.is_empty() {
            return Ok(Seen::Another);
        }
        if let Some(reader) = reader(&shown.bytes) {
            return Ok(Seen::Reader(reader));
        }
        let claim = format!("#{}", self.draw());
        self.terminal.write(format!("{claim}\n").as_bytes())?;
        // By chance longer: clients that have met here once would meet again.
        let wait = wait + self.by_chance(PAUSE);
        let mut after = self.listen(wait, |_| false).await?;
        let is_echoed = contains(&after.bytes, claim.as_bytes());
        after.bytes.splice(0..0, shown.bytes);
        let is_first = claims(&after.bytes).next() == Some(claim.as_bytes());
        let is_starting = [STARTER, PROVING].iter().any(|it| contains(&after.bytes, it.as_bytes()));
        Ok(match () {
            () if is_echoed && !is_first || is_starting || !after.replies.is_empty() => Seen::Another,
            () if is_echoed => Seen::Shell,
            () => Seen::Else,
        })
    }

    /// Replaces the shell by a hub. That it is one it proves first: what is typed before a program that only echoes is
    /// read by a shell later.
    async fn start(&mut self, addresses: &[String]) -> Result<Option<Unique>, Failed> {
        let proof = self.draw();
        self.terminal.write(format!("{PROVING} {proof}{IDENTITY}\n").as_bytes())?;
        let of_root = format!("_{proof}0\r");
        // From a guest without a network nobody gets elsewhere.
        let of_guest: Vec<_> = addresses.iter().map(|it| format!("_{it}")).collect();
        let has = |shown: &[u8], it: &str| contains(shown, it.as_bytes());
        let is_ours = |shown: &[u8]| {
            has(shown, &of_root) && (of_guest.is_empty() || of_guest.iter().any(|it| has(shown, it)))
        };
        self.hear(is_ours, PROOF).await?;
        let name = self.draw();
        self.terminal.write(starter(&name, &packed()).as_bytes())?;
        self.hear(|it| contains(it, format!("_{name} ").as_bytes()), REPLACING).await?;
        self.hand_over(&name).await
    }

    /// Waits until the terminal shows something.
    async fn hear(&mut self, is_wanted: impl Fn(&[u8]) -> bool, wait: Duration) -> Result<(), Failed> {
        let wait = wait + self.terminal.round_trip * 2;
        let shown = self.listen(wait, |shown| is_wanted(&shown.bytes)).await?;
        if is_wanted(&shown.bytes) { Ok(()) } else { Err(Failed::NoHub) }
    }

    /// Hands the script over to the reader of this name.
    async fn hand_over(&mut self, name: &str) -> Result<Option<Unique>, Failed> {
        let script = packed();
        for _ in 0..SENDINGS {
            self.terminal.write(format!("{name}{script}\n").as_bytes())?;
            let wait = SENDING + self.terminal.round_trip * 2 + self.by_chance(SENDING);
            let mut shown = self.listen(wait, |shown| !shown.replies.is_empty()).await?;
            // Whatever else is told: such a hub cannot work, and ends.
            if let Some(program) = shown.replies.iter().find_map(lacking) {
                return Err(Failed::Lacks(program.to_owned()));
            }
            match shown.replies.pop() {
                Some(Reply::Ready(of, boot)) if of == version() => return Ok(Some(boot)),
                // Another's hub is there.
                Some(_) => return Ok(None),
                None => {}
            }
        }
        Err(Failed::NoHub)
    }

    /// Lets another client start its hub, or find it.
    async fn give_way(&mut self) -> Result<Option<Unique>, Failed> {
        let wait = YIELDING + self.by_chance(YIELDING * 2);
        let shown = self.listen(wait, |shown| shown.replies.iter().any(|it| found(it).is_some())).await?;
        let boot = shown.replies.iter().find_map(found);
        self.meet(boot.is_some());
        Ok(boot)
    }

    /// Notices that others have heard what has just come.
    fn meet(&mut self, has_met: bool) {
        if has_met {
            self.floor.meet(self.terminal.now());
        }
    }

    /// Listens until something is shown, and no longer than `wait`.
    async fn listen(&mut self, wait: Duration, is_enough: impl Fn(&Shown) -> bool) -> Result<Shown, Ended> {
        let until = self.now() + wait;
        let mut shown = Shown::default();
        while !is_enough(&shown) {
            let Some(bytes) = self.terminal.read(until).await? else { break };
            shown.replies.extend(self.heard(&bytes));
            shown.replies.truncate(REPLIES);
            shown.bytes.extend(bytes);
            let excess = shown.bytes.len().saturating_sub(SHOWN);
            shown.bytes.drain(..excess);
        }
        Ok(shown)
    }
}

/// Why there is no hub yet.
enum Failed {
    Ended,
    NoHub,
    /// The guest has no such program.
    Lacks(String),
}

impl From<Ended> for Failed {
    fn from(Ended: Ended) -> Self {
        Self::Ended
    }
}

/// The start of the guest, where a hub of our version tells that it is there.
fn found(reply: &Reply) -> Option<Unique> {
    match reply {
        Reply::Ready(of, boot) | Reply::Here(_, of, boot) if *of == version() => Some(*boot),
        _ => None,
    }
}

/// The program without which a hub tells that it cannot work.
fn lacking(reply: &Reply) -> Option<&str> {
    if let Reply::Lacks(program) = reply { Some(program) } else { None }
}

/// The name of a reader that has answered: `_`, six hexadecimal digits, and a space.
fn reader(bytes: &[u8]) -> Option<String> {
    let named = |it: &[u8]| match it {
        [b'_', name @ .., b' '] if name.iter().all(is_digit) => String::from_utf8(name.to_vec()).ok(),
        _ => None,
    };
    bytes.windows(8).find_map(named)
}

fn is_digit(byte: &u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(byte)
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|it| it == wanted)
}

/// Claims in what a terminal shows: lines of `#` and six hexadecimal digits.
fn claims(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.windows(8).filter_map(|it| match it {
        [b'#', digits @ .., b'\r' | b'\n'] if digits.iter().all(is_digit) => it.get(..7),
        _ => None,
    })
}

/// The version of the hub.
pub(in super::super) fn version() -> Version {
    let mut version = sum(squeezed().as_bytes());
    version.truncate(8);
    version
}

/// The script without comments and indentation.
fn squeezed() -> String {
    let lines = SCRIPT.lines().map(str::trim_start).filter(|it| !it.is_empty() && !it.starts_with("# "));
    lines.flat_map(|it| [it, "\n"]).collect()
}

/// The script as it is run.
pub(in super::super) fn script() -> String {
    format!("H={}\n{}", version(), squeezed())
}

/// The script on one line, as `printf %b` reads it.
fn packed() -> String {
    script().replace('\\', "\\\\").replace('\n', "\\n")
}

/// The line that replaces a shell by one that reads a packed script behind `name`, and runs it if it is whole. It answers
/// whoever looks for a hub, and ends where nobody sends the script. What is typed meanwhile is passed over. The space before it keeps it out of the shell's history.
fn starter(name: &str, packed: &str) -> String {
    let digest = hex::encode(<[u8; 32]>::from(<sha2::Sha256 as sha2::Digest>::digest(packed)));
    // 137 is `_` in octal: the answer differs from the echo of the line.
    let reader = format!(
        "(sleep {READER};kill -KILL $$)&w=$!;stty raw -echo;printf \"\\137{name} \";while IFS= read -r s;do case $s in \
         '#'*) printf \"\\137{name} \";;*)s=${{s#{name}}};[ \"$(printf %s \"$s\"|sha256sum)\" = \"{digest}  -\" ]&&\
         eval \"$(printf %b \"$s\")\";;esac;done"
    );
    format!("{STARTER} {}\n", quote(&reader))
}

fn ended() -> Error {
    let text = "the container's console ended: is the container running?";
    Error::new(Code::ExecUnreachable, text).retry_after(2)
}

/// The error of a guest without something that the hub needs: a program, or room for its files.
fn lacks(program: &str) -> Error {
    if program == ROOM {
        let text =
            "commands cannot go through this container's console, because no room is left in the sandbox";
        return Error::new(Code::DiskFull, text);
    }
    let text = format!(
        "commands cannot go through this container's console, because it has no `{program}`: install it, or put \
         pve-edge-guest into the template"
    );
    Error::new(Code::Unsupported, text)
}

/// The error of a client that does not get through to the hub, for others.
pub(in super::super) fn crowded() -> Error {
    let text = "nothing was run: so many use the container's console at once that the request did not get through in time";
    Error::new(Code::ConsoleInUse, text).retry_after(5)
}

/// The error of a console that shows no shell.
fn in_use() -> Error {
    let text = "the container's console is no shell that waits for a command, or not root's in this \
                sandbox: somebody works in it (the tasks of the node tell who), or it asks for a login; leave it with \
                `exit`, or restart the sandbox";
    Error::new(Code::ConsoleInUse, text).retry_after(5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_fits_and_is_one_line() {
        let packed = packed();
        assert!(!packed.contains('\n') && packed.is_ascii());
        assert!(packed.len() < 8 << 10, "{}", packed.len());
        assert!(!squeezed().contains("\n# "));
    }

    #[test]
    fn the_starter_is_a_line_that_a_terminal_takes() {
        // A terminal that is not raw takes lines of 4095 bytes.
        let line = starter("abcdef", &packed());
        assert!(line.len() < 1000 && line.ends_with('\n') && line.matches('\n').count() == 1);
        assert!(!line.contains("_abcdef "), "the echo is taken for the answer");
    }

    #[test]
    fn a_reader_that_waits_is_found_by_its_answer() {
        let shown = b"#0a1b2c hi . 0a1b2c hi\r\n_fedcba \r\n";
        assert_eq!(reader(shown).as_deref(), Some("fedcba"));
        for other in ["_fedcb ", "_fedcba", "_FEDCBA ", "_fedcbag "] {
            assert_eq!(reader(other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn claims_are_found_among_what_is_shown() {
        let shown = b"root@x:~# #0a1b2c\r\n# comment\n#fedcba\n#12345g\n #abcdef0\n";
        assert_eq!(claims(shown).collect::<Vec<_>>(), [b"#0a1b2c", b"#fedcba"]);
    }
}
