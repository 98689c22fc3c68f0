//! Scripts for `sh` that a hub runs: a client's process, and what is asked of processes.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use pve_edge_guest_protocol::{
    Unique,
    process::{Scope, Spec},
};
use serde::{Deserialize, Serialize};

use crate::text::shell::quote;

/// Exit codes by which a script says why it did nothing.
pub(super) mod exit {
    pub(in super::super) const NO_SUCH_PROCESS: i32 = 44;
    pub(in super::super) const ENDED: i32 = 45;
    pub(in super::super) const OFFSET: i32 = 46;
    pub(in super::super) const FULL: i32 = 47;
    pub(in super::super) const BUSY: i32 = 48;
}

/// Bytes of a program that listings tell.
const TOLD: usize = 4096;

/// What a process's script tells of it in its first line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct About {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) tag: Option<String>,
    pub(super) argv: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) cwd: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) user: Option<String>,
}

impl About {
    pub(super) fn of(spec: &Spec) -> Self {
        let mut argv = match (&spec.argv, &spec.command) {
            (Some(argv), _) => argv.clone(),
            (None, command) => vec!["sh".into(), "-c".into(), command.clone().unwrap_or_default()],
        };
        let mut left = TOLD;
        for word in &mut argv {
            let end = word.floor_char_boundary(left.min(word.len()));
            word.truncate(end);
            left -= end;
        }
        Self { tag: spec.tag.clone(), argv, cwd: spec.cwd.clone(), user: spec.user.clone() }
    }

    /// Reads the first line of a script, without its `#`.
    pub(super) fn read(line: &str) -> Self {
        let json = STANDARD.decode(line).unwrap_or_default();
        serde_json::from_slice(&json).unwrap_or_default()
    }
}

/// The script of a process.
pub(super) fn process(spec: &Spec) -> String {
    let about = STANDARD.encode(serde_json::to_vec(&About::of(spec)).unwrap_or_default());
    let mut body = match &spec.cwd {
        Some(cwd) => format!("cd {} 2>/dev/null || {{ {}; exit 126; }}\n", quote(cwd), note("cwd")),
        None => "cd \"$HOME\" 2>/dev/null || cd /\n".into(),
    };
    body.push_str("unset _pve_edge_why\n");
    match (&spec.argv, &spec.command) {
        (Some(argv), _) => {
            let words: Vec<_> = argv.iter().map(|it| quote(it)).collect();
            body.push_str(&format!("exec {}\n", words.join(" ")));
        }
        (None, command) => {
            let line = quote(command.as_deref().unwrap_or_default());
            body.push_str(&format!(
                "if command -v bash >/dev/null; then exec bash -c {line}; else exec sh -c {line}; fi\n"
            ));
        }
    }
    format!("#{about}\n{}", as_user(spec.user.as_deref(), &spec.env, &body))
}

/// A script that a user runs with these variables: root, if none is named. No list of processes shows the variables.
pub(super) fn as_user(user: Option<&str>, env: &BTreeMap<String, String>, body: &str) -> String {
    let exports: String =
        env.iter().map(|(name, value)| format!("export {name}={}\n", quote(value))).collect();
    let wanted = quote(user.unwrap_or("root"));
    let unknown = format!("{}; exit 126", note("user"));
    format!(
        "_pve_edge_why=$PWD/why; export _pve_edge_why; unset S LC_ALL; umask 022; PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin; export PATH\n\
         u={wanted}; m=\n\
         while IFS=: read -r n p i g c h s || [ -n \"$n\" ]; do\n\
         [ \"$n\" = \"$u\" ] || [ \"$i\" = \"$u\" ] && {{ m=1; break; }}; done </etc/passwd\n\
         [ -n \"$m\" ] || {{ {unknown}; }}\n\
         HOME=$h USER=$n LOGNAME=$n SHELL=${{s:-/bin/sh}}; export HOME USER LOGNAME SHELL; unset XDG_RUNTIME_DIR PVE_EDGE_RUN\n\
         set -- \"$i\" \"$n\" {}\n{exports}\
         if [ \"$1\" = 0 ]; then eval \"$3\"; else exec su -m -s /bin/sh -- \"$2\" -c \"$3\"; fi\n",
        quote(body)
    )
}

