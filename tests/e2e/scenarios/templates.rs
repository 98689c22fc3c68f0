//! Templates from nothing.

use serde_json::{Value, json};
use tokio::time::{Duration, sleep};

use crate::{cluster::BARE, rig::Pve, world::World};

/// That nobody else makes.
const PRESET: &str = "3vcpu_1gb_8gb";
/// Those of templates that are built.
const BUILT: [&str; 3] = ["3vcpu_1gb_9gb", "3vcpu_1gb_10gb", "3vcpu_1gb_11gb"];
/// That of one in which nothing is built.
const BARE_ONE: &str = "3vcpu_1gb_16gb";
/// That of the copy.
const COPIED: &str = "3vcpu_1gb_12gb";
/// Those of copies of VMs.
const OF_VMS: [&str; 3] = ["3vcpu_1gb_13gb", "3vcpu_1gb_14gb", "3vcpu_1gb_15gb"];
/// A template of VMs.
const VMS: u32 = 100_004;
const ARCHIVE: &str = "https://images.example.com/base.tar.zst";

/// From an archive that is on the storage, so that no right to the network is needed.
pub(super) async fn an_archive_becomes_a_preset(world: World) {
    let body = json!({
        "url": "https://images.example.com/base.tar.zst", "preset": PRESET, "features": "nesting=1",
        "daemon": "execd",
    });
    world.blue.ask("POST", "/api/templates", &body).await.problem(403, "forbidden");
    let built = world.admin.ask("POST", "/api/templates", &body).await;
    let built = built.json(202);
    let path = format!("/api/templates/{}", built["id"].as_str().expect("an id"));
    let waiting = until(&world, &path, "needs-root").await;
    assert!(waiting["commands"][0].as_str().is_some_and(|it| it.starts_with("pct start ")), "{waiting}");
    let wanted = json!({"preset": PRESET});
    world.blue.ask("POST", "/api/sandboxes", &wanted).await.problem(422, "template-not-found");
    let included = if world.behind == Pve::Simulator {
        json!({"daemon": "guest"})
    } else {
        json!({"execd": "included"})
    };
    let confirmed = world.admin.ask("PATCH", &path, &included).await;
    confirmed.json(200);
    let ready = until(&world, &path, "ready").await;
    assert_eq!(ready["snapshotId"], format!("pvelxc_{PRESET}_v1"), "{ready}");
    let sandbox = world.sandbox(wanted).await;
    assert_eq!(sandbox.shell("echo up").await, "up\n");
    world.blue.ask("DELETE", &sandbox.path(""), &Value::Null).await;
}

/// By the API alone, and without a daemon: packages and a script, and each sandbox has what they made.
pub(super) async fn what_is_built_is_in_its_sandboxes(world: World) {
    if world.behind != Pve::Simulator {
        return;
    }
    let script = "echo it runs; mkdir /etc/built && echo yes >/etc/built/it; echo id >/etc/machine-id; touch /root/.bash_history";
    let body = json!({
        "url": ARCHIVE, "preset": BUILT[0], "guest": false, "packages": ["figlet", "jq"], "run": script,
    });
    let path = begin(&world, &body).await;
    let ready = until(&world, &path, "ready").await;
    assert!(ready["step"].is_null() && ready["output"].is_null(), "{ready}");
    let sandbox = world.sandbox(json!({"preset": BUILT[0]})).await;
    assert_eq!(sandbox.shown["commands"], "terminal", "{}", sandbox.shown);
    let look = "cat /etc/built/it /opt/installed; wc -c </etc/machine-id; \
                ls /root/.bash_history /etc/ssh/ssh_host_ed25519_key /var/lib/pve-edge-build 2>&1 | wc -l";
    assert_eq!(sandbox.shell(look).await, "yes\nfiglet jq\n0\n3\n");
    sandbox.drop().await;
}

/// Nothing is put in, and what PVE made for one machine is in none of its sandboxes.
pub(super) async fn what_is_one_machines_own_is_in_no_sandbox(world: World) {
    if world.behind != Pve::Simulator {
        return;
    }
    let path = begin(&world, &json!({"url": ARCHIVE, "preset": BARE_ONE, "guest": false})).await;
    until(&world, &path, "ready").await;
    let sandbox = world.sandbox(json!({"preset": BARE_ONE})).await;
    let look =
        "ls /etc/ssh/ssh_host_* /var/lib/pve-edge-build 2>/dev/null | wc -l; cat /etc/machine-id 2>/dev/null";
    assert_eq!(sandbox.shell(look).await, "0\n");
    sandbox.drop().await;
    // Where root puts the daemon in after it was built, root cleans it too, and not before.
    let body = json!({"url": ARCHIVE, "preset": BARE_ONE, "daemon": "execd", "run": "sleep 2"});
    let begun = world.admin.ask_with("POST", "/api/templates", &body, &[("prefer", "wait=0")]).await;
    let path = begun.header("location").to_owned();
    let early = world.admin.ask("PATCH", &path, &json!({"daemon": "execd"})).await;
    early.problem(409, "still-creating");
    let waiting = until(&world, &path, "needs-root").await;
    assert!(waiting["commands"].to_string().contains("rm -rf /etc/ssh/ssh_host_"), "{waiting}");
    world.admin.ask("DELETE", &path, &Value::Null).await;
}

