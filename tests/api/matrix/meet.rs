//! One operation, and every fault at each of its requests.

use crate::stage::{guests::assert_honest, prelude::*};

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

/// One fault at one request, and when the client asks again.
pub(crate) struct Case {
    pub(crate) fault: Fault,
    pub(crate) at_once: bool,
    /// Which case it is, for people.
    pub(crate) told: String,
}

/// Asks once as it is, and tells the requests that this sent; then once for each of them, each fault, and
/// each of two moments of asking again. `then` is handed the answer, unless the operation died.
pub(crate) fn meet_each_fault(
    stage: &Stage,
    ask: &Ask,
    shape: fn(&Seen) -> String,
    then: &dyn Fn(&Stage, &Case, Option<&Answer>),
) -> String {
    stage.world.clear_transcript();
    let first = stage.world.requests().len();
    let steps = steps(&stage.fork(), ask, shape);
    for (nth, step) in steps.iter().enumerate() {
        for fault in faults() {
            for at_once in [true, false] {
                let told = format!("request {nth} ({step}), {fault:?}, at once: {at_once}");
                let stage = stage.fork();
                stage.world.fault_at(first + nth, fault.clone());
                let answer = stage.try_ask(ask.clone());
                stage.world.clear_faults();
                if let Some(answer) = &answer {
                    assert_honest(&stage, answer);
                }
                then(&stage, &Case { fault: fault.clone(), at_once, told }, answer.as_ref());
            }
        }
    }
    counted(&steps)
}

/// The requests that an operation sends.
fn steps(stage: &Stage, ask: &Ask, shape: fn(&Seen) -> String) -> Vec<String> {
    let before = stage.world.requests().len();
    let answer = stage.ask(ask.clone());
    assert!(answer.status < 300, "{answer:?}");
    stage.world.requests().iter().skip(before).map(shape).collect()
}

/// A line for each, and how often it was sent in a row.
fn counted(steps: &[String]) -> String {
    let rows = steps.chunk_by(|a, b| a == b).map(|row| match row {
        [step] => step.clone(),
        row => format!("{} ×{}", row[0], row.len()),
    });
    rows.collect::<Vec<_>>().join("\n")
}
