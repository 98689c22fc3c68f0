//! What leads an owner through the set-up: the front page, and the script for a node of PVE.

pub(crate) mod node;
pub(crate) mod script;

use pve_edge_core::{access::secret::Keyring, io::Platform};
use sha2::{Digest, Sha256};

use crate::stage::{SECRET, WORKERS, prelude::*, settings};

const LAMBDA: Platform = Platform { name: "lambda", private_network: true, ..WORKERS };
const LOCAL: Platform = Platform { name: "local", private_network: true, unverified_tls: true, ..WORKERS };
const BROWSER: &str = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";

/// A deployment whose settings are the usual ones but these; an empty one removes.
fn deployed(changes: &[(&str, &str)], platform: Platform) -> Stage {
    Stage::with_settings(&settings(changes), platform)
}

/// As a stranger asks.
fn stranger(path: &str) -> Ask {
    Ask::get(path).without("authorization").header("host", "edge.test").header("x-forwarded-proto", "https")
}

fn told(stage: &Stage, ask: Ask) -> Answer {
    let answer = stage.ask(ask);
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(stage.world.requests().is_empty(), "{}", stage.told());
    answer
}

fn page(changes: &[(&str, &str)], platform: Platform) -> String {
    told(&deployed(changes, platform), stranger("/")).body
}

/// The script of a deployment that has these settings and no others.
pub(crate) fn script(set: &[(&str, &str)]) -> String {
    let pairs: Vec<_> = set.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let stage = Stage::with_settings(&pairs, WORKERS);
    let answer = told(&stage, stranger("/api/setup/pve.sh"));
    assert_eq!(answer.header("content-type"), "text/x-shellscript");
    answer.body
}

/// Changes of the settings, the platform, what is told, and what is not.
type Row<'a> = (&'a [(&'a str, &'a str)], Platform, &'a [&'a str], &'a [&'a str]);

#[test]
fn each_state_of_the_settings_is_told_with_its_commands() {
    let none: Vec<_> = settings(&[]).into_iter().map(|(name, _)| name).collect();
    let none: Vec<_> = none.iter().map(|it| (it.as_str(), "")).collect();
    let on_pve = "curl -fsSL https://edge.test/api/setup/pve.sh -o pve.sh";
    let secret = "openssl rand -hex 32 | npx wrangler secret put EDGE_SECRET";
    let corrected = "npx wrangler secret put EDGE_SECRET    # asks for it: the value that it has, corrected";
    let rows: [Row<'_>; 15] = [
        (
            &none,
            WORKERS,
            &[
                "- PVE_API_URL is needed (or MORPH_API_KEY)",
                "- PVE_API_TOKEN is needed",
                "- EDGE_DEPLOYMENT is needed",
                "- PVE_PUBLIC_DOMAIN is needed on Workers",
                on_pve,
                "KEY=home-$(openssl rand -hex 24)",
                ":admin\" | npx wrangler secret put EDGE_API_KEYS",
                secret,
                "npx wrangler secret put PVE_API_TOKEN    # asks for it",
                "PVE_API_URL = \"…\"",
                "EDGE_DEPLOYMENT = \"…\"",
                "npx wrangler deploy",
                "https://edge.test/api/health/sandbox",
            ],
            &["EDGE_MAX", "sam deploy"],
        ),
        (
            &none,
            LAMBDA,
            &["aws secretsmanager put-secret-value", "\"EDGE_SECRET\": \"$(openssl", "sam deploy", on_pve],
            &["wrangler", "PVE_PUBLIC_DOMAIN"],
        ),
        (
            &none,
            LOCAL,
            &[
                "(umask 077; touch .dev.vars); chmod 600 .dev.vars",
                "echo \"EDGE_SECRET=$(openssl",
                ">>.dev.vars",
                "cargo demo",
                on_pve,
            ],
            &["wrangler"],
        ),
        (
            &[("EDGE_SECRET", "")],
            WORKERS,
            &["- EDGE_SECRET is needed", secret],
            &["EDGE_API_KEYS", "PVE_API_URL"],
        ),
        // A new one in its place would have every sandbox forgotten.
        (
            &[("EDGE_SECRET", "short")],
            WORKERS,
            &["- EDGE_SECRET is wrong: ", "32 bytes", corrected],
            &["short", "openssl rand -hex 32 |"],
        ),
        (
            &[("EDGE_API_KEYS", "blue:zz")],
            WORKERS,
            &["secret put EDGE_API_KEYS    # asks for it: the keys that it has"],
            &["KEY=home", "blue:zz", "| npx"],
        ),
        (
            &[("EDGE_SECRET", "\"short\"")],
            LAMBDA,
            &["# EDGE_SECRET: the value that it has, corrected", "\"EDGE_SECRET\": \"…\""],
            &["openssl"],
        ),
        (
            &[("PVE_API_URL", "")],
            WORKERS,
            &["- PVE_API_URL is needed", "PVE_API_URL = \"…\""],
            &["secret put"],
        ),
        (
            &[("PVE_API_TOKEN", "edge@pve=x")],
            WORKERS,
            &["- PVE_API_TOKEN is wrong: USER@REALM"],
            &["edge@pve=x"],
        ),
        (
            &[("PVE_VERIFY_TLS", "false")],
            WORKERS,
            &["- PVE_VERIFY_TLS cannot be false on Workers"],
            &["secret put"],
        ),
        (
            &[("EDGE_LAMBDA_STREAM", "enabled")],
            WORKERS,
            &["- EDGE_LAMBDA_STREAM is wrong: true or false"],
            &["secret put"],
        ),
        (
            &[("PVE_VERFY_TLS", "1")],
            WORKERS,
            &["- PVE_VERFY_TLS is not a setting; did you mean PVE_VERIFY_TLS?", "# remove PVE_VERFY_TLS"],
            &["PVE_VERFY_TLS ="],
        ),
        (
            &[("SANDBOX_PROVIDER", "morph")],
            WORKERS,
            &["- MORPH_API_KEY is needed", "wrangler secret put MORPH_API_KEY"],
            &["pve.sh"],
        ),
        (
            &[("PVE_NODE", "not.a.node")],
            LAMBDA,
            &["- PVE_NODE is wrong", "variable of the function: PVE_NODE"],
            &[],
        ),
        (
            &[("CF_ACCESS_CLIENT_ID", "x")],
            WORKERS,
            &["secret put CF_ACCESS_CLIENT_SECRET"],
            &["put EDGE_SECRET"],
        ),
    ];
    for (changes, platform, told, untold) in rows {
        let page = page(changes, platform);
        for it in told {
            assert!(page.contains(it), "{changes:?} on {}: no {it:?} in\n{page}", platform.name);
        }
        for it in untold {
            assert!(!page.contains(it), "{changes:?} on {}: {it:?} in\n{page}", platform.name);
        }
    }
}

