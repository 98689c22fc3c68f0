//! Why a PVE call has no data, as the problem that the API answers with.

use super::{PveError, Refusal, Stranger, Who};
use crate::{
    error::{Code, Error},
    io::{Failure, NetError, Sent},
};

impl From<PveError> for Error {
    fn from(error: PveError) -> Self {
        match &error {
            PveError::Budget => Error::new(
                Code::BudgetExhausted,
                "the platform allows one request a bounded number of calls to PVE; ask again to go on",
            )
            .retry_after(1),
            PveError::NotPve(stranger) => strange(stranger),
            PveError::Shape(_) => Error::new(Code::PveBadAnswer, error.to_string()),
            PveError::Net(error) => unreached(error),
            PveError::Refused(refusal) if error.is_storage_full() => {
                let text = format!("{}; free some space on the storage", refusal.message);
                Error::new(Code::StorageFull, text)
            }
            PveError::Refused(refusal) => refused(&error, refusal),
            PveError::Task(text) if error.is_locked() => {
                Error::new(Code::GuestLocked, text.clone()).retry_after(3)
            }
            PveError::Task(_) => error.problem(Code::TaskFailed, "PVE could not do it"),
        }
    }
}

/// What to look at, by what the answer in PVE's place says.
fn strange(stranger: &Stranger) -> Error {
    if stranger.who == Some(Who::Access) {
        let text = "Cloudflare Access does not let this deployment through: CF_ACCESS_CLIENT_ID and \
                    CF_ACCESS_CLIENT_SECRET must be a service token that has not expired, and the application must \
                    have a policy of action Service Auth that includes it";
        return Error::new(Code::PveAccess, text)
            .member("answeredStatus", stranger.status)
            .member("answeredBy", "Cloudflare Access");
    }
    let look = match stranger.status {
        _ if matches!(stranger.who, Some(Who::Edge(1006..=1012 | 1020))) => {
            "a rule of the zone turns this deployment away: let it through by its IP address or its service token, and \
             turn Browser Integrity Check off for this name"
        }
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

fn refused(error: &PveError, refusal: &Refusal) -> Error {
    let Refusal { status, message, .. } = refusal;
    match status {
        401 => Error::new(
            Code::PveUnauthorized,
            "PVE answered 401: check PVE_API_TOKEN (USER@REALM!TOKENID=SECRET), that the token exists, has \
             not expired, and that its user is enabled",
        ),
        403 if error.restricts_tags() => Error::new(
            Code::PveTagsRestricted,
            format!(
                "{message}; in datacenter.cfg user-tag-access must allow free tags and registered-tags must \
                 not name ours, or give the token Sys.Modify on /"
            ),
        ),
        403 => Error::new(Code::PveForbidden, missing_privilege(error, message)),
        501 => Error::new(Code::PveUnsupported, format!("PVE answered 501 ({message})")),
        595..=599 => Error::new(
            Code::NodeOffline,
            format!("a cluster node does not answer its neighbour ({status} {message})"),
        )
        .retry_after(15),
        _ if error.is_node_unknown() => {
            Error::new(Code::NodeOffline, format!("{message}; is PVE_NODE right?"))
        }
        // Between a look at it and this call; a look alone tells whether it is gone or on another node.
        _ if error.is_missing() => Error::new(
            Code::Conflict,
            format!("the guest was deleted or moved at this moment; ask again ({message})"),
        )
        .retry_after(1),
        _ if error.lacks_agent() => Error::new(
            Code::GuestAgentMissing,
            format!(
                "{message}: install qemu-guest-agent in the template and set its option, qm set TEMPLATE \
                 --agent 1; sandboxes that exist need it too"
            ),
        ),
        _ if error.lacks_quorum() => Error::new(Code::NoQuorum, message.clone()).retry_after(15),
        _ if error.lacks_linked_clones() => Error::new(
            Code::LinkedCloneUnsupported,
            format!("{message}; put the template on lvmthin, zfspool, rbd or btrfs"),
        ),
        _ if error.is_state_unknown() => Error::new(
            Code::GuestLocked,
            format!("PVE cannot tell at this moment whether the container runs; ask again ({message})"),
        )
        .retry_after(5),
        _ if error.is_locked() => Error::new(Code::GuestLocked, message.clone()).retry_after(3),
        400 => not_accepted(refusal),
        _ if message.is_empty() => Error::new(
            Code::PveError,
            format!("PVE answered {status} and its text was lost on the way; its task log has it"),
        ),
        _ => Error::new(Code::PveError, format!("PVE answered {status}: {message}")),
    }
}

/// A 400 with the parameters that PVE does not accept.
fn not_accepted(refusal: &Refusal) -> Error {
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

/// What to do about a privilege that the token lacks.
fn missing_privilege(error: &PveError, message: &str) -> String {
    match error.missing_privilege() {
        Some((path, privilege)) => format!(
            "the token lacks {privilege} on {path}: give the role to the token and to its user (a token with \
             privilege separation has only what both have)"
        ),
        // Of rights of which one is enough PVE names none: a new guest's VM.Allocate, on it or on its pool, say.
        None => format!(
            "{message}: the token lacks a privilege that PVE does not name, VM.Allocate on /vms where a guest was to be \
             made; GET /api/health/sandbox names each, and core/docs/prepare-pve.md the roles"
        ),
    }
}
