//! Commands whose calls are lost, cut and doubled on the way, and guests that are restarted meanwhile.

mod guest;

use futures_util::FutureExt;
use proptest::prelude::*;
use pve_edge_guest_protocol::{
    Unique,
    process::{Resize, Size, Spec, Start, Stdin, Stream},
};
use time::OffsetDateTime;

use self::guest::{Fault, Guest};
use super::{
    Runner,
    follow::follow,
    start::{Names, failed, start},
};
use crate::{
    access::secret::{Keyring, Secret},
    daemon::CallFailure,
    error::Error,
    io::{Failure as Broken, NetError, Sent},
    pve::{
        api::{Pve, config::Config},
        console::Console,
        guest::Located,
        marks::Mark,
    },
    sandbox::{
        command::{Outcome, OutputRoom},
        id::Kind,
        process::{After, Decoder, Encoding, Process, State},
    },
};

const PROCESS: Unique = Unique([9; 16]);

fn secrets() -> Keyring {
    Keyring::parse(&"k".repeat(32)).unwrap()
}

fn now<T>(future: impl Future<Output = T>) -> T {
    future.now_or_never().expect("nothing waits in a model")
}

fn runner(guest: &Guest) -> Runner<'static, Guest> {
    Runner::Daemon(guest.daemon(&secrets()))
}

/// Starts a process under this name.
fn begun(guest: &Guest, names: Names) -> Result<Process, CallFailure> {
    now(start(&mut runner(guest), names, &Spec::default(), true))
}

/// Starts a process under this name; the name that it has.
fn begin(guest: &Guest, names: Names) -> Result<Unique, CallFailure> {
    begun(guest, names).map(|it| it.process)
}

fn keyed(ring: &Keyring, key: &str, canonical: &str) -> Names {
    Names::keyed(ring, "home", guest::GUEST, key, canonical)
}

/// A process whose events are collected, while these faults come.
fn collected(guest: &Guest, encoding: Encoding, faults: &[Option<Fault>]) -> Result<Outcome, Error> {
    begin(guest, Names::own(PROCESS)).map_err(Error::from)?;
    guest.world().faults = faults.iter().copied().collect();
    let decoder = Decoder::new(PROCESS, encoding, &After::Start);
    now(Outcome::collect(follow(runner(guest), PROCESS, decoder, true), OutputRoom::new(1 << 20)))
}

fn code(error: &Error) -> &'static str {
    error.code().row().0
}

#[test]
fn a_start_that_is_not_answered_is_repeated_and_runs_once() {
    let guest = Guest::new(&secrets());
    guest.world().faults = [Fault::Unanswered, Fault::Lost, Fault::Cut(10)].map(Some).into();
    assert_eq!(begin(&guest, Names::own(PROCESS)).unwrap(), PROCESS);
    let world = guest.world();
    assert_eq!((world.runs, world.calls.as_slice()), (1, ["start", "start", "start"].as_slice()));
}

/// In the daemon's place a console would tell that there are no processes.
#[test]
fn what_only_the_daemon_knows_is_not_told_in_its_place() {
    let guest = Guest::new(&secrets());
    let daemon = guest.daemon(&secrets());
    let pve = Pve::new("http://pve", &Secret::new("t".to_owned()), None).unwrap();
    let nonce = "a".repeat(24).parse().unwrap();
    let mark = Mark::claimed("home", "t", "200001".parse().unwrap(), Kind::Lxc, nonce);
    let found = Located { node: "node".into(), config: Config::default(), mark, committed: true };
    let console = || Box::new(Console::new(daemon.invocation(), &pve, &found));
    let lost = NetError { sent: Sent::Never, failure: Broken::Cut, detail: "no way".into() };
    let in_its_place = || Runner::Console(console(), Some(CallFailure::NotSent(lost.clone())));
    let stdin = || Stdin { process: PROCESS, at: 0, end: true };
    let size = || Size { cols: 80, rows: 24 };
    let terminal = Spec { pty: Some(size()), ..Spec::default() };
    let until = OffsetDateTime::UNIX_EPOCH;
    let own = Start { process: PROCESS, keyed: None };
    let failures = now(async {
        [
            in_its_place().processes().await.err(),
            in_its_place().write_stdin(stdin(), b"x").await.err(),
            in_its_place().resize(Resize { process: PROCESS, size: size() }).await.err(),
            in_its_place().start(&own, &Spec::default(), true, until).await.err(),
            in_its_place().start(&own, &terminal, false, until).await.err(),
        ]
    });
    for failure in failures {
        let failure = failure.expect("a failure");
        assert_eq!(code(&Error::from(failure)), "exec-unreachable");
    }
    let mut alone = Runner::Console(console(), None);
    let failure = now(alone.resize(Resize { process: PROCESS, size: size() })).unwrap_err();
    assert_eq!(code(&Error::from(failure)), "unsupported");
}

