//! The operations of [`Provider`](crate::provider::Provider) about processes, on a PVE cluster.

use std::time::Duration;

use futures_util::Stream;
use http::HeaderMap;
use pve_edge_guest_protocol::process::{Scope, Size};

use super::{create, events, get, list, metrics, output, remove, resize, signal, terminal, write_stdin};
use crate::{
    access::keys::Caller,
    error::Error,
    io::{Answer, Io},
    pve::cluster::Cluster,
    sandbox::{
        process::{
            After, Encoding, Event, Metrics, OutputPage, Process, ProcessId, ProcessRequest, Processes, Stdin,
        },
        terminal::TerminalRequest,
    },
};

impl<I: Io> Cluster<'_, I> {
    pub(crate) async fn start_process(
        &self,
        caller: &Caller,
        id: &str,
        request: &ProcessRequest,
        key: Option<&str>,
    ) -> Result<Process, Error> {
        create(self, caller, &self.sandbox(id)?, request, key).await
    }

    pub(crate) async fn list_processes(
        &self,
        caller: &Caller,
        id: &str,
        tag: Option<&str>,
    ) -> Result<Processes, Error> {
        list(self, caller, &self.sandbox(id)?, tag).await
    }

    pub(crate) async fn get_process(
        &self,
        caller: &Caller,
        id: &str,
        process: ProcessId,
    ) -> Result<Process, Error> {
        get(self, caller, &self.sandbox(id)?, process).await
    }

    pub(crate) async fn remove_process(
        &self,
        caller: &Caller,
        id: &str,
        process: ProcessId,
    ) -> Result<(), Error> {
        remove(self, caller, &self.sandbox(id)?, process).await
    }

    pub(crate) async fn read_output(
        &self,
        caller: &Caller,
        id: &str,
        process: ProcessId,
        from: (&After, Encoding),
        wait: Duration,
    ) -> Result<OutputPage, Error> {
        output(self, caller, &self.sandbox(id)?, process, from, wait).await
    }

    pub(crate) async fn write_stdin(
        &self,
        caller: &Caller,
        id: &str,
        process: ProcessId,
        place: (u64, bool),
        bytes: &[u8],
    ) -> Result<Stdin, Error> {
        write_stdin(self, caller, &self.sandbox(id)?, process, place, bytes).await
    }

    pub(crate) async fn signal_process(
        &self,
        caller: &Caller,
        id: &str,
        process: ProcessId,
        to_send: (String, Scope),
    ) -> Result<Process, Error> {
        signal(self, caller, &self.sandbox(id)?, process, to_send).await
    }

    pub(crate) async fn resize_process(
        &self,
        caller: &Caller,
        id: &str,
        process: ProcessId,
        size: Size,
    ) -> Result<Process, Error> {
        resize(self, caller, &self.sandbox(id)?, process, size).await
    }

    pub(crate) async fn open_terminal(
        &self,
        caller: &Caller,
        id: &str,
        request: &TerminalRequest,
        opening: &HeaderMap,
    ) -> Result<Answer<I::Body>, Error> {
        terminal(self, caller, &self.sandbox(id)?, request, opening).await
    }

    pub(crate) async fn metrics(&self, caller: &Caller, id: &str) -> Result<Metrics, Error> {
        metrics(self, caller, &self.sandbox(id)?).await
    }

    pub(crate) async fn process_events(
        &self,
        caller: &Caller,
        id: &str,
        process: ProcessId,
        from: (&After, Encoding),
    ) -> Result<impl Stream<Item = Result<Vec<Event>, Error>> + Unpin + use<I>, Error> {
        events(self, caller, &self.sandbox(id)?, process, from).await
    }
}
