//! The proxy beside PVE, through which requests come to ports of guests: its headers, and the faults that it tells.

use http::{HeaderMap, HeaderName};

use super::{Failure, NetError, Sent, Way};

/// Proves that a request comes from the deployment.
pub const KEY: HeaderName = HeaderName::from_static("x-edge-key");
/// The guest and its port: `{vmid}:{port}`, or `{address}:{port}`.
pub const TO: HeaderName = HeaderName::from_static("x-edge-to");
/// The `Host` that the guest is told.
pub const GUEST_HOST: HeaderName = HeaderName::from_static("x-edge-host");
/// The name by which the visitor has come.
pub const PUBLIC_HOST: HeaderName = HeaderName::from_static("x-edge-public-host");
/// The address of the visitor, or [`OURSELVES`].
pub const CLIENT: HeaderName = HeaderName::from_static("x-edge-client");
/// Of an answer: who has given it. Only the proxy can say that it is the [`GUEST`]'s own.
pub const FROM: HeaderName = HeaderName::from_static("x-edge-from");
/// Of an answer: why the guest has not answered.
pub const FAULT: HeaderName = HeaderName::from_static("x-edge-fault");

/// Value of [`FROM`].
pub const GUEST: &str = "guest";

/// Value of [`FAULT`]: the guest never got the request.
pub const DIAL: &str = "dial";
/// Value of [`FAULT`]: the guest may have got the request.
pub const LATE: &str = "late";
/// Value of [`FAULT`]: the proxy takes no such request.
pub const REFUSED: &str = "refused";

/// Port of a guest at which nobody listens (TCPMUX, RFC 1078), by which health tests the way: that the proxy got no
/// connection is a good answer.
pub const NOBODYS: u16 = 1;

/// The client of calls that the deployment itself makes to the daemon in a guest.
pub const OURSELVES: &str = "edge";

/// The failure that an answer tells of in a guest's place: the proxy's, or of what is before it (rule P3.2). Where a request
/// went another `way` than through the proxy, nobody marks a guest's own answers.
pub fn fault(way: Way, status: u16, headers: &HeaderMap) -> Option<NetError> {
    // The proxy says it with these alone; an old one lets a guest say it with a websocket.
    let told = headers.get(FAULT).filter(|_| matches!(status, 404 | 502 | 504));
    let (sent, failure, detail) = match told.and_then(|it| it.to_str().ok()) {
        Some(DIAL) => (Sent::Never, Failure::Connect, "nothing listens at that port of the guest".into()),
        Some(REFUSED) => {
            let detail = "the proxy beside PVE refuses the deployment: run its proxy.sh anew on the PVE host";
            (Sent::Never, Failure::Unknown, detail.to_owned())
        }
        Some(_) => (Sent::Maybe, Failure::Cut, "the guest broke off before it had answered".into()),
        // A guest may answer with any number. A proxy whose script was not run anew since does not say whose it is.
        None if matches!(status, 521 | 523 | 525 | 526 | 530) && !is_guests(headers) => {
            (Sent::Never, Failure::Connect, format!("status {status}: the way to the sandbox is down"))
        }
        // As cloudflared says it that finds no proxy, or loses it while that has the request.
        None if way == Way::Proxy && matches!(status, 502..=504 | 520 | 522 | 524) && !is_guests(headers) => {
            let detail = format!(
                "status {status} came from before the sandbox: are pve-edge-proxy and cloudflared running on the PVE host?"
            );
            (Sent::Maybe, Failure::Cut, detail)
        }
        None => return None,
    };
    Some(NetError { sent, failure, detail })
}

fn is_guests(headers: &HeaderMap) -> bool {
    headers.get(FROM).is_some_and(|it| it == GUEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_never_sent_may_be_sent_again() {
        let of = |status, told: Option<&'static str>| {
            let headers = told.map(|it| (FAULT, it.parse().unwrap())).into_iter().collect();
            fault(Way::Proxy, status, &headers).map(|it| it.sent)
        };
        assert_eq!(of(502, Some("dial")), Some(Sent::Never));
        assert_eq!(of(404, Some("refused")), Some(Sent::Never));
        assert_eq!(of(502, Some("late")), Some(Sent::Maybe));
        assert_eq!(of(502, Some("")), Some(Sent::Maybe));
        assert_eq!(of(530, None), Some(Sent::Never));
        let from = |status, whose: &'static str| {
            let headers = HeaderMap::from_iter([(FROM, whose.parse().unwrap())]);
            fault(Way::Proxy, status, &headers).map(|it| it.sent)
        };
        assert_eq!((from(530, GUEST), from(502, GUEST), from(530, "")), (None, None, Some(Sent::Never)));
        assert_eq!((of(502, None), of(504, None), of(522, None)), ([Some(Sent::Maybe); 3]).into());
        let direct = |status| fault(Way::Guest, status, &HeaderMap::new()).map(|it| it.sent);
        assert_eq!((direct(503), direct(530)), (None, Some(Sent::Never)));
        assert_eq!((of(500, None), of(200, None), of(101, Some("dial"))), (None, None, None));
    }
}
