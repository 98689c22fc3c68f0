//! Running commands, answered in one piece.

use serde_json::{Value, json};

use crate::world::World;

pub(super) async fn output_and_exit_code(world: World) {
    let sandbox = world.sandbox(json!({})).await;
    let mut outcome = sandbox.exec(json!({"command": "echo out; echo err >&2; exit 3"})).await;
    let process = ["process", "cursor"].map(|name| outcome.as_object_mut().and_then(|it| it.remove(name)));
    assert!(process.iter().all(|it| it.is_some() == sandbox.has_our_daemon()), "{process:?}");
    assert_eq!(outcome, json!({"exitCode": 3, "stdout": "out\n", "stderr": "err\n", "timedOut": false}));
    let outcome = sandbox.exec(json!({"command": "kill -9 $$"})).await;
    assert_eq!(outcome["exitCode"], 137, "{outcome}");
    let outcome = sandbox.exec(json!({"argv": ["/no/such/program"]})).await;
    assert_eq!(outcome["exitCode"], 127, "{outcome}");
    // What one command leaves another finds.
    sandbox.shell("echo kept > file").await;
    assert_eq!(sandbox.shell("cat file").await, "kept\n");
    sandbox.drop().await;
}

pub(super) async fn directory_environment_and_arguments(world: World) {
    let sandbox = world.sandbox(json!({})).await;
    let hostile = ["it's", "\"two\"", "$HOME", "`id`", "a b", "*", "\\", "ä→🦀", "", "-n", "l1\nl2"];
    let mut argv = vec!["printf", "<%s>\\n"];
    argv.extend(hostile);
    let outcome = sandbox.exec(json!({"argv": argv, "cwd": "/"})).await;
    let wanted: String = hostile.iter().map(|it| format!("<{it}>\n")).collect();
    assert_eq!((&outcome["stdout"], &outcome["exitCode"]), (&json!(wanted), &json!(0)), "{outcome}");
    let env = json!({"A": "it's", "B_2": "$A\n\"x\"", "EMPTY": ""});
    let line = "pwd; printf '%s|%s|%s|\\n' \"$A\" \"$B_2\" \"${EMPTY-unset}\"; test -n \"$HOME\"";
    let outcome = sandbox.exec(json!({"command": line, "cwd": "/usr", "env": env})).await;
    assert_eq!(outcome["stdout"], "/usr\nit's|$A\n\"x\"||\n", "{outcome}");
    assert_eq!(outcome["exitCode"], 0, "{outcome}");
    let outcome = sandbox.exec(json!({"command": "echo unreached", "cwd": "/no/such folder"})).await;
    let code = if sandbox.has_our_daemon() { 126 } else { 1 };
    assert_eq!((&outcome["exitCode"], &outcome["stdout"]), (&json!(code), &json!("")), "{outcome}");
    sandbox.drop().await;
}

pub(super) async fn what_takes_too_long_is_ended(world: World) {
    let sandbox = world.sandbox(json!({})).await;
    let line = "echo begun; sleep 60 & sleep 60; echo never";
    let outcome = sandbox.exec(json!({"command": line, "timeoutMs": 700})).await;
    let code = if sandbox.has_our_daemon() { 143 } else { 124 };
    assert_eq!((&outcome["timedOut"], &outcome["exitCode"]), (&json!(true), &json!(code)), "{outcome}");
    assert_eq!(outcome["stdout"], "begun\n", "{outcome}");
    // Its own code of 124 is no time-out.
    let outcome = sandbox.exec(json!({"command": "exit 124"})).await;
    assert_eq!((&outcome["timedOut"], &outcome["exitCode"]), (&json!(false), &json!(124)), "{outcome}");
    sandbox.drop().await;
}

pub(super) async fn output_is_kept_as_it_is(world: World) {
    let sandbox = world.sandbox(json!({})).await;
    assert_eq!(sandbox.shell("printf 'a\\n\\n\\n  b \\n\\nc\\n'").await, "a\n\n\n  b \n\nc\n");
    let text = "Grüße, 世界 🦀 \u{202e}\"\\\t{\"type\":\"exit\",\"code\":7}";
    let outcome = sandbox.exec(json!({"argv": ["printf", "%s\\n", text]})).await;
    assert_eq!((&outcome["stdout"], &outcome["exitCode"]), (&json!(format!("{text}\n")), &json!(0)));
    // Thousands of lines, in order.
    let count = sandbox.shell("seq 1 20000").await;
    assert!(count.lines().map(str::parse::<u32>).eq((1..=20_000).map(Ok)), "{} bytes", count.len());
    sandbox.drop().await;
}

pub(super) async fn a_line_of_three_megabytes(world: World) {
    let sandbox = world.sandbox(json!({})).await;
    let outcome = sandbox.exec(json!({"command": "head -c 3000000 /dev/zero | tr '\\0' x; echo"})).await;
    let stdout = outcome["stdout"].as_str().expect("text");
    assert_eq!((stdout.len(), stdout.trim_matches('x')), (3_000_001, "\n"));
    assert_eq!(outcome["truncated"], Value::Null);
    sandbox.drop().await;
}

pub(super) async fn more_than_an_answer_holds_is_cut(world: World) {
    let sandbox = world.sandbox(json!({})).await;
    let line = "yes \"$(seq -s, 1 2000)\" | head -n 800; echo end >&2; exit 5";
    let outcome = sandbox.exec(json!({"command": line})).await;
    let stdout = outcome["stdout"].as_str().expect("text");
    // Lambda takes no answer larger than 6 MB.
    assert!((1 << 20..=6 << 20).contains(&stdout.len()), "{} bytes", stdout.len());
    assert_eq!(outcome["truncated"], true);
    assert_eq!((&outcome["exitCode"], &outcome["stderr"]), (&json!(5), &json!("end\n")));
    sandbox.drop().await;
}

pub(super) async fn what_cannot_be_run_is_refused(world: World) {
    let sandbox = world.sandbox(json!({})).await;
    for (body, field) in [
        (json!({}), "command"),
        (json!({"command": " \n"}), "command"),
        (json!({"command": 7}), "command"),
        (json!({"command": "true", "argv": ["true"]}), "argv"),
        (json!({"argv": []}), "argv"),
        (json!({"command": "true", "cwd": "relative"}), "cwd"),
        (json!({"command": "true", "env": {"A=B": "x"}}), "env.A=B"),
        (json!({"command": "true", "timeoutMs": 0}), "timeoutMs"),
        (json!({"command": "true\u{0}"}), "command"),
        (json!({"command": "true", "shell": "zsh"}), "shell"),
        (json!({"command": "x".repeat(200_000)}), "command"),
    ] {
        let answer = world.blue.ask("POST", &sandbox.path("/exec"), &body).await;
        let problem = answer.problem(400, "invalid-request");
        assert_eq!(problem["errors"][0]["field"], field, "{problem}");
    }
    sandbox.drop().await;
}
