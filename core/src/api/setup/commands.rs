//! The commands that a page of the set-up shows: what to type where, with places for values and never a value.

use std::ops::Deref;

use crate::settings::{Problem, SETTINGS, Setting, Takes};

/// Makes a key, and shows it to whoever makes it.
const NEW_KEY: &str = "KEY=home-$(openssl rand -hex 24); echo \"your key: $KEY\"";
/// The entry of that key in `EDGE_API_KEYS`.
const KEY_ENTRY: &str = "home:$(printf %s \"$KEY\" | openssl dgst -sha256 -r | cut -d' ' -f1):admin";
/// A new secret.
const NEW_SECRET: &str = "openssl rand -hex 32";

/// Gets the script at this URL and runs it: in two steps, so that it can be read between them.
pub(super) fn for_pve(url: &str) -> String {
    format!("curl -fsSL {url} -o pve.sh\nsh pve.sh")
}

/// Asks the health at this URL, with the key.
pub(super) fn for_health(url: &str) -> String {
    format!("curl -H \"Authorization: Bearer $KEY\" {url}")
}

/// A setting that the problems are about.
struct Wanted {
    setting: &'static Setting,
    /// Whether it has no value: in place of one that is only mistyped, no new one is made up.
    is_missing: bool,
}

impl Deref for Wanted {
    type Target = Setting;

    fn deref(&self) -> &Setting {
        self.setting
    }
}

impl Wanted {
    /// Command that prints a value for the setting, if one can be made up.
    fn made(&self) -> Option<String> {
        match self.name {
            _ if !self.is_missing => None,
            "EDGE_API_KEYS" => Some(format!("echo \"{KEY_ENTRY}\"")),
            "EDGE_SECRET" => Some(NEW_SECRET.to_owned()),
            _ => None,
        }
    }

    /// What its value is, or where it is to be had.
    fn hint(&self) -> String {
        match (self.name, self.is_missing) {
            ("PVE_API_TOKEN", true) => "what pve.sh has printed behind PVE_API_TOKEN=".to_owned(),
            ("EDGE_SECRET", false) => {
                "the value that it has, corrected: with a new one no sandbox that is there is known any more"
                    .to_owned()
            }
            ("EDGE_API_KEYS", false) => {
                "the keys that it has, corrected: others lock their teams out".to_owned()
            }
            _ => self.takes.to_string(),
        }
    }
}

/// Sets what the problems are about, on this platform.
pub(super) fn for_platform(platform: &str, problems: &[Problem]) -> String {
    let wanted = |setting: &'static Setting| {
        let mut all = problems.iter().filter(|it| it.name == setting.name).peekable();
        all.peek()?;
        Some(Wanted { setting, is_missing: all.all(|it| it.is_missing) })
    };
    let (secrets, plain): (Vec<Wanted>, Vec<Wanted>) =
        SETTINGS.iter().filter_map(wanted).partition(|it| matches!(it.setting.takes, Takes::Secret(_)));
    let unknown = problems.iter().map(|it| it.name.as_str());
    // Whatever else a name may have in it belongs into no shell.
    let is_plain = |it: &&str| it.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'_');
    let unknown = unknown.filter(is_plain).filter(|name| SETTINGS.iter().all(|it| it.name != *name));
    let mut lines: Vec<String> = unknown.map(|it| format!("# remove {it}, which is no setting")).collect();
    let has_new_key = secrets.iter().any(|it| it.name == "EDGE_API_KEYS" && it.is_missing);
    lines.extend(has_new_key.then(|| NEW_KEY.to_owned()));
    lines.extend(match platform {
        "workers" => on_workers(&secrets, &plain),
        "lambda" => on_lambda(&secrets, &plain),
        _ => locally(&secrets, &plain),
    });
    lines.join("\n")
}

fn on_workers(secrets: &[Wanted], plain: &[Wanted]) -> Vec<String> {
    let secret = |it: &Wanted| match it.made() {
        Some(command) => format!("{command} | npx wrangler secret put {}", it.name),
        None => format!("npx wrangler secret put {}    # asks for it: {}", it.name, it.hint()),
    };
    let mut lines: Vec<String> = secrets.iter().map(secret).collect();
    if !plain.is_empty() {
        lines.push("# in wrangler.toml, under [vars]:".to_owned());
        lines.extend(plain.iter().map(|it| format!("{} = \"…\"    # {}", it.name, it.setting)));
        lines.push("# then:".to_owned());
        lines.push("npx wrangler deploy".to_owned());
    }
    lines
}

/// The secrets are keys of one secret, which is written as a whole and read from standard input.
fn on_lambda(secrets: &[Wanted], plain: &[Wanted]) -> Vec<String> {
    let mut lines = Vec::new();
    if !secrets.is_empty() {
        lines.push("# the secret has all of these keys; … is where the others stay as they are".to_owned());
        let wrong = secrets.iter().filter(|it| !it.is_missing);
        lines.extend(wrong.map(|it| format!("# {}: {}", it.name, it.hint())));
        let names = ["PVE_API_TOKEN", "EDGE_API_KEYS", "EDGE_SECRET"];
        let others = secrets.iter().map(|it| it.name).filter(|it| !names.contains(it));
        let all: Vec<&str> = names.into_iter().chain(others).collect();
        let value = |name: &str| match secrets.iter().find(|it| it.name == name) {
            Some(it) if it.name == "EDGE_API_KEYS" && it.is_missing => KEY_ENTRY.to_owned(),
            Some(it) => it.made().map_or("…".to_owned(), |command| format!("$({command})")),
            None => "…".to_owned(),
        };
        lines.push(
            "aws secretsmanager put-secret-value --secret-id pve-edge --secret-string file:///dev/stdin <<END"
                .to_owned(),
        );
        let entries: Vec<String> = all.iter().map(|it| format!("\"{it}\": \"{}\"", value(it))).collect();
        lines.push(format!("{{{}}}", entries.join(", ")));
        lines.push("END".to_owned());
    }
    lines
        .extend(plain.iter().map(|it| format!("# a variable of the function: {} ({})", it.name, it.setting)));
    lines.push("# CloudFormation reads a changed secret only where the function changes too".to_owned());
    lines.push("sam deploy --guided --template-file lambda/template.yaml".to_owned());
    lines
}

fn locally(secrets: &[Wanted], plain: &[Wanted]) -> Vec<String> {
    let line = |it: &Wanted| match it.made() {
        Some(command) => format!("echo \"{}=$({command})\" >>.dev.vars", it.name),
        None => format!("echo '{}=…' >>.dev.vars    # {}", it.name, it.hint()),
    };
    let mut lines: Vec<String> = secrets.iter().chain(plain).map(line).collect();
    if !lines.is_empty() {
        // Every user of the machine may read a file that a shell makes, and this one gets secrets.
        lines.insert(0, "(umask 077; touch .dev.vars); chmod 600 .dev.vars".to_owned());
    }
    lines.push("(set -a; . ./.dev.vars; cargo demo)".to_owned());
    lines
}
