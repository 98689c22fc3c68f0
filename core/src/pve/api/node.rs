//! Calls by which a node gets archives, and containers from them.

use std::fmt;

use serde_json::Value;

use super::{
    Call, Pve,
    task::{Task, Upid},
};

/// What an archive is called on a storage, and where it comes from.
#[derive(Clone, Debug)]
pub struct Download<'a> {
    /// The name of its file.
    pub filename: &'a str,
    /// Nothing in it is secret.
    pub url: &'a str,
    /// Sum and algorithm.
    pub checksum: Option<(&'a str, &'a str)>,
}

impl Pve {
    /// `GET /nodes/{node}/aplinfo` ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/nodes/{node}/aplinfo))
    ///
    /// A list of objects: `template` is the file, `package` and `version` are in its name.
    pub fn appliances(&self, node: &str) -> Call<Vec<Value>> {
        self.get("/nodes/{node}/aplinfo", &[&"nodes", &node, &"aplinfo"], &[])
    }

    /// `POST /nodes/{node}/aplinfo` ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/nodes/{node}/aplinfo))
    ///
    /// PVE knows the address and the checksum. Needs `Datastore.AllocateTemplate`.
    pub fn download_appliance(&self, node: &str, storage: &str, template: &str) -> Call<Upid> {
        let form = [("storage", storage), ("template", template)];
        self.post("/nodes/{node}/aplinfo", &[&"nodes", &node, &"aplinfo"], &form)
    }

    /// `POST /nodes/{node}/storage/{storage}/download-url` ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/nodes/{node}/storage/{storage}/download-url))
    ///
    /// The file has its name when all of it is there; one that has it already
    /// is refused in the task, unless it has the checksum. Needs
    /// `Sys.AccessNetwork` on the node too, or `Sys.Audit` and `Sys.Modify` on
    /// `/`: of these PVE does not say which is missing (pve-storage
    /// `API2/Storage/Status.pm`).
    pub fn download(&self, node: &str, storage: &str, file: &Download<'_>) -> Call<Upid> {
        let mut form = vec![("content", "vztmpl"), ("filename", file.filename), ("url", file.url)];
        if let Some((sum, algorithm)) = file.checksum {
            form.extend([("checksum", sum), ("checksum-algorithm", algorithm)]);
        }
        let path = storage_path(&node, &storage, &"download-url");
        self.post("/nodes/{node}/storage/{storage}/download-url", &path, &form)
    }

    /// `POST /nodes/{node}/storage/{storage}/oci-registry-pull` ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/nodes/{node}/storage/{storage}/oci-registry-pull))
    ///
    /// PVE ≥ 9.1; runs skopeo, and puts `.tar` behind `filename`.
    pub fn pull(&self, node: &str, storage: &str, filename: &str, reference: &str) -> Call<Upid> {
        let form = [("filename", filename), ("reference", reference)];
        let path = storage_path(&node, &storage, &"oci-registry-pull");
        self.post("/nodes/{node}/storage/{storage}/oci-registry-pull", &path, &form)
    }

    /// `GET /nodes/{node}/storage/{storage}/content?content=vztmpl` ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/nodes/{node}/storage/{storage}/content))
    ///
    /// A list of objects with `volid`.
    pub fn archives(&self, node: &str, storage: &str) -> Call<Vec<Value>> {
        let path = storage_path(&node, &storage, &"content");
        self.get("/nodes/{node}/storage/{storage}/content", &path, &[("content", "vztmpl")])
    }

    /// `GET /nodes/{node}/tasks?source=all` ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/nodes/{node}/tasks))
    ///
    /// Downloads of this type that began at `since` or later; their id is the file's name.
    pub fn downloads(&self, node: &str, kind: &str, since: i64) -> Call<Vec<Task>> {
        let since = since.to_string();
        let query = [("source", "all"), ("typefilter", kind), ("since", &*since)];
        self.get("/nodes/{node}/tasks", &[&"nodes", &node, &"tasks"], &query)
    }

    /// `POST /nodes/{node}/lxc` ([API viewer](https://pve.proxmox.com/pve-docs/api-viewer/#/nodes/{node}/lxc))
    ///
    /// Claims the VMID for the whole cluster before it answers, by a config that
    /// is only locked (`create`). The rest is written when the archive is
    /// unpacked, and without a lock: until then nothing tells whose it is, and
    /// then the worker still has the file lock (pve-container `API2/LXC.pm`).
    pub fn create_container(&self, node: &str, form: &[(&str, &str)]) -> Call<Upid> {
        self.post("/nodes/{node}/lxc", &[&"nodes", &node, &"lxc"], form)
    }
}

fn storage_path<'a>(
    node: &'a dyn fmt::Display,
    storage: &'a dyn fmt::Display,
    what: &'a dyn fmt::Display,
) -> [&'a dyn fmt::Display; 5] {
    [&"nodes", node, &"storage", storage, what]
}