#[test]
fn a_start_that_was_never_sent_is_told_as_such() {
    let guest = Guest::new(&secrets());
    guest.world().faults = [Some(Fault::Lost)].into();
    let failure = begin(&guest, Names::own(PROCESS)).unwrap_err();
    assert!(failure.is_never_executed());
    assert_eq!((code(&failed(failure)), guest.world().runs), ("exec-unreachable", 0));
}

#[test]
fn a_start_is_given_up_after_a_few_tries() {
    let guest = Guest::new(&secrets());
    guest.world().faults = [Some(Fault::Unanswered); 20].into();
    let error = failed(begin(&guest, Names::own(PROCESS)).unwrap_err());
    assert_eq!((code(&error), guest.world().runs), ("exec-cut", 1));
    assert!(error.detail().contains("may or may not"), "{error}");
    assert!(guest.world().faults.len() > 10, "it goes on for ever");
}

/// 1. A start arrives, and its answer is lost.
/// 2. The guest is restarted.
/// 3. The start is sent again: under the new boot it would run a second time.
#[test]
fn a_start_is_not_repeated_after_a_restart() {
    for then in [None, Some(Fault::Unanswered), Some(Fault::Lost)] {
        let guest = Guest::new(&secrets());
        guest.world().faults = [then, Some(Fault::Restarted)].into_iter().flatten().map(Some).collect();
        let failure = begin(&guest, Names::own(PROCESS)).unwrap_err();
        if then == Some(Fault::Lost) {
            assert_eq!(guest.world().runs, 0);
            continue;
        }
        let error = failed(failure);
        assert_eq!((code(&error), guest.world().runs), ("exec-cut", 1), "{then:?}");
        assert!(error.detail().contains("restarted"), "{error}");
    }
}

#[test]
fn the_same_key_is_the_same_process_and_another_request_is_refused() {
    let guest = Guest::new(&secrets());
    let first = begin(&guest, keyed(&secrets(), "k", "a")).unwrap();
    assert_eq!(begin(&guest, keyed(&secrets(), "k", "a")).unwrap(), first);
    assert_ne!(begin(&guest, keyed(&secrets(), "l", "a")).unwrap(), first);
    let other = failed(begin(&guest, keyed(&secrets(), "k", "b")).unwrap_err());
    assert_eq!((code(&other), guest.world().runs), ("idempotency-conflict", 2));
}

#[test]
fn a_key_outlives_the_rotation_of_the_secret() {
    let old = secrets();
    let guest = Guest::new(&old);
    let first = begin(&guest, keyed(&old, "k", "a")).unwrap();
    let rotated = Keyring::parse(&format!("{} {}", "n".repeat(32), "k".repeat(32))).unwrap();
    assert_eq!(begin(&guest, keyed(&rotated, "k", "a")).unwrap(), first);
    assert_ne!(begin(&guest, keyed(&rotated, "new", "a")).unwrap(), first);
    assert_eq!(guest.world().runs, 2);
}

