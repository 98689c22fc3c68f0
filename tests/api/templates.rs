//! Templates from nothing: made step by step, offered when they are made, and
//! never what root alone can do without root.

mod ends;
mod machines;
mod matrix;
mod meets;
mod refused;
mod versions;
mod vm_matrix;
mod vms;

use pve_edge_bed::sim::{DOWNLOAD, HOST_KEYS, MINIMAL};

use crate::stage::{SECRET, guests::mark, keys_of, prelude::*};

const PRESET: &str = "2vcpu_2gb_8gb";

/// A fresh cluster: storages, and a token that may download.
fn sim(version: Version, kind: StorageKind) -> Sim {
    let storages = vec![Storage::new("store", kind), Storage::local()];
    let mut sim = Sim::new(Setup { version, storages, ..Setup::default() });
    let all: Vec<&str> = MINIMAL.iter().chain(DOWNLOAD).chain(&["Sys.Modify"]).copied().collect();
    for who in ["edge@pve", "edge@pve!edge"] {
        sim.grant(who, "/", &all);
    }
    echo(&mut sim);
    sim
}

fn stage() -> Stage {
    Stage::on(sim(Version::V9, StorageKind::LvmThin))
}

/// An appliance that has its daemon. This adapter opens no consoles: root cleans it.
fn body() -> Value {
    json!({"appliance": "debian-12-standard", "preset": PRESET, "features": "nesting=1", "execd": "included"})
}

fn build(body: &Value) -> Ask {
    Ask::post("/api/templates", body.clone()).by("ops").header("idempotency-key", "t1")
}

fn get(id: &str) -> Ask {
    Ask::get(format!("/api/templates/{id}")).by("ops")
}

fn gc() -> Ask {
    Ask::gc()
}

fn commands(answer: &Answer) -> Vec<String> {
    let all = answer.json()["commands"].as_array().cloned().unwrap_or_default();
    all.iter().filter_map(|it| it.as_str()).map(str::to_owned).collect()
}

/// Root starts, cleans and stops what waits for no more than that, or for options too; what is to be said then.
fn cleaned_by_root(stage: &Stage, answer: &Answer) -> Ask {
    let vmid = vmid_of(&answer.id());
    let all = commands(answer);
    let clean = format!("pct exec {vmid} -- sh -c ");
    for command in &all {
        let mut sim = stage.world.sim_mut();
        match command {
            it if *it == format!("pct start {vmid}") => sim.set_running(vmid, true),
            it if *it == format!("pct stop {vmid}") => sim.set_running(vmid, false),
            it if it.starts_with(&clean)
                && it.contains("/etc/machine-id")
                && it.contains("/etc/ssh/ssh_host_") =>
            {
                HOST_KEYS.iter().for_each(|path| sim.admin_remove_file(vmid, path));
            }
            it if it.starts_with("pct set ") => {}
            other => panic!("{other} of {all:?}"),
        }
    }
    Ask::patch(format!("/api/templates/{}", answer.id()), json!({"execd": "included"})).by("ops")
}

/// Asked for until its status is this; root does its part on the way.
fn until(stage: &Stage, ask: &Ask, status: &str) -> Answer {
    for _ in 0..80 {
        let answer = stage.ask(ask.clone());
        if answer.json()["status"] == status {
            return answer;
        }
        if answer.json()["status"] == "needs-root" && status == "ready" {
            stage.ask(cleaned_by_root(stage, &answer));
        }
        assert!(matches!(answer.status, 200..=202 | 409 | 503), "{answer:?}\n{}", stage.told());
        stage.world.advance(Duration::seconds(3));
    }
    panic!("never {status}\n{}", stage.told());
}

fn sandbox(stage: &Stage) -> Answer {
    stage.ask(Ask::sandbox(json!({"preset": PRESET})))
}

fn count(stage: &Stage, method: &str, path: &str) -> usize {
    let all = stage.world.requests();
    all.iter()
        .filter(|it| it.method == method && it.path.split('?').next().unwrap_or("").ends_with(path))
        .count()
}

