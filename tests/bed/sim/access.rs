//! Tokens, ACLs and privilege separation.

use std::collections::{BTreeMap, BTreeSet};

use super::{Sim, Version, reply::Fail};

/// What a default cluster's token sends as `Authorization`, after `PVEAPIToken=`.
pub const TOKEN: &str = "edge@pve!edge=7f5ab1d0-0000-4000-8000-1d2c3b4a5968";

/// What the service needs, for `/`.
pub const MINIMAL: &[&str] = &[
    "VM.Audit",
    "VM.Allocate",
    "VM.Clone",
    "VM.PowerMgmt",
    "VM.Snapshot",
    "VM.Config.Options",
    "VM.Config.Network",
    "VM.Config.CPU",
    "VM.Config.Memory",
    "VM.Config.Disk",
    "VM.Console",
    "Datastore.AllocateSpace",
    "Datastore.Audit",
    "SDN.Use",
    "Sys.Audit",
    "Pool.Audit",
];

/// What it needs to make templates from nothing.
pub const DOWNLOAD: &[&str] = &["Datastore.AllocateTemplate", "Sys.AccessNetwork"];

/// What it needs for the agents of VMs, since 9 and before.
pub const AGENT: &[&str] = &["VM.GuestAgent.Audit", "VM.GuestAgent.Unrestricted"];
pub const MONITOR: &[&str] = &["VM.Monitor"];

/// All of PVE's privileges that anything here asks for.
const ALL: &[&str] = &[
    "Datastore.AllocateTemplate",
    "Permissions.Modify",
    "Sys.AccessNetwork",
    "Sys.Modify",
    "VM.Backup",
    "VM.Config.HWType",
];

/// Users, tokens and what they may.
#[derive(Clone, Debug, Default)]
pub(crate) struct Access {
    pub(crate) tokens: BTreeMap<String, Token>,
    /// By (who, path); a deeper entry replaces what is inherited.
    pub(crate) acl: BTreeMap<(String, String), BTreeSet<String>>,
}

/// An API token.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) secret: String,
    pub(crate) separated: bool,
}

impl Access {
    /// [`TOKEN`], separated, with [`MINIMAL`] and what agents need for the user and itself.
    pub(crate) fn of_service_token(version: Version) -> Self {
        let agents = if version >= Version::V9 { AGENT } else { MONITOR };
        let mut access = Self::default();
        let (id, secret) = TOKEN.rsplit_once('=').unwrap_or((TOKEN, ""));
        access.tokens.insert(id.into(), Token { secret: secret.into(), separated: true });
        let user = id.split('!').next().unwrap_or(id);
        for who in [user, id] {
            let privileges = MINIMAL.iter().chain(agents).map(|p| (*p).to_owned()).collect();
            access.acl.insert((who.into(), "/".into()), privileges);
        }
        access
    }

    /// The privileges of a token on a path.
    pub(crate) fn privileges(&self, token: &str, path: &str) -> BTreeSet<String> {
        let user = token.split('!').next().unwrap_or(token);
        let separated = self.tokens.get(token).is_some_and(|token| token.separated);
        let of_user = self.of(user, path);
        if !separated {
            return of_user;
        }
        let own = self.of(token, path);
        own.intersection(&of_user).cloned().collect()
    }

    fn of(&self, who: &str, path: &str) -> BTreeSet<String> {
        if who == "root@pam" {
            return MINIMAL.iter().chain(ALL).chain(AGENT).chain(MONITOR).map(|p| (*p).to_owned()).collect();
        }
        let mut at = path;
        loop {
            if let Some(found) = self.acl.get(&(who.to_owned(), at.to_owned())) {
                return found.clone();
            }
            at = match at.rsplit_once('/') {
                _ if at == "/" => return BTreeSet::new(),
                Some(("", _)) | None => "/",
                Some((above, _)) => above,
            };
        }
    }
}

impl Sim {
    /// What a token may do there, by ACLs of the path or of the guest's pool.
    pub(crate) fn privileges(&self, token: &str, path: &str) -> BTreeSet<String> {
        let pooled = path
            .strip_prefix("/vms/")
            .and_then(|vmid| self.guests.get(&vmid.parse().ok()?)?.pool.as_deref())
            .map(|pool| self.access.privileges(token, &format!("/pool/{pool}")))
            .unwrap_or_default();
        &self.access.privileges(token, path) | &pooled
    }

    /// Whether a token has one of these privileges there.
    pub(crate) fn may(&self, token: &str, path: &str, any: &[&str]) -> bool {
        let privileges = self.privileges(token, path);
        any.iter().any(|p| privileges.contains(*p))
    }

    /// As [`Sim::may`], with PVE's words for *no*.
    pub(crate) fn require(&self, token: &str, path: &str, any: &[&str]) -> Result<(), Fail> {
        if self.may(token, path, any) {
            return Ok(());
        }
        Err(Fail::permission(format_args!("{path}, {}", any.join("|"))))
    }

    /// The token that `Authorization` names, or the reason phrase of the 401.
    pub(crate) fn authenticate(&self, header: Option<&str>) -> Result<String, String> {
        let refused = |old: String| {
            let new = self.setup.version >= super::Version::V9;
            if new { "Authentication failed!".to_owned() } else { old }
        };
        let value = header
            .and_then(|text| text.strip_prefix("PVEAPIToken=").or_else(|| text.strip_prefix("PVEAPIToken ")));
        let Some(value) = value else { return Err("No ticket".into()) };
        let value = value.split(';').next().unwrap_or("");
        let value = percent_encoding::percent_decode_str(value).decode_utf8_lossy();
        let Some((id, secret)) = value.rsplit_once('=') else {
            return Err(refused("no tokenid specified".into()));
        };
        match self.access.tokens.get(id) {
            None => Err(refused(format!("no such token '{}'", id.split('!').nth(1).unwrap_or("")))),
            Some(token) if token.secret != secret => Err(refused("invalid token value!".into())),
            Some(_) => Ok(id.to_owned()),
        }
    }
}
