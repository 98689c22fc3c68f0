//! The head tag: `pe1.{deployment}.{vmid}.{nonce}.{team}.{expiry}.{flags}.{key}.{node}.{changed}`.
//!
//! Fixed order, numbers in decimal so that an admin can read them. Fields that a newer version appends are
//! ignored (rule S1.8).

use serde::{Deserialize, Serialize};

use super::Mark;
use crate::sandbox::{
    OnExpiry,
    channel::Channel,
    id::{Kind, node_hint},
    vmid::Vmid,
};

const PREFIX: &str = "pe1";

/// The state that a sandbox is to be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Want {
    /// Running.
    On,
    /// Stopped.
    Off,
    /// Stopped, with what its pause kept.
    Paused,
    /// Condemned: a later sweep deletes it.
    Gone,
}

/// How far a sandbox has come up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Claimed by a clone; never in a tag.
    Claimed,
    /// Committed, or started again: it is coming up, and has not answered since.
    Committed,
    /// It came up: its exec daemon, or a VM's agent, has answered as it should.
    Ready,
    /// It cannot be finished; the machine line says why.
    Error,
}

/// The role of a guest in pve-edge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// A sandbox.
    #[default]
    Sandbox,
    /// A template: a snapshot of a sandbox.
    Template,
}

/// Something that takes more than one request, written before it begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doing {
    /// Action.
    pub what: What,
    /// PVE's name of the snapshot that it is about.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub snapname: String,
    /// Whether that snapshot has the VM's memory, which PVE starts it with.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub memory: bool,
    /// Unix seconds.
    pub since: i64,
}

/// An action that takes more than one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// PVE takes a snapshot that is kept; in a tag: it may be a snapshot's, and old.
    Snapshot,
    /// PVE rolls it back.
    Rollback,
    /// It has been rolled back, and comes up.
    Start,
    /// It is made a template; never in a tag.
    Template,
}

pub(super) fn write(mark: &Mark, expires: Option<i64>, what: Option<What>) -> String {
    let flags = [
        match mark.on_expiry {
            OnExpiry::Delete => 'd',
            OnExpiry::Stop => 's',
            OnExpiry::Pause => 'p',
        },
        match mark.want {
            Want::On => 'n',
            Want::Off => 'f',
            Want::Paused => 'p',
            Want::Gone => 'g',
        },
        match mark.phase {
            Phase::Claimed | Phase::Committed => 'c',
            Phase::Ready => 'r',
            Phase::Error => 'e',
        },
    ];
    let expires = expires.map_or_else(|| "never".to_owned(), |it| it.to_string());
    let key = mark.key.map_or_else(|| "0".to_owned(), |it| it.to_string());
    let node = Some(node_hint(&mark.node)).filter(|it| !it.is_empty()).unwrap_or_else(|| "0".to_owned());
    let mut flags: String = flags.iter().collect();
    if mark.role == Role::Template {
        flags.push('t');
    }
    if mark.kind == Kind::Qemu {
        flags.push('v');
    }
    if mark.was_ready {
        flags.push('o');
    }
    flags.extend(mark.commands.and_then(letter));
    flags.extend(match what {
        Some(What::Snapshot) => Some('w'),
        Some(What::Rollback) => Some('r'),
        Some(What::Start) => Some('s'),
        Some(What::Template) => Some('m'),
        None => None,
    });
    let Mark { deployment, vmid, nonce, team, .. } = mark;
    let changed = mark.changed.unwrap_or(0);
    format!("{PREFIX}.{deployment}.{vmid}.{nonce}.{team}.{expires}.{flags}.{key}.{node}.{changed}")
}

/// Channels that a tag tells, and the letter of each.
const CHANNELS: [(Channel, char); 4] =
    [(Channel::Guest, 'g'), (Channel::Terminal, 'l'), (Channel::Execd, 'x'), (Channel::Agent, 'a')];

