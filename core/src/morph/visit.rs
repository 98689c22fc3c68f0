//! The operations of [`Provider`](crate::provider::Provider) about services and their visitors, which Morph has not: it
//! gives each service a URL of its own.

use super::{Cloud, operations::sandbox};
use crate::{
    access::keys::Caller,
    error::{Code, Error},
    io::{Io, deadline::Deadline},
    sandbox::{
        id::SandboxId,
        service::{ServiceName, Services, Terms, Wish},
        visit::{Asked, Identity, Rest},
    },
};

fn lacks<T>() -> Result<T, Error> {
    let text = "Morph gives each service a URL of its own, which GET of the sandbox shows";
    Err(Error::new(Code::Unsupported, text))
}

impl<I: Io> Cloud<'_, I> {
    pub(crate) async fn put_service(
        &self,
        _caller: &Caller,
        id: &str,
        _name: &ServiceName,
        _wish: &Wish,
        _deadline: Deadline<'_, I>,
    ) -> Result<Terms, Error> {
        sandbox(id)?;
        lacks()
    }

    pub(crate) async fn remove_service(
        &self,
        _caller: &Caller,
        id: &str,
        _name: &ServiceName,
        _deadline: Deadline<'_, I>,
    ) -> Result<(), Error> {
        sandbox(id)?;
        lacks()
    }

    pub(crate) async fn services(&self, _caller: &Caller, id: &str) -> Result<(SandboxId, Services), Error> {
        sandbox(id)?;
        lacks()
    }

    pub(crate) async fn identify(&self, _asked: &Asked) -> Result<Identity, Error> {
        lacks()
    }

    pub(crate) async fn rest(&self, _id: &SandboxId) -> Result<Rest, Error> {
        lacks()
    }

    pub(crate) async fn wake(&self, _id: &SandboxId, _deadline: Deadline<'_, I>) -> Result<(), Error> {
        lacks()
    }

    pub(crate) async fn renew_visited(&self, _id: &SandboxId) -> Result<(), Error> {
        lacks()
    }
}
