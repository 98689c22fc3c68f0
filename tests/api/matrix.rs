//! Every request of every operation meets every fault; then the world
//! settles, the client asks again, and what must be true is looked at.

mod after;
mod before;
mod containers;
mod switched;
mod vms;

use expect_test::Expect;
use pve_edge_tests::{sim::Kind, world::Fault};

use self::{
    after::Scene,
    before::{Neighbours, crowded},
};
use crate::{
    stage::{Ask, Stage},
    truth::assert_honest,
};

/// What happens to the one request.
pub(crate) fn faults() -> Vec<Fault> {
    let late = std::time::Duration::from_secs(40);
    vec![
        Fault::Refused(500, "unexpected failure".into()),
        Fault::Refused(403, "Permission check failed (/vms/1, VM.Config.Options)".into()),
        Fault::Refused(596, String::new()),
        Fault::NeverSent,
        Fault::Unanswered,
        Fault::Silent,
        Fault::Late(late),
        Fault::CutBody(0),
        Fault::Dies,
        Fault::DiesAfter,
    ]
}

/// Runs an operation once as it is, which tells its requests, then once for
/// each request, each fault, and each of two moments of asking again.
fn run(
    kind: Kind,
    prepare: impl Fn(&Stage) -> String,
    operation: impl Fn(&str) -> Ask,
    reached: Expect,
    case: &dyn Fn(&Scene<'_>),
) {
    let (stage, _) = crowded(kind);
    let id = prepare(&stage);
    let before = stage.world.requests().len();
    let answer = stage.ask(operation(&id));
    assert!(answer.status < 300, "{answer:?}");
    let requests = stage.world.requests();
    let flow: Vec<String> = requests.iter().skip(before).map(|it| shape(&it.method, &it.path)).collect();
    reached.assert_eq(&flow.join("\n"));
    for (nth, step) in flow.iter().enumerate() {
        for fault in faults() {
            for at_once in [true, false] {
                let told = format!("request {nth} ({step}), {fault:?}, at once: {at_once}");
                let (stage, neighbours) = crowded(kind);
                one(
                    &stage,
                    &neighbours,
                    &prepare(&stage),
                    &operation,
                    (nth, fault.clone()),
                    at_once,
                    case,
                    &told,
                );
            }
        }
    }
}

#[expect(clippy::too_many_arguments, reason = "one case of a table")]
fn one(
    stage: &Stage,
    neighbours: &Neighbours,
    id: &str,
    operation: &impl Fn(&str) -> Ask,
    (nth, fault): (usize, Fault),
    at_once: bool,
    case: &dyn Fn(&Scene<'_>),
    told: &str,
) {
    stage.world.clear_transcript();
    let first = stage.world.requests().len();
    stage.world.fault_at(first + nth, fault.clone());
    let answer = stage.try_ask(operation(id));
    stage.world.clear_faults();
    if let Some(answer) = &answer {
        assert_honest(stage, answer);
    }
    if !at_once {
        stage.world.settle();
    }
    let scene = Scene { stage, neighbours, id, fault: &fault, first: answer.as_ref(), told };
    case(&scene);
    stage.world.settle();
    neighbours.assert_untouched(stage, told);
}

fn shape(method: &str, path: &str) -> String {
    let path = path.split('?').next().unwrap_or(path);
    let segments = path.trim_start_matches("/api2/").split('/').skip(1).map(|it| match it {
        it if it.starts_with("UPID") => "UPID",
        "9000" | "9100" => "TEMPLATE",
        it if it.parse::<u32>().is_ok() => "VMID",
        it => it,
    });
    format!("{method} {}", segments.collect::<Vec<_>>().join("/"))
}

const CREATE: &str = "k1";

fn create_with_a_key(kind: Kind, reached: Expect) {
    run(kind, |_| String::new(), |_| Ask::create_keyed(CREATE), reached, &after::created_with_a_key);
}

fn create_on_another_node(kind: Kind, reached: Expect) {
    run(kind, before::shared, |_| Ask::create_keyed(CREATE), reached, &after::created_with_a_key);
}

fn create_without_a_key(kind: Kind, reached: Expect) {
    run(kind, |_| String::new(), |_| Ask::create(), reached, &after::created_without_a_key);
}

fn get_of_a_half_made_one(kind: Kind, reached: Expect) {
    let operation = |id: &str| Ask::one(id).header("prefer", "wait=20");
    run(kind, before::half_made, operation, reached, &after::polled);
}

fn patch(kind: Kind, young: Expect, old: Expect) {
    let body = serde_json::json!({"metadata": {"pr": "7"}});
    let operation = |id: &str| Ask::patch(format!("/api/sandboxes/{id}"), body.clone());
    run(kind, before::running, operation, young, &after::patched);
    run(kind, before::long_running, operation, old, &after::patched);
}

fn extend(kind: Kind, young: Expect, old: Expect) {
    let operation = |id: &str| Ask::extend(id, 7200);
    run(kind, before::running, operation, young, &after::extended);
    run(kind, before::long_running, operation, old, &after::extended);
}

fn delete(kind: Kind, young: Expect, old: Expect) {
    run(kind, before::running, Ask::end, young, &after::deleted);
    run(kind, before::long_running, Ask::end, old, &after::deleted);
}

fn create_with_env(kind: Kind, reached: Expect) {
    let create = || Ask::create_keyed(CREATE).json(serde_json::json!({"env": {"HIDDEN": after::HIDDEN}}));
    run(kind, |_| String::new(), |_| create(), reached, &|scene| after::created_with_env(scene, &create()));
}

fn power(kind: Kind, action: &str, reached: Expect) {
    let operation = |id: &str| Ask::post(format!("/api/sandboxes/{id}/{action}"), serde_json::json!({}));
    let memory = std::cell::Cell::new(None);
    let prepare = |stage: &Stage| {
        let before = match action {
            "start" => "stop",
            "resume" => "pause",
            _ => return before::long_running(stage),
        };
        let (id, ran) = before::switched(stage, before);
        memory.set(ran);
        id
    };
    run(kind, prepare, operation, reached, &|scene| match action {
        "stop" => switched::off(scene),
        "pause" => switched::paused(scene),
        "resume" => switched::resumed(scene, memory.get()),
        _ => switched::on(scene, action),
    });
}

fn snapshot(kind: Kind, reached: Expect) {
    let operation = |id: &str| {
        let ask = Ask::post(format!("/api/sandboxes/{id}/snapshots"), serde_json::json!({}));
        ask.header("prefer", "wait=20")
    };
    run(kind, before::running, operation, reached, &after::made_a_template);
}

fn keep(kind: Kind, memory: bool, reached: Expect) {
    let body = serde_json::json!({"keep": true, "memory": memory});
    let operation = |id: &str| Ask::post(format!("/api/sandboxes/{id}/snapshots"), body.clone());
    run(kind, before::long_running, operation, reached, &after::kept_a_snapshot);
}

fn rollback(kind: Kind, memory: bool, reached: Expect) {
    let name = std::cell::RefCell::new(String::new());
    let prepare = |stage: &Stage| {
        let (id, snapshot) = before::kept(stage, memory);
        name.replace(snapshot);
        id
    };
    run(kind, prepare, |id| before::rolls_back(id, &name.borrow()), reached, &after::rolled_back);
}

fn exec(kind: Kind, reached: Expect) {
    run(kind, before::running, |id| Ask::exec(id, after::COMMAND), reached, &after::executed);
}
