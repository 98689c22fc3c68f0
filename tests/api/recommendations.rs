//! "Testing Recommendations" of the review that this project answers, by name.
//! Two more are beside what they test (`parse_snapshot_id_edge_cases` in
//! `core/src/preset.rs`, `get_active_sandbox_provider_auto_detection` in
//! `core/src/settings/reader.rs`), those about users in `src/e2e/scenarios/review.rs`.

use pve_edge_tests::{
    morph::Spec,
    sim::{Kind, Setup, Spec as Guest},
    world::World,
};
use serde_json::json;

use crate::stage::{Ask, SNAPSHOT, Stage, sim_of, vmid_of};

#[test]
fn unit_resolve_snapshot_id_for_both_providers_of_pve() {
    for kind in [Kind::Lxc, Kind::Qemu] {
        let provider = if kind == Kind::Lxc { "pvelxc" } else { "pvevm" };
        let mut sim = sim_of(kind, Setup::default());
        let version = |n: u32| format!("{provider}_1vcpu_1gb_8gb_v{n}");
        let spec = if kind == Kind::Lxc { Guest::template(9002) } else { Guest::vm_template(9002) };
        sim.add(spec.tags(&version(2)));
        let stage = Stage::of_kind(kind, World::new(sim, 7), &[]);
        let resolved = |body| {
            let answer = stage.ask(Ask::post("/api/sandboxes", body));
            (answer.status, answer.json()["snapshotId"].as_str().unwrap_or_default().to_owned())
        };
        assert_eq!(resolved(json!({"snapshotId": version(1)})), (201, version(1)));
        assert_eq!(resolved(json!({"snapshotId": version(1).to_uppercase()})), (201, version(1)));
        assert_eq!(resolved(json!({"preset": "1vcpu_1gb_8gb"})), (201, version(2)), "the newest version");
        assert_eq!(resolved(json!({})), (201, version(2)), "the default");
        assert_eq!(resolved(json!({"snapshotId": version(3)})).0, 422);
        // The older form of containers' ids; VMs never had it.
        let older = resolved(json!({"snapshotId": "pve_1vcpu_1gb_8gb_9000"}));
        let expected = if kind == Kind::Lxc { (201, SNAPSHOT.to_owned()) } else { (422, String::new()) };
        assert_eq!(older, expected);
    }
}

/// The review's other provider.
#[test]
fn unit_resolve_snapshot_id_of_morph() {
    let stage = Stage::on_morph(7, &[]);
    let spec = Spec { vcpus: 1, memory: 1024, disk_size: 8192 };
    let offer = |version: &str| {
        stage.account().add_snapshot(spec, &[("edge.deployment", "prod"), ("edge.preset", version)])
    };
    let (one, two) = ("morph_1vcpu_1gb_8gb_v1", "morph_1vcpu_1gb_8gb_v2");
    let saved = [offer(one), offer(two)];
    let resolved = |body| {
        let answer = stage.ask(Ask::post("/api/sandboxes", body).by("ops"));
        (answer.status, answer.json()["snapshotId"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(resolved(json!({"snapshotId": one})), (201, one.to_owned()));
    assert_eq!(resolved(json!({"snapshotId": saved[0]})), (201, saved[0].clone()), "Morph's own id");
    assert_eq!(resolved(json!({"preset": "1vcpu_1gb_8gb"})), (201, two.to_owned()), "the newest version");
    assert_eq!(resolved(json!({})), (201, two.to_owned()), "the default");
    assert_eq!(resolved(json!({"snapshotId": "morph_1vcpu_1gb_8gb_v3"})).0, 422);
    assert_eq!(resolved(json!({"snapshotId": "pvelxc_1vcpu_1gb_8gb_v1"})).0, 400);
}

#[test]
fn integration_pve_api_connectivity() {
    let stage = Stage::new();
    let health = stage.ask(Ask::get("/api/health/sandbox"));
    assert_eq!((health.status, &health.json()["reachable"]), (200, &json!(true)), "{health:?}");
    let wrong = stage.beside("", &[("PVE_API_TOKEN", "edge@pve!edge=wrong")]);
    let refused = wrong.ask(Ask::get("/api/health/sandbox"));
    assert_eq!((refused.status, &refused.json()["reasons"][0]["code"]), (503, &json!("pve-unauthorized")));
    let nowhere = stage.beside("", &[("PVE_API_URL", "https://nowhere.test:8006")]);
    let silent = nowhere.ask(Ask::get("/api/health/sandbox"));
    assert_eq!((silent.status, &silent.json()["reachable"]), (503, &json!(false)), "{silent:?}");
}

#[test]
fn integration_cloudflare_tunnel_routing() {
    let stage = Stage::new();
    let sandbox = stage.ask(Ask::create());
    let vmid = vmid_of(&sandbox.id());
    for service in sandbox.json()["services"].as_array().expect("services") {
        let expected = format!("https://port-{}-vm-{vmid}.sandbox.test", service["port"]);
        assert_eq!(service["url"], expected);
    }
    let socket = format!("wss://port-9776-vm-{vmid}.sandbox.test/socket.io/");
    assert_eq!(sandbox.json()["viewers"]["socketIo"], socket);
    // Commands take the same way.
    let before = stage.world.requests().len();
    assert_eq!(stage.ask(Ask::exec(&sandbox.id(), "true")).status, 200);
    let hosts: Vec<_> = stage.world.requests().iter().skip(before).map(|it| it.host.clone()).collect();
    assert!(hosts.contains(&format!("port-39375-vm-{vmid}.sandbox.test")), "{hosts:?}");
}

#[test]
fn integration_container_lifecycle_create_exec_stop_delete() {
    let stage = Stage::new();
    let id = stage.ask(Ask::create()).id();
    let exec = stage.ask(Ask::exec(&id, "uname -a"));
    assert_eq!((exec.status, &exec.json()["stdout"]), (200, &json!("uname -a\n")));
    let stopped = stage.ask(Ask::post(format!("/api/sandboxes/{id}/stop"), json!({})));
    assert_eq!((stopped.status, &*stopped.state()), (200, "stopped"));
    assert_eq!(stage.ask(Ask::end(&id)).status, 204);
    assert_eq!(stage.ask(Ask::one(&id)).status, 404);
    assert!(stage.world.sim().guest(vmid_of(&id)).is_none());
}