/// Any template of the user's becomes a preset, with what is added to it.
pub(super) async fn a_copy_becomes_a_preset(world: World) {
    if world.behind != Pve::Simulator {
        return;
    }
    let body = json!({
        "fromTemplate": BARE, "preset": COPIED, "guest": false, "run": "mkdir /etc/built && echo copied >/etc/built/it",
    });
    let path = begin(&world, &body).await;
    until(&world, &path, "ready").await;
    let sandbox = world.sandbox(json!({"preset": COPIED})).await;
    assert_eq!(sandbox.shell("cat /etc/built/it").await, "copied\n");
    sandbox.drop().await;
}

/// The same of VMs, by a real shell behind the guest agent.
pub(super) async fn a_copy_of_vms_becomes_a_preset(world: World) {
    if world.behind != Pve::Simulator {
        return;
    }
    let script =
        "echo it runs → ä; mkdir /etc/built && echo copied >/etc/built/it; touch /root/.bash_history";
    let body = json!({
        "fromTemplate": VMS, "preset": OF_VMS[0], "guest": false, "packages": ["figlet"], "run": script,
    });
    let path = begin(&world, &body).await;
    let ready = until(&world, &path, "ready").await;
    assert_eq!(ready["snapshotId"], format!("pvevm_{}_v1", OF_VMS[0]), "{ready}");
    let sandbox = world.sandbox(json!({"snapshotId": ready["snapshotId"]})).await;
    assert_eq!(sandbox.shown["commands"], "agent", "{}", sandbox.shown);
    let look = "cat /etc/built/it /opt/installed; wc -c </etc/machine-id; ls /root/.bash_history /var/lib/pve-edge-build 2>&1 | wc -l";
    assert_eq!(sandbox.shell(look).await, "copied\nfiglet\n0\n2\n");
    sandbox.drop().await;
    let failing =
        json!({"fromTemplate": VMS, "preset": OF_VMS[1], "guest": false, "run": "echo before; exit 3"});
    let path = begin(&world, &failing).await;
    let failed = until(&world, &path, "failed").await;
    assert_eq!(
        (&failed["step"], &failed["output"]),
        (&json!("running"), &json!("before\nexit code 3")),
        "{failed}"
    );
    let gone = world.admin.ask_with("DELETE", &path, &Value::Null, &[("prefer", "wait=20")]).await;
    assert_eq!(gone.status, 204, "{}", gone.text());
}

/// With the project's own daemon, where its programs were built.
pub(super) async fn the_daemon_is_built_in(world: World) {
    if world.behind != Pve::Simulator {
        return;
    }
    let body = json!({"url": ARCHIVE, "preset": BUILT[1]});
    let path = begin(&world, &body).await;
    let of_vms = begin(&world, &json!({"fromTemplate": VMS, "preset": OF_VMS[2]})).await;
    let script = world.anyone.request("GET", "/guest/install.sh").body(Vec::new()).expect("a request");
    if world.anyone.send(script).await.status == 404 {
        for path in [path, of_vms] {
            let failed = until(&world, &path, "failed").await;
            assert!(
                failed["step"] == "guest"
                    && failed["output"].as_str().is_some_and(|it| it.contains("guest/build")),
                "{failed}"
            );
            world.admin.ask("DELETE", &path, &Value::Null).await;
        }
        return;
    }
    let ready = until(&world, &path, "ready").await;
    assert_eq!(ready["daemon"], "guest", "{ready}");
    let sandbox = world.sandbox(json!({"preset": BUILT[1]})).await;
    assert_eq!((&sandbox.shown["commands"], &*sandbox.shell("echo up").await), (&json!("guest"), "up\n"));
    sandbox.drop().await;
    // Piece by piece through the guest agent, and started by the installer in the VM.
    let ready = until(&world, &of_vms, "ready").await;
    assert_eq!(ready["daemon"], "guest", "{ready}");
}

pub(super) async fn what_cannot_be_built_says_why(world: World) {
    if world.behind != Pve::Simulator {
        return;
    }
    let body = json!({"url": ARCHIVE, "preset": BUILT[2], "guest": false, "run": "echo before; exit 3"});
    let path = begin(&world, &body).await;
    let failed = until(&world, &path, "failed").await;
    assert_eq!(
        (&failed["step"], &failed["output"]),
        (&json!("running"), &json!("before\nexit code 3")),
        "{failed}"
    );
    world
        .blue
        .ask("POST", "/api/sandboxes", &json!({"preset": BUILT[2]}))
        .await
        .problem(422, "template-not-found");
    let gone = world.admin.ask_with("DELETE", &path, &Value::Null, &[("prefer", "wait=20")]).await;
    assert_eq!(gone.status, 204, "{}", gone.text());
    let long = json!({"url": ARCHIVE, "preset": BUILT[2], "run": "x".repeat(4097)});
    world.admin.ask("POST", "/api/templates", &long).await.problem(400, "invalid-request");
}

/// Has a template made; where it is then.
async fn begin(world: &World, body: &Value) -> String {
    let answer = world.admin.ask("POST", "/api/templates", body).await;
    assert!(matches!(answer.status, 201 | 202), "{}", answer.text());
    answer.header("location").to_owned()
}

async fn until(world: &World, path: &str, status: &str) -> Value {
    let mut last = Value::Null;
    for _ in 0..150 {
        last = world.admin.get(path).await.json(200);
        if last["status"] == status {
            return last;
        }
        sleep(Duration::from_millis(200)).await;
    }
    panic!("it does not become {status}: {last}");
}
