//! The mark: all that is kept about one guest.

use std::{collections::BTreeMap, net::Ipv4Addr};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use time::OffsetDateTime;

use super::head::{Doing, Phase, Role, Want, What};
use crate::{
    access::{keys::Caller, secret::Keyring},
    error::Error,
    sandbox::{
        OnExpiry, Sizes,
        channel::Channel,
        creation::KeyHash,
        defaults::Defaults,
        environment::Env,
        id::{Kind, SandboxId, SourceId, node_hint},
        nonce::Nonce,
        patch::{Patch, check_etag, hash_etag},
        power::Keeps,
        preset::PresetId,
        service::Services,
        template::Step,
        vmid::Vmid,
    },
};

/// Mark: everything that is kept about one guest.
///
/// One guest has one mark, which grows: the clone carries it as an intent, the commit makes it whole. A listing sees only
/// the part of it that its tags hold. Fields that are not set are `None`, empty, or what [`Mark::claimed`] gives.
///
/// | field | intent of a sandbox | committed sandbox | in a listing | template |
/// |---|---|---|---|---|
/// | `deployment`, `vmid`, `kind`, `nonce`, `team`, `node`, `role` | yes | yes | yes | yes |
/// | `want`, `phase` | on, claimed | yes | yes | yes |
/// | `on_expiry` | yes | yes | yes | no |
/// | `expires` | yes | yes | up to 60 s early (rule S1.4) | once it is condemned |
/// | `span` | yes | yes | no | no |
/// | `changed` | no | yes | yes | once it is committed |
/// | `was_ready` | no | once it came up | yes | no |
/// | `commands` | where its template tells it | once it came up | yes | what sandboxes of it get |
/// | `guest_keys` | its template's | once it came up | no | the sandbox's |
/// | `defaults` | its template's | yes | no | what sandboxes of it get |
/// | `left`, `keeps` | no | while it is stopped or paused | no | no |
/// | `key`, `body` | with an `Idempotency-Key` | as the intent | the key | as the intent, if made from nothing |
/// | `secret`, `env`, `sizes` | yes | yes | no | no |
/// | `name`, `metadata` | yes | yes | as far as they fit | of a snapshot |
/// | `template`, `snapshot` | what it is cloned from | yes | as far as they fit | `snapshot`: its version of a preset |
/// | `gateway` | the template's | yes | no | the sandbox's |
/// | `doing` | no | while something is being done | its `what` alone | while it is made |
/// | `problem` | no | where it has not come up | no | where it could not be made |
/// | `guarded` | no | of a VM | no | of a VM |
/// | `services` | no | where any was declared | no | no |
/// | `source`, `taken_from` | no | no | the source | of a snapshot |
/// | `base` | no | no | no | if made from nothing |
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mark {
    /// Format of the machine line; 1.
    #[serde(rename = "pve-edge")]
    pub format: u32,
    /// Deployment that owns the guest.
    pub deployment: String,
    /// The guest that this mark is about; on any other it was inherited.
    pub vmid: Vmid,
    /// Container or VM.
    #[serde(default, skip_serializing_if = "Kind::is_lxc")]
    pub kind: Kind,
    /// The part of the id that no other guest ever had; tells the birth.
    pub nonce: Nonce,
    /// Team that owns the guest.
    pub team: String,
    /// Node on which it was made: a hint for where to look first.
    pub node: String,
    /// Expiry in Unix seconds; `None` = never.
    pub expires: Option<i64>,
    /// The time to live that was given last, in seconds; `None` = never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub span: Option<u32>,
    /// Seconds of running time that were given to it while it is stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<i64>,
    /// Action at its expiry.
    pub on_expiry: OnExpiry,
    /// State that its owner wants.
    pub want: Want,
    /// How far it has come up.
    pub phase: Phase,
    /// Whether it has come up before: then it is never given up for a daemon that is slow.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub was_ready: bool,
    /// Channel by which commands reach it, once that is known: a template's daemon, or what has answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commands: Option<Channel>,
    /// Names of the keys that our daemon in it obeys, as its last start has left them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub guest_keys: Vec<String>,
    /// As which user and where commands and files begin.
    #[serde(default, skip_serializing_if = "Defaults::is_empty")]
    pub defaults: Defaults,
    /// When `want` or `phase` last changed, in Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub changed: Option<i64>,
    /// Sandbox or template.
    #[serde(default, skip_serializing_if = "is_sandbox")]
    pub role: Role,
    /// Hash of the Idempotency-Key that made it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<KeyHash>,
    /// HMAC of the body that came with the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Name of the `EDGE_SECRET` that its exec token is derived from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Its environment variables, sealed; empty where there are none and the
    /// disk comes from another sandbox.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub env: Option<String>,
    /// Name that its owner has given it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Template that it was cloned from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<Vmid>,
    /// The snapshot id that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<SourceId>,
    /// Sizes that the commit applies; what is absent stays the template's.
    #[serde(default, skip_serializing_if = "Sizes::is_empty")]
    pub sizes: Sizes,
    /// Action on it that takes more than one request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doing: Option<Doing>,
    /// Why it did not come up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Id of the sandbox that a template is a snapshot of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<SourceId>,
    /// Sandbox that a template is a snapshot of, and PVE's name of that snapshot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_from: Option<TakenFrom>,
    /// Properties of a template that is made from nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Base>,
    /// Gateway that sandboxes made of it have where none is set: a snapshot's network card keeps none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Ipv4Addr>,
    /// When the VM's protection was last put on, in Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub guarded: Option<i64>,
    /// Memory or disk, whichever its pause kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keeps: Option<Keeps>,
    /// Services that its owner has declared.
    #[serde(default, skip_serializing_if = "Services::is_empty")]
    pub services: Services,
    /// Metadata of its owner.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub metadata: BTreeMap<String, String>,
    /// Fields of newer versions, kept as they are.
    #[serde(flatten, skip_deserializing)]
    pub other: Map<String, Value>,
}

