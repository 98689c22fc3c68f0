//! Appliances, archives and images, and how they get on a storage
//! [pve-manager `API2/Nodes.pm`, pve-storage `API2/Storage/Status.pm`, pve-common `Tools.pm`].

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{
    Sim, Version,
    reply::{Answer, Fail},
    tasks::Work,
    wire::Call,
};

/// Package, version, architecture.
const APPLIANCES: [(&str, &str, &str); 6] = [
    ("debian-12-standard", "12.7-1", "amd64"),
    ("debian-12-standard", "12.12-1", "amd64"),
    ("debian-12-standard", "12.2-1", "amd64"),
    ("debian-13-standard", "13.1-2", "amd64"),
    ("debian-13-standard", "13.9-1", "arm64"),
    ("alpine-3.22-default", "20250617", "amd64"),
];

/// As large as an archive is.
const BYTES: u64 = 120 << 20;

const ALLOCATE: &[&str] = &["Datastore.AllocateTemplate"];

/// `Datastore.AllocateTemplate` on the storage of `POST …/aplinfo`.
pub(crate) fn may_store(sim: &Sim, call: &Call) -> Result<(), Fail> {
    sim.require(&call.token, &storage_path(call), ALLOCATE)
}

/// To list a storage.
pub(crate) fn may_look(sim: &Sim, call: &Call) -> Result<(), Fail> {
    sim.require(&call.token, &storage_path(call), &["Datastore.Audit", "Datastore.AllocateSpace"])
}

/// To download from anywhere: of the second right PVE says only that it is missing.
pub(crate) fn may_fetch(sim: &Sim, call: &Call) -> Result<(), Fail> {
    may_store(sim, call)?;
    let both = ["Sys.Audit", "Sys.Modify"].iter().all(|it| sim.may(&call.token, "/", &[it]));
    let network = sim.setup.version >= Version::V8
        && sim.may(&call.token, &format!("/nodes/{}", call.node()), &["Sys.AccessNetwork"]);
    if both || network { Ok(()) } else { Err(Fail::refused()) }
}

/// To pull from a registry.
pub(crate) fn may_pull(sim: &Sim, call: &Call) -> Result<(), Fail> {
    may_store(sim, call)?;
    sim.require(&call.token, &format!("/nodes/{}", call.node()), &["Sys.AccessNetwork"])
}

/// `GET /nodes/{node}/aplinfo`
pub(crate) fn appliances(_: &mut Sim, _: &Call, _: OffsetDateTime) -> Answer {
    let one = |(package, version, architecture): &(&str, &str, &str)| {
        json!({
            "template": file(package, version, architecture), "package": package, "version": version,
            "architecture": architecture, "type": "lxc", "section": "system", "os": "linux",
            "source": "https://releases.test/images/system", "sha512sum": "0".repeat(128),
            "headline": package, "description": package, "infopage": "https://pve.test",
        })
    };
    Ok(APPLIANCES.iter().map(one).collect())
}

/// `POST /nodes/{node}/aplinfo`
pub(crate) fn appliance(sim: &mut Sim, call: &Call, _: OffsetDateTime) -> Answer {
    let name = call.get("template").unwrap_or("");
    if !APPLIANCES.iter().any(|(package, version, arch)| file(package, version, arch) == name) {
        return Err(Fail::parameter("template", "no such template"));
    }
    let storage = for_archives(sim, call)?;
    // The same file is found to be that, by its checksum.
    Ok(fork(sim, call, "download", name, format!("{storage}:vztmpl/{name}"), true))
}

/// `POST …/download-url`
pub(crate) fn url(sim: &mut Sim, call: &Call, _: OffsetDateTime) -> Answer {
    let name = normalised(call.get("filename").unwrap_or(""));
    if call.get("checksum").is_some() != call.get("checksum-algorithm").is_some() {
        return Err(Fail::parameter("checksum", "missing property - 'checksum' requires this property"));
    }
    let storage = for_archives(sim, call)?;
    if !["gz", "xz", "zst"].iter().any(|it| name.ends_with(&format!(".tar.{it}"))) {
        return Err(Fail::parameter("filename", "wrong file extension"));
    }
    let checked = call.get("checksum").is_some();
    Ok(fork(sim, call, "download", &name, format!("{storage}:vztmpl/{name}"), checked))
}

