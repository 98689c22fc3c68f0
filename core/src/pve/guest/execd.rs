//! Client of the daemon in the guest that runs commands: `POST /exec` answers
//! JSON lines `stdout`, `stderr`, `error`, and last `exit`.

use futures_util::Stream;
use http::{HeaderValue, Method, Request, header};
use serde_json::json;
use time::OffsetDateTime;

use super::probe::Probe;
use crate::{
    access::secret::Secret,
    io::Io,
    sandbox::{
        channel::Channel,
        command::{self, ExecError, ExecRequest, Lines, Opened, Output, collect_output},
        place::Place,
    },
};

/// Answers that are not output are read up to this.
const SMALL: usize = 64 << 10;

/// Sends a command, once.
pub async fn open<I: Io>(
    io: &I,
    request: Request<Vec<u8>>,
    deadline: OffsetDateTime,
) -> Result<Opened<impl Stream<Item = Output> + Unpin + use<I>>, ExecError> {
    command::send_command(io, request, deadline, "json", Lines::default()).await
}

/// Whether the daemon refuses a wrong token and takes ours. `/healthz` would
/// prove nothing: it needs no token, and a daemon without one lets everyone in.
/// `first` is run with our token alone. Each request ends at `deadline`, and `spend` takes each of the two requests from what the platform allows.
pub async fn probe<I: Io>(
    io: &I,
    place: &Place,
    (token, first): (&Secret, &ExecRequest),
    wrong: &Secret,
    deadline: impl Fn() -> OffsetDateTime,
    spend: impl Fn() -> bool,
) -> Probe {
    let nothing = ExecRequest::nothing();
    let ask = async |token, run: &ExecRequest| match open(io, request(run, place, token), deadline()).await {
        Ok(opened) => collect_output(opened, SMALL).await.map(|outcome| outcome.exit_code == 0),
        Err(error) => Err(error),
    };
    let unasked = || Probe::NotYet("the platform allows no more requests to ask it".into());
    if !spend() {
        return unasked();
    }
    match ask(wrong, &nothing).await {
        Ok(_) => return Probe::Open,
        Err(ExecError::Unauthorized) => {}
        Err(error) => return Probe::NotYet(error.to_string()),
    }
    if !spend() {
        return unasked();
    }
    match ask(token, first).await {
        Ok(true) => Probe::Ready(Channel::Execd),
        Ok(false) => Probe::Unable,
        Err(ExecError::Unauthorized) => Probe::WrongToken,
        Err(error) => Probe::NotYet(error.to_string()),
    }
}

fn post(place: &Place, token: &Secret, body: Vec<u8>) -> Request<Vec<u8>> {
    let mut request = place.request("/exec", &Request::new(()));
    *request.method_mut() = Method::POST;
    let headers = request.headers_mut();
    if let Ok(mut bearer) = HeaderValue::from_str(&format!("Bearer {}", token.expose())) {
        bearer.set_sensitive(true);
        headers.insert(header::AUTHORIZATION, bearer);
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
    request.map(|()| body)
}

/// The request that runs a command.
pub fn request(command: &ExecRequest, place: &Place, token: &Secret) -> Request<Vec<u8>> {
    let body = json!({"command": command.script(None), "timeout_ms": command.timeout().as_millis() as u64});
    post(place, token, serde_json::to_vec(&body).unwrap_or_default())
}