/// The sandbox that a template is a snapshot of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenFrom {
    /// Its VMID.
    pub vmid: Vmid,
    /// Its nonce.
    pub nonce: Nonce,
    /// PVE's name of the snapshot.
    pub snapname: String,
}

/// Properties of a template that is made from nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Base {
    /// The preset that it becomes a version of.
    pub preset: PresetId,
    /// The template that it is a copy of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Vmid>,
    /// Features as `pct set --features` takes them; empty where any will do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub features: String,
    /// Volume of its hookscript; empty where any will do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hookscript: String,
    /// Whether nothing is left to be put into it: a daemon is in it, as its admin says or as it was built, or none is wanted.
    pub execd: bool,
    /// What is built in it; `None` once root has done it, of what older versions began without a build, and of VMs in
    /// which nothing is built.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub build: Option<Build>,
}

/// What is built in a template, through the console of its container or the guest agent of its VM.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Build {
    /// Packages that are installed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packages: Vec<String>,
    /// Script that is run after that.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub run: String,
    /// Whether our daemon is put in.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub guest: bool,
    /// Whether its folder on the guest's disk has the guest's nonce for its name; older versions' have not.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub named: bool,
    /// Whether packages, script and daemon are done: they are never begun again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub done: bool,
    /// The start of the guest in which what is one machine's own was removed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cleaned: Option<Cleaned>,
    /// Whether what is left is root's to do: nothing can be done through the container's console, or root puts the daemon
    /// in.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_root: bool,
    /// Step at which it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<Step>,
    /// When the guest agent was first found silent that should answer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent: Option<i64>,
}

impl Build {
    /// Whether nothing is to be put in.
    pub fn is_empty(&self) -> bool {
        self.packages.is_empty() && self.run.is_empty() && !self.guest
    }
}

/// The start of a guest in which what is one machine's own was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cleaned {
    /// When PVE's last task that starts it began, by the node's clock; 0 where there is none.
    pub start: i64,
    /// When the removal began, by ours.
    pub at: i64,
}

impl Base {
    /// Whether root has to put something in or to clean it, and says so when it is done: PVE cannot tell.
    pub fn is_for_root(&self) -> bool {
        self.build.as_ref().map_or(!self.execd, |it| it.by_root)
    }
}

fn is_sandbox(role: &Role) -> bool {
    *role == Role::Sandbox
}

