//! Environment variables given at creation: in each command and in a file of
//! the guest, and in clear nowhere else.

use pve_edge_core::pve::marks::Reading;

use crate::stage::{SECRET, guests::reading, prelude::*};

/// With real commands, which can look around in their guest.
fn real() -> Stage {
    let mut sim = Sim::new(Setup::default());
    sim.add(Spec::template(TEMPLATE).tags(SNAPSHOT));
    Stage::on(sim)
}

fn created(stage: &Stage, env: &Value) -> String {
    let answer = stage.ask(Ask::sandbox(json!({"env": env})));
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.id()
}

fn run(stage: &Stage, id: &str, body: Value) -> String {
    let answer = stage.act(id, "exec", body);
    assert_eq!((answer.status, &answer.json()["exitCode"]), (200, &json!(0)), "{answer:?}");
    answer.json()["stdout"].as_str().unwrap_or_default().to_owned()
}

fn said(stage: &Stage, id: &str, command: &str) -> String {
    run(stage, id, json!({ "command": command }))
}

#[test]
fn commands_and_a_file_have_it() {
    let stage = real();
    let odd = "it's \"odd\" $HOME `x` \\ ü";
    let id = created(&stage, &json!({"TOKEN": "s3cr3t", "ODD": odd, "LINES": "a\nb"}));
    assert_eq!(said(&stage, &id, "echo $TOKEN"), "s3cr3t\n");
    assert_eq!(said(&stage, &id, "printf '%s\\n' \"$ODD\" \"$LINES\""), format!("{odd}\na\nb\n"));
    // A command's own come after it.
    let own = json!({"argv": ["sh", "-c", "echo $TOKEN $MORE"], "env": {"TOKEN": "own", "MORE": "1"}});
    assert_eq!(run(&stage, &id, own), "own 1\n");
    // The file can be sourced, by its owner alone.
    let sourced = "env -i bash -c '. /etc/pve-edge/env; printf \"%s\\n\" \"$ODD\" \"$LINES\"'";
    assert_eq!(said(&stage, &id, sourced), format!("{odd}\na\nb\n"));
    assert_eq!(said(&stage, &id, "stat -c %a /etc/pve-edge/env"), "600\n");
    // It goes on after a stop, and what the owner makes of the file stays.
    said(&stage, &id, "echo MORE=1 >>/etc/pve-edge/env");
    assert_eq!(stage.ask(Ask::one(&id)).state(), "running");
    assert_eq!(stage.act(&id, "stop", json!({})).status, 200);
    assert_eq!(stage.act(&id, "start", json!({})).status, 200);
    assert_eq!(said(&stage, &id, "tail -n1 /etc/pve-edge/env; echo $TOKEN"), "MORE=1\ns3cr3t\n");
}

/// What is on the disk of a guest that was made of a snapshot is another sandbox's.
#[test]
fn the_file_of_another_sandbox_goes() {
    let stage = real();
    let another =
        "mkdir -p /etc/pve-edge; printf '# pve-edge aaaaaaaaaaaaaaaa\\nTOKEN=theirs\\n' >/etc/pve-edge/env";
    let look = "cat /etc/pve-edge/env 2>/dev/null || echo none";
    let of = created(&stage, &json!({}));
    let taken = stage.act(&of, "snapshots", json!({}));
    stage.world.settle();
    let snapshot = taken.json()["snapshotId"].clone();
    let path = format!("/api/snapshots/{}", snapshot.as_str().expect("an id"));
    assert_eq!(stage.ask(Ask::get(path).wait(20)).json()["status"], "ready");
    let made = |env: Value| {
        let answer = stage.ask(Ask::sandbox(json!({"snapshotId": snapshot, "env": env})));
        assert_eq!(answer.status, 201, "{answer:?}\n{}", stage.told());
        answer.id()
    };
    let (without, with) = (made(json!({})), made(json!({"A": "mine"})));
    let restarted = |id: &str| {
        for verb in ["stop", "start"] {
            let answer = stage.act(id, verb, json!({}));
            assert_eq!(answer.status, 200, "{answer:?}");
        }
    };
    for id in [&without, &with] {
        said(&stage, id, another);
        restarted(id);
    }
    assert_eq!(said(&stage, &without, look), "none\n");
    assert!(said(&stage, &with, look).ends_with("A='mine'\n"));
    // A file of the template's own maker is left alone where nothing takes its place.
    said(&stage, &without, "echo theirs >/etc/pve-edge/env");
    restarted(&without);
    assert_eq!(said(&stage, &without, look), "theirs\n");
}

