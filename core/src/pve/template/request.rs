//! What a template is asked for.

use super::root;
use crate::{
    error::Error,
    pve::marks::{Base, Build},
    sandbox::{
        Sizes,
        channel::Channel,
        defaults::Defaults,
        fields::size_errors,
        id::Kind,
        preset::PresetId,
        template::{Execd, TemplateDaemon, TemplateRequest},
    },
};

/// PVE's algorithms, and how many digits their sums have.
const SUMS: [(&str, usize); 6] =
    [("md5", 32), ("sha1", 40), ("sha224", 56), ("sha256", 64), ("sha384", 96), ("sha512", 128)];
/// What every version of PVE unpacks.
const ENDS: [&str; 3] = [".tar.gz", ".tar.xz", ".tar.zst"];

/// Packages that one request may name.
const PACKAGES: usize = 64;
/// Bytes of a script: PVE's notes, which hold it, are short.
const SCRIPT: usize = 4096;

impl TemplateRequest {
    /// Refuses what cannot be, before anything is asked of PVE.
    pub(super) fn check(&self) -> Result<(Base, Defaults), Error> {
        let sizes = self.sizes();
        let mut errors = size_errors(sizes.cpu, sizes.memory, sizes.disk);
        let defaults = Defaults::parse(&self.user, &self.cwd, "", &mut errors);
        let mut refuse = |field: &str, fix: &str| errors.push((field.to_owned(), fix.to_owned()));
        let copied = self.from_template.is_some();
        let sources = [self.appliance.is_some(), self.url.is_some(), self.image.is_some(), copied];
        if sources.iter().filter(|it| **it).count() != 1 {
            refuse("appliance", "exactly one of appliance, url, image and fromTemplate");
        }
        if copied && (self.node.is_some() || self.bridge.is_some() || self.template_storage.is_some()) {
            refuse(
                "fromTemplate",
                "is copied on its node, with its network: without node, bridge and templateStorage",
            );
        }
        let names = [
            ("appliance", &self.appliance, "a name of pveam available, such as debian-13-standard"),
            ("node", &self.node, "a node's name"),
            ("storage", &self.storage, "a storage's name"),
            ("templateStorage", &self.template_storage, "a storage's name"),
            ("bridge", &self.bridge, "a bridge's name"),
        ];
        for (field, value, fix) in names {
            if value.as_deref().is_some_and(|it| !is_name(it)) {
                refuse(field, fix);
            }
        }
        if self.url.as_deref().is_some_and(|it| archive(it).is_none()) {
            refuse(
                "url",
                "http or https, without a user, to a file that ends with .tar.gz, .tar.xz or .tar.zst",
            );
        }
        if !self.is_checksum() {
            refuse(
                "checksum",
                "hex digits of an archive of url, with checksumAlgorithm md5 or sha1 to sha512",
            );
        }
        if self.image.as_deref().is_some_and(|it| !is_reference(it)) {
            refuse("image", "an image with its tag, such as docker.io/library/debian:13; no digest, no user");
        }
        let features = root::features(self.features.as_deref().unwrap_or_default());
        if features.is_none() {
            refuse("features", "as pct set takes them, such as nesting=1,keyctl=1,mount=nfs;cifs");
        }
        if self.hookscript.as_deref().is_some_and(|it| !is_snippet(it)) {
            refuse("hookscript", "a snippet's volume, such as local:snippets/hook.sh");
        }
        if self.packages.len() > PACKAGES || !self.packages.iter().all(|it| is_package(it)) {
            refuse("packages", "at most 64 names of packages, such as git");
        }
        if self.run.as_ref().is_some_and(|it| it.len() > SCRIPT || it.contains('\0')) {
            refuse("run", "a script of at most 4096 bytes, without NUL: have it fetch what is longer");
        }
        if self.guest == Some(true) && self.daemon() != Some(TemplateDaemon::Guest) {
            refuse("guest", "true is for the daemon guest alone");
        }
        if self.preset.is_none() {
            refuse("preset", "CPU_MEMORY_DISK, such as 4vcpu_6gb_32gb: what it becomes a version of");
        } else if copied && (self.cpu.is_some() || self.memory.is_some() || self.disk.is_some()) {
            refuse("fromTemplate", "has its own sizes: without cpu, memory and disk");
        } else if sizes.disk.is_none() && !copied {
            refuse("disk", "in GiB: the preset's name tells no size");
        }
        let (Some(preset), Some(features), true) = (self.preset.clone(), features, errors.is_empty()) else {
            return Err(Error::fields(errors));
        };
        let hookscript = self.hookscript.clone().unwrap_or_default();
        // The kind of a copy is not known yet, and no bare one has them.
        defaults.check(self.channel(Kind::Lxc))?;
        let execd = self.execd == Some(Execd::Included) || self.is_bare();
        let (source, build) = (self.from_template, Some(self.build()));
        let base = Base { preset, source, features, hookscript, execd, build };
        Ok((base, defaults))
    }

