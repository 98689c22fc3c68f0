//! The operations of [`Provider`](crate::provider::Provider) about processes, which Morph has not: its one call runs a
//! command to its end.

use std::time::Duration;

use futures_util::stream::{Empty, empty};
use http::HeaderMap;
use pve_edge_guest_protocol::process::{Scope, Size};

use super::{Cloud, operations::sandbox};
use crate::{
    access::keys::Caller,
    error::Error,
    io::{Answer, Io},
    sandbox::{
        channel::Channel,
        process::{
            After, Encoding, Event, Metrics, OutputPage, Process, ProcessId, ProcessRequest, Processes, Stdin,
        },
        terminal::TerminalRequest,
    },
};

/// The refusal of an operation that needs a daemon of ours in the sandbox.
fn lacks<T>(id: &str, what: &str) -> Result<T, Error> {
    sandbox(id)?;
    Err(Channel::Morph.lacks(what))
}

impl<I: Io> Cloud<'_, I> {
    pub(crate) async fn start_process(
        &self,
        _caller: &Caller,
        id: &str,
        _request: &ProcessRequest,
        _key: Option<&str>,
    ) -> Result<Process, Error> {
        lacks(id, "a process in the background")
    }

    pub(crate) async fn list_processes(
        &self,
        _caller: &Caller,
        id: &str,
        _tag: Option<&str>,
    ) -> Result<Processes, Error> {
        lacks(id, "a process in the background")
    }

    pub(crate) async fn get_process(
        &self,
        _caller: &Caller,
        id: &str,
        _process: ProcessId,
    ) -> Result<Process, Error> {
        lacks(id, "a process in the background")
    }

    pub(crate) async fn remove_process(
        &self,
        _caller: &Caller,
        id: &str,
        _process: ProcessId,
    ) -> Result<(), Error> {
        lacks(id, "a process in the background")
    }

    pub(crate) async fn read_output(
        &self,
        _caller: &Caller,
        id: &str,
        _process: ProcessId,
        _from: (&After, Encoding),
        _wait: Duration,
    ) -> Result<OutputPage, Error> {
        lacks(id, "a process in the background")
    }

    pub(crate) async fn write_stdin(
        &self,
        _caller: &Caller,
        id: &str,
        _process: ProcessId,
        _place: (u64, bool),
        _bytes: &[u8],
    ) -> Result<Stdin, Error> {
        lacks(id, "a process in the background")
    }

    pub(crate) async fn signal_process(
        &self,
        _caller: &Caller,
        id: &str,
        _process: ProcessId,
        _to_send: (String, Scope),
    ) -> Result<Process, Error> {
        lacks(id, "a process in the background")
    }

    pub(crate) async fn resize_process(
        &self,
        _caller: &Caller,
        id: &str,
        _process: ProcessId,
        _size: Size,
    ) -> Result<Process, Error> {
        lacks(id, "a process in the background")
    }

    pub(crate) async fn open_terminal(
        &self,
        _caller: &Caller,
        id: &str,
        _request: &TerminalRequest,
        _opening: &HeaderMap,
    ) -> Result<Answer<I::Body>, Error> {
        lacks(id, "a terminal")
    }

    pub(crate) async fn metrics(&self, _caller: &Caller, id: &str) -> Result<Metrics, Error> {
        lacks(id, "figures")
    }

    pub(crate) async fn process_events(
        &self,
        _caller: &Caller,
        id: &str,
        _process: ProcessId,
        _from: (&After, Encoding),
    ) -> Result<Empty<Result<Vec<Event>, Error>>, Error> {
        lacks(id, "a process in the background").map(|()| empty())
    }
}
