//! What power leaves behind.

use pve_edge_bed::sim::Guest;
use pve_edge_core::pve::marks::{Mark, Want, lifetime};

use super::after::Scene;
use crate::stage::prelude::*;

pub(super) fn off(scene: &Scene<'_>) {
    was_told(scene, |guest| guest.run.is_none());
    let kept = asked_again(scene, "stop");
    assert_eq!(kept.want, Want::Off, "{}", scene.told);
    assert_off(scene, "stopped", |guest| guest.config.lock().is_none());
}

/// A VM's memory is on its storage, and a pause holds for as long as is set.
pub(super) fn paused(scene: &Scene<'_>) {
    was_told(scene, |guest| guest.run.is_none() && guest.is_suspended() == (guest.kind == Kind::Qemu));
    let began = scene.stage.world.now().unix_timestamp();
    let kept = asked_again(scene, "pause");
    assert_eq!(kept.want, Want::Paused, "{}", scene.told);
    let until = lifetime::ends(&kept, 7 * 86_400);
    assert!(until.is_some_and(|it| it - began > 6 * 86_400), "{}", scene.told);
    assert_off(scene, "paused", |guest| guest.is_suspended() == (guest.kind == Kind::Qemu));
}

pub(super) fn started(scene: &Scene<'_>) {
    on(scene, "start");
}

pub(super) fn rebooted(scene: &Scene<'_>) {
    on(scene, "reboot");
}

fn on(scene: &Scene<'_>, action: &str) {
    was_told(scene, |guest| guest.run.is_some());
    let kept = asked_again(scene, action);
    assert_eq!((kept.want, kept.keeps), (Want::On, None), "{}", scene.told);
    let left = kept.expires.map(|it| it - scene.stage.world.now().unix_timestamp());
    assert!(left.is_some_and(|it| it > 0), "{}: {left:?}", scene.told);
    scene.assert_runs(scene.id);
}

/// A VM goes on where it was.
pub(super) fn resumed(scene: &Scene<'_>) {
    on(scene, "resume");
    let memory = scene.was.and_then(|it| it.memory_of(""));
    look(scene, |guest| guest.kind == Kind::Lxc || guest.run.as_ref().map(|run| run.memory) == memory);
}

fn asked_again(scene: &Scene<'_>, action: &str) -> Mark {
    scene.until_200(Ask::post(format!("/api/sandboxes/{}/{action}", scene.id), json!({})));
    scene.stage.world.advance(time::Duration::seconds(100));
    let kept = scene.kept();
    assert_eq!(kept.doing, None, "{}", scene.told);
    kept
}

/// No read and no sweep starts it again.
fn assert_off(scene: &Scene<'_>, state: &str, so: impl Fn(&Guest) -> bool) {
    let shown = scene.stage.ask(Ask::one(scene.id));
    assert_eq!((shown.status, &*shown.state()), (200, state), "{}: {shown:?}", scene.told);
    scene.stage.ask(Ask::gc());
    scene.stage.world.settle();
    look(scene, |guest| guest.run.is_none() && so(guest));
}

/// A 200 before must have been true when it was given.
fn was_told(scene: &Scene<'_>, so: impl Fn(&Guest) -> bool) {
    if scene.first.is_some_and(|it| it.status == 200) {
        look(scene, so);
    }
}

fn look(scene: &Scene<'_>, so: impl Fn(&Guest) -> bool) {
    let sim = scene.stage.world.sim();
    let guest = sim.guest(vmid_of(scene.id)).unwrap_or_else(|| panic!("{}: it is gone", scene.told));
    assert!(so(guest), "{}: {}\n{}", scene.told, guest.config.text(), scene.stage.told());
}
