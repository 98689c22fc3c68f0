use pve_edge_bed::sim::{Setup, Sim, Spec, Version};

use crate::talk::{cloned, fails, ok, sim, task, with};

const PUT: &str = "PUT /nodes/pve1/lxc/200/config";
const GET: &str = "GET /nodes/pve1/lxc/200/config";

fn one() -> Sim {
    let mut sim = sim();
    cloned(&mut sim, 200);
    sim
}

#[test]
fn digest_is_compare_and_swap() {
    let mut sim = one();
    let digest = ok(&mut sim, GET)["digest"].as_str().expect("a digest").to_owned();
    ok(&mut sim, &format!("{PUT} tags=a&digest={digest}"));
    assert_eq!(
        fails(&mut sim, &format!("{PUT} tags=b&digest={digest}")),
        "500 detected modified configuration - file changed by other user? Try again."
    );
    ok(&mut sim, &format!("{PUT} tags=b&digest="));
}

#[test]
fn tags_are_normalised() {
    let mut sim = one();
    ok(&mut sim, &format!("{PUT} tags=b,A;a b"));
    assert_eq!(ok(&mut sim, GET)["tags"], "a;b");
    sim.set_tag_style(true, true);
    ok(&mut sim, &format!("{PUT} tags=b,A;a b"));
    assert_eq!(ok(&mut sim, GET)["tags"], "b;A;a");
    ok(&mut sim, &format!("{PUT} tags="));
    assert_eq!(ok(&mut sim, GET)["tags"], " ");
    ok(&mut sim, &format!("{PUT} delete=tags"));
    assert!(ok(&mut sim, GET).get("tags").is_none());
    assert_eq!(
        fails(&mut sim, &format!("{PUT} tags=a:b")),
        r#"400 Parameter verification failed. {"tags":"invalid format - invalid characters in tag\n"}"#
    );
}

#[test]
fn registered_and_unlisted_tags_are_refused() {
    let mut sim = one();
    sim.set_tag_access("list", &["ours"], &["official"]);
    let no = |tag| format!("403 Permission check failed (/, Sys.Modify for modifying tag '{tag}')");
    assert_eq!(fails(&mut sim, &format!("{PUT} tags=preset;other")), no("other"));
    assert_eq!(fails(&mut sim, &format!("{PUT} tags=preset;official")), no("official"));
    ok(&mut sim, &format!("{PUT} tags=preset;ours"));
    assert_eq!(fails(&mut sim, &format!("{PUT} tags=ours")), no("preset"));
}

#[test]
fn a_description_reads_back_with_one_newline() {
    let mut sim = one();
    for text in ["x", "x\n", "x\n\n\n"] {
        ok(&mut sim, &format!("{PUT} description={text}"));
        assert_eq!(ok(&mut sim, GET)["description"], "x\n");
    }
    let long = "é".repeat(8192);
    ok(&mut sim, &format!("{PUT} description={long}"));
    assert_eq!(
        fails(&mut sim, &format!("{PUT} description={long}x")),
        r#"400 Parameter verification failed. {"description":"value may only be 8192 characters long"}"#
    );
    ok(&mut sim, &format!("{PUT} description="));
    assert!(ok(&mut sim, GET).get("description").is_none());
}

#[test]
fn env_is_unknown_before_9_1() {
    for version in [Version::V7_4, Version::V8] {
        let mut sim = with(Setup { version, ..Setup::default() });
        cloned(&mut sim, 200);
        assert_eq!(
            fails(&mut sim, &format!("{PUT} env=A=b")),
            "400 Parameter verification failed. {\"env\":\"property is not defined in schema and the schema does not allow additional properties\"}"
        );
    }
    let mut sim = one();
    ok(&mut sim, &format!("{PUT} env=A=b\0B=c"));
    assert_eq!(ok(&mut sim, GET)["env"], "A=b\0B=c");
}

#[test]
fn nothing_is_applied_when_one_option_is_refused() {
    let mut sim = one();
    let before = sim.snapshot_of(|_| true);
    assert_eq!(
        fails(&mut sim, &format!("{PUT} tags=a&hookscript=local:snippets/x")),
        "403 Permission check failed (changing the hookscript is only allowed for root@pam)"
    );
    assert_eq!(
        fails(&mut sim, &format!("{PUT} cores=2&features=keyctl=1")),
        "403 Permission check failed (changing feature flags (except nesting) is only allowed for root@pam)"
    );
    assert_eq!(
        fails(&mut sim, &format!("{PUT} cores=2&bogus=1")),
        "400 Parameter verification failed. {\"bogus\":\"property is not defined in schema and the schema does not allow additional properties\"}"
    );
    assert_eq!(sim.snapshot_of(|_| true), before);
}

