//! The PVE cluster that one request works with.

use std::ops::Deref;

use serde::de::DeserializeOwned;

use super::{
    api::{self, Pve, PveError, guest::Guest},
    marks::Mark,
};
use crate::{
    io::{Io, call::Call, invocation::Invocation},
    sandbox::{
        id::Kind,
        nonce::{Nonce, Origin},
        vmid::Vmid,
    },
    settings::Settings,
};

/// An invocation, and the PVE that it is about.
pub struct Cluster<'a, I> {
    invocation: Invocation<I>,
    /// The deployment's settings.
    pub settings: &'a Settings,
    /// PVE.
    pub pve: &'a Pve,
}

impl<'a, I> Deref for Cluster<'a, I> {
    type Target = Invocation<I>;

    fn deref(&self) -> &Self::Target {
        &self.invocation
    }
}

impl<'a, I: Io> Cluster<'a, I> {
    /// For one request.
    pub fn new(invocation: Invocation<I>, settings: &'a Settings, pve: &'a Pve) -> Self {
        Self { invocation, settings, pve }
    }

    /// The nonce that this request gives to the guest `vmid`.
    pub fn nonce(&self, kind: Kind, vmid: Vmid) -> Nonce {
        let Settings { secrets, deployment, .. } = self.settings;
        Origin::of(self).nonce(secrets.newest(), deployment, kind, vmid)
    }

    /// The calls of PVE's API about the guest that a mark names, on this node.
    pub fn guest<'b>(&self, node: &'b str, mark: &Mark) -> Guest<'b>
    where
        'a: 'b,
    {
        self.pve.guest(node, mark.kind, mark.vmid)
    }

    /// Sends one call. A read that was not answered is sent once more; a write never is (rule S10.1).
    pub async fn send<T: DeserializeOwned>(&self, call: Call<T>) -> Result<T, PveError> {
        api::send(self, call).await
    }
}
