//! A request on its way: it goes on when its caller is gone.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::Waker,
};

use super::{Due, Fault, Inner, Moment, Seen, transcript};
use crate::sim::{
    Blocked, Reply,
    execd::{PORT, Piece, Streamed},
};
use http::{HeaderMap, Request};
use pve_edge_core::io::{Failure, NetError, Sent};
use time::OffsetDateTime;

/// How long a kernel tries to connect before it gives up.
const CONNECT: time::Duration = time::Duration::seconds(120);

/// Answers for a host that is neither PVE nor a guest.
pub(crate) type Route = Rc<dyn Fn(&Request<Vec<u8>>, OffsetDateTime) -> Result<Streamed, NetError>>;

/// A request and, later, its answer.
pub(crate) struct Flight {
    pub(crate) request: Request<Vec<u8>>,
    pub(crate) seen: Seen,
    fault: RefCell<Option<Fault>>,
    task: Option<usize>,
    arrived: Cell<Option<OffsetDateTime>>,
    answer: RefCell<Option<Result<Landed, NetError>>>,
    landed: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

/// An answer before it is a stream.
pub(crate) struct Landed {
    pub(crate) status: u16,
    pub(crate) reason: String,
    pub(crate) headers: HeaderMap,
    pub(crate) pieces: Vec<Piece>,
}

/// Sends a request; [`deliver`] comes after it has travelled.
pub(crate) fn send(inner: &Rc<RefCell<Inner>>, request: Request<Vec<u8>>, name: &str) -> Rc<Flight> {
    let mut inner = inner.borrow_mut();
    let seen = inner.see(&request, name);
    let fault = inner.fault_of(&seen);
    let task = inner.current;
    if fault == Some(Fault::Dies) {
        inner.note(&seen, "! the operation dies");
        inner.killed.extend(task);
    }
    let flight = Rc::new(Flight {
        request,
        seen,
        fault: RefCell::new(fault),
        task,
        arrived: Cell::new(None),
        answer: RefCell::new(None),
        landed: Cell::new(false),
        waker: RefCell::new(None),
    });
    let at = inner.sim.now() + inner.trip();
    inner.due(at, Due::Deliver(flight.clone()));
    flight
}

/// The request arrives, or what its fault says happens.
pub(crate) fn deliver(inner: &Rc<RefCell<Inner>>, flight: &Rc<Flight>) {
    let inner = &mut *inner.borrow_mut();
    let now = inner.sim.now();
    // Only the first time: a request that waited for a lock comes here again.
    let fault = if flight.arrived.get().is_none() { flight.fault.borrow().clone() } else { None };
    match fault {
        Some(Fault::Dies) => {}
        Some(Fault::NeverSent) => {
            inner.log_request(&flight.seen);
            inner.note(&flight.seen, "! never sent");
            flight.lands(inner, Err(never("injected")));
        }
        Some(Fault::Refused(status, message)) => {
            inner.log_request(&flight.seen);
            let host = flight.request.uri().host().unwrap_or_default();
            if inner.routes.iter().any(|(known, _)| known == host) {
                let streamed = Streamed::json(status, &serde_json::json!({"detail": message}));
                inner.log_stream(&flight.seen, &streamed);
                return flight.lands(inner, Ok(streamed.into()));
            }
            let reply = inner.sim.refusal(&flight.request, status, &message);
            inner.log_reply(&flight.seen, &reply);
            flight.lands(inner, Ok(reply.into()));
        }
        Some(Fault::Page(status)) => {
            inner.log_request(&flight.seen);
            inner.note(&flight.seen, &format!("! a proxy answers {status}"));
            flight.lands(inner, Ok(Reply::page(status).into()));
        }
        Some(Fault::Slow(wait)) => {
            flight.fault.take();
            inner.due(now + wait, Due::Deliver(flight.clone()));
        }
        Some(Fault::Late(wait)) => {
            flight.fault.replace(Some(Fault::Silent));
            inner.note(
                &flight.seen,
                &format!("! executed only {}s later: {}", wait.as_secs(), flight.seen.path),
            );
            flight.lands(inner, Err(cut()));
            inner.due(now + wait, Due::Deliver(flight.clone()));
        }
        _ => execute(inner, flight),
    }
}

impl Flight {
    /// The answer, when it is there.
    pub(crate) fn poll(&self, waker: &Waker) -> Option<Result<Landed, NetError>> {
        if self.landed.get() {
            return self.answer.take();
        }
        self.waker.replace(Some(waker.clone()));
        None
    }