#[test]
fn a_key_after_a_restart_runs_nothing_and_says_that_the_process_is_lost() {
    let guest = Guest::new(&secrets());
    begin(&guest, keyed(&secrets(), "k", "a")).unwrap();
    guest.world().boot = 2;
    guest.world().processes.clear();
    let again = begun(&guest, keyed(&secrets(), "k", "a")).unwrap();
    assert_eq!((again.state, guest.world().runs), (State::Lost, 1));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// However often the way is cut, and wherever: a client has each byte once, in order, and the exit.
    #[test]
    fn cuts_lose_nothing_and_double_nothing(
        pieces in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 1..40)), 0..30),
        cuts in prop::collection::vec(prop_oneof![
            (1_usize..400).prop_map(|it| Some(Fault::Cut(it))), Just(Some(Fault::Lost)), Just(Some(Fault::Unanswered)),
        ], 0..10),
        is_text in any::<bool>(),
    ) {
        let guest = Guest::new(&secrets());
        let stream = |is_stderr| if is_stderr { Stream::Stderr } else { Stream::Stdout };
        guest.world().output = pieces.iter().map(|(at, data)| (stream(*at), data.clone())).collect();
        let encoding = if is_text { Encoding::Text } else { Encoding::Base64 };
        let whole = collected(&guest, encoding, &[]).unwrap();
        // More than a few cuts before anything new is told are an end.
        let mut faults = Vec::new();
        for cut in cuts {
            faults.extend([cut, Some(Fault::Cut(400))]);
        }
        match collected(&guest, encoding, &faults) {
            Ok(cut) => {
                prop_assert_eq!(&cut, &whole);
                prop_assert_eq!(guest.world().runs, 1);
            }
            Err(error) => prop_assert_eq!(code(&error), "exec-cut"),
        }
    }
}

#[test]
fn ten_cuts_in_one_output_are_not_seen() {
    let guest = Guest::new(&secrets());
    guest.world().output =
        (0..200).map(|it| (Stream::Stdout, format!("line {it} → ä\n").into_bytes())).collect();
    let whole = collected(&guest, Encoding::Text, &[]).unwrap();
    assert_eq!(whole.stdout.lines().count(), 200);
    let cut = collected(&guest, Encoding::Text, &[Some(Fault::Cut(700)); 10]).unwrap();
    assert_eq!(cut, whole);
    assert_eq!(guest.world().calls.iter().filter(|it| **it == "follow").count(), 1 + 11);
}

#[test]
fn a_way_that_stays_cut_is_an_error_and_never_a_success() {
    let guest = Guest::new(&secrets());
    let error = collected(&guest, Encoding::Text, &[Some(Fault::Lost); 50]).unwrap_err();
    assert_eq!(code(&error), "exec-cut");
    assert!(guest.world().faults.len() > 30, "it goes on for ever");
    // A daemon that ends its answer without an exit, again and again.
    let guest = Guest::new(&secrets());
    guest.world().exit = None;
    assert_eq!(code(&collected(&guest, Encoding::Text, &[]).unwrap_err()), "exec-cut");
}

#[test]
fn a_guest_that_answers_anything_gives_an_error() {
    for text in [
        "nonsense\n".to_owned(),
        "{}\n".to_owned(),
        "{\"cursor\":5,\"event\":\"out\",\"stream\":\"stdout\",\"data\":\"AA==\"}\n".to_owned(),
        "{\"cursor\":0,\"event\":\"gap\",\"bytes\":7}\n".to_owned(),
        "{\"cursor\":1,\"event\":\"out\",\"stream\":\"stdout\",\"data\":\"!\"}\n".to_owned(),
        "{\"cursor\":0,\"event\":\"exit\"}\n".to_owned(),
        "x".repeat(9 << 20) + "\n",
        "\n\n\n".to_owned(),
        String::new(),
    ] {
        let guest = Guest::new(&secrets());
        guest.world().instead = Some(text.clone());
        let error = collected(&guest, Encoding::Text, &[]).unwrap_err();
        assert_eq!(code(&error), "exec-cut", "{:.40}", text);
    }
}
