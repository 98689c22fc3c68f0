//! The daemon in the root, by signed calls of the edge's own client.

use std::{net::Ipv4Addr, time::Duration};

use http::Request;
use pve_edge_bed::serve::Api;
use pve_edge_core::{
    access::secret::Keyring,
    daemon::Daemon,
    io::{Io, RequestBody, Way, collect, fetch, invocation::Invocation},
    sandbox::place::Place,
};
use pve_edge_guest_protocol::{
    Unique,
    answer::Hello,
    call::Operation,
    file::{Entry, Placing, Read, Write},
    identity::HardwareAddress,
    process::{After, Event, Exit, Follow, Line, Named, Process, Spec, Start, State},
};
use pve_edge_lambda::{
    http::seed,
    net::{Net, Transport},
};
use serde::de::DeserializeOwned;

use super::{Check, PORT, root::Root, root::ip, served::SECRET};

/// Sandbox that the root is, of every deployment here.
pub(crate) const SANDBOX: &str = "pvelxc-200000-abtwk2lnkrifgvbzq5c2n7ye";
/// Longer than any call may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// The daemon, as one deployment calls it.
pub(crate) struct Guest {
    deployment: String,
    net: Net,
}

impl Guest {
    /// The daemon of the sandbox whose network card this adds.
    pub(crate) fn new(deployment: &str) -> Result<Self, String> {
        let address = HardwareAddress::of(deployment, SANDBOX).to_string();
        let card = format!("eth-{deployment}");
        if !std::path::Path::new("/sys/class/net").join(&card).exists() {
            ip(&[
                "link",
                "add",
                &card,
                "address",
                &address,
                "type",
                "veth",
                "peer",
                "name",
                &format!("to-{deployment}"),
            ])?;
        }
        let net = Transport::new(true).map_err(|error| error.to_string())?.net();
        Ok(Self { deployment: deployment.to_owned(), net: net.map_err(|error| error.to_string())? })
    }

    /// It answers a signed call, and refuses one that is not.
    pub(crate) async fn hello(&self) -> Check {
        let hello: Hello = self.ask(Operation::Hello {}, b"").await?;
        if !hello.keys.contains(&format!("{} ", self.deployment)) {
            return Err(format!("the file of keys lacks {}: {:?}", self.deployment, hello.keys));
        }
        let unsigned = Request::post(format!("http://127.0.0.1:{PORT}/v1/hello"));
        let unsigned = unsigned.extension(Way::Guest).body(Vec::new()).map_err(|error| error.to_string())?;
        let answer = fetch(&self.net, unsigned, self.net.now() + PATIENCE, 1 << 20).await;
        match answer.map_err(|error| error.to_string())?.status {
            401 => Ok(()),
            status => Err(format!("a call that nobody has signed is answered with {status}")),
        }
    }

    /// Output is exact, and so is the exit code.
    pub(crate) async fn runs_commands(&self) -> Check {
        let process = self.start("printf 'a\\0b\\377\\n'; cd /etc && pwd >&2; exit 7").await?;
        let follow = Follow { process, after: After::Start, wait_ms: None, most: None };
        let text = self.bytes(Operation::Follow(follow)).await?;
        let (mut written, mut exit) = (Vec::new(), None);
        for line in text.split(|it| *it == b'\n').filter(|it| !it.is_empty()) {
            let line: Line = serde_json::from_slice(line).map_err(|error| error.to_string())?;
            match line.event {
                Event::Out { data, .. } => written.extend(data.0),
                Event::Exit(Exit { exit_code, .. }) => exit = Some(exit_code),
                _ => {}
            }
        }
        written.sort_unstable();
        let mut expected = b"a\0b\xff\n/etc\n".to_vec();
        expected.sort_unstable();
        match (written == expected, exit) {
            (true, Some(7)) => Ok(()),
            (_, exit) => Err(format!("the command's output and exit are {written:?}, {exit:?}")),
        }
    }

