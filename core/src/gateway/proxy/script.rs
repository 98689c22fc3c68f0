//! The script that sets up the proxy on a node: what the settings say, before what is the same everywhere.

use std::net::Ipv4Addr;

use super::{Guests, PROXY_PORT, caddyfile::caddyfile};
use crate::{
    error::{Code, Error},
    sandbox::preset::ProviderName,
    settings::Settings,
    text::shell::{ASKING, quote},
};

/// The script without what is written into it here.
const BODY: &str = include_str!("proxy.sh");

/// The services, each before what both may not.
const PROXY: &str = include_str!("proxy.service");
const TUNNEL: &str = include_str!("tunnel.service");
const CONFINED: &str = include_str!("confined.service");

/// Line that ends a file within the script; no file has it.
const END: &str = "END OF FILE";

/// Writes the script of a deployment. It holds the proxy's keys.
pub fn script(settings: &Settings) -> Result<String, Error> {
    if settings.provider == ProviderName::Morph {
        let text = "Morph Cloud's sandboxes have URLs of Morph's: there is no proxy to set up";
        return Err(Error::new(Code::Unsupported, text));
    }
    let text = "the proxy has to know which addresses are guests': set PVE_IP_POOL_CIDR, or, where guests have theirs by \
                DHCP, EDGE_GUEST_NETWORK to a network that holds guests alone";
    let guests = Guests::of(settings).ok_or_else(|| Error::new(Code::Unsupported, text))?;
    let deployment = settings.deployment.to_string();
    let keys: Vec<String> = settings.secrets.all().map(|it| it.proxy_key(&deployment)).collect();
    let unit = |text: &str| {
        let text = text.replace("DEPLOYMENT", &deployment).replace("GUESTS", &guests.cidr());
        text.replace("PROXY-PORT", &PROXY_PORT.to_string()) + CONFINED
    };
    let api = settings.api_url.as_deref().and_then(address).map(|it| it.to_string()).unwrap_or_default();
    let set = format!("    self=proxy.sh\n    deployment={}\n    api={}\n", quote(&deployment), quote(&api));
    let files = [
        file("write_caddyfile", &caddyfile(&deployment, &keys, &guests)),
        file("write_proxy_unit", &unit(PROXY)),
        file("write_tunnel_unit", &unit(TUNNEL)),
    ];
    let text = BODY.replacen("    # SETTINGS\n", &set, 1).replacen("# ASKING\n", ASKING, 1);
    Ok(text.replacen("# FILES\n", &files.join("\n"), 1))
}

/// Address in a URL, if its host is one.
fn address(url: &str) -> Option<Ipv4Addr> {
    url.split("://").nth(1)?.split([':', '/']).next()?.parse().ok()
}

/// Function of the script that writes a file.
fn file(name: &str, text: &str) -> String {
    format!("{name}() {{\n    cat <<'{END}'\n{text}{END}\n}}\n")
}