impl Mark {
    /// A claim on a guest: whose it is and which, and nothing of all that may be kept beside that.
    pub fn claimed(deployment: &str, team: &str, vmid: Vmid, kind: Kind, nonce: Nonce) -> Self {
        Self {
            format: 1,
            deployment: deployment.to_owned(),
            vmid,
            kind,
            nonce,
            team: team.to_owned(),
            node: String::new(),
            expires: None,
            span: None,
            left: None,
            on_expiry: OnExpiry::Delete,
            want: Want::On,
            phase: Phase::Claimed,
            was_ready: false,
            commands: None,
            guest_keys: Vec::new(),
            defaults: Defaults::default(),
            changed: None,
            role: Role::Sandbox,
            key: None,
            body: None,
            secret: None,
            env: None,
            name: None,
            template: None,
            snapshot: None,
            sizes: Sizes::default(),
            doing: None,
            problem: None,
            source: None,
            taken_from: None,
            base: None,
            gateway: None,
            guarded: None,
            keeps: None,
            services: Services::default(),
            metadata: BTreeMap::new(),
            other: Map::new(),
        }
    }

    /// The id of the sandbox, or of the snapshot, that it is about.
    pub fn id(&self) -> SandboxId {
        SandboxId {
            provider: self.kind.provider(),
            vmid: self.vmid,
            nonce: self.nonce,
            node: node_hint(&self.node),
        }
    }

    /// The id without the node, by which the daemon in the guest is called: the guest may have moved.
    pub fn name_of_guest(&self) -> String {
        SandboxId { node: String::new(), ..self.id() }.to_string()
    }

    /// The environment variables that it carries, opened with the deployment's secrets.
    pub fn environment(&self, secrets: &Keyring) -> Result<Env, Error> {
        let (vmid, nonce) = (self.vmid.to_string(), self.nonce.to_string());
        let whose = [&*self.deployment, &vmid, &nonce, &self.team];
        Env::open(self.env.as_deref(), &whose, self.secret.as_deref(), secrets)
    }

    /// Channel by which commands reach it; `None` while that is not known. One that came up before marks told the
    /// channel has the daemon, or the agent, that was the only one of its kind then.
    pub fn channel(&self) -> Option<Channel> {
        let only = match self.kind {
            Kind::Lxc => Channel::Execd,
            Kind::Qemu => Channel::Agent,
        };
        let came_up = self.was_ready || self.phase == Phase::Ready;
        self.commands.or(came_up.then_some(only))
    }

    /// When the guest was claimed.
    pub fn birth(&self) -> OffsetDateTime {
        self.nonce.birth()
    }

    /// Whether it is a VM whose memory shall be on disk: PVE takes no change of it then.
    pub fn is_suspension(&self) -> bool {
        self.kind == Kind::Qemu && self.want == Want::Paused && self.keeps == Some(Keeps::Memory)
    }

    /// The ETag of what this mark is about (rule S1.9): a hash of the mark, since PVE's own digest
    /// changes with locks and starts too.
    pub fn etag(&self) -> String {
        hash_etag(&serde_json::to_string(self).unwrap_or_default())
    }

    /// Changes name and metadata as a patch says, if this is still the mark that `if_match` names.
    pub fn patch(&mut self, patch: &Patch, if_match: Option<&str>) -> Result<(), Error> {
        check_etag(if_match, &self.etag())?;
        patch.apply(&mut self.name, &mut self.metadata)
    }

    /// Whether the caller may see what carries this mark, in the deployment `here`.
    pub fn is_seen_by(&self, caller: &Caller, here: &str) -> bool {
        caller.may_see(here, (&self.deployment, &self.team))
    }

    /// The owner, which tags and notes must agree about (rule S1.3).
    pub(super) fn owner(&self) -> (Nonce, &str, &str, Kind) {
        (self.nonce, &self.deployment, &self.team, self.kind)
    }

    /// When it expires.
    pub fn expires_at(&self) -> Option<OffsetDateTime> {
        self.expires.and_then(|it| OffsetDateTime::from_unix_timestamp(it).ok())
    }

    /// Whether its time is up.
    pub fn is_expired(&self, now: OffsetDateTime) -> bool {
        self.expires.is_some_and(|it| it <= now.unix_timestamp())
    }

    /// Whether this is being done to it.
    pub fn is_doing(&self, what: What) -> bool {
        self.doing.as_ref().is_some_and(|it| it.what == what)
    }

    /// Seconds since what it shall be, or how far it has come, last changed.
    pub fn settled_for(&self, now: OffsetDateTime) -> i64 {
        now.unix_timestamp().saturating_sub(self.changed.unwrap_or_else(|| self.birth().unix_timestamp()))
    }

    /// Seconds since it was claimed.
    pub fn age(&self, now: OffsetDateTime) -> i64 {
        (now - self.birth()).whole_seconds()
    }
}
