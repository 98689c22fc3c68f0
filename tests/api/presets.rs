//! Which template a creation gets: by a version, a preset, a VMID or nothing.

use pve_edge_bed::morph::Spec as MorphSpec;

use crate::stage::prelude::*;

#[test]
fn a_version_a_preset_or_the_default_on_pve() {
    for kind in BOTH {
        let provider = if kind == Kind::Lxc { "pvelxc" } else { "pvevm" };
        let mut sim = sim_of(kind, Setup::default());
        let version = |n: u32| format!("{provider}_1vcpu_1gb_8gb_v{n}");
        let spec = if kind == Kind::Lxc { Spec::template(9002) } else { Spec::vm_template(9002) };
        sim.add(spec.tags(&version(2)));
        let stage = Stage::of_kind(kind, World::new(sim, 7), &[]);
        let resolved = |body| {
            let answer = stage.ask(Ask::sandbox(body));
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

#[test]
fn a_version_a_preset_or_the_default_on_morph() {
    let stage = Stage::on_morph(7, &[]);
    let spec = MorphSpec { vcpus: 1, memory: 1024, disk_size: 8192 };
    let offer = |version: &str| {
        stage.account().add_snapshot(spec, &[("edge.deployment", "prod"), ("edge.preset", version)])
    };
    let (one, two) = ("morph_1vcpu_1gb_8gb_v1", "morph_1vcpu_1gb_8gb_v2");
    let saved = [offer(one), offer(two)];
    let resolved = |body| {
        let answer = stage.ask(Ask::sandbox(body).by("ops"));
        (answer.status, answer.json()["snapshotId"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(resolved(json!({"snapshotId": one})), (201, one.to_owned()));
    assert_eq!(resolved(json!({"snapshotId": saved[0]})), (201, saved[0].clone()), "Morph's own id");
    assert_eq!(resolved(json!({"preset": "1vcpu_1gb_8gb"})), (201, two.to_owned()), "the newest version");
    assert_eq!(resolved(json!({})), (201, two.to_owned()), "the default");
    assert_eq!(resolved(json!({"snapshotId": "morph_1vcpu_1gb_8gb_v3"})).0, 422);
    assert_eq!(resolved(json!({"snapshotId": "pvelxc_1vcpu_1gb_8gb_v1"})).0, 400);
}
