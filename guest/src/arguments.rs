//! Command line.

use std::{ffi::OsString, net::SocketAddr, path::PathBuf};

use pve_edge_guest_protocol::PORT;

use crate::{layout::Layout, process::Limits};

/// What is said of a wrong command line.
const USAGE: &str = "usage: pve-edge-guest run [--listen ADDRESS:PORT] [--keys FILE] [--run-dir DIR] [--state-dir DIR] \
                     [--home DIR] [--cards DIR] [--token-file FILE] [--limits JSON] [-- ENTRYPOINT…], or pve-edge-guest --version";

/// Part that this process plays.
#[derive(Debug)]
pub enum Part {
    /// Hold the socket, start the daemon, and reap.
    Run(Options),
    /// Answer HTTP on the socket that is standard input.
    Serve(Options),
    /// Keep one process, with the arguments that the daemon gave.
    Keep(Vec<OsString>),
    /// Become a command.
    Become(Vec<OsString>),
    /// Touch files as a user.
    File(Vec<OsString>),
    /// Tell the version.
    Version,
}

/// Options of `run` and `serve`.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// Addresses to listen on: the first that the guest has.
    pub listen: Vec<SocketAddr>,
    /// Folders and files.
    pub layout: Layout,
    /// Folder that has the guest's network cards as `/sys/class/net` has them, instead of that; the guest is no machine
    /// of its own then.
    pub cards: Option<PathBuf>,
    /// File of the token for cmux's protocol.
    pub token_file: Option<PathBuf>,
    /// How much processes may take.
    pub limits: Limits,
    /// Number of the process that `serve` must not outlive.
    pub parent: Option<u32>,
    /// Program of an image and its arguments, which runs as long as the guest.
    pub entry_point: Vec<OsString>,
    /// The options as they were given, for `serve`.
    pub given: Vec<OsString>,
}

/// Error of a wrong command line: what is wrong, and what is right.
#[derive(Debug, PartialEq, Eq)]
pub struct Wrong(pub String);

/// Reads a command line, without the program's name.
pub fn parse(mut arguments: impl Iterator<Item = OsString>) -> Result<Part, Wrong> {
    let part = arguments.next().unwrap_or_default();
    match part.to_str() {
        Some("run") => options(arguments).map(Part::Run),
        Some("serve") => options(arguments).map(Part::Serve),
        Some("keep") => Ok(Part::Keep(arguments.collect())),
        Some("become") => Ok(Part::Become(arguments.collect())),
        Some("file") => Ok(Part::File(arguments.collect())),
        Some("--version") => Ok(Part::Version),
        Some("") => Err(Wrong(USAGE.to_owned())),
        _ => Err(Wrong(format!("{part:?} is no part of it; {USAGE}"))),
    }
}

fn options(mut arguments: impl Iterator<Item = OsString>) -> Result<Options, Wrong> {
    let mut options = Options::default();
    while let Some(name) = arguments.next() {
        if name == "--" {
            options.entry_point = arguments.collect();
            if options.entry_point.is_empty() {
                return Err(Wrong("a program is missing after --".to_owned()));
            }
            return Ok(options);
        }
        let known = name.to_str().unwrap_or_default();
        if !OPTIONS.contains(&known) {
            return Err(Wrong(format!("{name:?} is no option; {USAGE}")));
        }
        let value = arguments.next().ok_or_else(|| Wrong(format!("{known} needs a value; {USAGE}")))?;
        options.set(known, &value)?;
        options.given.extend([name, value]);
    }
    Ok(options)
}

const OPTIONS: [&str; 9] = [
    "--listen",
    "--keys",
    "--run-dir",
    "--state-dir",
    "--home",
    "--cards",
    "--token-file",
    "--limits",
    "--parent",
];

impl Options {
    /// Whether the guest is a machine of its own.
    pub fn is_machine(&self) -> bool {
        self.cards.is_none()
    }

    fn set(&mut self, name: &str, value: &OsString) -> Result<(), Wrong> {
        let wrong = |right: &str| Wrong(format!("{name} {value:?}: {right}"));
        let path = || Some(PathBuf::from(value)).filter(|it| it.is_absolute());
        let path =
            || path().ok_or_else(|| wrong("a path from the root is needed, such as /etc/pve-edge/keys"));
        let text = value.to_str().unwrap_or_default();
        match name {
            "--listen" => {
                let address =
                    text.parse().map_err(|_| wrong("an address is needed, such as 0.0.0.0:39375"))?;
                self.listen = vec![address];
            }
            "--keys" => self.layout.keys = path()?,
            "--run-dir" => self.layout.run = path()?,
            "--state-dir" => self.layout.state = path()?,
            "--home" => self.layout.home = Some(path()?),
            "--cards" => self.cards = Some(path()?),
            "--token-file" => self.token_file = Some(path()?),
            "--limits" => {
                let limits = serde_json::from_str(text);
                self.limits = limits.map_err(|_| wrong("JSON is needed, such as {\"log\": 16777216}"))?;
            }
            _ => self.parent = Some(text.parse().map_err(|_| wrong("the number of a process is needed"))?),
        }
        Ok(())
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            // A guest without IPv6 has no `[::]`.
            listen: vec![([0_u16; 8], PORT).into(), ([0_u8; 4], PORT).into()],
            layout: Layout::default(),
            cards: None,
            token_file: None,
            limits: Limits::default(),
            parent: None,
            entry_point: Vec::new(),
            given: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(line: &str) -> Result<Part, Wrong> {
        super::parse(line.split(' ').map(OsString::from))
    }

    #[test]
    fn options_are_read_up_to_the_entry_point() {
        let line = "run --listen 127.0.0.1:1 --keys /k --cards /c --home /h -- /init --keys y";
        let Ok(Part::Run(options)) = parse(line) else { panic!("{line}") };
        assert_eq!(options.listen, ["127.0.0.1:1".parse().unwrap()]);
        assert_eq!((options.layout.keys.to_str(), options.cards), (Some("/k"), Some("/c".into())));
        assert_eq!(options.layout.home, Some("/h".into()));
        assert_eq!(options.entry_point, ["/init", "--keys", "y"]);
        assert_eq!(options.given.len(), 8);
    }

    #[test]
    fn what_is_wrong_is_named_with_what_is_right() {
        for (line, right) in [
            ("", "usage"),
            ("start", "usage"),
            ("run --keys", "--keys needs a value"),
            ("run --keys keys", "/etc/pve-edge/keys"),
            ("run --listen 39375", "0.0.0.0:39375"),
            ("run --port 1", "--listen"),
            ("run --", "program"),
            ("run --limits {\"x\":1}", "JSON"),
            ("serve --parent x", "number"),
        ] {
            let Err(Wrong(why)) = parse(line) else { panic!("{line}") };
            assert!(why.contains(right), "{line}: {why}");
        }
    }

    proptest! {
        #[test]
        fn any_line_is_read_without_a_panic_and_given_on(line in "(run|serve) (--(listen|keys|cards|parent|x) [a-z0-9/:.]{0,9} ?){0,4}") {
            if let Ok(Part::Run(options) | Part::Serve(options)) = parse(&line) {
                let again = super::options(options.given.iter().cloned()).unwrap();
                prop_assert_eq!(again, Options { entry_point: Vec::new(), ..options });
            }
        }
    }
}
