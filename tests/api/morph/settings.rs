//! What makes a deployment one on Morph Cloud.

use crate::stage::{WORKERS, settings};
use pve_edge_core::{io::Platform, provider::Client, sandbox::preset::ProviderName, settings::Settings};

fn read(changes: &[(&str, &str)], platform: &Platform) -> Result<Settings, String> {
    Settings::read(&settings(changes), platform).map_err(|it| it.iter().map(|it| format!("{it}\n")).collect())
}

const NO_PVE: [(&str, &str); 3] = [("PVE_API_URL", ""), ("PVE_API_TOKEN", ""), ("PVE_PUBLIC_DOMAIN", "")];

#[test]
fn its_key_is_enough() {
    let with = |more: &[(&'static str, &'static str)]| [&NO_PVE, more].concat();
    let settings = read(&with(&[("MORPH_API_KEY", "hidden")]), &WORKERS).expect("right settings");
    assert_eq!(settings.provider, ProviderName::Morph);
    assert_eq!(settings.morph_base_url, "https://cloud.morph.so/api");
    let client = Client::new(&settings);
    assert!(matches!(client, Some(Client::Morph(_))));
    assert!(!format!("{settings:?} {:?}", client).contains("hidden"));
    let chosen = |changes: &[(&str, &str)]| read(changes, &WORKERS).map(|it| it.provider);
    assert_eq!(chosen(&[("SANDBOX_PROVIDER", "morph"), ("MORPH_API_KEY", "k")]), Ok(ProviderName::Morph));
    assert_eq!(chosen(&[("SANDBOX_PROVIDER", "pve-lxc"), ("MORPH_API_KEY", "k")]), Ok(ProviderName::PveLxc));
}

#[test]
fn wrong_ones_are_named_and_never_shown() {
    for (name, value, why) in [
        ("MORPH_BASE_URL", "http://hidden.example.com/api", "https: over http"),
        ("MORPH_BASE_URL", "https://u:hidden@cloud.morph.so/api", "no user"),
        ("MORPH_BASE_URL", "hidden", "scheme, host and port"),
        ("MORPH_API_KEY", "hid den", "a key as Morph Cloud gives it"),
    ] {
        let changes = [&NO_PVE, &[("SANDBOX_PROVIDER", "morph"), ("MORPH_API_KEY", "k")][..]].concat();
        let kept = changes.into_iter().filter(|(known, _)| *known != name);
        let changes: Vec<_> = kept.chain([(name, value)]).collect();
        let said = read(&changes, &WORKERS).expect_err("wrong");
        assert!(said.contains(name) && said.contains(why) && !said.contains("hidden"), "{said}");
    }
    let local =
        [&NO_PVE, &[("MORPH_API_KEY", "k"), ("MORPH_BASE_URL", "http://127.0.0.1:9/api/")][..]].concat();
    assert_eq!(read(&local, &WORKERS).map(|it| it.morph_base_url), Ok("http://127.0.0.1:9/api".to_owned()));
}
