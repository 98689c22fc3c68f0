//! Configuration of Caddy, 2.6.2 or newer: the same text for every sandbox.

use super::{CLOSED_PORTS, Guests, OWN, OWN_PORT, PROXY_PORT, REFUSED, expression};

/// What is the same everywhere. A word in capitals stands for what the settings, or on the node the script, say.
const TEXT: &str = include_str!("Caddyfile");

/// Name of a guest that the table does not have.
const NONE: &str = "none";

/// Writes the Caddyfile of a deployment that has these keys for its proxy.
pub(super) fn caddyfile(deployment: &str, keys: &[String], guests: &Guests<'_>) -> String {
    let (target, lookup) = match guests {
        Guests::Table(pool) => {
            let rows = pool.given().map(|(vmid, address)| format!("\t\t\t{vmid} {address}\n"));
            let rows: String = rows.collect();
            let table = format!("\t\tmap {{re.ask.2}} {{guest}} {{\n{rows}\t\t\tdefault {NONE}\n\t\t}}\n");
            (
                expression::VMID.to_owned(),
                table + "\t\tvars guest {guest}\n" + &refuse("absent", "vars", NONE),
            )
        }
        Guests::Network(network) => {
            let (base, prefix) = network.block();
            let others = format!("\"^(?:{})$\"", expression::rows(network.others()));
            let lookup = "\t\tvars guest {re.ask.2}\n".to_owned();
            (expression::block(base, prefix), lookup + &refuse("elsewhere", "vars_regexp", &others))
        }
    };
    let closed: Vec<String> = CLOSED_PORTS.iter().map(ToString::to_string).collect();
    let ask = format!(
        "^({OWN}|{}) ({target}):({}) ({host}) ({host})$",
        expression::IP,
        expression::PORT,
        host = expression::HOST
    );
    let set = [
        ("DEPLOYMENT", deployment),
        ("PROXY-PORT", &PROXY_PORT.to_string()),
        ("KEYS", &keys.join(" ")),
        ("ASKED", &ask),
        ("CLOSED-PORTS", &closed.join(" ")),
        ("OWN-PORT", &OWN_PORT.to_string()),
        ("\t\tLOOKUP\n", &lookup),
    ];
    set.into_iter().fold(TEXT.to_owned(), |text, (name, value)| text.replace(name, value))
}

/// Lines that refuse a request whose guest matches.
fn refuse(name: &str, matcher: &str, values: &str) -> String {
    format!("\t\t@{name} {matcher} {{http.vars.guest}} {values}\n\t\terror @{name} {REFUSED} 404\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::proxy::{CLIENT, DIAL, FAULT, FROM, GUEST, GUEST_HOST, KEY, LATE, PUBLIC_HOST, TO};

    /// The text has the names that the gateway goes by.
    #[test]
    fn names_are_the_gateways() {
        let text = TEXT.to_ascii_lowercase();
        for name in [KEY, CLIENT, TO, GUEST_HOST, PUBLIC_HOST] {
            assert!(text.contains(&format!("{{http.request.header.{name}}}")), "{name}");
        }
        for fault in [DIAL, LATE, REFUSED] {
            assert!(text.contains(&format!("{FAULT} {fault}\n")), "{fault}");
        }
        assert!(text.contains(&format!("{FROM} {GUEST}\n")));
        assert!(TEXT.contains(&format!("@own vars {{re.ask.1}} {OWN}\n")));
    }
}
