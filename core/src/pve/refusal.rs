//! Why a PVE call has no data: the way, PVE's refusal, or not PVE at all.
//!
//! PVE tells almost everything as 500 with free text; the questions that
//! operations ask of that text are asked here and nowhere else.

use http::header;

use crate::{
    edge::Lost,
    error::{Code, Error},
    io::{Failure, NetError, Sent, Whole},
};

/// No data.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PveError {
    /// No answer.
    #[error("no answer from PVE: {0}")]
    Net(NetError),
    /// PVE said no.
    #[error("PVE refused: {} {}", .0.status, .0.message)]
    Refused(Refusal),
    /// Something between here and PVE answered in its place.
    #[error("{0}")]
    NotPve(Stranger),
    /// PVE answered, and its data is not what the call answers.
    #[error("PVE's answer has an unexpected shape: {0}")]
    Shape(String),
    /// The platform allows this invocation no more requests.
    #[error("no outgoing requests left")]
    Budget,
}

/// PVE said no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status, or the one inside an extjs answer.
    pub status: u16,
    /// PVE's text; empty where it was lost on the way.
    pub message: String,
    /// What is wrong with which parameter.
    pub errors: Vec<(String, String)>,
}

/// The answer of a proxy, a firewall, a login page or an edge in PVE's place.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("status {status}{} is not PVE's answer", .server.as_deref().map(|it| format!(" from {it}")).unwrap_or_default())]
pub struct Stranger {
    /// HTTP status.
    pub status: u16,
    /// What its `Server` header says it is, shortened.
    pub server: Option<String>,
    /// Seconds after which it lets another request through, as its `Retry-After` says.
    pub retry_after: Option<u32>,
}

impl Stranger {
    /// Who has answered; the body is a page for people, and is not repeated.
    pub(super) fn of(whole: &Whole) -> Self {
        let header = |name| whole.headers.get(name).and_then(|it| it.to_str().ok());
        Self {
            status: whole.status,
            server: header(header::SERVER).map(|it| it.chars().take(40).collect()),
            retry_after: header(header::RETRY_AFTER).and_then(|it| it.trim().parse().ok()),
        }
    }
}

impl PveError {
    fn text(&self) -> &str {
        match self {
            Self::Refused(refusal) => &refusal.message,
            _ => "",
        }
    }

    /// Whether PVE may have executed the call, or may do so later: the answer did not come, or it
    /// says nothing about that.
    pub fn is_unanswered(&self) -> bool {
        match self {
            Self::Net(error) => error.sent == Sent::Maybe,
            // A tunnel's 502 says nothing about what PVE did. What refuses with less has not passed
            // the request on: a login page, a firewall, a limit.
            Self::NotPve(stranger) => stranger.status >= 500,
            // Nor does a node that did not hear its neighbour's answer.
            Self::Refused(refusal) => (596..=599).contains(&refusal.status),
            Self::Shape(_) => true,
            Self::Budget => false,
        }
    }

    /// Proved never to have reached PVE.
    pub fn is_never_sent(&self) -> bool {
        matches!(self, Self::Net(error) if error.sent == Sent::Never)
            || matches!(self, Self::Refused(refusal) if refusal.status == 595)
    }

    /// `Configuration file 'nodes/pve1/lxc/100.conf' does not exist`.
    pub fn is_missing(&self) -> bool {
        self.text().contains("does not exist") && self.text().contains("onfiguration file")
    }

    /// `CT is locked (disk)`: the lock's name.
    pub fn lock(&self) -> Option<&str> {
        let (_, rest) = self.text().split_once("is locked (")?;
        rest.split_once(')').map(|(name, _)| name)
    }

    /// `can't lock file '...' - got timeout`: something works on the guest.
    pub fn is_lock_timeout(&self) -> bool {
        self.text().contains("can't lock file") || self.text().contains("got lock request timeout")
    }

    /// The VMID is taken; also pmxcfs' way of saying so across nodes.
    pub fn is_taken(&self) -> bool {
        let text = self.text();
        ["already exists on node", "config file already exists", "File exists"]
            .iter()
            .any(|it| text.contains(it))
    }

    /// Somebody changed the config since it was read.
    pub fn is_digest_mismatch(&self) -> bool {
        let text = self.text();
        // Of VMs; older ones spell the word before it wrongly (qemu-server `API2/Qemu.pm`).
        text.contains("detected modified configuration") || text.contains("file change by other user")
    }