fn letter(channel: Channel) -> Option<char> {
    CHANNELS.iter().find(|(it, _)| *it == channel).map(|(_, letter)| *letter)
}

/// The head of the guest `vmid` among its tags. Two that disagree are none (rule S1.3).
pub(super) fn read(vmid: Vmid, tags: &str) -> Option<Mark> {
    let mut found = None;
    for tag in super::split(tags) {
        if let Some(mark) = parse(tag).filter(|mark| mark.vmid == vmid) {
            if found.as_ref().is_some_and(|other| *other != mark) {
                return None;
            }
            found = Some(mark);
        }
    }
    found
}

fn parse(tag: &str) -> Option<Mark> {
    // Without `ordering=config` and `case-sensitive` PVE lower-cases tags; with them an admin's hand may not.
    if !tag.get(..4).is_some_and(|it| it.eq_ignore_ascii_case("pe1.")) {
        return None;
    }
    let tag = tag.to_ascii_lowercase();
    let mut parts = tag.split('.').skip(1);
    let mut next = || parts.next();
    let deployment = next()?.to_owned();
    let vmid = next()?.parse().ok()?;
    let nonce = next()?.parse().ok()?;
    let team = next()?.to_owned();
    let expires = match next()? {
        "never" => None,
        number => Some(number.parse().ok()?),
    };
    let flags = Flags::parse(next()?)?;
    let key = match next()? {
        "0" => None,
        text => Some(text.parse().ok()?),
    };
    let node = next().filter(|it| *it != "0").unwrap_or_default().to_owned();
    let changed = next().and_then(|it| it.parse().ok()).filter(|it| *it != 0);
    let claimed = Mark::claimed(&deployment, &team, vmid, flags.kind, nonce);
    let Flags { on_expiry, want, phase, role, was_ready, commands, doing, .. } = flags;
    Some(Mark {
        node,
        expires,
        on_expiry,
        want,
        phase,
        was_ready,
        commands,
        changed,
        role,
        key,
        doing,
        ..claimed
    })
}

/// The flags of a head tag, one letter each.
struct Flags {
    on_expiry: OnExpiry,
    want: Want,
    phase: Phase,
    role: Role,
    kind: Kind,
    was_ready: bool,
    commands: Option<Channel>,
    doing: Option<Doing>,
}

impl Flags {
    /// Letters of a newer version are ignored.
    fn parse(text: &str) -> Option<Self> {
        let mut flags = text.chars();
        let on_expiry = match flags.next()? {
            'd' => OnExpiry::Delete,
            's' => OnExpiry::Stop,
            'p' => OnExpiry::Pause,
            _ => return None,
        };
        let want = match flags.next()? {
            'n' => Want::On,
            'f' => Want::Off,
            'p' => Want::Paused,
            'g' => Want::Gone,
            _ => return None,
        };
        let phase = match flags.next()? {
            'c' => Phase::Committed,
            'r' => Phase::Ready,
            'e' => Phase::Error,
            _ => return None,
        };
        let (mut role, mut kind, mut was_ready) = (Role::Sandbox, Kind::Lxc, false);
        let (mut commands, mut doing) = (None, None);
        for flag in flags {
            if let Some((channel, _)) = CHANNELS.iter().find(|(_, letter)| *letter == flag) {
                commands = Some(*channel);
                continue;
            }
            let what = match flag {
                't' => {
                    role = Role::Template;
                    continue;
                }
                'v' => {
                    kind = Kind::Qemu;
                    continue;
                }
                'o' => {
                    was_ready = true;
                    continue;
                }
                'w' => What::Snapshot,
                'r' => What::Rollback,
                's' => What::Start,
                'm' => What::Template,
                _ => continue,
            };
            doing = Some(Doing { what, snapname: String::new(), memory: false, since: 0 });
        }
        Some(Self { on_expiry, want, phase, role, kind, was_ready, commands, doing })
    }
}
