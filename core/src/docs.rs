//! The project's pages, for rustdoc: it checks the links between them.
//!
//! A page links to another by a label, which it defines at its end as the path of a file. Of two definitions
//! of one label Markdown takes the first, so the ones below lead rustdoc to modules instead.

/// A module for each page, with the labels of all pages before its text.
macro_rules! pages {
    ($labels:literal; $($name:ident $file:literal)*) => { $(
        #[doc = $labels]
        #[doc = include_str!(concat!("../docs/", $file))]
        pub mod $name {}
    )* };
}

pages! {
"[api]: crate::docs::api
[api-commands]: crate::docs::api#running-commands
[api-operations]: crate::docs::api#operations
[files]: crate::docs::files
[gateway]: crate::docs::gateway
[files-console]: crate::docs::files#through-a-containers-console
[local]: crate::docs::local
[page]: crate::docs::page
[platforms]: crate::docs::platforms
[platforms-way]: crate::docs::platforms#p3-who-has-answered
[prepare-certificates]: crate::docs::prepare_pve#certificates
[prepare-health]: crate::docs::prepare_pve#health
[prepare-token]: crate::docs::prepare_pve#token-and-roles
[proxy]: crate::docs::proxy
[settings]: crate::docs::settings
[settings-keys]: crate::docs::settings#keys-and-secrets
[state]: crate::docs::state
[state-requests]: crate::docs::state#s10-requests-to-pve
[state-stored]: crate::docs::state#what-is-stored-where
[templates]: crate::docs::templates
[templates-execd]: crate::docs::templates#the-exec-daemon
[templates-nothing]: crate::docs::templates#a-template-from-nothing
[troubleshooting]: crate::docs::troubleshooting
[tunnel]: crate::docs::tunnel
[tunnel-conflicts]: crate::docs::tunnel#conflicts
[tunnel-permissions]: crate::docs::tunnel#the-token
";
    api "api.md"
    design "design.md"
    files "files.md"
    first_url "first-url.md"
    gateway "gateway.md"
    local "local.md"
    morph "morph.md"
    page "page.md"
    platforms "platforms.md"
    prepare_pve "prepare-pve.md"
    proxy "proxy.md"
    settings "settings.md"
    state "state.md"
    templates "templates.md"
    troubleshooting "troubleshooting.md"
    tunnel "tunnel.md"
}