/// `POST …/oci-registry-pull`
pub(crate) fn image(sim: &mut Sim, call: &Call, _: OffsetDateTime) -> Answer {
    let asked = call.get("filename").or(call.get("reference")).unwrap_or("");
    let name = format!("{}.tar", normalised(asked));
    let storage = for_archives(sim, call)?;
    let volid = format!("{storage}:vztmpl/{name}");
    if sim.volumes.contains_key(&volid) {
        return Err(Fail::die(format!("refusing to override existing file '{name}'")));
    }
    Ok(fork(sim, call, "ociregistrypull", &name, volid, true))
}

/// `GET …/content`
pub(crate) fn content(sim: &mut Sim, call: &Call, _: OffsetDateTime) -> Answer {
    let storage = call.get("storage").unwrap_or("");
    sim.check_storage(storage, call.node())?;
    let kind = |volid: &str| {
        let name = volid.split_once(':').map_or("", |(_, name)| name);
        if name.starts_with("vztmpl/") { "vztmpl" } else { "images" }
    };
    let here = sim.volumes.iter().filter(|(volid, _)| volid.split(':').next() == Some(storage));
    let wanted = here.filter(|(volid, _)| call.get("content").is_none_or(|it| it == kind(volid)));
    let one = |(volid, volume): (&String, &super::storage::Volume)| {
        let format = match volid.rsplit('.').next() {
            Some("zst") => "tzst",
            Some("gz") => "tgz",
            Some("xz") => "txz",
            other => other.unwrap_or("raw"),
        };
        json!({ "volid": volid, "content": kind(volid), "format": format, "size": volume.bytes, "ctime": 0 })
    };
    Ok(wanted.map(one).collect())
}

/// The worker's end: a file has its name only when all of it is there.
pub(crate) fn finish(sim: &mut Sim, upid: &str, volid: &str) {
    let kind = sim.tasks.get(upid).map(|task| task.kind.clone()).unwrap_or_default();
    match sim.failure(&kind) {
        Some(text) => sim.end(upid, &text),
        None => {
            sim.put_volume(volid, BYTES, None);
            sim.end(upid, "OK");
        }
    }
}

fn fork(sim: &mut Sim, call: &Call, kind: &str, name: &str, volid: String, checked: bool) -> Value {
    let upid = sim.fork(call.node(), kind, name, &call.token);
    let work = match sim.volumes.contains_key(&volid) {
        true if checked => Work::Created,
        true => Work::Fail { text: format!("refusing to override existing file '/var/lib/vz/{name}'") },
        false => Work::Download { volid },
    };
    let wait =
        if matches!(work, Work::Download { .. }) { sim.setup.download_secs } else { sim.setup.task_secs };
    sim.then(wait, &upid, 0, work);
    upid.into()
}

/// A storage of files that is configured for archives.
fn for_archives(sim: &Sim, call: &Call) -> Result<String, Fail> {
    let id = call.get("storage").unwrap_or("");
    sim.check_storage(id, call.node())?;
    let takes = sim.setup.storages.iter().any(|it| it.id == id && it.takes("vztmpl"));
    let text = || format!("storage '{id}' is not configured for content-type 'vztmpl'");
    if takes { Ok(id.to_owned()) } else { Err(Fail::die(text())) }
}

fn storage_path(call: &Call) -> String {
    format!("/storage/{}", call.get("storage").unwrap_or(""))
}

fn file(package: &str, version: &str, architecture: &str) -> String {
    format!("{package}_{version}_{architecture}.tar.zst")
}

/// What is before the last slash goes, and what is no letter, digit, `_`, `.` or `-` is a `_`.
fn normalised(name: &str) -> String {
    let name = name.rsplit(['/', '\\']).next().unwrap_or(name);
    name.chars().map(|c| if c.is_ascii_alphanumeric() || "_.-".contains(c) { c } else { '_' }).collect()
}