/// The commands are lines that a shell takes as they are.
#[test]
fn the_commands_are_read_by_a_shell() {
    let node = node::Node::new(Version::V9);
    for platform in [WORKERS, LAMBDA, LOCAL] {
        let page = page(&[("EDGE_SECRET", ""), ("EDGE_API_KEYS", ""), ("PVE_API_TOKEN", "")], platform);
        let commands: String =
            page.lines().filter_map(|it| it.strip_prefix("    ")).map(|it| format!("{it}\n")).collect();
        let run = node.run(&["sh", "-n"], &commands, &[]);
        assert!(run.succeeds && run.stderr.is_empty(), "{run:?}\n{commands}");
    }
}

#[test]
fn everything_else_stays_503() {
    let stage = deployed(&[("EDGE_SECRET", "")], WORKERS);
    for path in [
        "/api/health",
        "/openapi.json",
        "/api/sandboxes",
        "/api/setup",
        "/guest/install.sh",
        "//",
        "/index.html",
    ] {
        let answer = stage.ask(Ask::get(path));
        assert_eq!(answer.refusal(), "503 misconfigured", "{path}");
    }
    for ask in [Ask::post("/", json!({})), Ask::put("/api/setup/pve.sh")] {
        assert_eq!(stage.ask(ask).refusal(), "503 misconfigured");
    }
    for path in ["/", "/api/setup/pve.sh"] {
        let get = told(&stage, stranger(path));
        let mut head = Ask::head(path).without("authorization").header("host", "edge.test");
        head = head.header("x-forwarded-proto", "https");
        let head = told(&stage, head);
        assert_eq!((head.body.as_str(), head.header("content-length")), ("", &*get.body.len().to_string()));
        assert_eq!(head.header("cache-control"), "no-store");
    }
    let odd = stage.ask(stranger("/api/setup/pve.sh?storage=tank"));
    assert_eq!(odd.refusal(), "400 invalid-request");
}

