//! The description: Markdown for the admin who opens the Notes tab, whatever
//! the admin wrote, and last the machine line.

use serde_json::Value;

use super::{Mark, Want};
use crate::{sandbox::OnExpiry, text::json};

/// Line by which a hookscript hands the exec token to execd where PVE's `env`
/// option does not exist (before 9.1).
pub const EXEC_TOKEN_MARKER: &str = "cmux-execd-auth-token=";

/// PVE refuses more characters than this on a PUT.
const LONGEST: usize = 8192;
const BEGIN: &str = "<!-- pve-edge -->";
const END: &str = "<!-- /pve-edge -->";
const LINE: &str = "{\"pve-edge\":";

/// The parts of a description.
#[derive(Clone, Debug)]
pub struct Notes<'a> {
    /// The description as it is now: an admin's text in it is kept.
    pub existing: &'a str,
    /// The mark, which the machine line holds.
    pub mark: &'a Mark,
    /// Name and URL of the services, for a click.
    pub links: &'a [(String, String)],
    /// In clear, where `env` cannot carry it.
    pub exec_token: Option<&'a str>,
}

impl Notes<'_> {
    /// The description, or `None` when an admin's text leaves no room (rule S1.7).
    pub fn write(&self) -> Option<String> {
        let admin = admins(self.existing);
        let line = serde_json::to_string(self.mark).unwrap_or_default().replace('\u{7f}', "\\u007f");
        let token = match (self.exec_token, token_line(self.existing)) {
            (Some(token), _) => format!("{EXEC_TOKEN_MARKER}{token}\n"),
            (None, Some(kept)) => format!("{kept}\n"),
            (None, None) => String::new(),
        };
        let admin = if admin.is_empty() { admin } else { format!("{admin}\n\n") };
        let rest = format!("{admin}{token}{line}");
        let full = format!("{BEGIN}\n{}\n{END}\n\n{rest}", self.human());
        // What is condemned goes, with whatever was written about it.
        let last = (self.mark.want == Want::Gone).then_some(line);
        [full, rest].into_iter().chain(last).find(|it| it.chars().count() < LONGEST)
    }

    fn human(&self) -> String {
        let mark = self.mark;
        let name = mark.name.as_deref().map(escape).unwrap_or_else(|| format!("vm-{}", mark.vmid));
        let expiry = match (mark.expires_at(), mark.on_expiry) {
            (None, _) => "never".to_owned(),
            (Some(at), then) => {
                let then = match then {
                    OnExpiry::Delete => "is deleted",
                    OnExpiry::Stop => "is stopped",
                    OnExpiry::Pause => "is paused",
                };
                format!("{} UTC, then it {then}", clock(at))
            }
        };
        let mut text = format!(
            "**Sandbox {name}**, made by pve-edge\n\n- team: {}\n- deployment: {}\n- expires: {expiry}",
            escape(&mark.team),
            escape(&mark.deployment)
        );
        for (name, url) in self.links {
            text.push_str(&format!("\n- [{name}]({url})"));
        }
        text
    }
}

/// The mark in a description's machine line.
pub(super) fn machine_line(description: &str) -> Option<Mark> {
    let line = description.lines().rev().find(|it| it.starts_with(LINE))?;
    let line: Value = serde_json::from_slice(line.as_bytes()).ok()?;
    let (mut mark, other) = json::read_with_rest::<Mark>(line).ok()?;
    mark.other = other;
    Some(mark)
}

fn token_line(description: &str) -> Option<&str> {
    description.lines().find(|it| it.starts_with(EXEC_TOKEN_MARKER))
}

/// An admin's text: all that is neither our block, nor the token, nor the machine line.
fn admins(description: &str) -> String {
    let without_block = match (description.find(BEGIN), description.find(END)) {
        (Some(from), Some(to)) if from < to => {
            let before = description.get(..from).unwrap_or_default();
            let after = description.get(to + END.len()..).unwrap_or_default();
            format!("{before}{after}")
        }
        _ => description.to_owned(),
    };
    let kept: Vec<&str> = without_block
        .lines()
        .filter(|it| !it.starts_with(LINE) && !it.starts_with(EXEC_TOKEN_MARKER))
        .collect();
    kept.join("\n").trim().to_owned()
}

fn clock(at: time::OffsetDateTime) -> String {
    format!("{} {:02}:{:02}", at.date(), at.hour(), at.minute())
}

/// Text of a user, as Markdown that shows it as it is.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for it in text.chars() {
        if it.is_ascii_punctuation() {
            escaped.push('\\');
        }
        escaped.push(if it.is_control() { ' ' } else { it });
    }
    escaped
}
