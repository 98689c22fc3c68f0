//! A sandbox from its creation to its end, of both kinds, and both kinds side by side.

use crate::stage::prelude::*;

#[test]
fn created_shown_listed_used_stopped_and_deleted() {
    for (kind, provider, template) in [(Kind::Lxc, "pve-lxc", TEMPLATE), (Kind::Qemu, "pve-vm", VM_TEMPLATE)]
    {
        let stage = Stage::with(kind);
        let id = stage.created(json!({"name": "build", "metadata": {"pr": "7"}}));
        assert!(id.starts_with(if kind == Kind::Lxc { "pvelxc-" } else { "pvevm-" }), "{id}");
        let shown = stage.ask(Ask::one(&id));
        assert_eq!(shown.shows(), "200 running");
        let shown = shown.json();
        assert_eq!((&shown["provider"], &shown["name"]), (&json!(provider), &json!("build")));
        assert_eq!(
            (&shown["snapshotId"], &shown["templateVmid"]),
            (&json!(preset_of(kind)), &json!(template))
        );
        stage.world.advance(Duration::minutes(1));
        let listed = stage.ask(Ask::get("/api/sandboxes?metadata.pr=7")).json();
        assert_eq!(
            (&listed["items"][0]["id"], &listed["items"][0]["state"]),
            (&json!(id), &json!("running"))
        );
        let guest = stage.guest(&id).expect("it is there");
        let config = |key| guest.config.get(key);
        assert_eq!((guest.kind, guest.config.lock()), (kind, None));
        assert_eq!((config("cores"), config("memory")), (Some("1"), Some("1024")));
        assert_eq!((config("onboot"), config("protection")), (Some("0"), Some("1")));
        if kind == Kind::Qemu {
            assert_eq!(config("name"), Some(&*format!("vm-{}", vmid_of(&id))));
        }
        let exec = stage.ask(Ask::exec(&id, "uname -a"));
        assert_eq!((exec.status, &exec.json()["stdout"]), (200, &json!("uname -a\n")));
        let stopped = stage.act(&id, "stop", json!({}));
        assert_eq!(stopped.shows(), "200 stopped");
        assert_eq!(stage.act(&id, "start", json!({})).status, 200);
        assert_eq!(stage.ask(Ask::end(&id)).status, 204);
        assert!(!stage.exists(&id));
        assert_eq!(stage.ask(Ask::one(&id)).status, 404);
        assert_eq!(stage.world.sim().guests().count(), 1, "only the template is left");
        let template = template.to_string();
        assert!(stage.world.sim().volumes().keys().all(|volid| volid.contains(&template)));
    }
}

/// A stopped one too.
#[test]
fn what_is_stopped_is_deleted() {
    for kind in BOTH {
        let stage = Stage::with(kind);
        let id = stage.created(json!({}));
        assert_eq!(stage.act(&id, "stop", json!({})).state(), "stopped");
        assert_eq!(stage.ask(Ask::end(&id)).status, 204);
        assert_eq!(stage.ask(Ask::one(&id)).status, 404);
        assert!(!stage.exists(&id));
    }
}

/// One deployment has both, whatever is made by default: a preset says which.
#[test]
fn containers_and_vms_live_side_by_side() {
    for default in BOTH {
        let mut sim = plain_sim(Setup::default());
        sim.add(Spec::vm_template(VM_TEMPLATE).tags(preset_of(Kind::Qemu)));
        let stage = Stage::of_kind(default, pve_edge_bed::world::World::new(sim, 7), &[]);
        let config = stage.ask(Ask::get("/api/config/sandbox")).json();
        let is_vm = default == Kind::Qemu;
        assert_eq!(config["presets"].as_array().map(Vec::len), Some(1));
        assert_eq!(config["presets"][0]["versions"][0]["snapshotId"], preset_of(default));
        assert_eq!(config["provider"], if is_vm { "pve-vm" } else { "pve-lxc" });
        assert_eq!(config["capabilities"]["hibernate"], is_vm);
        let other = if is_vm { Kind::Lxc } else { Kind::Qemu };
        let ids = [stage.created(json!({})), stage.created(json!({"snapshotId": preset_of(other)}))];
        let (vm, lxc) = if is_vm { (&ids[0], &ids[1]) } else { (&ids[1], &ids[0]) };
        assert!(vm.starts_with("pvevm-") && lxc.starts_with("pvelxc-"), "{ids:?}");
        let swapped = vm.replacen("pvevm-", "pvelxc-", 1);
        assert_eq!(stage.ask(Ask::one(&swapped)).status, 404, "another kind's id is nobody's");
        assert_eq!(stage.ask(Ask::end(&swapped)).status, 404);
        stage.world.advance(Duration::minutes(1));
        let listed = stage.listed();
        assert!(ids.iter().all(|it| listed.contains(it)), "{listed:?}");
        for id in &ids {
            assert_eq!(stage.ask(Ask::one(id)).state(), "running");
            assert_eq!(stage.ask(Ask::exec(id, "true")).status, 200);
            assert_eq!(stage.ask(Ask::end(id)).status, 204);
        }
    }
}