    /// The answer's way is over.
    pub(crate) fn arrive(&self) {
        self.landed.set(true);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    fn lands(self: &Rc<Self>, inner: &mut Inner, answer: Result<Landed, NetError>) {
        self.answer.replace(Some(answer));
        let at = inner.sim.now() + inner.trip();
        inner.due(at, Due::Arrive(self.clone()));
    }
}

fn execute(inner: &mut Inner, flight: &Rc<Flight>) {
    let seen = &flight.seen;
    let arrived = flight.arrived.get().unwrap_or(inner.sim.now());
    if flight.arrived.replace(Some(arrived)).is_none() {
        inner.call_hook(Moment::Before, seen);
        inner.log_request(seen);
    }
    let answer = match answer(inner, flight, arrived) {
        Ok(answer) => answer,
        Err(Blocked { until }) => {
            inner.due(until, Due::Deliver(flight.clone()));
            return;
        }
    };
    inner.call_hook(Moment::After, seen);
    let fault = flight.fault.borrow().clone();
    match (fault, answer) {
        (Some(Fault::Unanswered), _) => {
            inner.note(seen, "! unanswered");
            flight.lands(inner, Err(cut()));
        }
        (Some(Fault::DiesAfter), _) => {
            inner.note(seen, "! the operation dies");
            inner.killed.extend(flight.task);
        }
        (Some(Fault::Silent), _) => {}
        (fault, Ok((mut landed, delay))) => {
            if let Some(Fault::CutBody(pieces)) = fault {
                landed.pieces.truncate(pieces);
                landed.pieces.push(Piece::Cut);
            }
            flight.answer.replace(Some(Ok(landed)));
            let at = inner.sim.now() + delay + inner.trip();
            inner.due(at, Due::Arrive(flight.clone()));
        }
        (_, Err(error)) => {
            inner.note(seen, &format!("! {}", error.detail));
            flight.lands(inner, Err(error));
        }
    }
}

type Executed = Result<(Landed, time::Duration), NetError>;

/// By the host: the PVE API, a registered route, or a guest's daemon.
fn answer(inner: &mut Inner, flight: &Flight, arrived: OffsetDateTime) -> Result<Executed, Blocked> {
    let uri = flight.request.uri();
    let host = uri.host().unwrap_or("").to_owned();
    if flight.seen.host == super::API.trim_start_matches("https://") || host == "pve.test" {
        let reply = inner.sim.answer(&flight.request, arrived)?;
        inner.log_reply(&flight.seen, &reply);
        let delay = reply.delay;
        return Ok(Ok((reply.into(), delay)));
    }
    let route = inner.routes.iter().find(|(known, _)| *known == host).map(|(_, route)| route.clone());
    if let Some(route) = route {
        let answer = route(&flight.request, inner.sim.now());
        if let Ok(streamed) = &answer {
            inner.log_stream(&flight.seen, streamed);
        }
        return Ok(answer.map(|streamed| (streamed.into(), time::Duration::ZERO)));
    }
    if host.starts_with("gate.") {
        return proxy(inner, flight);
    }
    let public = host.starts_with("port-");
    let vmid = inner.sim.guest_of_host(&host).filter(|_| public || uri.port_u16() == Some(PORT));
    let is_address = host.parse::<std::net::Ipv4Addr>().is_ok();
    let Some(streamed) = vmid.and_then(|vmid| inner.sim.exec(vmid, &flight.request)) else {
        if vmid.is_some() || is_address {
            return not_connected(inner, arrived);
        }
        return Ok(Err(NetError { failure: Failure::Dns, ..never("no such host") }));
    };
    inner.log_stream(&flight.seen, &streamed);
    Ok(Ok((streamed.into(), time::Duration::ZERO)))
}

/// The proxy beside PVE, which takes the guest out of its headers: its daemon for the deployment's own calls, else a route
/// of the name `{guest}:{port}`.
fn proxy(inner: &mut Inner, flight: &Flight) -> Result<Executed, Blocked> {
    let header =
        |name| flight.request.headers().get(name).and_then(|it| it.to_str().ok()).unwrap_or_default();
    let faulty = |status: u16, fault: &'static str| {
        let headers = [("x-edge-fault".parse().expect("a name"), fault.parse().expect("a value"))]
            .into_iter()
            .collect();
        let told = Streamed { status, headers, pieces: Vec::new() };
        Ok(Ok((told.into(), time::Duration::ZERO)))
    };
    let Some((guest, port)) = header("x-edge-to").split_once(':') else { return faulty(404, "refused") };
    let is_own = header("x-edge-client") == "edge" && port == PORT.to_string();
    if header("x-edge-key").len() != 64 || (!is_own && port == PORT.to_string()) {
        return faulty(404, "refused");
    }
    let vmid = inner.sim.guest_of_host(guest).or_else(|| guest.parse().ok());
    let is_running = |vmid: &u32| inner.sim.guest(*vmid).is_some_and(|guest| guest.run.is_some());
    let Some(vmid) = vmid.filter(is_running) else { return faulty(502, "dial") };
    let streamed = if is_own {
        inner.sim.exec(vmid, &flight.request)
    } else {
        let name = format!("{vmid}:{port}");
        let route =
            inner.routes.iter().rev().find(|(known, _)| *known == name).map(|(_, route)| route.clone());
        match route.map(|route| route(&flight.request, inner.sim.now())) {
            Some(Err(error)) => return Ok(Err(error)),
            answered => answered.and_then(Result::ok),
        }
    };
    let Some(mut streamed) = streamed else { return faulty(502, "dial") };
    streamed.headers.insert("x-edge-from", http::HeaderValue::from_static("guest"));
    inner.log_stream(&flight.seen, &streamed);
    Ok(Ok((streamed.into(), time::Duration::ZERO)))
}

/// Nobody listens there: refused, or asked again as a kernel does that hears nothing.
fn not_connected(inner: &Inner, arrived: OffsetDateTime) -> Result<Executed, Blocked> {
    let waited = inner.sim.now() - arrived;
    match inner.sim.setup().connect_every.filter(|_| waited < CONNECT) {
        Some(every) => {
            let tries = waited.whole_milliseconds() / every.whole_milliseconds().max(1);
            Err(Blocked { until: arrived + every * (tries as i32 + 1) })
        }
        None => Ok(Err(never("connection refused"))),
    }
}

impl Inner {
    fn see(&mut self, request: &Request<Vec<u8>>, name: &str) -> Seen {
        let uri = request.uri();
        let nth = self.seen.iter().filter(|seen| seen.name == name).count();
        let seen = Seen {
            index: self.seen.len(),
            nth,
            name: name.into(),
            method: request.method().to_string(),
            host: uri.authority().map(ToString::to_string).unwrap_or_default(),
            path: uri.path_and_query().map(ToString::to_string).unwrap_or_default(),
            body: transcript::readable(request),
            way: request.extensions().get().copied(),
        };
        self.seen.push(seen.clone());
        seen
    }
}

impl From<Streamed> for Landed {
    fn from(Streamed { status, headers, pieces }: Streamed) -> Self {
        Self { status, reason: String::new(), headers, pieces }
    }
}

impl From<Reply> for Landed {
    fn from(reply: Reply) -> Self {
        let Reply { status, reason, headers, body, .. } = reply;
        Self { status, reason, headers, pieces: vec![Piece::Bytes(body)] }
    }
}

fn never(detail: &str) -> NetError {
    NetError { sent: Sent::Never, failure: Failure::Connect, detail: detail.into() }
}

fn cut() -> NetError {
    NetError { sent: Sent::Maybe, failure: Failure::Cut, detail: "the answer was lost".into() }
}