    /// `CT 100 already running`.
    pub fn is_already_running(&self) -> bool {
        self.text().contains("already running")
    }

    /// `CT 100 not running`.
    pub fn is_not_running(&self) -> bool {
        self.text().contains("not running")
    }

    /// `VM 100 is running - destroy failed`: unlike a container it is stopped first.
    pub fn is_running(&self) -> bool {
        self.text().contains("is running - destroy failed")
    }

    /// `No QEMU guest agent configured`: neither here nor in the template.
    pub fn lacks_agent(&self) -> bool {
        self.text().contains("No QEMU guest agent configured")
    }

    /// `QEMU guest agent is not running`: not yet, or too busy to answer in 3 s.
    pub fn is_agent_silent(&self) -> bool {
        self.text().contains("guest agent is not running")
    }

    /// `disk is already at specified size`.
    pub fn is_already_that_size(&self) -> bool {
        self.text().contains("already at specified size")
    }

    /// `Linked clone feature for 'S:vol' is not available`, or of VMs `… is not supported for …`.
    pub fn lacks_linked_clones(&self) -> bool {
        self.text().contains("Linked clone feature")
    }

    /// `can't remove CT 100 - protection mode enabled`.
    pub fn is_protected(&self) -> bool {
        self.text().contains("protection mode enabled")
    }

    /// 400 that names this parameter.
    pub fn names(&self, parameter: &str) -> bool {
        matches!(self, Self::Refused(refusal)
            if refusal.status == 400 && (refusal.errors.iter().any(|(name, _)| name == parameter)
                || (refusal.errors.is_empty() && refusal.message.contains(parameter))))
    }

    /// `Permission check failed (/, Sys.Modify for modifying tag 'x')`.
    pub fn restricts_tags(&self) -> bool {
        self.is_final() && self.text().contains("for modifying tag")
    }

    /// The node did not answer its neighbour.
    pub fn is_node_silent(&self) -> bool {
        matches!(self, Self::Refused(refusal) if (595..=599).contains(&refusal.status))
            || self.text().contains("hostname lookup")
    }

    /// PVE itself said no.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.status < 595)
    }

    /// Nobody answered in time.
    pub fn is_late(&self) -> bool {
        matches!(self, Self::Net(error) if error.failure == Failure::Timeout)
    }

    /// A refusal that proves that this step cannot succeed: 400 or 403.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Refused(refusal) if matches!(refusal.status, 400 | 403))
    }
}

impl From<Lost> for PveError {
    fn from(lost: Lost) -> Self {
        match lost {
            Lost::Net(error) => Self::Net(error),
            Lost::Budget => Self::Budget,
        }
    }
}

impl From<PveError> for Error {
    fn from(error: PveError) -> Self {
        match error {
            PveError::Budget => Error::new(
                Code::BudgetExhausted,
                "the platform allows one request a bounded number of calls to PVE; ask again to go on",
            )
            .retry_after(1),
            PveError::NotPve(stranger) => strange(&stranger),
            PveError::Shape(_) => Error::new(Code::PveBadAnswer, error.to_string()),
            PveError::Net(error) => unreached(&error),
            PveError::Refused(refusal) => refused(&refusal),
        }
    }
}

/// What to look at, by what the answer in PVE's place says.
fn strange(stranger: &Stranger) -> Error {
    let look = match stranger.status {
        300..400 => "a redirect: is PVE_API_URL right, and does Cloudflare Access accept the service token?",
        413 => "a proxy before PVE takes no request of this size: raise its limit",
        429 => "a proxy before PVE takes no more requests now: ask again later, or raise its limit",
        500.. => "the tunnel or proxy before PVE has failed, or PVE_API_URL is wrong; ask again",
        _ => "check PVE_API_URL and what stands between here and PVE (a login page, a firewall)",
    };
    let mut error = Error::new(Code::PveBadAnswer, format!("{stranger}; {look}"))
        .member("answeredStatus", stranger.status);
    if let Some(server) = &stranger.server {
        error = error.member("answeredBy", server.as_str());
    }
    stranger.retry_after.into_iter().fold(error, Error::retry_after)
}

