//! Reads text pairs and collects what is wrong with them.

use super::NAMES;

pub(super) struct Reader<'a> {
    pairs: Vec<(&'a str, &'a str)>,
    problems: Vec<String>,
}

impl<'a> Reader<'a> {
    /// What is set to nothing is not set.
    pub(super) fn new(pairs: &'a [(String, String)]) -> Self {
        let set = pairs.iter().map(|(name, value)| (name.as_str(), value.trim()));
        let (wrong, right): (Vec<_>, Vec<_>) =
            set.filter(|(_, value)| !value.is_empty()).partition(|(_, value)| value.contains('\0'));
        // A Worker's var may be a table, a list or null, which its adapter passes on with a NUL before it.
        let known = wrong.iter().filter(|(name, _)| NAMES.iter().any(|(known, _)| known == name));
        let problems =
            known.map(|(name, _)| format!("{name} must be text, not a table, a list or null")).collect();
        Self { pairs: right, problems }
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        self.pairs.iter().rev().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.get(name).map(str::to_owned)
    }

    pub(super) fn wrong(&mut self, name: &str, why: &str) {
        self.problems.push(format!("{name} {why}"));
    }

    pub(super) fn parsed<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        match parse(self.get(name)?) {
            Ok(value) => Some(value),
            Err(why) => {
                self.wrong(name, &format!("is wrong: {why}"));
                None
            }
        }
    }

    pub(super) fn required<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        if !self.has(name) {
            let what = NAMES.iter().find(|(known, _)| *known == name).map_or("", |(_, what)| *what);
            self.wrong(name, &format!("is needed: {what}"));
        }
        self.parsed(name, parse)
    }

    pub(super) fn or<T>(
        &mut self,
        name: &str,
        default: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        if self.has(name) { self.parsed(name, parse) } else { parse(default).ok() }
    }

    pub(super) fn flag(&mut self, name: &str, default: bool) -> bool {
        let read = self.parsed(name, |it| match it.to_ascii_lowercase().as_str() {
            "1" | "true" | "yes" | "on" => Ok(true),
            "0" | "false" | "no" | "off" => Ok(false),
            _ => Err("true or false".into()),
        });
        read.unwrap_or(default)
    }

    pub(super) fn number(&mut self, name: &str, least: u32, most: u32) -> Option<u32> {
        self.parsed(name, |it| {
            let number = it.parse().ok().filter(|it| (least..=most).contains(it));
            number.ok_or_else(|| format!("a number from {least} to {most}"))
        })
    }

    pub(super) fn problems(self) -> Vec<String> {
        self.problems
    }
}

/// A name of ours that is none is a slip of the pen, and would otherwise be taken as unset.
pub(super) fn unknown(reader: &mut Reader<'_>, pairs: &[(String, String)]) {
    for (name, _) in pairs {
        let ours = name.starts_with("EDGE_") || name.starts_with("PVE_");
        if !ours || NAMES.iter().any(|(known, _)| known == name) {
            continue;
        }
        let nearest = NAMES.iter().map(|(known, _)| *known).min_by_key(|known| distance(known, name));
        let nearest = nearest.filter(|known| distance(known, name) <= 4);
        let hint = nearest.map_or_else(String::new, |known| format!("; did you mean {known}?"));
        reader.wrong(name, &format!("is not a setting{hint}"));
    }
}