/// Notes for the keeper why a process was not started.
fn note(why: &str) -> String {
    format!("echo {why} >\"$_pve_edge_why\"")
}

/// A script that tells how processes stand: one of them, or all that are kept.
pub(super) fn stand(of: Option<Unique>) -> String {
    let (which, missing) = match of {
        Some(process) => (process.to_string(), format!("exit {}", exit::NO_SUCH_PROCESS)),
        None => ("*/".into(), "continue".into()),
    };
    let kept = if of.is_some() { "" } else { "[ -e $d/keep ] && " };
    format!(
        "cd .. || exit; n=$(date +%s)\n\
         for d in {which}; do\n\
         d=${{d%/}}; {kept}[ -e $d/go ] && [ -e $d/c ] || {missing}\n\
         IFS= read -r m <$d/c; set -- $(wc -c $d/o $d/e 2>/dev/null); o=${{1:-0}} e=${{3:-0}}\n\
         p=0; [ -e $d/pid ] && read -r p <$d/pid; t=$n; [ -e $d/t ] && read -r t <$d/t\n\
         i=-; [ -p $d/q ] && {{ i=$(wc -c <$d/i); [ -e $d/ended ] || [ -e $d/closed ]; }} && i=$i/\n\
         x=+; k=; [ -e $d/kp ] && read -r k <$d/kp\n\
         [ -n \"$k\" ] && ! kill -0 $k 2>/dev/null && x=lost\n\
         [ -s $d/x ] && read -r x <$d/x\n\
         echo $d \"${{m#?}}\" $p $((n - t)) $o $e $i $x\n\
         done\n"
    )
}

/// A script that sends a signal to a process, and tells how it stands.
pub(super) fn signal(process: Unique, signal: &str, scope: Scope) -> String {
    // busybox takes `--` for a process, and would be asked twice.
    let group = match scope {
        Scope::Tree => "kill -0 -$p 2>/dev/null && p=-$p; ",
        Scope::Process => "",
    };
    let kill = format!("{group}kill -{signal} $p 2>/dev/null");
    format!(
        "{}[ -s x ] && exit {ended}\np=; [ -e pid ] && read -r p <pid; [ -n \"$p\" ] || exit {ended}\n{kill} || exit \
         {ended}\n{}",
        within(process),
        stand(Some(process)),
        ended = exit::ENDED
    )
}

/// A script that writes its own input to that of a process, behind the first `at` bytes, and tells how much was taken.
pub(super) fn stdin(process: Unique, at: u64, is_end: bool) -> String {
    let end = if is_end { "true >ended; echo end 1<>q" } else { "echo . 1<>q" };
    // One writes at a time. A lock whose owner is gone is taken off by one alone.
    format!(
        "{}[ -p q ] || exit {ended}; n=0\n\
         until ln -s $$ w 2>/dev/null; do\n\
         p=$(readlink w) && ! kill -0 $p 2>/dev/null && mkdir wb 2>/dev/null && {{\n\
         p=$(readlink w) && ! kill -0 $p 2>/dev/null && rm -f w; rmdir wb; }}\n\
         n=$((n + 1)); [ $n -lt 200 ] || exit {}; sleep 0.05 || sleep 1\n\
         done\n\
         trap 'rm -f w' EXIT\n\
         s=$(wc -c <i); [ $s -ge {at} ] || {{ echo $s; exit {}; }}\n\
         k=$(($s - {at} + 1))\n\
         if [ -e ended ] || [ -e closed ]; then [ $(tail -c +$k | wc -c) = 0 ] || exit {ended}\n\
         else tail -c +$k >>i || exit {full}; {end}; fi\n\
         c=; [ -e ended ] || [ -e closed ] && c=/; echo $(wc -c <i)$c\n",
        within(process),
        exit::BUSY,
        exit::OFFSET,
        full = exit::FULL,
        ended = exit::ENDED
    )
}

/// Enters the folder of a process.
fn within(process: Unique) -> String {
    format!("cd ../{process} 2>/dev/null && [ -e c ] || exit {}\n", exit::NO_SUCH_PROCESS)
}