fn unreached(error: &NetError) -> Error {
    let (code, fix) = match (error.failure, error.sent) {
        (Failure::Tls, _) => (
            Code::PveTls,
            "give PVE a certificate that is trusted, or reach it through the tunnel by its public name; \
             where the platform allows it, PVE_VERIFY_TLS=false",
        ),
        (Failure::Timeout, _) => (Code::PveTimeout, "PVE or the way to it is slow; ask again"),
        (_, Sent::Never) => (Code::PveUnreachable, "is PVE up, is PVE_API_URL right, is the tunnel running?"),
        (Failure::TooLarge, _) => (Code::PveBadAnswer, "the answer is larger than any of PVE's"),
        _ => (Code::PveTimeout, "the connection ended before PVE answered; ask again"),
    };
    Error::new(code, format!("{}; {fix}", error.detail)).retry_after(5)
}

fn refused(refusal: &Refusal) -> Error {
    let Refusal { status, message, .. } = refusal;
    let says = |text: &str| message.contains(text);
    match status {
        401 => Error::new(
            Code::PveUnauthorized,
            "PVE answered 401: check PVE_API_TOKEN (USER@REALM!TOKENID=SECRET), that the token exists, has \
             not expired, and that its user is enabled",
        ),
        403 if says("for modifying tag") => Error::new(
            Code::PveTagsRestricted,
            format!(
                "{message}; in datacenter.cfg user-tag-access must allow free tags and registered-tags must \
                 not name ours, or give the token Sys.Modify on /"
            ),
        ),
        403 => Error::new(Code::PveForbidden, missing_privilege(message)),
        501 => Error::new(Code::PveUnsupported, format!("PVE answered 501 ({message})")),
        595..=599 => Error::new(
            Code::NodeOffline,
            format!("a cluster node does not answer its neighbour ({status} {message})"),
        )
        .retry_after(15),
        _ if says("hostname lookup") || says("no such cluster node") => {
            Error::new(Code::NodeOffline, format!("{message}; is PVE_NODE right?"))
        }
        // Between a look at it and this call; a look alone tells whether it is gone or on another node.
        _ if says("onfiguration file") && says("does not exist") => Error::new(
            Code::Conflict,
            format!("the guest was deleted or moved at this moment; ask again ({message})"),
        )
        .retry_after(1),
        _ if says("No QEMU guest agent configured") => Error::new(
            Code::GuestAgentMissing,
            format!(
                "{message}: install qemu-guest-agent in the template and set its option, qm set TEMPLATE \
                 --agent 1; sandboxes that exist need it too"
            ),
        ),
        _ if says("no quorum") => Error::new(Code::NoQuorum, message.clone()).retry_after(15),
        _ if says("No space left")
            || says("out of space")
            || says("not enough free space")
            || says("full") && says("pool") =>
        {
            Error::new(Code::StorageFull, format!("{message}; free some space on the storage"))
        }
        _ if says("Linked clone feature") => Error::new(
            Code::LinkedCloneUnsupported,
            format!("{message}; put the template on lvmthin, zfspool, rbd or btrfs"),
        ),
        _ if says("is locked (") || says("can't lock file") || says("got lock request timeout") => {
            Error::new(Code::GuestLocked, message.clone()).retry_after(3)
        }
        400 => {
            let which: Vec<String> = refusal
                .errors
                .iter()
                .map(|(name, why)| match name.as_str() {
                    // What was sent in it is secret, and PVE may repeat it.
                    "env" | "description" | "command" => name.clone(),
                    _ => format!("{name}: {why}"),
                })
                .collect();
            Error::new(Code::PveError, format!("PVE does not accept {}", which.join("; ")))
        }
        _ if message.is_empty() => Error::new(
            Code::PveError,
            format!("PVE answered {status} and its text was lost on the way; its task log has it"),
        ),
        _ => Error::new(Code::PveError, format!("PVE answered {status}: {message}")),
    }
}

/// `Permission check failed (/vms/100, VM.Audit)` says which privilege on which path.
fn missing_privilege(message: &str) -> String {
    let inside = message.split_once('(').and_then(|(_, rest)| rest.rsplit_once(')')).map(|(it, _)| it);
    match inside.and_then(|it| it.split_once(", ")) {
        Some((path, privilege)) => format!(
            "the token lacks {privilege} on {path}: give the role to the token and to its user (a token with \
             privilege separation has only what both have)"
        ),
        None => format!("{message}: see the README for the role that the token needs"),
    }
}
