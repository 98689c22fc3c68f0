//! What only root can do for a template, as commands, and whether it is done.
//!
//! To PVE a token of root is not root (pve-container `LXC.pm`
//! `check_ct_modify_config_perm`), and no API runs a command in a container.

use crate::{
    io::Io,
    pve::{
        api::{PveError, config::Config},
        cluster::Cluster,
        guest::Located,
        marks::Base,
    },
    sandbox::{channel::Channel, vmid::Vmid},
    text::shell::quote,
};

/// The one feature that a token may set.
pub(super) const NESTING: &str = "nesting=1";

/// Removes what each clone has to make for itself, such as the host keys that PVE has made, and what a build has left.
const CLEAN: &str = ": >/etc/machine-id; rm -rf /etc/ssh/ssh_host_*_key* /etc/dropbear/dropbear_*_host_key \
                     /var/lib/pve-edge-build";

/// What is missing; nothing when it can go on.
pub(crate) async fn missing<I: Io>(
    cluster: &Cluster<'_, I>,
    found: &Located,
    base: &Base,
) -> Result<Vec<String>, PveError> {
    let guest = found.api(cluster);
    // What is set while it runs waits for a start, and no clone would have it.
    let now;
    let config = if base.features.is_empty() {
        &found.config
    } else {
        now = cluster.send(guest.config_now()).await?;
        &now
    };
    let running = cluster.send(guest.status()).await?.status != "stopped";
    let vmid = found.mark.vmid;
    let daemon = match found.mark.commands {
        Some(Channel::Guest) => vec![install(vmid, cluster.asked_at.as_deref().unwrap_or("EDGE"))],
        _ => push_execd(vmid),
    };
    Ok(commands((found.mark.kind.tool(), vmid), daemon, config, base, running))
}

/// The command that installs our daemon. The script comes by the node and has the program in it: the container needs
/// neither curl nor a way to this API.
fn install(vmid: Vmid, edge: &str) -> String {
    let script = quote(&format!("{edge}/guest/install.sh?arch="));
    format!("curl -fsSL {script}$(uname -m) | pct exec {vmid} -- sh")
}

/// The commands that put cmux's daemon in.
fn push_execd(vmid: Vmid) -> Vec<String> {
    vec![
        format!("pct push {vmid} cmux-execd /usr/local/bin/cmux-execd --perms 755"),
        format!("pct push {vmid} cmux-execd.service /etc/systemd/system/cmux-execd.service"),
        format!("pct exec {vmid} -- systemctl enable cmux-execd.service"),
    ]
}

fn commands(
    (tool, vmid): (&str, Vmid),
    daemon: Vec<String>,
    config: &Config,
    base: &Base,
    running: bool,
) -> Vec<String> {
    let mut commands = Vec::new();
    let features = features(config.features.as_deref().unwrap_or_default());
    if !base.features.is_empty() && features.as_ref() != Some(&base.features) {
        commands.push(format!("pct set {vmid} --features {}", quoted(&base.features)));
    }
    if !base.hookscript.is_empty() && config.hookscript.as_ref() != Some(&base.hookscript) {
        commands.push(format!("pct set {vmid} --hookscript {}", quoted(&base.hookscript)));
    }
    if base.is_for_root() {
        commands.extend((!running).then(|| format!("pct start {vmid}")));
        commands.extend(if base.execd { Vec::new() } else { daemon });
        commands.push(format!("pct exec {vmid} -- sh -c {}", quote(CLEAN)));
    }
    if running || base.is_for_root() {
        commands.push(format!("{tool} stop {vmid}"));
    }
    commands
}

/// One spelling of PVE's `features`: sorted, without what is off; `None` where it is none.
pub(super) fn features(text: &str) -> Option<String> {
    let mut kept = Vec::new();
    for part in text.split(',').filter(|it| !it.is_empty()) {
        let (name, value) = part.split_once('=')?;
        let is_flag = matches!(name, "nesting" | "keyctl" | "fuse" | "mknod" | "force_rw_sys");
        let is_list = |it: &str| {
            !it.is_empty()
                && it.bytes().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || it == b';')
        };
        match value {
            "0" if is_flag => {}
            "1" if is_flag => kept.push(part),
            list if name == "mount" && is_list(list) => kept.push(part),
            _ => return None,
        }
    }
    kept.sort_unstable();
    kept.dedup();
    Some(kept.join(","))
}

/// As one word of a shell.
fn quoted(text: &str) -> String {
    let plain = text.bytes().all(|it| it.is_ascii_alphanumeric() || b"_./:=,-".contains(&it));
    if plain { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_have_one_spelling() {
        for (text, same) in [
            ("", Some("")),
            ("nesting=1", Some("nesting=1")),
            ("nesting=1,keyctl=1,fuse=0", Some("keyctl=1,nesting=1")),
            ("mount=nfs;cifs,nesting=1", Some("mount=nfs;cifs,nesting=1")),
            ("nesting", None),
            ("nesting=2", None),
            ("mount=", None),
            ("mount=$(reboot)", None),
            ("other=1", None),
        ] {
            assert_eq!(features(text).as_deref(), same, "{text}");
        }
    }

    #[test]
    fn words_of_a_shell() {
        assert_eq!(quoted("keyctl=1,nesting=1"), "keyctl=1,nesting=1");
        assert_eq!(quoted("mount=nfs;cifs"), "'mount=nfs;cifs'");
        assert_eq!(quoted("a'b"), "'a'\\''b'");
    }
}
