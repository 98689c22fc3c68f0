//! The reader of settings, which collects all problems with them.

use super::{
    problem::Problem,
    table::{SETTINGS, Takes, setting},
};

/// Reader of settings by their names.
pub(super) struct Reader<'a> {
    pairs: Vec<(&'a str, &'a str)>,
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    /// A reader of pairs of name and value; an empty value counts as not set.
    pub(super) fn new(pairs: &'a [(String, String)]) -> Self {
        let set = pairs.iter().map(|(name, value)| (name.as_str(), value.trim()));
        let set = set.filter(|(name, value)| !value.is_empty() && setting(name).is_some());
        let (mut right, mut problems) = (Vec::new(), Vec::new());
        for (name, value) in set {
            match form_error(value) {
                None => right.push((name, value)),
                Some(why) => problems.push(Problem::wrong(name, why)),
            }
        }
        Self { pairs: right, problems }
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        self.pairs.iter().rev().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    /// Whether the setting has a value.
    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Value of a setting that takes any text.
    pub(super) fn text(&self, name: &str) -> Option<String> {
        self.get(name).map(str::to_owned)
    }

    /// Notes a problem with a setting.
    pub(super) fn add_problem(&mut self, name: &str, why: &str) {
        self.problems.push(Problem::wrong(name, why));
    }

    /// Parses the value of a setting, or the table's default where it is not set; notes a problem where the value is wrong.
    pub(super) fn parsed<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let value = self.get(name).or_else(|| setting(name)?.default())?;
        match parse(value) {
            Ok(value) => Some(value),
            Err(why) => {
                self.add_problem(name, &format!("is wrong: {why}"));
                None
            }
        }
    }

    /// Parses the value of a setting, and notes a problem where it is not set.
    pub(super) fn required<T>(
        &mut self,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        self.require(name, "");
        self.parsed(name, parse)
    }

    /// Notes a problem where a setting has no value, and none was told of it yet; `or` names what would do as well.
    pub(super) fn require(&mut self, name: &str, or: &str) {
        if !self.has(name) && self.problems.iter().all(|it| it.name != name) {
            let what = setting(name).map(ToString::to_string).unwrap_or_default();
            self.problems.push(Problem::missing(name, format!("is needed{or}: {what}")));
        }
    }

    /// Reads a setting that is true or false.
    pub(super) fn flag(&mut self, name: &str) -> bool {
        let read = self.parsed(name, |it| match it.to_ascii_lowercase().as_str() {
            "1" | "true" | "yes" | "on" => Ok(true),
            "0" | "false" | "no" | "off" => Ok(false),
            _ => Err("true or false".into()),
        });
        read.unwrap_or_default()
    }

    /// Reads a setting that is a number within the table's bounds.
    pub(super) fn number(&mut self, name: &str) -> Option<u32> {
        let (least, most) = match setting(name).map(|it| it.takes) {
            Some(Takes::Number(least, most)) => (least, most),
            _ => (0, u32::MAX),
        };
        self.parsed(name, |it| {
            let number = it.parse().ok().filter(|it| (least..=most).contains(it));
            number.ok_or_else(|| format!("a number from {least} to {most}"))
        })
    }

    /// All problems that were noted.
    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }
}

/// Says why a text cannot be the value of any setting.
fn form_error(value: &str) -> Option<&'static str> {
    // A Worker's var may be a table, a list or null, which its adapter passes on with a NUL before it.
    if value.contains('\0') {
        return Some("must be text, not a table, a list or null");
    }
    let quoted =
        ['"', '\''].iter().any(|it| value.len() > 1 && value.starts_with(*it) && value.ends_with(*it));
    quoted.then_some("still has its quotes around it: whatever read them left them there; write it without")
}

/// Reports names that look like settings and are none: a slip of the pen would otherwise leave the setting unset.
pub(super) fn report_unknown(reader: &mut Reader<'_>, pairs: &[(String, String)]) {
    for (name, _) in pairs {
        let ours = name.starts_with("EDGE_") || name.starts_with("PVE_");
        if !ours || setting(name).is_some() {
            continue;
        }
        let nearest = SETTINGS.iter().map(|it| it.name).min_by_key(|known| distance(known, name));
        let nearest = nearest.filter(|known| distance(known, name) <= 4);
        let hint = nearest.map_or_else(String::new, |known| format!("; did you mean {known}?"));
        reader.add_problem(name, &format!("is not a setting{hint}"));
    }
}

