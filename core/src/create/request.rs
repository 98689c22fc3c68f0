//! What a creation is asked for.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    environment::Env,
    error::{Code, Error},
    marks::OnExpiry,
    preset::{PresetId, Provider},
    request::{Metadata, Ttl, name_errors, reserved, size_errors},
    settings::Settings,
    snapshot::SourceId,
    vmid::Vmid,
};

/// `POST /api/sandboxes`. At most one of `snapshotId`, `preset` and
/// `templateVmid`; without any, the newest version of the smallest preset.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct CreateRequest {
    /// A preset's version.
    pub snapshot_id: Option<SourceId>,
    /// A preset's newest version.
    pub preset: Option<PresetId>,
    /// A template that is offered.
    pub template_vmid: Option<Vmid>,
    /// What the owner calls it.
    pub name: Option<String>,
    /// Default 3600; `null` = never.
    #[serde(deserialize_with = "crate::request::seconds", skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<Option<u64>>,
    /// What becomes of it then.
    pub on_expiry: Option<OnExpiry>,
    /// The owner's.
    pub metadata: BTreeMap<String, String>,
    /// Its environment variables.
    #[serde(skip_serializing_if = "Env::is_empty")]
    pub env: Env,
    /// Cores, instead of the preset's.
    pub cpu: Option<u32>,
    /// MiB, instead of the preset's.
    pub memory: Option<u32>,
    /// GiB; a disk only grows.
    pub disk: Option<u32>,
}

/// This deployment never took the snapshot `id`.
pub(super) fn absent(id: impl std::fmt::Display) -> Error {
    Error::new(Code::NotFound, format!("there is no snapshot {id}"))
}

impl CreateRequest {
    /// Refuses what cannot be, before anything is asked of PVE.
    pub fn check(&self, settings: &Settings) -> Result<(), Error> {
        let mut errors = Vec::new();
        let mut refuse = |field: &str, fix: &str| errors.push((field.to_owned(), fix.to_owned()));
        let sources = [self.snapshot_id.is_some(), self.preset.is_some(), self.template_vmid.is_some()];
        if sources.iter().filter(|it| **it).count() > 1 {
            refuse("snapshotId", "only one of snapshotId, preset and templateVmid");
        }
        let morph = settings.provider == Provider::Morph;
        if self.snapshot_id.as_ref().is_some_and(|it| it.is_morph() != morph) {
            let run = if morph { "morph_… and snapshot_… are" } else { "pvelxc_… and pvevm_… are" };
            refuse("snapshotId", &format!("is of a provider that this deployment does not run; {run}"));
        }
        if morph && self.template_vmid.is_some() {
            refuse("templateVmid", "is of PVE: take snapshotId or preset");
        }
        if let Some(SourceId::Own(id)) = &self.snapshot_id
            && !morph
            && id.prove(settings).is_none()
        {
            return Err(absent(id));
        }
        errors.extend(size_errors(self.cpu, self.memory, self.disk));
        errors.extend(self.name.iter().flat_map(|it| name_errors(it)));
        errors.extend(self.env.errors(&self.metadata));
        errors.extend(reserved(self.metadata.keys(), settings));
        if !errors.is_empty() {
            return Err(Error::fields(errors));
        }
        Metadata::check(&self.metadata)?;
        self.ttl(settings).map(|_| ())
    }

    /// How long it shall live.
    pub fn ttl(&self, settings: &Settings) -> Result<Ttl, Error> {
        match self.ttl_seconds {
            None => Ok(Ttl::default(settings)),
            Some(seconds) => Ttl::parse(seconds, settings),
        }
    }

    /// One text for one request, however its JSON was spelled.
    pub fn canonical(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }
}
