//! Where sandboxes go in a cluster of several nodes.

use std::collections::BTreeSet;

use crate::stage::prelude::*;

const GIB: u64 = 1 << 30;

/// Nodes with so many GiB of free memory each.
fn nodes(free: &[(&str, u64)]) -> Setup {
    let node = |(name, free): &(&str, u64)| Node { memory: (64 * GIB, (64 - free) * GIB), ..Node::new(name) };
    Setup { nodes: free.iter().map(node).collect(), ..Setup::default() }
}

fn shared(setup: Setup) -> Setup {
    let mut setup = setup;
    setup.storages.iter_mut().for_each(|it| it.shared = true);
    setup
}

/// A copy of the template on each of the nodes, on its own storage.
fn copies(setup: Setup, names: &[&str]) -> Stage {
    let mut sim = Sim::new(setup);
    for (vmid, node) in (TEMPLATE..).zip(names) {
        sim.add(Spec::template(vmid).tags(SNAPSHOT).node(node));
    }
    echo(&mut sim);
    Stage::on(sim)
}

/// Creates one and tells its node: what the answer says is where it is.
fn created(stage: &Stage) -> String {
    let answer = stage.ask(Ask::create());
    assert_eq!(answer.status, 201, "{answer:?}\n{}", stage.told());
    let node = stage.world.sim().guest(vmid_of(&answer.id())).map(|it| it.node.clone()).unwrap_or_default();
    assert_eq!((answer.json()["node"].as_str(), answer.id().ends_with(&node)), (Some(&*node), true));
    node
}

#[test]
fn of_several_copies_that_of_the_node_with_the_most_memory() {
    for (free, expected) in [([40, 20, 30], "pve1"), ([20, 40, 30], "pve2"), ([20, 30, 40], "pve3")] {
        let names = ["pve1", "pve2", "pve3"];
        let free: Vec<(&str, u64)> = names.into_iter().zip(free).collect();
        let stage = copies(nodes(&free), &names);
        assert_eq!(created(&stage), expected);
        // Not where nobody is at home, nor where no copy is.
        stage.world.sim_mut().set_online(expected, false);
        assert_ne!(created(&stage), expected);
        let stage = copies(nodes(&free), &names[..1]);
        assert_eq!(created(&stage), "pve1", "a local storage is nowhere else");
    }
}

/// Without the right to see memory the fewest of ours decide.
#[test]
fn then_the_one_with_the_fewest_of_ours() {
    let stage = copies(nodes(&[("pve1", 40), ("pve2", 20)]), &["pve1", "pve2"]);
    let token = pve_edge_bed::sim::TOKEN.rsplit_once('=').map_or("", |it| it.0);
    for who in [token, "edge@pve"] {
        stage.world.sim_mut().grant(who, "/nodes", &[]);
    }
    let set = stage.beside("", &[("PVE_NODE", "pve1")]);
    for _ in 0..8 {
        assert_eq!(created(&set), "pve1");
    }
    for _ in 0..4 {
        assert_eq!(created(&stage), "pve2");
    }
}

/// A node's memory in the listing is old: what was made since then is counted in.
#[test]
fn what_is_new_weighs_before_pve_tells() {
    let mut sim = Sim::new(shared(nodes(&[("pve1", 20), ("pve2", 17)])));
    sim.add(Spec::template(TEMPLATE).tags("pvelxc_1vcpu_8gb_8gb_v1"));
    echo(&mut sim);
    let stage = Stage::on(sim);
    // pvestatd is silent.
    let asleep = |stage: &Stage| stage.world.sim_mut().silence_stats(true);
    asleep(&stage);
    assert_eq!([created(&stage), created(&stage), created(&stage)], ["pve1", "pve2", "pve1"]);
}

#[test]
fn to_the_best_of_the_nodes_that_share_the_templates_storage() {
    for kind in BOTH {
        let setup = shared(nodes(&[("pve1", 10), ("pve2", 20), ("pve3", 40), ("pve4", 60)]));
        let mut sim = sim_of(kind, setup);
        sim.set_online("pve4", false);
        let stage = Stage::of_kind(kind, World::new(sim, 7), &[]);
        let (answer, requests) = stage.counted(Ask::create().wait(25));
        let at = (answer.status, &answer.json()["node"]);
        assert_eq!(at, (201, &json!("pve3")), "{answer:?}\n{}", stage.told());
        let most = if kind == Kind::Lxc { 10 } else { 20 };
        assert!(requests <= most, "{kind:?}: {requests}\n{}", stage.told());
        stage.world.advance(Duration::minutes(20));
        let (shown, requests) = stage.counted(Ask::one(&answer.id()));
        assert_eq!((shown.state(), requests), ("running".into(), 3), "the id names its node");
        assert_eq!(stage.ask(Ask::exec(&answer.id(), "true")).status, 200);
        assert_eq!(stage.ask(Ask::end(&answer.id())).status, 204);
    }
}