#[test]
fn from_nothing_to_a_sandbox() {
    for kind in [StorageKind::LvmThin, StorageKind::ZfsPool] {
        let stage = Stage::on(sim(Version::V9, kind));
        let made = until(&stage, &build(&body()), "ready");
        assert_eq!(made.json()["snapshotId"], format!("pvelxc_{PRESET}_v1"), "{made:?}");
        let id = made.id();
        assert_eq!(made.header("location"), format!("/api/templates/{id}"));
        // The same key is the same one, and nothing is got or made twice.
        let again = stage.ask(build(&body()));
        assert_eq!((again.status, again.id()), (200, id.clone()));
        assert_eq!(
            (count(&stage, "POST", "/aplinfo"), count(&stage, "POST", "/lxc")),
            (1, 1),
            "{}",
            stage.told()
        );
        let sim = stage.world.sim();
        let guest = sim.guest(vmid_of(&id)).unwrap();
        let keys: Vec<_> = HOST_KEYS.iter().filter_map(|path| guest.file(path)).collect();
        assert!(keys.is_empty(), "all sandboxes would have them: {keys:?}");
        let rootfs = guest.config.get("rootfs").unwrap_or_default();
        assert!(rootfs.starts_with("store:base") && rootfs.ends_with("size=8G"), "{rootfs}");
        let get = |key: &str| guest.config.get(key).unwrap_or_default().to_owned();
        assert_eq!(
            (get("cores"), get("memory"), get("features")),
            ("2".into(), "2048".into(), "nesting=1".into())
        );
        assert_eq!((get("unprivileged"), get("protection")), ("1".into(), "1".into()));
        assert!(get("net0").contains("bridge=vmbr0") && get("net0").contains("ip=dhcp"), "{}", get("net0"));
        // The newest version by number, not by text.
        assert!(sim.volumes().contains_key("local:vztmpl/debian-12-standard_12.12-1_amd64.tar.zst"));
        drop(sim);
        let made = sandbox(&stage);
        assert_eq!(made.shows(), "201 running", "{made:?}\n{}", stage.told());
        assert_eq!(stage.ask(Ask::exec(&made.id(), "true")).status, 200);
    }
}

#[test]
fn it_is_offered_only_when_it_is_made() {
    let stage = stage();
    let mut seen = Vec::new();
    for _ in 0..60 {
        let answer = stage.ask(build(&body()).wait(0));
        let status = answer.json()["status"].as_str().unwrap_or_default().to_owned();
        if status == "ready" {
            break;
        }
        if status == "needs-root" {
            stage.ask(cleaned_by_root(&stage, &answer).wait(0));
        }
        // Nobody gets half of it, and nobody waits for it.
        let early = sandbox(&stage);
        assert_eq!(early.code(), "template-not-found", "{status}: {early:?}\n{}", stage.told());
        assert!(!stage.ask(Ask::get("/api/config/sandbox")).body.contains(PRESET), "{status}");
        seen.push(status);
        stage.world.advance(Duration::milliseconds(700));
    }
    assert!(seen.contains(&"downloading".to_owned()) && seen.contains(&"building".to_owned()), "{seen:?}");
    assert_eq!(sandbox(&stage).status, 201);
}

#[test]
fn a_get_and_the_sweep_carry_it_on() {
    for by_sweep in [false, true] {
        let stage = stage();
        let first = until(&stage, &build(&body()).wait(0), "needs-root");
        let id = first.id();
        stage.ask(cleaned_by_root(&stage, &first).wait(0));
        stage.world.advance(Duration::seconds(30));
        for _ in 0..8 {
            match by_sweep {
                true => assert_eq!(stage.ask(gc()).status, 200),
                false => assert_eq!(stage.ask(get(&id)).status, 200),
            }
            stage.world.advance(Duration::seconds(60));
        }
        let shown = stage.ask(get(&id));
        assert_eq!(shown.json()["status"], "ready", "{by_sweep}: {shown:?}\n{}", stage.told());
        assert_eq!(sandbox(&stage).status, 201, "{}", stage.told());
        // It is a snapshot as others are, and goes as they do.
        let listed = stage.ask(Ask::get("/api/snapshots").by("ops"));
        assert!(listed.body.contains(&format!("\"presetId\":\"{PRESET}\"")), "{listed:?}");
    }
}