    /// The daemon that is to be in it; `None` where its first sandbox is to find out.
    pub(super) fn daemon(&self) -> Option<TemplateDaemon> {
        self.daemon.or(self.execd.is_none().then_some(TemplateDaemon::Guest))
    }

    /// What is built in it; where that is nothing, it is cleaned all the same: PVE has made it host keys.
    fn build(&self) -> Build {
        let run = self.run.clone().unwrap_or_default();
        let is_theirs = self.execd == Some(Execd::Included) && self.guest != Some(true);
        let guest = self.daemon() == Some(TemplateDaemon::Guest) && self.guest != Some(false) && !is_theirs;
        Build { packages: self.packages.clone(), run, guest, named: true, ..Build::default() }
    }

    /// Whether no daemon is to be in it.
    fn is_bare(&self) -> bool {
        self.guest == Some(false) && self.daemon() == Some(TemplateDaemon::Guest)
    }

    /// How commands reach its sandboxes of this kind; `None` where the first one is to find out.
    pub(super) fn channel(&self, kind: Kind) -> Option<Channel> {
        let bare = match kind {
            Kind::Lxc => Channel::Terminal,
            Kind::Qemu => Channel::Agent,
        };
        let daemon = self.daemon().map(TemplateDaemon::channel);
        if self.is_bare() && self.execd.is_none() { Some(bare) } else { daemon }
    }

    /// What was asked for, else what the preset's name says.
    pub(super) fn sizes(&self) -> Sizes {
        let preset = self.preset.as_ref().and_then(PresetId::sizes);
        Sizes {
            cpu: self.cpu.or(preset.map(|it| it.cores)),
            memory: self.memory.or(preset.map(|it| it.memory_mib)),
            disk: self.disk.or(preset.map(|it| it.disk_gib)),
        }
    }

    fn is_checksum(&self) -> bool {
        match (&self.checksum, &self.checksum_algorithm) {
            (None, None) => true,
            (Some(sum), Some(algorithm)) => {
                let digits = SUMS.iter().find(|(name, _)| name == algorithm).map(|(_, digits)| *digits);
                self.url.is_some()
                    && digits == Some(sum.len())
                    && sum.bytes().all(|it| it.is_ascii_hexdigit())
            }
            _ => false,
        }
    }
}

/// The file that a URL names, if PVE can get and unpack it.
pub(super) fn archive(url: &str) -> Option<&str> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"))?;
    let plain = url.len() <= 2048 && url.bytes().all(|it| it.is_ascii_graphic() && it != b'\\');
    let (authority, path) = rest.split_once('/')?;
    let uri: http::Uri = url.parse().ok()?;
    let named = uri.host().is_some_and(|it| !it.is_empty()) && !authority.contains(['@', '?', '#']);
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let file = path.rsplit('/').next().unwrap_or_default();
    let ends = ENDS.iter().any(|end| file.strip_suffix(end).is_some_and(|it| !it.is_empty()));
    (plain && named && ends).then_some(file)
}

fn is_name(text: &str) -> bool {
    let fine = text.bytes().all(|it| it.is_ascii_alphanumeric() || b"-_.+".contains(&it));
    fine && (1..=128).contains(&text.len()) && !text.starts_with(['.', '-'])
}

fn is_package(text: &str) -> bool {
    let fine = text.bytes().all(|it| it.is_ascii_alphanumeric() || b".+_:=~@/-".contains(&it));
    fine && text.len() <= 128 && text.starts_with(|it: char| it.is_ascii_alphanumeric())
}

fn is_reference(text: &str) -> bool {
    let Some((name, tag)) = text.rsplit_once(':') else { return false };
    let is_word = |it: &str, more: &[u8]| {
        it.starts_with(|it: char| it.is_ascii_alphanumeric())
            && it.bytes().all(|it| it.is_ascii_alphanumeric() || more.contains(&it))
    };
    let tagged = tag.len() <= 128 && !tag.contains('/') && is_word(tag, b"._-");
    // A registry has a port; what follows it is lower-case.
    let (registry, rest) = name.split_once('/').unwrap_or(("x", name));
    let rest_is_plain = rest.split('/').all(|it| is_word(it, b"._-") && *it == it.to_ascii_lowercase());
    text.len() <= 255 && tagged && is_word(registry, b".:-") && rest_is_plain
}

fn is_snippet(text: &str) -> bool {
    let named =
        text.split_once(":snippets/").is_some_and(|(storage, file)| is_name(storage) && is_name(file));
    named && text.len() <= 200
}
