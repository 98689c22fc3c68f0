//! Services of a sandbox: ports that visitors reach through the gateway, and who may visit them.

mod body;
mod origin;

use std::{collections::BTreeMap, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

pub use self::{
    body::{LinkBody, ServiceBody, ServiceLink, Wish},
    origin::Origin,
};
use super::address::SERVICES;
use crate::error::{Code, Error};

/// Ports of a sandbox that no visitor reaches: shells, file systems, PVE's own, and the daemon that runs commands.
const NEVER: [u16; 6] = [22, 25, 111, 2049, 8006, 39375];

/// Ports of a sandbox that are private whatever its owner says: whoever is there may do anything in it.
const ALWAYS_PRIVATE: [u16; 4] = [39377, 39379, 39381, 39383];

/// Services that one sandbox may declare: its notes have to hold them.
const MOST: usize = 16;

/// Name of a service, such as `vscode` or `web-2`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceName(String);

#[cfg(feature = "contract")]
schema!(ServiceName {
    "type": "string",
    "description": "Name of a service.",
    "pattern": "^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$"
});

impl FromStr for ServiceName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_allowed = |it: u8| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b'-';
        let ends_are_plain = !text.starts_with('-') && !text.ends_with('-');
        if (1..=32).contains(&text.len()) && text.bytes().all(is_allowed) && ends_are_plain {
            Ok(Self(text.to_owned()))
        } else {
            Err("1 to 32 of a-z, 0-9 and -, not at its ends")
        }
    }
}

impl TryFrom<String> for ServiceName {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ServiceName> for String {
    fn from(name: ServiceName) -> Self {
        name.0
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whom a service lets in, or who may wake its sandbox.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Visibility {
    /// Whoever has a link, or an API key of the team.
    #[default]
    Private,
    /// Everybody.
    Public,
}

/// The `Host` that a service is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "contract", derive(schemars::JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum HostHeader {
    /// The name by which the visitor has come.
    #[default]
    Public,
    /// `localhost` and the port: for servers of development that refuse names which they do not know.
    Local,
}

/// Terms on which a port is visited: of a service that was declared, or of any port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Terms {
    /// Port in the guest.
    pub port: u16,
    /// Whom it lets in.
    #[serde(default, skip_serializing_if = "is_default")]
    pub visibility: Visibility,
    /// Who may wake its sandbox by visiting it.
    #[serde(default, skip_serializing_if = "is_default")]
    pub wake: Visibility,
    /// The `Host` that it is told.
    #[serde(default, skip_serializing_if = "is_default")]
    pub host_header: HostHeader,
    /// Origins whose pages may use it, beside those of the same sandbox.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_origins: Vec<Origin>,
    /// Number that its links carry: links with another one open nothing.
    #[serde(default, skip_serializing_if = "is_default")]
    pub epoch: u32,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The services of one sandbox, as its mark keeps them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Services {
    /// Number that links to ports carry which no service was declared for.
    #[serde(default, skip_serializing_if = "is_default")]
    epoch: u32,
    /// Those that were declared.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    named: BTreeMap<ServiceName, Terms>,
}

impl Services {
    /// Whether nothing was ever declared.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// All services by name: those of the table, and those that were declared, which may be one of the table too.
    pub fn all(&self) -> impl Iterator<Item = (String, Terms)> {
        let of_table = SERVICES.iter().map(|(name, port)| ((*name).to_owned(), *port));
        let of_table = of_table.filter(|(name, _)| !self.named.keys().any(|it| it.0 == *name));
        of_table
            .map(|(name, port)| (name, self.at(port)))
            .chain(self.named.iter().map(|(name, it)| (name.to_string(), it.clone())))
    }

    /// The service of this name.
    pub fn get(&self, name: &ServiceName) -> Option<Terms> {
        let declared = self.named.get(name).cloned();
        // Its port may have been declared under another name.
        let of_table = || SERVICES.iter().find(|(it, _)| *it == name.0).map(|(_, port)| self.at(*port));
        declared.or_else(of_table)
    }

    /// What holds for a port: a service that was declared for it, or what holds for any port. A port that is always
    /// private is told so.
    pub fn at(&self, port: u16) -> Terms {
        let declared = self.named.values().find(|it| it.port == port).cloned();
        let mut service = declared.unwrap_or_else(|| self.undeclared(port));
        if ALWAYS_PRIVATE.contains(&port) {
            service.visibility = Visibility::Private;
        }
        service
    }

    /// Declares a service, or changes it. A port that it leaves is nobody's any more, and its links open nothing.
    pub fn put(&mut self, name: &ServiceName, wish: Wish) -> Result<(), Error> {
        let port = wish.port;
        if let Some((other, _)) = self.named.iter().find(|(it, service)| *it != name && service.port == port)
        {
            return Err(Error::field("port", format!("is that of the service {other}")));
        }
        let before = self.named.get(name).filter(|it| it.port == port).map(|it| it.epoch);
        if before.is_none() {
            self.remove(name);
        }
        if self.named.len() >= MOST && !self.named.contains_key(name) {
            let text = format!("a sandbox has at most {MOST} services: delete one first");
            return Err(Error::new(Code::QuotaExceeded, text));
        }
        let epoch = before.unwrap_or(self.epoch) + u32::from(wish.revokes);
        let Wish { visibility, wake, host_header, allow_origins, .. } = wish;
        self.named.insert(name.clone(), Terms { port, visibility, wake, host_header, allow_origins, epoch });
        Ok(())
    }

