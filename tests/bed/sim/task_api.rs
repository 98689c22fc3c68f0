//! Tasks as the API shows them [pve-manager `API2/Tasks.pm`].

use serde_json::{Value, json};
use time::OffsetDateTime;

use super::{
    Sim, Task,
    reply::{Answer, Fail},
    wire::Call,
};

/// `GET /nodes/{node}/tasks`
pub(crate) fn list(sim: &mut Sim, call: &Call, _: OffsetDateTime) -> Answer {
    let all = sim.may(&call.token, &format!("/nodes/{}", call.node()), &["Sys.Audit"]);
    let since = call.get("since").and_then(|since| since.parse::<i64>().ok()).unwrap_or(0);
    let running = |task: &Task| task.exit.is_none();
    let wanted = |task: &&Task| {
        task.node == call.node()
            && (all || task.user == call.token)
            && call.get("vmid").is_none_or(|vmid| task.id == vmid)
            && call.get("typefilter").is_none_or(|kind| task.kind == kind)
            && task.start.unix_timestamp() >= since
            && match call.get("source").unwrap_or("archive") {
                "active" => running(task),
                "archive" => !running(task),
                _ => true,
            }
    };
    let limit = call.number("limit").unwrap_or(50) as usize;
    let mut tasks: Vec<&Task> = sim.tasks.values().filter(wanted).collect();
    tasks.sort_by_key(|task| std::cmp::Reverse((task.start, task.upid.clone())));
    Ok(tasks.into_iter().take(limit).map(|task| shown(task, true)).collect())
}

/// `GET …/tasks/{upid}/status`
pub(crate) fn status(sim: &mut Sim, call: &Call, _: OffsetDateTime) -> Answer {
    Ok(shown(find(sim, call)?, false))
}

/// `GET …/tasks/{upid}/log`
pub(crate) fn log(sim: &mut Sim, call: &Call, _: OffsetDateTime) -> Answer {
    let task = find(sim, call)?;
    let start = call.number("start").unwrap_or(0) as usize;
    let limit = call.number("limit").unwrap_or(50) as usize;
    let lines = task.log.iter().enumerate().skip(start).take(limit);
    Ok(lines.map(|(n, text)| json!({ "n": n + 1, "t": text })).collect())
}

/// The log is on the task's node alone; its owner and auditors may read it.
fn find<'a>(sim: &'a Sim, call: &Call) -> Result<&'a Task, Fail> {
    let upid = call.get("upid").unwrap_or("");
    let fields: Vec<&str> = upid.split(':').collect();
    if fields.len() != 9 || fields[0] != "UPID" || !fields[8].is_empty() {
        return Err(Fail::parameter("upid", "unable to parse worker upid"));
    }
    let owner = fields[7] == call.token;
    if !owner {
        sim.require(&call.token, &format!("/nodes/{}", call.node()), &["Sys.Audit"])?;
    }
    let here = |task: &&Task| task.node == call.node();
    sim.tasks.get(upid).filter(here).ok_or_else(|| Fail::parameter("upid", "no such task"))
}

fn shown(task: &Task, listed: bool) -> Value {
    let fields: Vec<&str> = task.upid.split(':').collect();
    let hex = |n: usize| i64::from_str_radix(fields[n], 16).unwrap_or(0);
    let (user, token) = task.user.split_once('!').unwrap_or((&task.user, ""));
    let mut item = json!({
        "upid": task.upid, "node": task.node, "pid": hex(2), "pstart": hex(3), "starttime": hex(4),
        "type": task.kind, "id": task.id, "user": user, "tokenid": token,
    });
    match (&task.exit, listed) {
        (Some(exit), true) => {
            item["status"] = json!(exit);
            item["endtime"] = json!(task.end.map(|at| at.unix_timestamp()));
        }
        (None, true) => {
            item["status"] = json!("RUNNING");
            item["saved"] = json!("0");
        }
        (Some(exit), false) => {
            item["status"] = json!("stopped");
            item["exitstatus"] = json!(exit);
        }
        (None, false) => item["status"] = json!("running"),
    }
    item
}