#[test]
fn what_cannot_go_elsewhere_stays_with_its_template() {
    let free = [("pve1", 10), ("pve2", 60)];
    // The storage is not there.
    let mut setup = shared(nodes(&free));
    setup.storages[0].nodes = BTreeSet::from(["pve1".into()]);
    assert_eq!(created(&Stage::on(sim_of(Kind::Lxc, setup))), "pve1");
    // Not all volumes are on it.
    let local = Storage::new("local", StorageKind::LvmThin);
    let mut setup = shared(nodes(&free));
    setup.storages.push(local);
    let mut sim = sim_of(Kind::Qemu, setup);
    sim.admin_set(VM_TEMPLATE, "ide2", "local:vm-9100-cloudinit,media=cdrom");
    let stage = Stage::of_kind(Kind::Qemu, World::new(sim, 7), &[]);
    assert_eq!(created(&stage), "pve1");
    // It is set.
    let stage = Stage::of(World::new(sim_of(Kind::Lxc, shared(nodes(&free))), 7), &[("PVE_NODE", "pve1")]);
    assert_eq!(created(&stage), "pve1");
    let stage = Stage::of(
        World::new(sim_of(Kind::Lxc, shared(nodes(&[("pve1", 60), ("pve2", 10)]))), 7),
        &[("PVE_NODE", "pve2")],
    );
    assert_eq!(created(&stage), "pve2");
}

/// They all see the same listing.
#[test]
fn creations_of_one_moment_do_not_all_go_to_one_node() {
    let setup = shared(nodes(&[("pve1", 40), ("pve2", 40), ("pve3", 39), ("pve4", 10)]));
    let stage = Stage::of_kind(Kind::Qemu, World::new(sim_of(Kind::Qemu, setup), 7), &[]);
    let asked: Vec<_> = (0..12).map(|_| stage.pending(Ask::create().wait(25))).collect();
    let answers = stage.world.run_all(asked);
    stage.world.settle();
    let mut counts = std::collections::BTreeMap::<String, usize>::new();
    for answer in answers.into_iter().flatten() {
        assert!(matches!(answer.status, 201 | 202), "{answer:?}");
        let sim = stage.world.sim();
        *counts.entry(sim.guest(vmid_of(&answer.id())).expect("a guest").node.clone()).or_default() += 1;
    }
    assert_eq!(counts.values().sum::<usize>(), 12);
    assert!(counts.len() == 3 && counts.values().all(|it| *it <= 8), "{counts:?}");
}

#[test]
fn a_sandbox_is_found_wherever_it_is() {
    let stage = Stage::on(sim_of(Kind::Lxc, nodes(&[("pve1", 40), ("pve2", 40), ("pve3", 40)])));
    let id = stage.ask(Ask::create()).id();
    stage.world.advance(Duration::minutes(20));
    for node in ["pve2", "pve3", "pve1"] {
        stage.world.sim_mut().migrate(vmid_of(&id), node);
        let shown = stage.ask(Ask::one(&id));
        assert_eq!((shown.state(), &shown.json()["node"]), ("running".into(), &json!(node)));
        assert_eq!(stage.ask(Ask::exec(&id, "true")).status, 200);
        assert_eq!(stage.ask(Ask::extend(&id, 3000)).json()["node"], node);
    }
    stage.world.sim_mut().migrate(vmid_of(&id), "pve3");
    assert_eq!(stage.ask(Ask::end(&id)).status, 204);
}

#[test]
fn a_sandbox_that_moves_to_and_fro_is_not_404() {
    let stage = Stage::on(plain_sim(Setup::two_nodes()));
    let id = stage.created(json!({}));
    stage.world.advance(Duration::minutes(11));
    stage.world.sim_mut().migrate(vmid_of(&id), "pve2");
    stage.move_after_listing(&id, &["pve1"]);
    assert_eq!(stage.ask(Ask::one(&id)).state(), "running", "{}", stage.told());
}