#[test]
fn in_clear_it_is_nowhere_else() {
    let stage = Stage::new();
    let body = json!({"env": {"PASSWORD_NAME": "s3cr3t-value"}, "metadata": {"a": "1"}});
    let made = stage.ask(Ask::sandbox(body).header("idempotency-key", "k"));
    let id = made.id();
    let taken = stage.act(&id, "snapshots", json!({}));
    stage.world.settle();
    let snapshot = taken.snapshot_id();
    let answers: Vec<Answer> = vec![
        made,
        taken,
        stage.ask(Ask::one(&id)),
        stage.ask(Ask::get("/api/sandboxes")),
        stage.ask(Ask::change(&id, json!({"name": "n"}))),
        stage.ask(Ask::snapshot(&snapshot)),
        stage.ask(Ask::post("/api/gc", json!({"dryRun": true})).by("ops")),
    ];
    let mut places: Vec<String> = answers.iter().map(|it| format!("{:?}{}", it.headers, it.body)).collect();
    // Every request to PVE, and all that PVE keeps.
    let to_pve = stage.world.requests().into_iter().filter(|it| it.path.starts_with("/api2/"));
    places.extend(to_pve.map(|it| format!("{} {}", it.path, it.body)));
    places.extend(stage.world.sim().guests().map(|it| it.config.text()));
    for place in &places {
        for secret in ["PASSWORD_NAME", "s3cr3t-value"] {
            assert!(!place.contains(secret), "{secret} in {place}");
        }
    }
    // The snapshot has nothing of it, sealed or not.
    let sim = stage.world.sim();
    let mark_of = |id: &str| reading(sim.guest(vmid_of(id)).expect("it is there")).mark().cloned();
    assert!(mark_of(&id).is_some_and(|it| it.env.is_some()));
    assert!(mark_of(&snapshot).is_some_and(|it| it.env.is_none()));
}

/// Whoever finishes it has it from the intent, under whichever secret made it.
#[test]
fn others_finish_it_after_a_rotation() {
    let stage = real();
    let body = json!({"env": {"A": "mine"}});
    let begun = stage.ask(Ask::sandbox(body).wait(0));
    assert_eq!(begun.status, 202, "{begun:?}");
    stage.world.settle();
    let id = begun.id();
    assert!(matches!(reading(stage.world.sim().guest(vmid_of(&id)).expect("claimed")), Reading::Intent(_)));
    let rotated = format!("{} {SECRET}", "n".repeat(32));
    let other = stage.beside("", &[("EDGE_SECRET", &rotated)]);
    let shown = other.ask(Ask::one(&id).wait(20));
    assert_eq!(shown.state(), "running", "{shown:?}");
    assert_eq!(said(&other, &id, "echo $A; tail -n1 /etc/pve-edge/env"), "mine\nA='mine'\n");
    // Without the secret that made it nothing is run, rather than without its environment.
    let lost = stage.beside("", &[("EDGE_SECRET", &"n".repeat(32))]);
    assert_eq!(lost.ask(Ask::exec(&id, "echo $A")).code(), "not-found");
}

#[test]
fn what_cannot_be_is_refused_by_field() {
    let stage = Stage::new();
    let long = "x".repeat(4000);
    let most = json!({"k": "v".repeat(4000)});
    for (body, field) in [
        (json!({"env": {"A-B": "1"}}), "env.A-B"),
        (json!({"env": {"1A": "1"}}), "env.1A"),
        (json!({"env": {"": "1"}}), "env."),
        (json!({"env": {"A": "a\0b"}}), "env.A"),
        (json!({"env": {"A": 1}}), "env.A"),
        (json!({"env": {"A": null}}), "env.A"),
        (json!({"env": []}), "env"),
        (json!({"env": {"A": long}}), "env"),
        (json!({"env": {"A": "x".repeat(2000)}, "metadata": most}), "env"),
        (json!({"env": {"A".repeat(129): "x"}}), "env.A"),
    ] {
        let answer = stage.ask(Ask::sandbox(body.clone()));
        let told = answer.json()["errors"][0]["field"].as_str().unwrap_or_default().to_owned();
        assert_eq!((answer.status, told.starts_with(field)), (400, true), "{body}: {answer:?}");
    }
    assert_eq!(stage.world.requests().len(), 0);
}

/// The largest that is let in has room in the notes.
#[test]
fn what_is_let_in_fits() {
    let stage = Stage::new();
    for (env, metadata) in [(3050, 1300), (1400, 4000), (0, 4080), (3060, 0)] {
        let body = json!({
            "env": {"A": "x".repeat(env)}, "metadata": {"k": "v".repeat(metadata)}, "name": "\"".repeat(64),
        });
        let answer = stage.ask(Ask::sandbox(body).header("idempotency-key", env.to_string()));
        assert_eq!(answer.shows(), "201 running", "{env} {metadata} {answer:?}");
        stage.world.advance(Duration::seconds(61));
    }
}

#[test]
fn a_key_tells_another_environment() {
    let stage = Stage::of(World::new(crate::stage::plain_sim(Setup::default()), 1), &[]);
    let ask = |env: Value| Ask::sandbox(json!({ "env": env })).header("idempotency-key", "k");
    let id = stage.ask(ask(json!({"A": "1"}))).id();
    assert_eq!(stage.ask(ask(json!({"A": "1"}))).id(), id);
    assert_eq!(stage.ask(ask(json!({"A": "2"}))).code(), "idempotency-conflict");
    assert_eq!(stage.ask(ask(json!({}))).code(), "idempotency-conflict");
}
