//! A sandbox whose daemon runs processes, and what a client has heard of one.

use std::cell::RefMut;

use base64::{Engine, engine::general_purpose::STANDARD};
use pve_edge_bed::sim::{daemon::Ran, execd::ExecLine};
use pve_edge_guest_protocol::process::Stream;

use crate::stage::{SECRET, prelude::*};

/// A sandbox with our own daemon.
pub(super) struct Sandbox {
    pub(super) stage: Stage,
    pub(super) id: String,
}

/// An event of a stream.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Event {
    pub(super) name: String,
    pub(super) id: Option<String>,
    pub(super) data: Value,
}

/// A pause in what a process does.
pub(super) fn pause(seconds: u64) -> ExecLine {
    ExecLine::Wait(std::time::Duration::from_secs(seconds))
}

impl Sandbox {
    /// Its processes do nothing, and end after an hour.
    pub(super) fn new() -> Self {
        Self::with(Kind::Lxc, vec![pause(3600), ExecLine::Exit(0)])
    }

    /// Its processes do this.
    pub(super) fn with(kind: Kind, lines: Vec<ExecLine>) -> Self {
        let stage = Stage::with_daemon(kind, Setup::default(), SECRET);
        stage.world.sim_mut().set_runner(move |_, _| lines.clone());
        let id = stage.created(json!({"ttlSeconds": 86_400}));
        Self { stage, id }
    }

    pub(super) fn vmid(&self) -> u32 {
        vmid_of(&self.id)
    }

    pub(super) fn path(&self, rest: &str) -> String {
        format!("/api/sandboxes/{}/processes{rest}", self.id)
    }

    pub(super) fn start(&self, body: Value) -> Answer {
        self.stage.ask(Ask::post(self.path(""), body))
    }

    pub(super) fn start_keyed(&self, key: &str, body: Value) -> Answer {
        self.stage.ask(Ask::post(self.path(""), body).header("idempotency-key", key))
    }

    /// The name of a process that runs.
    pub(super) fn started(&self, body: Value) -> String {
        let answer = self.start(body);
        assert_eq!(answer.shows(), "201 running", "{answer:?}\n{}", self.stage.told());
        name(&answer)
    }

    /// Asks about a process: its name, and what follows in the path.
    pub(super) fn get(&self, rest: &str) -> Answer {
        self.stage.ask(Ask::get(self.path(&format!("/{rest}"))))
    }

    pub(super) fn post(&self, rest: &str, body: Value) -> Answer {
        self.stage.ask(Ask::post(self.path(&format!("/{rest}")), body))
    }

    pub(super) fn delete(&self, process: &str) -> Answer {
        self.stage.ask(Ask::delete(self.path(&format!("/{process}"))))
    }

    pub(super) fn stdin(&self, process: &str, query: &str, bytes: &[u8]) -> Answer {
        self.stage.ask(Ask::post(self.path(&format!("/{process}/stdin?{query}")), json!({})).bytes(bytes))
    }

    /// The events of a process's output.
    pub(super) fn events(&self, rest: &str) -> Vec<Event> {
        events(
            &self.stage.ask(Ask::get(self.path(&format!("/{rest}"))).header("accept", "text/event-stream")),
        )
    }

    pub(super) fn exec(&self, body: Value) -> Answer {
        self.stage.act(&self.id, "exec", body)
    }

    /// The process that was started last, as it is in the guest.
    pub(super) fn process(&self) -> RefMut<'_, Ran> {
        let vmid = self.vmid();
        RefMut::map(self.stage.world.sim_mut(), |sim| sim.process_mut(vmid).expect("one was started"))
    }

    pub(super) fn writes(&self, stream: Stream, bytes: &[u8]) {
        let now = self.stage.world.now();
        self.process().writes(now, stream, bytes);
    }

    /// Ends it well; what is to come is told now.
    pub(super) fn ends(&self) {
        let now = self.stage.world.now();
        self.process().ends(now, Some(Default::default()));
    }

    /// How often anything was run.
    pub(super) fn runs(&self) -> u32 {
        let sim = self.stage.world.sim();
        sim.executions().iter().filter(|it| it.0.0 == self.vmid()).map(|it| it.1).sum()
    }

    /// How often the daemon was asked to do this.
    pub(super) fn asked(&self, operation: &str) -> usize {
        let path = format!("/v1/{operation}");
        self.stage.world.requests().iter().filter(|it| it.path == path).count()
    }

    /// The guest is switched off and on at once.
    pub(super) fn restarts(&self) {
        let mut sim = self.stage.world.sim_mut();
        sim.set_running(self.vmid(), false);
        sim.set_running(self.vmid(), true);
        drop(sim);
        self.stage.world.advance(Duration::seconds(1));
    }
}

/// The name of the process that an answer tells of.
pub(super) fn name(answer: &Answer) -> String {
    answer.json()["process"].as_str().unwrap_or_else(|| panic!("no process in {answer:?}")).to_owned()
}

/// The events of an answer that streams.
pub(super) fn events(answer: &Answer) -> Vec<Event> {
    assert_eq!((answer.status, answer.header("content-type")), (200, "text/event-stream"), "{answer:?}");
    let parse = |text: &str| {
        let field = |name: &str| text.lines().find_map(|it| it.strip_prefix(name)).map(str::to_owned);
        let data = serde_json::from_str(&field("data: ")?).expect("JSON");
        Some(Event { name: field("event: ").expect("a name"), id: field("id: "), data })
    };
    answer.body.split("\n\n").filter_map(parse).collect()
}

/// The events of a page of output.
pub(super) fn of_page(page: &Value) -> Vec<Event> {
    let items = page["events"].as_array().unwrap_or_else(|| panic!("no events in {page}"));
    let event = |it: &Value| Event {
        name: it["event"].as_str().expect("a name").to_owned(),
        id: it["cursor"].as_str().map(str::to_owned),
        data: it.clone(),
    };
    items.iter().map(event).collect()
}

pub(super) fn names(events: &[Event]) -> Vec<&str> {
    events.iter().map(|it| &*it.name).collect()
}

/// All that was told of standard output and of errors.
pub(super) fn output(events: &[Event], is_base64: bool) -> [Vec<u8>; 2] {
    ["stdout", "stderr"].map(|stream| {
        let data = events.iter().filter(|it| it.name == stream).map(|it| it.data["data"].as_str());
        let bytes = data.map(|it| {
            let text = it.expect("output has data");
            if is_base64 { STANDARD.decode(text).expect("base64") } else { text.as_bytes().to_vec() }
        });
        bytes.flatten().collect()
    })
}
