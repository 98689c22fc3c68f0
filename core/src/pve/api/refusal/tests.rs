use serde_json::json;

use super::*;

#[test]
fn a_full_storage_is_told_in_every_storages_words() {
    let full = [
        "clone failed: unable to create image: lvcreate 'pve/vm-1' error:   Volume group \"pve\" has insufficient free space (127 extents): 2048 required.",
        "resize failed (its log ends: Insufficient suitable allocatable extents for logical volume)",
        "no such thing: not enough free space (1024 < 8192)",
        "  Cannot create new thin volume, free space in thin pool pve/data reached threshold.",
        "device-mapper: thin: pool is out of data space",
        "zfs error: cannot create 'rpool/subvol-1-disk-0': out of space",
        "zfs error: cannot set property for 'rpool/x': quota exceeded",
        "rbd: create error: (28) No space left on device",
        "librados: error: pool 'rbd' is full",
        "health: 1 pool(s) full",
        "ERROR: cannot snapshot: Disk quota exceeded",
        "rsync: write failed on \"/x\": No space left on device (28)",
    ];
    for text in full {
        let refusal = Refusal { status: 500, message: text.to_owned(), errors: Vec::new() };
        for error in [PveError::Refused(refusal), PveError::Task(text.to_owned())] {
            assert!(error.is_storage_full(), "{text}");
            assert_eq!(Error::from(error.clone()).code(), Code::StorageFull, "{text}");
            assert_eq!(error.problem(Code::StartFailed, "x").code(), Code::StorageFull, "{text}");
        }
    }
    for text in [
        "no such volume in pool 'rbd'",
        "storage 'full' does not exist",
        "parameter 'full' of pool 'x' is wrong",
        "free space in pool pve/data is 3 GiB",
        "",
    ] {
        assert!(!PveError::Task(text.to_owned()).is_storage_full(), "{text}");
    }
}

#[test]
fn a_tasks_failure_is_asked_as_a_refusal_is() {
    let task = |text: &str| PveError::Task(text.to_owned());
    assert!(task("CT is locked (backup)").is_beside_another());
    assert_eq!(task("CT is locked (backup)").lock(), Some("backup"));
    assert!(task("CT 200 already exists on node 'pve1'").is_outdone());
    assert!(task("snapshot 'a' does not exist").is_snapshot_missing());
    assert!(!task("storage 'a' does not exist").is_snapshot_missing());
    let locked = Error::from(task("can't lock file '/run/lock/lxc/pve-config-1.lock' - got timeout"));
    assert_eq!((locked.code(), locked.retry_after_seconds()), (Code::GuestLocked, Some(3)));
    let failed = task("startup for container '1' failed (its log ends: lxc-start: no such bridge)");
    assert!(!failed.may_be_executed() && !failed.is_final() && !failed.is_refusal());
    assert!(failed.problem(Code::StartFailed, "PVE could not start it").detail().contains("no such bridge"));
}

#[test]
fn the_end_of_a_log_is_short_and_repeats_nothing() {
    let line = |text: &str| json!({"n": 1, "t": text});
    let mut log: Vec<_> = (0..50).map(|at| line(&format!("transferred {at} %"))).collect();
    log.push(line(&"x".repeat(900)));
    log.push(line("  lvcreate: Insufficient free space\u{7}\n"));
    log.push(line("TASK ERROR: clone failed: exit code 5"));
    let told = last_lines(&log, "clone failed: exit code 5");
    let expected =
        format!("transferred 48 %; transferred 49 %; {}; lvcreate: Insufficient free space", "x".repeat(200));
    assert_eq!(told, expected);
    assert_eq!(last_lines(&[line("no content"), json!({"n": 2})], "x"), "");
}