/// Values of settings, those of secrets above all, are in neither; in the script PVE's own names are.
#[test]
fn no_value_is_told() {
    let set = [
        ("PVE_API_URL", "https://value-url.test"),
        ("PVE_API_TOKEN", "edge@pve!value-id=value-token"),
        ("PVE_PUBLIC_DOMAIN", "value-domain.test"),
        ("PVE_STORAGE", "value-storage"),
        ("PVE_BRIDGE", "value-bridge"),
        ("EDGE_DEPLOYMENT", "value-name"),
        ("EDGE_SECRET", "value-secret-value-secret-value-secret"),
        ("MORPH_BASE_URL", "https://value-morph.test"),
        ("CF_API_TOKEN", "value-cf"),
        ("CF_ACCESS_CLIENT_ID", "value-access"),
        ("CF_ACCESS_CLIENT_SECRET", "value-access-secret"),
    ];
    let wrong =
        [("EDGE_API_KEYS", "value-key"), ("PVE_NODE", "value.node"), ("PVE_GATEWAY", "value-gateway")];
    for platform in [WORKERS, LAMBDA, LOCAL] {
        let stage = deployed(&[&set[..], &wrong].concat(), platform);
        for accept in [BROWSER, "*/*"] {
            let page = told(&stage, stranger("/").header("accept", accept)).body;
            assert!(!page.contains("value-") && !page.contains("value."), "{page}");
        }
        let script = told(&stage, stranger("/api/setup/pve.sh")).body;
        let known = ["value-id", "value-storage", "value-bridge"];
        let rest = known.iter().fold(script.clone(), |text, it| text.replace(&format!("'{it}'"), ""));
        assert!(known.iter().all(|it| script.contains(it)) && !rest.contains("value-"), "{rest}");
        for wrong in ["value-x=y", "edge@pve!value-x", "edge@pve!value x=y"] {
            let stage = deployed(&[("PVE_API_TOKEN", wrong)], platform);
            let answers = ["/", "/api/setup/pve.sh"].map(|path| told(&stage, stranger(path)).body);
            let secret = wrong.trim_start_matches("edge@pve!");
            assert!(answers.iter().all(|it| !it.contains(secret)), "{wrong}: {answers:?}");
        }
    }
}

#[test]
fn a_browser_gets_html_that_does_nothing() {
    let stage = deployed(&[("EDGE_SECRET", ""), ("EDGE_<script>&\"", "1")], WORKERS);
    let answer = told(&stage, stranger("/").header("accept", BROWSER));
    assert_eq!(answer.header("content-type"), "text/html; charset=utf-8");
    let (style, _) =
        answer.body.split_once("<style>").expect("a style").1.split_once("</style>").expect("its end");
    use base64::{Engine, engine::general_purpose::STANDARD};
    let hash = STANDARD.encode(Sha256::digest(style));
    let policy = answer.header("content-security-policy");
    assert_eq!(
        policy,
        format!(
            "default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        )
    );
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("cache-control", "no-store"),
        ("referrer-policy", "no-referrer"),
        ("vary", "Accept, Host, X-Forwarded-Proto"),
    ] {
        assert_eq!(answer.header(name), value);
    }
    assert!(answer.body.contains("EDGE_&lt;script&gt;&amp;&quot; is not a setting"), "{}", answer.body);
    for odd in ["<script", " style=", " src=", " onclick", "javascript:", "<form", "<img"] {
        assert!(!answer.body.contains(odd), "{odd} in {}", answer.body);
    }
    for accept in ["*/*", "text/plain", "application/json", "text/html;q=0", "text/htmlx", ""] {
        let answer = told(&stage, stranger("/").header("accept", accept));
        assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8", "{accept}");
        assert!(answer.header("content-security-policy").starts_with("default-src 'none'"));
    }
}

/// Nothing of a request is repeated but the name under which the API was asked, once that is proved to be one.
#[test]
fn a_request_is_not_repeated() {
    let stage = deployed(&[("EDGE_SECRET", ""), ("EDGE_BASE_PATH", "/edge")], WORKERS);
    for host in ["a'b", "$(reboot)", "a b", "a/b", "user@host", "a\";b", "<b>", ""] {
        for accept in [BROWSER, "*/*"] {
            let ask = stranger("/?marker=1").header("host", host).header("accept", accept);
            let ask = ask.header("referer", "https://marker.test").header("user-agent", "marker");
            let page = told(&stage, ask.header("x-forwarded-host", "marker")).body;
            assert!(
                page.contains("https://YOUR-DEPLOYMENT/api/setup/pve.sh") && !page.contains("marker"),
                "{page}"
            );
            assert!(host.is_empty() || !page.contains(&format!("//{host}")), "{page}");
        }
    }
    // Below the path of the settings, and beside it.
    let below = told(&stage, stranger("/edge/")).body;
    assert!(below.contains("https://edge.test/edge/api/setup/pve.sh"), "{below}");
    assert_eq!(
        told(&stage, stranger("/edge/api/setup/pve.sh")).body,
        told(&stage, stranger("/api/setup/pve.sh")).body
    );
    assert_eq!(stage.ask(stranger("/edge")).status, 503);
}

