//! Every request of every flow meets every fault; then the world settles, the client asks again, and
//! what must be true is looked at.

mod after;
mod after_power;
mod before;
mod creation;
mod existing;
mod meet;
mod snapshots;

use std::collections::BTreeSet;

use expect_test::Expect;

use self::{after::Scene, before::crowded};
use crate::stage::prelude::*;

pub(crate) use self::meet::{Case, faults, meet_each_fault};

/// The key of the sandbox that creations ask for.
const CREATE: &str = "k1";

/// Brings the cluster to where an operation begins: the sandbox's id, and the request.
type Prepare = Box<dyn Fn(&Stage) -> (String, Ask)>;

/// An operation, told once for both kinds of guest and for each way in which it may begin.
struct Flow {
    prepare: Vec<Prepare>,
    /// What the client does next, and what must be true in the end.
    case: fn(&Scene<'_>),
}

impl Flow {
    fn of(prepare: impl Fn(&Stage) -> (String, Ask) + 'static, case: fn(&Scene<'_>)) -> Self {
        Self { prepare: vec![Box::new(prepare)], case }
    }

    /// A sandbox is prepared in one of these ways.
    fn new<const WAYS: usize>(
        prepare: [fn(&Stage) -> String; WAYS],
        operation: impl Fn(&str) -> Ask + Clone + 'static,
        case: fn(&Scene<'_>),
    ) -> Self {
        let begin = |prepare: fn(&Stage) -> String| {
            let operation = operation.clone();
            Box::new(move |stage: &Stage| {
                let id = prepare(stage);
                let ask = operation(&id);
                (id, ask)
            }) as Prepare
        };
        Self { prepare: prepare.into_iter().map(begin).collect(), case }
    }

    /// Runs it for each kind, which must send the requests that are `expected`.
    fn run(&self, kinds: &[Kind], expected: Expect) {
        let ways = kinds.iter().flat_map(|kind| self.prepare.iter().map(|it| (*kind, it)));
        let sent: BTreeSet<String> = ways.map(|(kind, prepare)| self.meet(kind, prepare)).collect();
        expected.assert_eq(&sent.into_iter().collect::<Vec<_>>().join("\nor\n"));
    }

    fn meet(&self, kind: Kind, prepare: &Prepare) -> String {
        let (stage, neighbours) = crowded(kind);
        let (id, ask) = prepare(&stage);
        let was = (!id.is_empty()).then(|| stage.guest(&id)).flatten();
        meet_each_fault(&stage, &ask, shape, &|stage, Case { fault, at_once, told }, first| {
            if !at_once {
                stage.world.settle();
            }
            let told = format!("{kind:?}, {told}");
            let (neighbours, id, was, told) = (&neighbours, &*id, was.as_ref(), &*told);
            (self.case)(&Scene { stage, neighbours, id, was, fault, first, told });
            stage.world.settle();
            neighbours.assert_untouched(stage, told);
        })
    }
}

/// A request without what differs between kinds of guests and runs.
fn shape(seen: &Seen) -> String {
    let path = seen.path.split('?').next().unwrap_or_default();
    let segments = path.trim_start_matches("/api2/").split('/').skip(1).map(|it| match it {
        "lxc" | "qemu" => "KIND",
        "9000" | "9100" => "TEMPLATE",
        it if it.starts_with("UPID") => "UPID",
        it if it.parse::<u32>().is_ok() => "VMID",
        it if it.len() > 20 && (it.starts_with("kept") || it.starts_with("edge")) => "NAME",
        it => it,
    });
    format!("{} {}", seen.method, segments.collect::<Vec<_>>().join("/"))
}
