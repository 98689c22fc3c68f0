//! The next thing of a build, decided from what was read.

use super::script::Left;
use crate::{
    daemon::program::Program,
    pve::marks::Build,
    sandbox::{process::State, template::Step},
};

/// What was seen in a guest that runs.
pub(super) struct Seen {
    /// How the process of packages and script stands; `None` where there is none since the guest's start.
    pub(super) process: Option<State>,
    pub(super) left: Left,
}

/// The next thing of a build.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Start the guest.
    Start,
    /// Start the packages and the script.
    Work,
    /// Nothing: they run.
    Wait(Step),
    /// Push the program, from this byte on.
    Push(u64),
    /// Install the program.
    Install,
    /// Note that all is in it that shall be.
    Done,
    /// Remove what is one machine's own, and note in which start of the guest.
    Clean,
    /// Stop the guest.
    Stop,
    /// It is done and clean, and the guest is stopped.
    Over,
    /// Note that it has failed, and why.
    Fail(Step, String),
    /// It has failed, and the guest is stopped.
    Failed(Step),
}

/// Decides; `program` is the one for the guest's processor.
pub(super) fn decide(build: &Build, running: bool, seen: Option<&Seen>, program: Option<&Program>) -> Next {
    match (build.failed, running, seen) {
        (Some(_), true, _) => Next::Stop,
        (Some(step), false, _) => Next::Failed(step),
        (None, false, _) | (None, true, None) => Next::Start,
        (None, true, Some(seen)) => match seen.left.code {
            Some(0) => after_work(build, &seen.left, program),
            Some(code) => Next::Fail(step(&seen.left), format!("exit code {code}")),
            None => at_work(seen),
        },
    }
}

/// Decides once all is in it that shall be: a start after the last removal has made a machine's own anew.
pub(super) fn decide_done(running: bool, is_clean: bool) -> Next {
    match (running, is_clean) {
        (true, true) => Next::Stop,
        (true, false) => Next::Clean,
        (false, true) => Next::Over,
        (false, false) => Next::Start,
    }
}

/// Decides while the end of packages and script is not there.
fn at_work(Seen { process, left }: &Seen) -> Next {
    match process {
        Some(State::Starting | State::Running) => Next::Wait(step(left)),
        None if left.step.is_none() => Next::Work,
        None | Some(State::Lost) => {
            let why = "how it ended is not known: the guest was restarted, or its processes were killed";
            Next::Fail(step(left), why.into())
        }
        Some(State::Exited) => Next::Fail(
            step(left),
            "it ended before its time, took more than an hour, or found the disk full".into(),
        ),
    }
}

/// Decides once packages and script have ended well.
fn after_work(build: &Build, left: &Left, program: Option<&Program>) -> Next {
    let is = |sum: &Option<String>| sum.as_ref() == program.map(|it| &it.sha256);
    match program {
        _ if !build.guest => Next::Done,
        None => {
            let why = format!("this guest is {}; there are programs for x86_64 and aarch64", left.arch);
            Next::Fail(Step::Guest, why)
        }
        Some(_) if is(&left.installed) && is(&left.program) => Next::Done,
        Some(it) if is(&left.program) || left.pushed >= it.bytes => Next::Install,
        Some(_) => Next::Push(left.pushed),
    }
}

/// The step that the script was at.
fn step(left: &Left) -> Step {
    if left.step.as_deref() == Some("running") { Step::Running } else { Step::Packages }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of the program.
    const BYTES: u64 = 3000;
    const SUM: &str = "0123456789abcdef";

    fn seen(process: Option<State>, left: Left) -> Seen {
        Seen { process, left: Left { arch: "x86_64".into(), ..left } }
    }

    /// What comes next where the guest runs.
    fn next(build: &Build, process: Option<State>, left: Left) -> Next {
        let program = Program { sha256: SUM.into(), bytes: BYTES };
        decide(build, true, Some(&seen(process, left)), Some(&program))
    }

    fn at(step: &str, code: Option<i32>) -> Left {
        Left { step: Some(step.into()), code, ..Left::default() }
    }

    #[test]
    fn a_build_goes_from_step_to_step() {
        let build = Build { guest: true, ..Build::default() };
        assert_eq!(decide(&build, false, None, None), Next::Start);
        assert_eq!(next(&build, None, Left::default()), Next::Work);
        assert_eq!(next(&build, Some(State::Running), Left::default()), Next::Wait(Step::Packages));
        assert_eq!(next(&build, Some(State::Running), at("running", None)), Next::Wait(Step::Running));
        let ended = at("running", Some(0));
        assert_eq!(next(&build, Some(State::Exited), ended.clone()), Next::Push(0));
        let cut = Left { pushed: BYTES - 1, ..ended.clone() };
        assert_eq!(next(&build, None, cut), Next::Push(BYTES - 1));
        let pushed = Left { pushed: BYTES, ..ended.clone() };
        assert_eq!(next(&build, None, pushed), Next::Install);
        let in_place = Left { program: Some(SUM.into()), ..ended };
        assert_eq!(next(&build, None, in_place.clone()), Next::Install);
        assert_eq!(next(&build, None, Left { installed: Some(SUM.into()), ..in_place }), Next::Done);
        assert_eq!(next(&Build::default(), None, at("running", Some(0))), Next::Done);
    }

    #[test]
    fn what_is_done_is_over_only_where_its_last_start_was_cleaned() {
        assert_eq!((decide_done(true, false), decide_done(false, false)), (Next::Clean, Next::Start));
        assert_eq!((decide_done(true, true), decide_done(false, true)), (Next::Stop, Next::Over));
    }

    #[test]
    fn what_was_begun_is_never_begun_again() {
        let build = Build::default();
        for process in [None, Some(State::Lost), Some(State::Exited)] {
            let next = next(&build, process, at("running", None));
            assert!(matches!(next, Next::Fail(Step::Running, _)), "{process:?}: {next:?}");
        }
        let failed = next(&build, Some(State::Exited), at("packages", Some(100)));
        assert_eq!(failed, Next::Fail(Step::Packages, "exit code 100".into()));
        let failed = Build { failed: Some(Step::Packages), ..Build::default() };
        assert_eq!(decide(&failed, true, None, None), Next::Stop);
        assert_eq!(decide(&failed, false, None, None), Next::Failed(Step::Packages));
    }

    #[test]
    fn there_is_no_program_for_every_processor() {
        let build = Build { guest: true, ..Build::default() };
        let next = decide(&build, true, Some(&seen(None, at("running", Some(0)))), None);
        assert!(matches!(next, Next::Fail(Step::Guest, _)), "{next:?}");
    }
}