#[test]
fn what_only_root_can_do_is_told_and_looked_for() {
    let ours = [Version::V7_4, Version::V8, Version::V9].map(|it| (it, "guest", "curl"));
    let theirs = ours.map(|(it, ..)| (it, "execd", "pct push"));
    for (version, daemon, first) in ours.into_iter().chain(theirs) {
        let stage = Stage::on(sim(version, StorageKind::LvmThin));
        let hook = "local:snippets/hook.sh";
        let body = json!({
            "daemon": daemon,
            "appliance": "debian-12-standard_12.7-1_amd64.tar.zst", "preset": PRESET, "hookscript": hook,
            "features": "nesting=1,keyctl=1,mount=nfs;cifs",
        });
        let answer = until(&stage, &build(&body), "needs-root");
        assert_eq!(answer.status, 202, "{answer:?}");
        let id = answer.id();
        let vmid = vmid_of(&id);
        let all = commands(&answer);
        assert_eq!(all[0], format!("pct set {vmid} --features 'keyctl=1,mount=nfs;cifs,nesting=1'"));
        assert_eq!(all[1], format!("pct set {vmid} --hookscript {hook}"));
        assert_eq!(all[2], format!("pct start {vmid}"));
        assert_eq!(all.last().unwrap(), &format!("pct stop {vmid}"));
        // Others' features are not those; and what waits for a start is none.
        stage.world.sim_mut().admin_set(vmid, "features", "nesting=1,keyctl=1");
        assert_eq!(commands(&stage.ask(get(&id))).len(), all.len());
        stage.world.sim_mut().admin_set(vmid, "features", "mount=nfs;cifs,nesting=1,keyctl=1,fuse=0");
        stage.world.sim_mut().admin_set(vmid, "hookscript", hook);
        stage.world.sim_mut().set_running(vmid, true);
        let left = commands(&stage.ask(get(&id)));
        assert!(left[0].starts_with(first), "{left:?}");
        assert!(left[left.len() - 2].contains("rm -rf /etc/ssh/ssh_host_"), "{left:?}");
        if daemon == "guest" {
            // From the API as the client has found it.
            let told = commands(&stage.ask(get(&id).header("host", "edge.test")));
            let script = "'http://edge.test/guest/install.sh?arch='$(uname -m)";
            assert_eq!(told[0], format!("curl -fsSL {script} | pct exec {vmid} -- sh"));
            stage.world.sim_mut().set_keys(vmid, &keys_of(SECRET));
        }
        let confirm = Ask::patch(format!("/api/templates/{id}"), json!({ "daemon": daemon })).by("ops");
        let confirmed = stage.ask(confirm);
        assert_eq!(commands(&confirmed), [format!("pct stop {vmid}")]);
        assert_eq!(confirmed.json()["daemon"], daemon);
        assert!(stage.ask(gc()).body.contains(&format!("pct stop {vmid}")));
        assert_eq!(sandbox(&stage).code(), "template-not-found");
        stage.world.sim_mut().set_running(vmid, false);
        let ready = until(&stage, &get(&id).wait(20), "ready");
        assert!(ready.json()["commands"].is_null(), "{ready:?}");
        let made = sandbox(&stage);
        assert_eq!(made.shows(), "201 running", "{version:?} {made:?}\n{}", stage.told());
        assert_eq!(made.json()["commands"], daemon);
        let sim = stage.world.sim();
        let config = &sim.guest(vmid_of(&made.id())).unwrap().config;
        assert_eq!(config.get("hookscript"), Some(hook), "{version:?}");
        assert!(config.get("features").unwrap().contains("keyctl=1"));
    }
}

/// Without a daemon, and with nothing to install: PVE's host keys go all the same, by root where there is no console.
#[test]
fn what_nothing_is_built_in_is_cleaned_too() {
    for version in [Version::V7_4, Version::V8, Version::V9] {
        let stage = Stage::on(sim(version, StorageKind::LvmThin));
        let mut wanted = body();
        wanted.as_object_mut().unwrap().remove("execd");
        wanted["guest"] = json!(false);
        let waiting = until(&stage, &build(&wanted), "needs-root");
        let vmid = vmid_of(&waiting.id());
        let all = commands(&waiting);
        assert_eq!((all.len(), &*all[0]), (3, &*format!("pct start {vmid}")), "{all:?}");
        // Nobody has said that it is done, however it stands.
        stage.world.advance(Duration::hours(2));
        assert_eq!(stage.ask(get(&waiting.id())).json()["status"], "needs-root");
        let ready = until(&stage, &build(&wanted), "ready");
        let sim = stage.world.sim();
        assert!(HOST_KEYS.iter().all(|path| sim.guest(vmid).unwrap().file(path).is_none()));
        drop(sim);
        assert!(ready.json()["daemon"].is_null(), "{ready:?}");
    }
}

/// What a console would be needed for is refused before anything is got, and never left out without a word.
#[test]
fn what_only_a_console_can_do_is_refused_without_one() {
    for (field, value) in [("packages", json!(["git"])), ("run", json!("true"))] {
        let stage = stage();
        let mut wanted = body();
        wanted[field] = value;
        let answer = stage.ask(build(&wanted));
        assert_eq!(answer.refusal(), "422 unsupported", "{answer:?}");
        assert_eq!(stage.world.sim().tasks().len(), 0, "{}", stage.told());
    }
}