/// Levenshtein's.
fn distance(one: &str, other: &str) -> usize {
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (at, a) in one.bytes().enumerate() {
        let mut diagonal = at;
        let mut left = at + 1;
        for (cell, b) in row.iter_mut().skip(1).zip(other.bytes()) {
            let substituted = diagonal + usize::from(a != b);
            diagonal = *cell;
            left = substituted.min(left + 1).min(diagonal + 1);
            *cell = left;
        }
        if let Some(first) = row.first_mut() {
            *first = at + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Settings;
    use crate::{io::Platform, preset::Provider};

    const WORKERS: Platform = Platform {
        name: "workers",
        max_wait: Duration::from_secs(25),
        requests: 40,
        parallel: 4,
        answer_bytes: 1 << 22,
        streams: true,
        private_network: false,
        unverified_tls: false,
    };
    const LOCAL: Platform = Platform { private_network: true, unverified_tls: true, ..WORKERS };

    fn right() -> Vec<(String, String)> {
        let hash = "ab".repeat(32);
        [
            ("PVE_API_URL", "https://pve.example.com:8006/"),
            ("PVE_API_TOKEN", "edge@pve!api=a=b"),
            ("EDGE_API_KEYS", &*format!("blue:{hash}")),
            ("EDGE_SECRET", &*"s".repeat(32)),
            ("EDGE_DEPLOYMENT", "prod"),
        ]
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .to_vec()
    }

    fn read(changes: &[(&str, &str)], platform: &Platform) -> Result<Settings, Vec<String>> {
        let mut pairs = right();
        pairs.retain(|(name, _)| changes.iter().all(|(changed, _)| changed != name));
        pairs.extend(changes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        Settings::read(&pairs, platform)
    }

    #[test]
    fn five_settings_are_enough() {
        let settings = read(&[], &LOCAL).unwrap();
        assert_eq!(settings.api_url.as_deref(), Some("https://pve.example.com:8006"));
        assert_eq!(u32::from(settings.template_range.first()), 100_000);
        assert!(settings.pve().is_some() && settings.verify_tls);
        let shown = format!("{settings:?} {:?}", settings.pve());
        assert!(!shown.contains("a=b") && !shown.contains("sssss"), "{shown}");
    }

    #[test]
    fn each_wrong_setting_is_named_with_its_fix() {
        for (name, value, why) in [
            ("PVE_API_URL", "pve.example.com", "scheme, host and port"),
            ("PVE_API_URL", "https://u:hidden@pve", "no user, no path"),
            ("PVE_API_URL", "https://pve/hidden", "no user, no path"),
            ("PVE_API_URL", "http://hidden.example.com", "would travel in clear"),
            ("PVE_API_TOKEN", "root@pam=hidden", "USER@REALM!TOKENID=SECRET"),
            ("PVE_API_TOKEN", "root@pam!x=hid;den", "USER@REALM!TOKENID=SECRET"),
            ("PVE_PUBLIC_DOMAIN", "hidden/x", "PVE_PUBLIC_DOMAIN is wrong: a domain"),
            ("PVE_NODE", "a.hidden", "a node's name"),
            ("PVE_VMID_RANGE", "5-hidden", "FIRST-LAST"),
            ("PVE_VMID_RANGE", "100-200", "PVE_TEMPLATE_RANGE is needed"),
            ("PVE_TEMPLATE_RANGE", "200001-200002", "must not overlap"),
            ("PVE_IP_POOL_CIDR", "hidden", "an IPv4 network"),
            ("PVE_IP_RESERVED", "hidden", "FIRST-LAST ranges"),
            ("PVE_GATEWAY", "hidden", "an IPv4 address"),
            ("PVE_VERIFY_TLS", "hidden", "true or false"),
            ("PVE_VERFY_TLS", "hidden", "did you mean PVE_VERIFY_TLS?"),
            ("EDGE_API_KEYS", "hidden", "64 hex digits"),
            ("EDGE_API_KEYS", "", "EDGE_API_KEYS is needed"),
            ("EDGE_SECRET", "hidden", "32 bytes"),
            ("EDGE_SECRET", "", "EDGE_SECRET is needed"),
            ("EDGE_DEPLOYMENT", "", "EDGE_DEPLOYMENT is needed"),
            ("EDGE_DEPLOYMENT", "Hidden", "a-z, 0-9"),
            ("EDGE_TAG_BUDGET", "hidden", "a number from 180"),
            ("SANDBOX_PROVIDER", "hidden", "pve-lxc, pve-vm or morph"),
            ("SANDBOX_PROVIDER", "morph", "needs MORPH_API_KEY"),
            ("CF_ACCESS_CLIENT_ID", "hidden", "CF_ACCESS_CLIENT_SECRET is needed"),
            ("PVE_BRIDGE", "\0{\"a\":\"hidden\"}", "PVE_BRIDGE must be text"),
        ] {
            let problems = read(&[(name, value)], &LOCAL).unwrap_err().join("\n");
            assert!(problems.contains(why) && !problems.contains("hidden"), "{name}: {problems}");
        }
    }

    #[test]
    fn a_worker_without_a_binding_needs_names_and_certificates() {
        let problems = read(&[("PVE_VERIFY_TLS", "false")], &WORKERS).unwrap_err().join("\n");
        assert!(
            problems.contains("vpc_service") && problems.contains("PVE_PUBLIC_DOMAIN is needed"),
            "{problems}"
        );
        assert!(read(&[("PVE_PUBLIC_DOMAIN", "example.com")], &WORKERS).is_ok());
    }

    /// The review's "getActiveSandboxProvider() auto-detection logic".
    #[test]
    fn get_active_sandbox_provider_auto_detection() {
        assert_eq!(read(&[], &LOCAL).unwrap().provider, Provider::PveLxc);
        assert_eq!(read(&[("SANDBOX_PROVIDER", "pve-lxc")], &LOCAL).unwrap().provider, Provider::PveLxc);
        let morph = ("MORPH_API_KEY", "k");
        assert_eq!(read(&[morph], &LOCAL).unwrap().provider, Provider::Morph);
        assert_eq!(read(&[("SANDBOX_PROVIDER", "pve-vm"), morph], &LOCAL).unwrap().provider, Provider::PveVm);
        for (asked, why) in [("morph", "needs MORPH_API_KEY"), ("docker", "SANDBOX_PROVIDER")] {
            let wrong = read(&[("SANDBOX_PROVIDER", asked)], &LOCAL).unwrap_err().join("\n");
            assert!(wrong.contains(why), "{wrong}");
        }
        let none = read(&[("PVE_API_URL", ""), ("PVE_API_TOKEN", "")], &LOCAL).unwrap_err().join("\n");
        assert!(none.contains("PVE_API_URL and PVE_API_TOKEN are needed (or MORPH_API_KEY)"), "{none}");
    }
}
