use pve_edge_bed::sim::Sim;
use time::Duration;

use crate::talk::{cloned, fails, item, ok, sim, task};

const DELETE: &str = "DELETE /nodes/pve1/lxc/200?force=1&purge=1";

fn lock(sim: &Sim) -> Option<(Option<String>, Vec<String>)> {
    let guest = sim.guest(200)?;
    Some((guest.config.lock().map(str::to_owned), guest.tags().into_iter().map(str::to_owned).collect()))
}

#[test]
fn first_whole_and_unlocked_then_only_a_lock_then_gone() {
    let mut sim = sim();
    cloned(&mut sim, 200);
    ok(&mut sim, DELETE);
    let tags = vec!["preset".to_owned()];
    sim.advance(Duration::milliseconds(700));
    assert_eq!(lock(&sim), Some((None, tags)));
    sim.advance(Duration::milliseconds(200));
    assert_eq!(lock(&sim), Some((Some("destroyed".into()), vec![])));
    assert_eq!(fails(&mut sim, DELETE), "500 CT is locked (destroyed)");
    sim.settle();
    assert_eq!(lock(&sim), None);
    assert_eq!(fails(&mut sim, DELETE), "500 Configuration file 'nodes/pve1/lxc/200.conf' does not exist");
}

#[test]
fn a_second_delete_waits_for_the_file_lock_and_finds_nothing() {
    let mut sim = sim();
    cloned(&mut sim, 200);
    ok(&mut sim, DELETE);
    assert_eq!(task(&mut sim, DELETE), "Configuration file 'nodes/pve1/lxc/200.conf' does not exist");
}

#[test]
fn a_running_guest_needs_force() {
    let mut sim = sim();
    cloned(&mut sim, 200);
    assert_eq!(task(&mut sim, "POST /nodes/pve1/lxc/200/status/start"), "OK");
    assert_eq!(
        fails(&mut sim, "DELETE /nodes/pve1/lxc/200"),
        "500 unable to destroy CT 200 - container is running"
    );
    assert_eq!(task(&mut sim, DELETE), "OK");
}

#[test]
fn a_reused_number_shows_the_old_guests_state_until_the_next_turn() {
    let mut sim = sim();
    cloned(&mut sim, 200);
    assert_eq!(task(&mut sim, "POST /nodes/pve1/lxc/200/status/start"), "OK");
    sim.advance(Duration::seconds(11));
    assert_eq!(
        (&item(&mut sim, 200)["status"], &item(&mut sim, 200)["name"]),
        (&"running".into(), &"s200".into())
    );
    assert_eq!(task(&mut sim, DELETE), "OK");
    ok(&mut sim, "POST /nodes/pve1/lxc/9000/clone newid=200&full=0&hostname=new");
    let seen = item(&mut sim, 200);
    assert_eq!(
        (&seen["status"], &seen["name"], &seen["lock"]),
        (&"running".into(), &"s200".into(), &"create".into())
    );
    sim.advance(Duration::seconds(11));
    let seen = item(&mut sim, 200);
    assert_eq!((&seen["status"], &seen["name"]), (&"stopped".into(), &"new".into()));
}
