//! Nothing is typed in a console that is not proved to be the sandbox's.

use std::time::Duration;

use super::{
    TIME,
    bus::{Bus, Faults},
    command, console, mark,
};
use crate::{
    error::{Code, Error},
    io::Io,
    pve::marks::tags,
};

fn bus(letter: char) -> Bus {
    let bus = Bus::new(Faults::default());
    bus.tag(tags("", &mark(letter), None, 1000, false));
    bus
}

/// 1. A sandbox is found.
/// 2. The client's body takes its time. Meanwhile the sandbox is deleted, and its VMID is given away.
/// 3. The body is to be written through the console.
#[test]
fn a_container_that_is_anothers_by_now_is_left_alone() {
    let bus = bus('b');
    let failure = bus.run(async {
        let mut console = console(&bus, [1; 32]);
        bus.sleep(Duration::from_secs(10)).await;
        console.open().await.expect_err("it is another's")
    });
    assert!(failure.is_never_executed());
    assert_eq!((Error::from(failure).code(), bus.connections()), (Code::NotFound, 0));
}

#[test]
fn a_console_is_opened_without_a_proof_right_after_the_sandbox_was_found_alone() {
    for (is_unproved, connections) in [(false, 1), (true, 0)] {
        let bus = bus('b');
        let opened = bus.run(async {
            let console = console(&bus, [1; 32]);
            let mut console = if is_unproved { console.unproved() } else { console };
            console.open().await
        });
        assert_eq!((opened.is_err(), bus.connections()), (is_unproved, connections));
    }
}

/// Somebody has left `ssh` to another machine in the console, or `su`: it is a shell, and not the sandbox's root's.
#[test]
fn a_shell_of_another_machine_or_user_is_given_nothing() {
    for stands_in in [(0, "bc:24:11:aa:00:02"), (1000, "bc:24:11:aa:00:01"), (10, "bc:24:11:aa:00:01")] {
        let bus = Bus::new(Faults { is_shell: true, stands_in: Some(stands_in), ..Faults::default() });
        let failure = bus.run(command(&bus, 1, 0, 100)).expect_err("it is another's");
        assert!(failure.is_never_executed(), "{stands_in:?}: {failure:?}");
        assert_eq!(Error::from(failure).code(), Code::ConsoleInUse, "{stands_in:?}");
        assert!(bus.guest(|it| it.ran().is_empty() && it.is_shell()), "{stands_in:?}: a hub was started");
    }
}

/// That no token is let in is told by the connection's end alone: a sandbox would be given up for it.
#[test]
fn a_console_that_says_nothing_yet_is_asked_again() {
    let bus = Bus::new(Faults { is_shell: true, is_silent: true, ..Faults::default() });
    let failure = bus.run(command(&bus, 1, 0, 100)).expect_err("nothing answers");
    assert!(failure.is_never_executed() && failure.is_passing(), "{failure:?}");
    assert_eq!(Error::from(failure).code(), Code::PveTimeout);
}

#[test]
fn what_comes_behind_a_slow_body_has_time_of_its_own() {
    let bus = bus('a');
    let said = bus.run(async {
        let mut console = console(&bus, [1; 32]);
        // Longer than a request may take.
        bus.sleep(Duration::from_secs(120)).await;
        console.stream();
        console.script("x".repeat(100), b"input".to_vec(), bus.now() + TIME).await
    });
    assert_eq!(said.map(|it| it.0).ok(), Some(0));
}