    /// A file goes in and comes out again.
    pub(crate) async fn moves_files(&self, root: &Root) -> Check {
        let content: Vec<u8> = (0..=255).cycle().take(300_000).collect();
        let path = "/root/file".to_owned();
        let placing = Placing { mode: Some(0o640), ..Placing::default() };
        let write = Write { path: path.clone(), user: None, mkdirs: true, placing };
        let entry: Entry = self.ask(Operation::Write(write), &content).await?;
        let read = Read { path, user: None, range: None, if_match: None };
        let again = self.bytes(Operation::Read(read)).await?;
        let on_disk = std::fs::read(root.path("root/file")).map_err(|error| error.to_string())?;
        std::fs::remove_file(root.path("root/file")).map_err(|error| error.to_string())?;
        match (entry.size, entry.mode & 0o777, again == content, on_disk == content) {
            (300_000, 0o640, true, true) => Ok(()),
            told => Err(format!("the file is {told:?}")),
        }
    }

    /// Starts a command.
    pub(crate) async fn start(&self, command: &str) -> Result<Unique, String> {
        let process = Unique(seed()[..16].try_into().map_err(|_| "a seed is too short")?);
        let spec = Spec { command: Some(command.to_owned()), ..Spec::default() };
        let spec = serde_json::to_vec(&spec).map_err(|error| error.to_string())?;
        let _: Process = self.ask(Operation::Start(Start { process, keyed: None }), &spec).await?;
        Ok(process)
    }

    /// Number of a process that runs.
    pub(crate) async fn pid(&self, process: Unique) -> Result<u32, String> {
        let told: Process = self.ask(Operation::Process(Named { process }), b"").await?;
        told.pid.filter(|_| told.state == State::Running).ok_or(format!("it does not run: {told:?}"))
    }

    /// The guest's boot.
    pub(crate) async fn boot(&self) -> Result<Unique, String> {
        let hello: Hello = self.ask(Operation::Hello {}, b"").await?;
        Ok(hello.boot)
    }

    async fn ask<T: DeserializeOwned>(&self, operation: Operation, body: &[u8]) -> Result<T, String> {
        let invocation = self.invocation();
        let asked = self.daemon(&invocation)?.ask(&operation, body, self.net.now() + PATIENCE).await;
        asked.map_err(|error| format!("{}: {error:?}", operation.name()))
    }

    async fn bytes(&self, operation: Operation) -> Result<Vec<u8>, String> {
        let invocation = self.invocation();
        let asked = self.daemon(&invocation)?.open(&operation, b"", self.net.now() + PATIENCE).await;
        let answer = asked.map_err(|error| format!("{}: {error:?}", operation.name()))?;
        collect(answer.body, 16 << 20).await.map_err(|error| error.to_string())
    }

    fn invocation(&self) -> Invocation<Net> {
        Invocation::new(self.net.clone(), "guest", Api::PLATFORM, seed())
    }

    fn daemon<'i>(&self, invocation: &'i Invocation<Net>) -> Result<Daemon<'i, Net>, String> {
        let place = Place::direct(Ipv4Addr::LOCALHOST, PORT);
        let secrets = Keyring::parse(SECRET)?;
        Ok(Daemon::new(invocation, vec![place], SANDBOX.to_owned(), &secrets, &self.deployment))
    }
}

/// All bytes at a URL.
pub(crate) async fn fetched(net: &Net, url: &str) -> Result<Vec<u8>, String> {
    let request = Request::get(url).extension(Way::Public).body(RequestBody::Whole(Vec::new()));
    let request = request.map_err(|error| error.to_string())?;
    let answer = net.open(request, net.now() + PATIENCE).await.map_err(|error| error.to_string())?;
    match answer.status {
        200 => collect(answer.body, 16 << 20).await.map_err(|error| error.to_string()),
        status => Err(format!("{url}: {status}")),
    }
}
