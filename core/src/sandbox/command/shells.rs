//! What real shells make of the script around a command.

use std::{
    io::Read,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use serde_json::{Value, json};

use super::ExecRequest;
use crate::sandbox::environment::Env;

const SECRET: &str = "s3cret'of \"its\" $owner\n\\ `x`";

/// What the daemon or the agent has.
const HOME: &str = "/home/of-the-daemon";

/// As a daemon or an agent starts scripts.
fn shells() -> Vec<Vec<&'static str>> {
    let all =
        [vec!["bash", "-c"], vec!["bash", "--posix", "-c"], vec!["dash", "-c"], vec!["busybox", "sh", "-c"]];
    let there = |it: &Vec<&str>| Command::new(it[0]).args(&it[1..]).arg(":").output().is_ok();
    all.into_iter().filter(there).collect()
}

/// Of a sandbox with a secret, and with one of the command's own.
fn request(mut body: Value) -> ExecRequest {
    body["env"] = json!({"OWN": format!("own {SECRET}")});
    let sandbox: Env = serde_json::from_value(json!({"A": SECRET})).unwrap();
    ExecRequest::parse(serde_json::from_value(body).unwrap()).unwrap().within(&sandbox)
}

fn start(shell: &[&str], script: &str) -> Child {
    let mut command = Command::new(shell[0]);
    command.args(&shell[1..]).arg(script).env("HOME", HOME).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn run(shell: &[&str], script: &str) -> Output {
    start(shell, script).wait_with_output().unwrap()
}

/// Both ways: with a daemon that ends commands, and without.
fn scripts(request: &ExecRequest) -> [String; 2] {
    [request.script(None), request.script(Some(Duration::from_secs(5)))]
}

#[test]
fn a_command_that_no_shell_can_parse_shows_nothing_of_what_is_around_it() {
    assert!(shells().len() >= 3, "bash and dash are needed: {:?}", shells());
    for command in [
        "if",
        "echo (",
        "'",
        "\"",
        "`",
        "$(",
        "${",
        "cat <<X",
        "cat <<'X'\n",
        "}",
        "fi",
        ")",
        "a\n\n;;",
        "echo '\\''",
        "set -e; false; (",
        "exit 3 '",
        "case x in",
        "() {",
        "<",
        "set -x; no-such-program-here",
        "set -v\n:\n(",
    ] {
        let request = request(json!({"command": command, "cwd": "/tmp"}));
        for shell in shells() {
            for script in scripts(&request) {
                let output = run(&shell, &script);
                let said = [output.stdout, output.stderr].concat();
                let said = String::from_utf8_lossy(&said).into_owned();
                for hidden in ["s3cret", "OWN=", "A='", "HOME", "exec env", "command -v", "PVE_EDGE"] {
                    assert!(!said.contains(hidden), "{shell:?} {command:?} shows {hidden}: {said}");
                }
            }
        }
    }
}

#[test]
fn a_command_has_its_variables_its_folder_and_its_own_exit_code() {
    for shell in shells() {
        let command = "printf '%s|%s|%s|%s' \"$A\" \"$OWN\" \"$PWD\" \"$HOME\"; set -e; false";
        for script in scripts(&request(json!({"command": command, "cwd": "/tmp"}))) {
            let output = run(&shell, &script);
            let wanted = format!("{SECRET}|own {SECRET}|/tmp|{HOME}");
            assert_eq!(String::from_utf8(output.stdout).unwrap(), wanted, "{shell:?}");
            assert_eq!(output.status.code(), Some(1), "{shell:?}");
        }
        let nowhere = request(json!({"command": "echo ran", "cwd": "/no/such/folder"}));
        for script in scripts(&nowhere) {
            let output = run(&shell, &script);
            assert_eq!((output.status.success(), output.stdout), (false, Vec::new()), "{shell:?}");
            assert!(!String::from_utf8_lossy(&output.stderr).contains("s3cret"), "{shell:?}");
        }
    }
}

/// Variables that a shell or a program lookup would trip over reach the command as they are.
#[test]
fn variables_of_shells_reach_the_command() {
    let names = ["PATH", "IFS", "CDPATH", "OPTIND", "BASH", "ENV", "PS4", "LINENO", "RANDOM", "_", "PWD"];
    for (name, shell) in names.iter().flat_map(|it| shells().into_iter().map(move |shell| (it, shell))) {
        let body = json!({"argv": ["/usr/bin/env"], "env": {*name: "/nowhere"}});
        let request = ExecRequest::parse(serde_json::from_value(body).unwrap()).unwrap();
        for script in scripts(&request) {
            let output = run(&shell, &script);
            assert!(output.status.success(), "{shell:?} {name}: {output:?}");
        }
    }
}

/// What a shell of this machine will not let anybody set is refused before it is asked.
#[test]
fn read_only_names_are_refused_by_field() {
    let output = run(&["bash", "-c"], "readonly -p");
    let said = String::from_utf8(output.stdout).unwrap();
    let names = said.lines().filter_map(|it| it.split(['=', ' ']).nth(2)).chain(["POSIXLY_CORRECT"]);
    let names: Vec<_> = names.map(str::to_owned).collect();
    assert!(names.len() >= 6 && names.contains(&"EUID".to_owned()), "{names:?}");
    for name in names {
        let body = json!({"command": "true", "env": {&name: "1"}});
        let error = ExecRequest::parse(serde_json::from_value(body).unwrap()).unwrap_err();
        assert!(error.detail().starts_with(&format!("env.{name}: ")), "{error}");
        let env: Env = serde_json::from_value(json!({&name: "1"})).unwrap();
        assert_eq!(env.errors(&Default::default()).len(), 1, "{name}");
    }
}

/// The first moment is over when the command has printed something.
#[test]
fn no_list_of_processes_shows_a_variable_while_a_command_runs() {
    for shell in shells() {
        for script in scripts(&request(json!({"command": "echo begun; sleep 5; : $A"}))) {
            let mut child = start(&shell, &script);
            let mut begun = [0; 5];
            child.stdout.as_mut().unwrap().read_exact(&mut begun).unwrap();
            let lines = family(child.id());
            assert!(!lines.is_empty() && lines.iter().any(|it| it.contains("begun")), "{shell:?} {lines:?}");
            let shown = lines.iter().find(|it| it.contains("s3cret") || it.contains("OWN="));
            assert_eq!(shown, None, "{shell:?}");
            let _ = Command::new("pkill").args(["-P", &child.id().to_string()]).status();
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

/// Command lines of a process and of those that it has started.
fn family(id: u32) -> Vec<String> {
    let parent = |id: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse::<u32>().ok()
    };
    let all =
        std::fs::read_dir("/proc").unwrap().filter_map(|it| it.ok()?.file_name().to_str()?.parse().ok());
    let ours =
        all.filter(|it| *it == id || parent(*it) == Some(id) || parent(*it).and_then(parent) == Some(id));
    ours.filter_map(|it| std::fs::read(format!("/proc/{it}/cmdline")).ok())
        .map(|it| String::from_utf8_lossy(&it).into_owned())
        .collect()
}