/// Levenshtein distance of two names.
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

    use crate::{
        io::Platform,
        sandbox::preset::ProviderName,
        settings::{Problem, SETTINGS, Settings, Unset},
    };

    const WORKERS: Platform = Platform {
        name: "workers",
        max_wait: Duration::from_secs(25),
        requests: 40,
        answer_bytes: 1 << 22,
        request_bytes: None,
        streams: true,
        upgrades: true,
        private_network: false,
        in_guest_network: false,
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
        let problems = |all: Vec<Problem>| all.iter().map(ToString::to_string).collect();
        Settings::read(&pairs, platform).map_err(problems)
    }

    #[test]
    fn five_settings_are_enough() {
        let settings = read(&[], &LOCAL).unwrap();
        assert_eq!(settings.api_url.as_deref(), Some("https://pve.example.com:8006"));
        assert_eq!(u32::from(settings.template_range.first()), 100_000);
        assert!(settings.verify_tls);
        let shown = format!("{settings:?}");
        assert!(!shown.contains("a=b") && !shown.contains("sssss"), "{shown}");
    }

    /// A default of the table means the same when somebody sets it.
    #[test]
    fn defaults_can_be_set() {
        let unset = format!("{:?}", read(&[], &LOCAL).unwrap());
        let defaults: Vec<_> = SETTINGS.iter().filter_map(|it| Some((it.name, it.default()?))).collect();
        assert_eq!(format!("{:?}", read(&defaults, &LOCAL).unwrap()), unset);
        assert!(
            unset.contains("tag_budget: 280") && unset.contains("stopped_max_seconds: 604800"),
            "{unset}"
        );
    }

    #[test]
    fn what_is_needed_is_asked_for() {
        for needed in SETTINGS.iter().filter(|it| matches!(it.unset, Unset::Needed)) {
            let problems = read(&[(needed.name, "")], &LOCAL).unwrap_err();
            assert_eq!(problems, [format!("{} is needed: {needed}", needed.name)]);
        }
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
            ("SANDBOX_PROVIDER", "morph", "MORPH_API_KEY is needed: key"),
            ("CF_ACCESS_CLIENT_ID", "hidden", "CF_ACCESS_CLIENT_SECRET is needed"),
            ("CF_API_TOKEN", "hid den", "a key as Cloudflare gives it"),
            ("CF_ACCOUNT_ID", "hidden", "32 hex digits"),
            ("CF_ZONE_ID", "HIDDEN23456789abcdef0123456789abc", "32 hex digits"),
            ("CF_DOMAIN", "hidden", "a domain, such as example.com"),
            ("PVE_API_URL", "https://hidden.example.com:99999", "a port is 1 to 65535"),
            ("PVE_API_URL", "https://hidden.example.com:0", "a port is 1 to 65535"),
            ("PVE_API_URL", "https://hid_den", "scheme, host and port"),
            ("PVE_API_URL", "https://[::1]:99999", "a port is 1 to 65535"),
            ("PVE_API_URL", "\"https://hidden.example.com\"", "PVE_API_URL still has its quotes around it"),
            ("EDGE_SECRET", "'hidden-hidden-hidden-hidden-hidden'", "EDGE_SECRET still has its quotes"),
            ("MORPH_BASE_URL", "https://hidden.example.com:99999/api", "a port is 1 to 65535"),
            ("PVE_PUBLIC_DOMAIN", "hidden.example.com:99999", "PVE_PUBLIC_DOMAIN is wrong: a domain"),
            ("NEXT_PUBLIC_SERVER_ORIGIN", "hidden", "NEXT_PUBLIC_SERVER_ORIGIN is wrong: scheme, host"),
            ("NEXT_PUBLIC_SERVER_ORIGIN", "https://hidden:99999", "a port is 1 to 65535"),
            ("NEXT_PUBLIC_SERVER_ORIGIN", "https://hidden/path", "no user, no path"),
            ("EDGE_CORS_ORIGINS", "https://a.test, hidden", "EDGE_CORS_ORIGINS is wrong: entry 2"),
            ("EDGE_CORS_ORIGINS", "https://hidden:99999", "a port is 1 to 65535"),
            ("EDGE_BASE_PATH", "hidden", "EDGE_BASE_PATH is wrong: a path"),
            ("EDGE_BASE_PATH", "/hidden/../x", "a path, such as"),
            ("EDGE_BASE_PATH", "/hid den", "a path, such as"),
            ("PVE_IP_POOL_CIDR", "10.20.30.40/32", "more than one address"),
            ("PVE_IP_POOL_CIDR", "10.20.30.40/24", "a network, not a host"),
            ("PVE_GATEWAY", "10.20.30.1", "needs PVE_IP_POOL_CIDR"),
            ("EDGE_GUEST_NETWORK", "hidden", "an IPv4 network"),
            ("EDGE_GUEST_NETWORK", "0.0.0.0/1", "from /8 to /30"),
            ("PVE_BRIDGE", "\0{\"a\":\"hidden\"}", "PVE_BRIDGE must be text"),
        ] {
            let problems = read(&[(name, value)], &LOCAL).unwrap_err().join("\n");
            assert!(problems.contains(why) && !problems.contains("hidden"), "{name}: {problems}");
        }
    }

    #[test]
    fn the_tunnels_domain_is_that_of_the_service_urls() {
        let domain = |changes: &[(&str, &str)]| {
            let read = read(changes, &WORKERS);
            read.map(|it| it.public_domain.map(|it| it.authority().to_owned()).unwrap_or_default())
        };
        let of = ("CF_DOMAIN", "Example.com");
        assert_eq!(domain(&[of]).unwrap(), "example.com");
        assert_eq!(domain(&[of, ("PVE_PUBLIC_DOMAIN", "EXAMPLE.com")]).unwrap(), "example.com");
        for other in ["example.org", "http://example.com", "example.com:8443", "a.example.com"] {
            let problems = domain(&[of, ("PVE_PUBLIC_DOMAIN", other)]).unwrap_err().join("\n");
            assert!(problems.contains("CF_DOMAIN must be the same as PVE_PUBLIC_DOMAIN"), "{problems}");
        }
    }

    #[test]
    fn a_gateway_is_of_the_pools_network() {
        let pool = ("PVE_IP_POOL_CIDR", "10.20.30.0/24");
        assert!(read(&[pool, ("PVE_GATEWAY", "10.20.30.1")], &LOCAL).is_ok());
        let outside = read(&[pool, ("PVE_GATEWAY", "10.20.31.1")], &LOCAL).unwrap_err().join("\n");
        assert_eq!(outside, "PVE_GATEWAY must be an address in the network of PVE_IP_POOL_CIDR");
        let dhcp = ("EDGE_GUEST_NETWORK", "10.20.30.0/24");
        assert!(read(&[dhcp, ("PVE_GATEWAY", "10.20.30.1")], &LOCAL).is_ok());
        assert!(read(&[dhcp, ("PVE_GATEWAY", "10.20.31.1")], &LOCAL).is_err());
        assert!(
            read(&[dhcp, pool], &LOCAL).unwrap_err().join("\n").contains("EDGE_GUEST_NETWORK is for DHCP")
        );
        // One mistake is told once.
        let pool = read(&[("PVE_IP_POOL_CIDR", "nonsense"), ("PVE_GATEWAY", "10.20.31.1")], &LOCAL);
        assert_eq!(pool.unwrap_err().len(), 1);
    }

    #[test]
    fn urls_are_kept_as_they_are_used() {
        for (name, value) in [
            ("NEXT_PUBLIC_SERVER_ORIGIN", "http://server.example.com:9776/"),
            ("MORPH_BASE_URL", "https://morph.example.com/api/"),
            ("EDGE_BASE_PATH", "/a/b-c/"),
            ("EDGE_BASE_PATH", "/"),
            ("PVE_API_URL", "https://[fd00::1]:8006"),
        ] {
            assert!(read(&[(name, value)], &LOCAL).is_ok(), "{name}={value}");
        }
        let settings = read(&[("EDGE_BASE_PATH", "/a/b-c/")], &LOCAL).unwrap();
        assert_eq!(settings.base_path, "/a/b-c");
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

    #[test]
    fn the_provider_is_the_one_that_is_named_or_has_credentials() {
        assert_eq!(read(&[], &LOCAL).unwrap().provider, ProviderName::PveLxc);
        assert_eq!(read(&[("SANDBOX_PROVIDER", "pve-lxc")], &LOCAL).unwrap().provider, ProviderName::PveLxc);
        let morph = ("MORPH_API_KEY", "k");
        assert_eq!(read(&[morph], &LOCAL).unwrap().provider, ProviderName::Morph);
        assert_eq!(
            read(&[("SANDBOX_PROVIDER", "pve-vm"), morph], &LOCAL).unwrap().provider,
            ProviderName::PveVm
        );
        for (asked, why) in [("morph", "MORPH_API_KEY is needed"), ("docker", "SANDBOX_PROVIDER")] {
            let wrong = read(&[("SANDBOX_PROVIDER", asked)], &LOCAL).unwrap_err().join("\n");
            assert!(wrong.contains(why), "{wrong}");
        }
        // What is missing is named, and what is there already is not.
        for (unset, named) in [("PVE_API_URL", [true, false]), ("PVE_API_TOKEN", [false, true])] {
            for provider in ["", "pve-lxc"] {
                let told = read(&[(unset, ""), ("SANDBOX_PROVIDER", provider)], &LOCAL).unwrap_err();
                let [told] = told.as_slice() else { panic!("{told:?}") };
                let names = ["PVE_API_URL is needed", "PVE_API_TOKEN is needed"];
                assert_eq!(names.map(|it| told.starts_with(it)), named, "{told}");
                assert_eq!(told.contains("(or MORPH_API_KEY)"), provider.is_empty(), "{told}");
            }
        }
    }
}