/// What root does not do within a day is given up, in two runs, and only that.
#[test]
fn what_root_never_does_is_given_up() {
    let stage = stage();
    let mut wanted = body();
    wanted["hookscript"] = json!("local:snippets/hook.sh");
    let id = until(&stage, &build(&wanted), "needs-root").id();
    let vmid = vmid_of(&id);
    // A stranger in the range of templates is nobody's to give up.
    stage.world.sim_mut().add(Spec::guest(100_500).description("somebody's"));
    stage.world.advance(Duration::hours(23));
    assert!(!stage.ask(gc()).body.contains("condemn"), "{}", stage.told());
    stage.world.advance(Duration::hours(2));
    assert!(stage.ask(gc()).body.contains("condemn"), "{}", stage.told());
    assert_eq!(stage.ask(get(&id)).status, 404);
    assert_eq!(stage.ask(build(&wanted)).code(), "condemned");
    stage.world.advance(Duration::seconds(61));
    assert!(stage.ask(gc()).body.contains("delete"));
    stage.world.settle();
    let sim = stage.world.sim();
    assert!(sim.guest(vmid).is_none() && sim.guest(100_500).is_some(), "{}", stage.told());
}

#[test]
fn urls_and_images() {
    for (from, file) in [
        (json!({"url": "https://images.test/a/sandbox.tar.zst?signature=s3cr3t"}), "sandbox.tar.zst"),
        (json!({"image": "registry.test:5000/team/sandbox:3"}), "sandbox_3.tar"),
    ] {
        let stage = stage();
        let mut wanted = body();
        wanted.as_object_mut().unwrap().remove("appliance");
        wanted.as_object_mut().unwrap().extend(from.as_object().unwrap().clone());
        let made = until(&stage, &build(&wanted), "ready");
        let sim = stage.world.sim();
        assert!(sim.volumes().keys().any(|it| it.starts_with("local:vztmpl/edge-") && it.ends_with(file)));
        let env = sim.guest(vmid_of(&made.id())).unwrap().config.get("env").is_some();
        assert_eq!(env, from["image"].is_string(), "what an image says of itself stays");
        drop(sim);
        assert_eq!(sandbox(&stage).status, 201, "{}", stage.told());
        // Another one from there needs no download.
        let second = until(&stage, &build(&wanted).header("idempotency-key", "t2"), "ready");
        assert_eq!(second.json()["snapshotId"], format!("pvelxc_{PRESET}_v2"));
        assert_eq!(count(&stage, "POST", "/download-url") + count(&stage, "POST", "/oci-registry-pull"), 1);
    }
}

#[test]
fn one_that_is_not_in_use_is_deleted() {
    let stage = Stage::on(sim(Version::V9, StorageKind::ZfsPool));
    let id = until(&stage, &build(&body()), "ready").id();
    let used = sandbox(&stage);
    assert_eq!(used.status, 201);
    let delete = || Ask::delete(format!("/api/templates/{id}")).by("ops");
    assert_eq!(stage.ask(delete()).code(), "snapshot-in-use", "{}", stage.told());
    stage.world.settle();
    assert_eq!(stage.ask(Ask::end(&used.id())).status, 204);
    assert_eq!(stage.ask(delete()).status, 204);
    assert_eq!((stage.ask(delete()).status, stage.ask(get(&id)).status), (404, 404));
    // One that waits for root too, running or not.
    let mut wanted = body();
    wanted["execd"] = json!("manual");
    for running in [false, true] {
        let key = if running { "t3" } else { "t2" };
        let half = until(&stage, &build(&wanted).header("idempotency-key", key), "needs-root").id();
        stage.world.sim_mut().set_running(vmid_of(&half), running);
        assert_eq!(
            stage.ask(Ask::delete(format!("/api/templates/{half}")).by("ops")).status,
            204,
            "{}",
            stage.told()
        );
        assert!(stage.world.sim().guest(vmid_of(&half)).is_none());
    }
}

#[test]
fn marks_of_a_template_are_only_its_own() {
    let stage = stage();
    let id = until(&stage, &build(&body()), "ready").id();
    let made = sandbox(&stage).id();
    let sim = stage.world.sim();
    let template = mark(sim.guest(vmid_of(&id)).unwrap()).unwrap();
    assert!(template.base.is_some() && template.doing.is_none(), "{template:?}");
    let sandbox = mark(sim.guest(vmid_of(&made)).unwrap()).unwrap();
    assert!(sandbox.base.is_none() && sandbox.vmid != template.vmid, "{sandbox:?}");
    let tags = sim.guest(vmid_of(&made)).unwrap().config.get("tags").unwrap().to_owned();
    assert!(!tags.contains(&format!("pvelxc_{PRESET}")), "{tags}");
}
