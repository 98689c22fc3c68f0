//! The program of the daemon for guests, as a deployment hands it out, and the script that installs it.
//!
//! Programs and their manifest are files that are deployed with the adapter ([`Way::Assets`]); the script is made here.
//! Everything of it is public: who has it can neither sign nor read anything.

mod manifest;
mod script;

use http::Request;

pub(crate) use self::manifest::{Arch, Manifest, Program};
use crate::{
    error::{Code, Error},
    io::{Answer, Io, NetError, RequestBody, Sent, Way, collect, invocation::Invocation},
    settings::Settings,
};

/// Bytes up to which a file is read.
const LARGEST: usize = 8 << 20;

/// The script that installs a deployment's daemon; with a program `inside` it fetches nothing.
pub(crate) fn script(
    base: &str,
    settings: &Settings,
    manifest: &Manifest,
    inside: Option<(Arch, Vec<u8>)>,
) -> String {
    let deployment = settings.deployment.as_str();
    let keys = settings.secrets.all().map(|secret| secret.guest_key(deployment).line(deployment));
    script::script(base, deployment, keys, manifest, inside)
}

/// The manifest of the programs that were deployed with the adapter.
pub(crate) async fn manifest<I: Io>(world: &Invocation<I>) -> Result<Manifest, Error> {
    let file = file(world, manifest::PATH).await?;
    let bytes = collect(file.body, LARGEST).await.map_err(unread)?;
    Manifest::parse(&bytes).map_err(|why| Error::new(Code::Internal, why))
}

/// All bytes of a program, which are those that the manifest names.
pub(crate) async fn whole<I: Io>(
    world: &Invocation<I>,
    manifest: &Manifest,
    arch: Arch,
) -> Result<Vec<u8>, Error> {
    let file = file(world, &manifest.path(arch)).await?;
    let bytes = collect(file.body, LARGEST).await.map_err(unread)?;
    let is_it = manifest.program(arch).is(&bytes);
    is_it.then_some(bytes).ok_or_else(|| {
        Error::new(Code::Internal, "the program is another than the manifest's: build and deploy again")
    })
}

/// A file that was deployed with the adapter.
pub(crate) async fn file<I: Io>(world: &Invocation<I>, path: &str) -> Result<Answer<I::Body>, Error> {
    let request = Request::get(format!("http://assets{path}")).extension(Way::Assets);
    let request = request.body(RequestBody::Whole(Vec::new()));
    let request = request.map_err(|error| Error::new(Code::Internal, error.to_string()))?;
    if !world.spend(1) {
        return Err(Error::new(Code::BudgetExhausted, "the platform allows no more requests"));
    }
    match world.io.open(request, world.end()).await {
        Ok(answer) if answer.status == 200 => Ok(answer),
        Ok(Answer { status: 404, .. }) | Err(NetError { sent: Sent::Never, .. }) => Err(absent()),
        Ok(answer) => Err(Error::new(Code::Internal, format!("{path} is answered with {}", answer.status))),
        Err(error) => Err(unread(error)),
    }
}

fn absent() -> Error {
    let text = "this deployment was built without the daemon for guests: run guest/build, then build and deploy the \
        adapter again, as its README says";
    Error::new(Code::UnknownPath, text)
}

fn unread(error: NetError) -> Error {
    Error::new(Code::Internal, format!("a file of the deployment cannot be read: {error}"))
}
