//! Those who follow a process wait as long as they asked to, and no guest keeps them busy.

use std::time::Duration;

use pve_edge_guest_protocol::{
    Unique,
    process::{Event, Spec},
};

use super::{
    TIME,
    bus::{Bus, Faults},
    console,
};
use crate::{
    daemon::CallFailure,
    error::{Code, Error},
    io::Io,
    sandbox::process::Place,
};

/// Behind the first byte of a process's output: where a client goes on that has seen it.
const SEEN: Place = Place { all: 1, stderr: 0 };

/// Follows a process from a place on; how long that took, the bytes that it told, and the failure.
async fn followed(bus: &Bus, from: Place, wait: Duration) -> (Duration, usize, bool) {
    let mut console = console(bus, [1; 32]);
    let (process, until) = (Unique([5; 16]), bus.now() + TIME);
    let spec = Spec { argv: Some(vec!["x".into()]), ..Spec::default() };
    console.run(process, &spec, true, until).await.expect("it starts");
    let began = bus.now();
    let mut following = console.follow(process, from, Some(wait), true);
    let (mut bytes, mut is_cut) = (0, false);
    while let Some(lines) = following.next().await {
        let Ok(lines) = lines else {
            is_cut = true;
            break;
        };
        for line in lines {
            if let Event::Out { data, .. } = line.event {
                bytes += data.0.len();
            }
        }
    }
    (Duration::try_from(bus.now() - began).expect("it goes on"), bytes, is_cut)
}

#[test]
fn the_next_output_is_waited_for_and_no_longer() {
    let seconds = Duration::from_secs;
    for (lasts, wait, least, most) in [(12, 8, 8, 9), (5, 20, 4, 6), (40, 0, 0, 1)] {
        let bus = Bus::new(Faults { lasts: Some(seconds(lasts)), ..Faults::default() });
        let (took, bytes, is_cut) = bus.run(followed(&bus, SEEN, seconds(wait)));
        assert!((seconds(least)..seconds(most)).contains(&took), "{took:?}");
        assert_eq!((bytes > 0, is_cut), (lasts < wait, false));
        // Neither the start nor that it is alive ends the wait, or has it ask without a pause.
        let asked = bus.guest(|it| it.whole);
        assert!(asked < 20, "{asked} requests");
    }
}

#[test]
fn the_start_is_told_at_once_to_whom_it_is_news() {
    let bus = Bus::new(Faults { lasts: Some(Duration::from_secs(30)), ..Faults::default() });
    let (took, ..) = bus.run(followed(&bus, Place::default(), TIME));
    assert!(took < Duration::from_secs(2), "{took:?}");
}

#[test]
fn output_that_is_promised_and_never_comes_is_given_up() {
    let bus = Bus::new(Faults { promises: true, ..Faults::default() });
    let (took, bytes, is_cut) = bus.run(followed(&bus, Place::default(), Duration::from_secs(3600)));
    assert_eq!((bytes, is_cut), (0, true));
    let asked = bus.guest(|it| it.whole);
    assert!(asked < 40 && took < Duration::from_secs(30), "{asked} requests in {took:?}");
}

#[test]
fn a_place_behind_the_end_is_no_output_that_is_missing() {
    let bus = Bus::new(Faults { lasts: Some(Duration::from_secs(60)), ..Faults::default() });
    let far = Place { all: 1000, stderr: 0 };
    let (took, bytes, is_cut) = bus.run(followed(&bus, far, Duration::from_secs(20)));
    assert_eq!((bytes, is_cut), (0, false));
    assert!((20..=21).contains(&took.as_secs()) && bus.guest(|it| it.whole) < 25, "{took:?}");
}

#[test]
fn a_guest_that_lacks_a_program_or_room_runs_nothing() {
    for (faults, code) in [
        (Faults { is_shell: true, lacks: true, ..Faults::default() }, Code::Unsupported),
        (Faults { is_full: true, ..Faults::default() }, Code::DiskFull),
    ] {
        let bus = Bus::new(faults);
        let failure: CallFailure = bus.run(super::command(&bus, 1, 0, 10)).expect_err("it cannot");
        assert!(failure.is_never_executed() && bus.guest(|it| it.ran().len()) == 0);
        assert_eq!(Error::from(failure).code(), code);
    }
}
