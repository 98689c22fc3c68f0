use pve_edge_bed::sim::{Node, Setup, Sim, Spec, TOKEN, Version};
use time::Duration;

use crate::talk::{call, cloned, fails, item, ok, sim, task, with};

#[test]
fn a_new_guest_is_unknown_but_its_tags_are_live() {
    let mut sim = sim();
    cloned(&mut sim, 200);
    ok(&mut sim, "PUT /nodes/pve1/lxc/200/config tags=x");
    let seen = item(&mut sim, 200);
    assert_eq!((&seen["status"], &seen["tags"]), (&"unknown".into(), &"x".into()));
    assert!(seen.get("name").is_none() && seen.get("template").is_none());
    sim.advance(Duration::seconds(11));
    let seen = item(&mut sim, 200);
    assert_eq!(
        (&seen["status"], &seen["name"], &seen["template"]),
        (&"stopped".into(), &"s200".into(), &0.into())
    );
}

#[test]
fn an_offline_node_is_595_and_empty() {
    let nodes = vec![Node::new("pve1"), Node::new("pve2")];
    let mut sim = with(Setup { nodes, ..Setup::default() });
    sim.add(Spec::guest(300).node("pve2").running());
    sim.set_online("pve2", false);
    let reply = call(&mut sim, "GET /nodes/pve2/lxc/300/config");
    assert_eq!((reply.status, reply.body.len()), (595, 0));
    assert_eq!(item(&mut sim, 300)["status"], "running", "the last thing heard of it");
    sim.advance(Duration::minutes(6));
    assert_eq!(item(&mut sim, 300)["status"], "unknown");
}

#[test]
fn a_guest_that_moved_is_missing_where_it_was() {
    let nodes = vec![Node::new("pve1"), Node::new("pve2")];
    let mut sim = with(Setup { nodes, ..Setup::default() });
    cloned(&mut sim, 200);
    sim.migrate(200, "pve2");
    assert_eq!(
        fails(&mut sim, "GET /nodes/pve1/lxc/200/config"),
        "500 Configuration file 'nodes/pve1/lxc/200.conf' does not exist"
    );
    assert_eq!(item(&mut sim, 200)["node"], "pve2");
    ok(&mut sim, "GET /nodes/pve2/lxc/200/config");
    assert!(
        fails(&mut sim, "GET /nodes/pve3/lxc/200/config").starts_with("500 hostname lookup 'pve3' failed")
    );
}

#[test]
fn interfaces_are_null_then_there_after_the_boot() {
    let mut sim = sim();
    cloned(&mut sim, 200);
    let get = "GET /nodes/pve1/lxc/200/interfaces";
    assert!(ok(&mut sim, get).is_null());
    assert_eq!(task(&mut sim, "POST /nodes/pve1/lxc/200/status/start"), "OK");
    sim.advance(Duration::seconds(1));
    let all = ok(&mut sim, get);
    assert_eq!(all[1]["ip-addresses"][0]["prefix"], 24);
    let mut sim = with(Setup { version: Version::V7_4, ..Setup::default() });
    assert!(fails(&mut sim, get).starts_with("501 "));
}

#[test]
fn power_errors_are_partly_of_the_call_and_partly_of_the_task() {
    let mut sim = sim();
    cloned(&mut sim, 200);
    let path = |what: &str| format!("POST /nodes/pve1/lxc/200/status/{what}");
    assert_eq!(fails(&mut sim, &path("stop")), "500 CT 200 not running");
    assert_eq!(fails(&mut sim, &path("reboot")), "500 VM 200 not running");
    assert_eq!(task(&mut sim, &path("start")), "OK");
    assert_eq!(fails(&mut sim, &path("start")), "500 CT 200 already running");
    assert!(task(&mut sim, &path("suspend")).contains("lxc-checkpoint"));
    assert_eq!(task(&mut sim, &path("stop")), "OK");
    let template = "POST /nodes/pve1/lxc/9000/status/start";
    assert_eq!(task(&mut sim, template), "you can't start a CT if it's a template");
    let missing = "POST /nodes/pve1/lxc/999/status/start";
    assert_eq!(task(&mut sim, missing), "Configuration file 'nodes/pve1/lxc/999.conf' does not exist");
}

#[test]
fn old_tasks_are_forgotten() {
    let mut sim = sim();
    let upid = ok(&mut sim, "POST /nodes/pve1/lxc/9000/clone newid=200&full=0");
    let upid = form_urlencoded::byte_serialize(upid.as_str().expect("a UPID").as_bytes()).collect::<String>();
    let status = format!("GET /nodes/pve1/tasks/{upid}/status");
    assert_eq!(ok(&mut sim, &status)["status"], "running");
    sim.settle();
    assert_eq!(ok(&mut sim, &status)["exitstatus"], "OK");
    assert_eq!(ok(&mut sim, "GET /nodes/pve1/tasks?vmid=9000&typefilter=vzclone")[0]["status"], "OK");
    sim.prune_tasks();
    assert_eq!(fails(&mut sim, &status), r#"400 Parameter verification failed. {"upid":"no such task"}"#);
}

#[test]
fn a_storage_is_listed_for_those_who_may_audit_it() {
    for (version, need, seen) in
        [(Version::V9, true, false), (Version::V9, false, true), (Version::V7_4, true, false)]
    {
        let mut sim = with(Setup { version, storages_need_audit: need, ..Setup::default() });
        let token = TOKEN.rsplit_once('=').expect("a secret").0;
        sim.grant(token, "/storage/local-lvm", &["Datastore.AllocateSpace"]);
        let listed = |sim: &mut Sim| {
            let all = ok(sim, "GET /cluster/resources?type=storage");
            all.as_array().is_some_and(|all| !all.is_empty())
        };
        assert_eq!(listed(&mut sim), seen);
        sim.grant(token, "/storage/local-lvm", &["Datastore.Audit"]);
        assert!(listed(&mut sim));
    }
}

#[test]
fn a_terminal_needs_a_privilege_of_its_own() {
    let mut sim = sim();
    cloned(&mut sim, 200);
    let open = "POST /nodes/pve1/lxc/200/termproxy";
    let token = TOKEN.rsplit_once('=').expect("a secret").0;
    let grant = |sim: &mut Sim, privilege: &str| {
        for who in [token, token.split('!').next().expect("a user")] {
            sim.grant(who, "/vms/200", &[privilege]);
        }
    };
    grant(&mut sim, "VM.Audit");
    assert_eq!(fails(&mut sim, open), "403 Permission check failed (/vms/200, VM.Console)");
    grant(&mut sim, "VM.Console");
    let data = ok(&mut sim, open);
    assert_eq!((&data["port"], &data["user"]), (&"5900".into(), &token.into()));
    assert!(data["upid"].as_str().is_some_and(|it| it.contains(":vncproxy:200:")), "{data}");
    assert!(data["ticket"].as_str().is_some_and(|it| it.len() > 300), "{data}");
}