    /// Takes a declaration back, and revokes its links and those to ports without a service; whether there was one.
    pub fn remove(&mut self, name: &ServiceName) -> bool {
        let Some(removed) = self.named.remove(name) else { return false };
        self.epoch = self.epoch.max(removed.epoch) + 1;
        true
    }

    fn undeclared(&self, port: u16) -> Terms {
        Terms {
            port,
            visibility: Visibility::Private,
            wake: Visibility::Private,
            host_header: HostHeader::Public,
            allow_origins: Vec::new(),
            epoch: self.epoch,
        }
    }
}

/// Refuses a port that no visitor reaches.
pub fn ensure_visitable(port: u16) -> Result<(), Error> {
    if NEVER.contains(&port) {
        let text = format!(
            "port {port} of a sandbox is reached by nobody from outside: let it listen on another one"
        );
        return Err(Error::new(Code::Forbidden, text));
    }
    Ok(())
}

/// Whether a port is private whatever its owner says.
pub fn is_always_private(port: u16) -> bool {
    ALWAYS_PRIVATE.contains(&port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> ServiceName {
        text.parse().unwrap()
    }

    fn wish(port: u16) -> Wish {
        ServiceBody { port, ..ServiceBody::default() }.wish(true).unwrap()
    }

    #[test]
    fn what_was_linked_before_a_removal_stays_revoked() {
        let mut services = Services::default();
        let linked = services.at(3000).epoch;
        services.put(&name("web"), wish(3000)).unwrap();
        assert_eq!(services.at(3000).epoch, linked);
        services.put(&name("web"), Wish { revokes: true, ..wish(3000) }).unwrap();
        let revoked = services.at(3000).epoch;
        assert_ne!(revoked, linked);
        assert!(services.remove(&name("web")) && !services.remove(&name("web")));
        let mut seen = vec![linked, revoked];
        for _ in 0..3 {
            assert!(!seen.contains(&services.at(3000).epoch), "{seen:?}");
            seen.push(services.at(3000).epoch);
            services.put(&name("web"), wish(3000)).unwrap();
            services.put(&name("web"), wish(4000)).unwrap();
            services.remove(&name("web"));
        }
    }

    #[test]
    fn a_port_has_one_service_and_there_are_few() {
        let mut services = Services::default();
        services.put(&name("web"), wish(3000)).unwrap();
        assert!(services.put(&name("other"), wish(3000)).is_err());
        for at in 1..16 {
            services.put(&name(&format!("s{at}")), wish(4000 + at)).unwrap();
        }
        assert!(services.put(&name("more"), wish(5000)).is_err());
        services.put(&name("web"), wish(5000)).unwrap();
    }

    #[test]
    fn tools_of_the_owner_are_private_whatever_is_declared() {
        let mut services = Services::default();
        let public = Wish { visibility: Visibility::Public, ..wish(39383) };
        services.put(&name("shell"), public).unwrap();
        assert_eq!(services.at(39383).visibility, Visibility::Private);
        for port in NEVER {
            assert!(ensure_visitable(port).is_err());
        }
        assert!(ensure_visitable(39378).is_ok());
    }

    #[test]
    fn the_table_and_what_was_declared_are_listed_once() {
        let mut services = Services::default();
        services.put(&name("vscode"), wish(8080)).unwrap();
        services.put(&name("web"), wish(3000)).unwrap();
        let all: BTreeMap<_, _> = services.all().map(|(name, it)| (name, it.port)).collect();
        assert_eq!((all["vscode"], all["web"], all["xterm"], all.len()), (8080, 3000, 39383, 7));
        assert_eq!(services.all().count(), all.len());
        assert_eq!(services.get(&name("xterm")).map(|it| it.port), Some(39383));
        assert_eq!(services.get(&name("none")), None);
    }

    /// Its links would open nothing, or open again what was revoked since.
    #[test]
    fn a_name_of_the_table_has_the_terms_of_its_port_under_whatever_name() {
        let mut services = Services::default();
        let at = |it: &Services| (it.at(5173).epoch, it.get(&name("preview")).map(|it| it.epoch));
        services.put(&name("web"), wish(5173)).unwrap();
        services.put(&name("web"), Wish { revokes: true, ..wish(5173) }).unwrap();
        assert_eq!(at(&services), (1, Some(1)));
        for _ in 0..3 {
            services.put(&name("other"), wish(4000)).unwrap();
            services.remove(&name("other"));
        }
        assert_eq!(at(&services), (1, Some(1)));
        assert!(services.all().all(|(_, it)| it == services.at(it.port)));
    }

    #[test]
    fn a_mark_keeps_only_what_was_said() {
        let mut services = Services::default();
        services.put(&name("web"), wish(3000)).unwrap();
        let text = serde_json::to_string(&services).unwrap();
        assert_eq!(text, r#"{"named":{"web":{"port":3000}}}"#);
        assert_eq!(serde_json::from_str::<Services>(&text).unwrap(), services);
    }
}