#[test]
fn a_lock_comes_before_the_digest_and_refuses_every_write() {
    let mut sim = one();
    sim.set_lock(200, Some("backup"));
    assert_eq!(fails(&mut sim, &format!("{PUT} tags=a&digest=0")), "500 CT is locked (backup)");
    assert_eq!(
        fails(&mut sim, "POST /nodes/pve1/lxc/200/snapshot snapname=x1 y=1").split(' ').next(),
        Some("400")
    );
    assert_eq!(task(&mut sim, "POST /nodes/pve1/lxc/200/status/start"), "CT is locked (backup)");
}

#[test]
fn writes_wait_ten_seconds_for_a_power_action() {
    let mut sim = one();
    sim.setup_mut().start_secs = time::Duration::seconds(4);
    ok(&mut sim, "POST /nodes/pve1/lxc/200/status/start");
    let began = sim.now();
    ok(&mut sim, &format!("{PUT} tags=waited"));
    assert!(sim.now() - began > time::Duration::seconds(3));
    sim.setup_mut().stop_secs = time::Duration::seconds(60);
    ok(&mut sim, "POST /nodes/pve1/lxc/200/status/shutdown");
    assert_eq!(
        fails(&mut sim, &format!("{PUT} tags=late")),
        "500 can't lock file '/run/lock/lxc/pve-config-200.lock' - got timeout"
    );
}

#[test]
fn what_is_not_hot_waits_for_the_next_start() {
    let mut sim = one();
    assert_eq!(task(&mut sim, "POST /nodes/pve1/lxc/200/status/start"), "OK");
    ok(&mut sim, &format!("{PUT} env=A=b&tags=hot"));
    let current = ok(&mut sim, &format!("{GET}?current=1"));
    assert_eq!((&current["tags"], current.get("env")), (&"hot".into(), None));
    assert_eq!(ok(&mut sim, GET)["env"], "A=b");
    assert_eq!(task(&mut sim, "POST /nodes/pve1/lxc/200/status/reboot"), "OK");
    assert_eq!(ok(&mut sim, &format!("{GET}?current=1"))["env"], "A=b");
}

#[test]
fn resize_is_absolute_and_says_when_there_is_nothing_to_do() {
    let mut sim = one();
    let resize = "PUT /nodes/pve1/lxc/200/resize disk=rootfs";
    assert_eq!(task(&mut sim, &format!("{resize}&size=32G")), "OK");
    assert!(ok(&mut sim, GET)["rootfs"].as_str().is_some_and(|text| text.ends_with("size=32G")));
    assert_eq!(fails(&mut sim, &format!("{resize}&size=32G")), "500 disk is already at specified size");
    assert_eq!(fails(&mut sim, &format!("{resize}&size=8G")), "500 unable to shrink disk size");
}

#[test]
fn tags_of_all_guests_have_one_mebibyte_together() {
    let mut sim = one();
    let tags = "t".repeat(1 << 20);
    sim.add(Spec::guest(300).tags(&tags));
    assert!(fails(&mut sim, "GET /cluster/resources?type=vm").starts_with("500 ipcc_send_rec"));
    assert!(fails(&mut sim, "PUT /nodes/pve1/lxc/300/config tags=a").starts_with("500 ipcc_send_rec"));
    sim.admin_set(300, "tags", "a");
    ok(&mut sim, "GET /cluster/resources");
}

#[test]
fn what_is_deleted_must_be_an_option_that_is_not_set_as_well() {
    let mut sim = one();
    let refused = |text: &str| format!("400 Parameter verification failed. {{\"delete\":\"{text}\"}}");
    assert_eq!(fails(&mut sim, &format!("{PUT} delete=nonsense")), refused("unknown option 'nonsense'"));
    assert_eq!(
        fails(&mut sim, &format!("{PUT} delete=tags&tags=a")),
        refused("you can't use '-tags' and -delete tags' at the same time")
    );
    assert_eq!(
        fails(&mut sim, "PUT /nodes/pve1/lxc/200/resize disk=mp0&size=5G"),
        "500 format error {\"mp\":\"property is missing and it is not optional\",\
         \"volume\":\"property is missing and it is not optional\"}"
    );
}
