//! HTTP in, HTTP out: what both adapters call.

use futures_util::{Stream, stream};

use crate::io::{Io, NetError, Platform};

/// Largest request body that is read; an adapter that has seen more stops
/// reading and answers [`too_large`].
pub const MAX_BODY: usize = 1 << 20;

/// The body of an answer: whole, or a stream of server-sent events.
#[derive(Debug)]
pub enum Body<S> {
    /// All of it.
    Whole(Vec<u8>),
    /// As it comes; an error means that it was cut.
    Stream(S),
}

/// Settings, as text pairs, all of them: nothing that is set is taken as unset.
pub type Pairs = Vec<(String, String)>;

/// What a deployment keeps between requests: settings, or why there are none.
#[derive(Clone, Debug)]
pub struct Service {
    _todo: (),
}

impl Service {
    /// Reads the settings. It never fails: neither platform can refuse to
    /// start, so while settings are wrong every request is answered with 503
    /// `misconfigured`; [`Service::misconfigured`] tells a program that can.
    pub fn new(_settings: &[(String, String)], _platform: Platform) -> Self {
        Self { _todo: () }
    }

    /// What is wrong with the settings, a line each, never their values.
    pub fn misconfigured(&self) -> &[String] {
        &[]
    }
}

/// Answers one request. `seed` is 32 fresh random bytes.
pub async fn handle<I: Io>(
    _io: I,
    _service: &Service,
    _platform: Platform,
    _seed: [u8; 32],
    _request: http::Request<Vec<u8>>,
) -> http::Response<Body<impl Stream<Item = Result<Vec<u8>, NetError>> + Unpin + use<I>>> {
    http::Response::new(Body::<stream::Empty<Result<Vec<u8>, NetError>>>::Whole(Vec::new()))
}

/// The answer to a request whose body is larger than [`MAX_BODY`].
pub fn too_large() -> http::Response<Vec<u8>> {
    http::Response::new(Vec::new())
}

/// What the platform's schedule calls; the returned text is for the log.
pub async fn scheduled<I: Io>(_io: I, _service: &Service, _platform: Platform, _seed: [u8; 32]) -> String {
    String::new()
}
