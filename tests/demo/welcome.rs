//! What the demo says when it is ready.

use crate::sweeps::PERIOD;

/// Says where the API is, with what key, and what to try.
pub(crate) fn print(port: u16, key: Option<&str>, simulated: bool) {
    let url = format!("http://127.0.0.1:{port}");
    println!("listening on {url}\nA browser gets a page for people there, which asks for the key.\n");
    match key {
        Some(key) => println!("export KEY={key}    # new each start"),
        None => println!("export KEY=...    # one of EDGE_API_KEYS"),
    }
    println!("{}", lines(&url));
    if simulated {
        println!("{}", SIMULATED.replace("PORT", &port.to_string()));
    }
    println!("{}", RUNNING.replace("SECONDS", &PERIOD.as_secs().to_string()));
}

fn lines(url: &str) -> String {
    let curl = r#"curl -sS -H "Authorization: Bearer $KEY""#;
    let json = "-H 'Content-Type: application/json'";
    format!(
        r#"
# create a sandbox, and wait until it is ready
ID=$({curl} {json} -H 'Prefer: wait=25' -d '{{"ttlSeconds": 3600}}' {url}/api/sandboxes | sed -E 's/.*"id":"([^"]+)".*/\1/')

# run a command in it; -H 'Accept: text/event-stream' shows the output as it comes
{curl} {json} -d '{{"command": "uname -a; pwd"}}' {url}/api/sandboxes/$ID/exec

# its services, with their URLs
{curl} {url}/api/sandboxes/$ID

# delete it
{curl} -X DELETE {url}/api/sandboxes/$ID
"#
    )
}

const RUNNING: &str = "\
It sweeps at start and every SECONDS s: what has expired is removed. Requests are logged to stderr, a line each;
RUST_LOG=warn logs less, RUST_LOG=off nothing. Ctrl-C ends it.";

const SIMULATED: &str = "\
PVE is simulated: nothing is virtualised. A command in a sandbox is an ORDINARY PROCESS OF YOURS in a
scratch folder: it can do what you can do. Sandboxes listen on loopback alone, and run what this start
has signed. What a sandbox serves, for example after the command
  nohup python3 -m http.server 5173 --bind $SANDBOX_IP >log 2>&1 &
is opened in a browser by a link: POST /api/sandboxes/$ID/services/preview/link. Stopping the demo ends all of it and removes the folders.
";
