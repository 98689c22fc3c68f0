//! The commit: the one write that makes a clone a sandbox, or a template (rule S2.10).

use std::net::Ipv4Addr;

use super::{
    located::Located,
    network, reach,
    write::{borrowed, marks_form},
};
use crate::{
    error::{Code, Error},
    io::Io,
    pve::{
        api::{PveError, config::Config},
        cluster::Cluster,
        marks::{Doing, Mark, Phase, Want, What},
    },
    sandbox::{channel::Channel, id::Kind},
};

/// Environment variable by which execd gets its token.
const TOKEN_VARIABLE: &str = "CMUX_EXECD_AUTH_TOKEN";

/// Why a commit did not happen.
#[derive(Debug)]
pub enum Failure {
    /// PVE refuses it for good.
    Final(Error),
    /// Somebody else was faster, or no answer: read and go on.
    Again(PveError),
}

impl From<PveError> for Failure {
    fn from(error: PveError) -> Self {
        if error.is_final() { Self::Final(error.into()) } else { Self::Again(error) }
    }
}

/// Commits a sandbox with this mark: marks, sizes, network, exec token, and what a clone inherits and must
/// not keep. All of it applies at once on a stopped clone.
pub async fn sandbox<I: Io>(cluster: &Cluster<'_, I>, found: &Located, mark: &Mark) -> Result<Mark, Failure> {
    let config = &found.config;
    // A guest that exists keeps its network, whatever the settings say now.
    let network = match mark.phase {
        Phase::Claimed => network::of_sandbox(cluster, config, mark).map_err(Failure::Final)?,
        _ => network::identity(config, mark),
    };
    let at = config.with(&network).address();
    let now = cluster.now().unix_timestamp();
    let guarded = (mark.kind == Kind::Qemu).then_some(now);
    // What was stopped, and is rolled back, was stopped then.
    let changed = if mark.want == Want::On { Some(now) } else { mark.changed };
    let mut mark = Mark { phase: Phase::Committed, changed, guarded, ..mark.clone() };
    let token = reach::token(cluster.settings, &mark);
    // Our own daemon needs none.
    let mut token = if mark.commands == Some(Channel::Guest) { Token::Needless } else { Token::Env(&token) };
    let mut inherited = false;
    loop {
        let form = form(cluster, config, &mark, at, token, inherited).map_err(Failure::Final)?;
        match cluster.send(found.api(cluster).set_config(&borrowed(&form, &network))).await {
            Ok(_) => return Ok(mark),
            Err(error) => match token {
                // Before PVE 9.1 there is no `env`: the template's hookscript reads the notes.
                Token::Env(by_notes) if error.names("env") && config.hookscript.is_some() => {
                    token = Token::Notes(by_notes);
                }
                // It may have our daemon: whether it does, the probe tells.
                Token::Env(_) if error.names("env") && mark.commands.is_none() => {
                    token = Token::Needless;
                    mark.secret = None;
                }
                Token::Env(_) if error.names("env") => return Err(Failure::Final(no_way_of_token())),
                // A registered tag of the template's stays: nobody takes a sandbox for a template.
                _ if !inherited && error.restricts_tags() => inherited = true,
                _ => return Err(error.into()),
            },
        }
    }
}

/// The error of a sandbox whose `cmux-execd` cannot be given its token.
pub fn no_way_of_token() -> Error {
    Error::new(
        Code::ExecTokenNotApplied,
        "this PVE has no `env` option (it came with 9.1) and the template has no hookscript that hands execd its \
         token: put pve-edge-guest into the template, which needs no token, or update PVE, or on the node run \
         pct set TEMPLATE --hookscript local:snippets/cmux-lxc-execd-token-hook.sh as root",
    )
}

/// Commits a template with this mark: nothing of the sandbox's identity, token or address stays (rule S8.3).
pub async fn template<I: Io>(cluster: &Cluster<'_, I>, found: &Located, mark: &Mark) -> Result<(), Failure> {
    let config = &found.config;
    let since = cluster.now().unix_timestamp();
    let doing = Doing { what: What::Template, snapname: String::new(), memory: false, since };
    let mark = &Mark { phase: Phase::Committed, doing: Some(doing), ..mark.clone() };
    let mut form = marks_form(cluster, config, mark, None, None, false).map_err(Failure::Final)?;
    form.push(("onboot", "0".into()));
    let network = network::of_template(config, mark.kind);
    // What an image says of itself stays; the sandbox's token does not.
    if config.env.is_some() && mark.base.is_none() {
        let kept = environment(config, None);
        form.push(if kept.is_empty() { ("delete", "env".into()) } else { ("env", kept) });
    }
    cluster.send(found.api(cluster).set_config(&borrowed(&form, &network))).await?;
    Ok(())
}

/// The exec token, and the way in which the guest gets it.
#[derive(Clone, Copy)]
enum Token<'a> {
    Env(&'a str),
    Notes(&'a str),
    /// The guest gets none.
    Needless,
}

fn form<I: Io>(
    cluster: &Cluster<'_, I>,
    config: &Config,
    mark: &Mark,
    at: Option<Ipv4Addr>,
    token: Token<'_>,
    inherited: bool,
) -> Result<Vec<(&'static str, String)>, Error> {
    let in_notes = match token {
        Token::Notes(token) => Some(token),
        Token::Env(_) | Token::Needless => None,
    };
    let mut form = marks_form(cluster, config, mark, at, in_notes, inherited)?;
    form.push(("onboot", "0".into()));
    form.push((mark.kind.name_parameter(), reach::hostname(mark.vmid)));
    if let Some(cores) = mark.sizes.cpu {
        form.push(("cores", cores.to_string()));
    }
    if let Some(memory) = mark.sizes.memory {
        form.push(("memory", memory.to_string()));
    }
    if mark.kind == Kind::Qemu {
        machine(cluster, config, mark, &mut form);
    }
    // Root's shell, which commands can go through; what was begun with another goes on until the container stops.
    if mark.kind == Kind::Lxc && config.option("cmode") != Some("shell") {
        form.push(("cmode", "shell".into()));
    }
    if let (Token::Env(token), Kind::Lxc) = (token, mark.kind) {
        form.push(("env", environment(config, Some(token))));
    }
    Ok(form)
}

/// Adds what a VM has beside a container: sockets that multiply its cores, a size that its memory may
/// shrink to, and cloud-init. Nothing secret is in that.
fn machine<I: Io>(
    cluster: &Cluster<'_, I>,
    config: &Config,
    mark: &Mark,
    form: &mut Vec<(&'static str, String)>,
) {
    if mark.sizes.cpu.is_some() {
        form.push(("sockets", "1".into()));
    }
    // PVE takes no memory that is below it (qemu-server `API2/Qemu.pm` `update_vm_api`).
    let balloon = config.balloon().zip(mark.sizes.memory).filter(|(least, memory)| least > memory);
    form.extend(balloon.map(|(_, memory)| ("balloon", memory.to_string())));
    if config.has_cloud_init() {
        form.extend(cluster.settings.search_domain.clone().map(|it| ("searchdomain", it)));
    }
}

/// The template's environment, with this sandbox's token, if any.
fn environment(config: &Config, token: Option<&str>) -> String {
    let kept = config
        .env
        .as_deref()
        .unwrap_or_default()
        .split('\0')
        .filter(|it| !it.is_empty() && it.split_once('=').is_none_or(|(name, _)| name != TOKEN_VARIABLE));
    let token = token.map(|it| format!("{TOKEN_VARIABLE}={it}"));
    kept.chain(token.as_deref()).collect::<Vec<_>>().join("\0")
}