#[test]
fn once_all_is_set_programs_get_a_line_and_the_script_is_for_admins() {
    let stage = deployed(&[], WORKERS);
    let line = told(&stage, stranger("/")).body;
    assert_eq!(
        line,
        "pve-edge: https://edge.test/openapi.json https://edge.test/api/health https://edge.test/api/health/sandbox\n"
    );
    assert_eq!(told(&stage, Ask::head("/").header("host", "edge.test")).body, "");
    let path = "/api/setup/pve.sh";
    for (ask, refusal) in [
        (stranger(path), "401 unauthorized"),
        (stranger(path).header("authorization", "Bearer wrong"), "401 unauthorized"),
        (Ask::get(path), "403 forbidden"),
        (Ask::get(format!("{path}?x=1")).by("ops"), "400 invalid-request"),
    ] {
        assert_eq!(stage.ask(ask).refusal(), refusal);
    }
    let script = told(&stage, Ask::get(path).by("ops")).body;
    assert!(
        script.contains("user='edge@pve'\n    token='edge'\n") && !script.contains("7f5ab1d0"),
        "{script}"
    );
    assert!(!script.contains(SECRET));
    assert_eq!(told(&stage, Ask::head(path).by("ops")).body, "");
    let morph = Stage::on_morph(7, &[]);
    assert_eq!(morph.ask(stranger("/")).status, 200);
}

/// What it sets up is tried in `tests/tools/proxy`.
#[test]
fn the_proxys_script_holds_its_keys_and_is_for_admins() {
    let path = "/api/setup/proxy.sh";
    let pool = ("PVE_IP_POOL_CIDR", "10.50.0.0/24");
    let stage = deployed(&[pool], WORKERS);
    for (ask, refusal) in [
        (stranger(path), "401 unauthorized"),
        (Ask::get(path), "403 forbidden"),
        (Ask::get(format!("{path}?x=1")).by("ops"), "400 invalid-request"),
    ] {
        assert_eq!(stage.ask(ask).refusal(), refusal);
    }
    let answer = told(&stage, Ask::get(path).by("ops"));
    assert_eq!(answer.header("content-type"), "text/x-shellscript");
    assert_eq!(answer.header("cache-control"), "no-store");
    let key = Keyring::parse(SECRET).map(|it| it.newest().proxy_key("prod")).expect("a secret");
    assert!(answer.body.contains(&key) && !answer.body.contains(SECRET), "{}", answer.body);
    for word in ["# SETTINGS", "# ASKING", "# FILES", "DEPLOYMENT", "GUESTS", "PROXY-PORT", "LOOKUP", "ASKED"]
    {
        assert!(!answer.body.contains(word), "{word} in {}", answer.body);
    }
    // Nothing tells where guests are; they are somebody else's; settings are wrong.
    assert_eq!(deployed(&[], WORKERS).ask(Ask::get(path).by("ops")).refusal(), "422 unsupported");
    let network = deployed(&[("EDGE_GUEST_NETWORK", "10.50.0.0/24")], WORKERS);
    assert!(told(&network, Ask::get(path).by("ops")).body.contains("10\\.50\\.0\\."));
    assert_eq!(Stage::on_morph(7, &[]).ask(Ask::get(path).by("ops")).refusal(), "422 unsupported");
    let unready = deployed(&[pool, ("EDGE_TAG_BUDGET", "x")], WORKERS);
    assert_eq!(unready.ask(Ask::get(path).by("ops")).refusal(), "503 misconfigured");
}

#[test]
fn what_the_script_is_told_is_all_there() {
    let text = script(&[]);
    assert!(!text.contains("# SETTINGS"), "{text}");
    for name in [
        "for_guests",
        "for_agents",
        "for_storages",
        "for_bridges",
        "for_nodes",
        "for_archives",
        "for_network",
    ] {
        assert!(text.contains(&format!("    {name}='")) && text.contains(&format!("${name}")), "{name}");
    }
}
