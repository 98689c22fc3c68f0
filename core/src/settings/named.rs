//! Settings that are read by themselves, whatever is wrong with others: for answers while a deployment is being set up.

use super::{
    Origins,
    reader::Reader,
    values::{api_token, base_path, plain_name, token_id},
};
use crate::sandbox::preset::ProviderName;

/// Settings that count while others are wrong. One that is wrong itself counts as not set.
#[derive(Clone, Debug)]
pub(crate) struct Apart {
    /// Origins whose pages may use the API, from `EDGE_CORS_ORIGINS`.
    pub(crate) origins: Origins,
    /// Path below which the API is, from `EDGE_BASE_PATH`.
    pub(crate) base_path: String,
    /// Things of PVE.
    pub(crate) named: Named,
    /// Whether the sandboxes are Morph Cloud's.
    pub(crate) is_on_morph: bool,
}

/// Things of PVE that the settings name, none of which is secret.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    /// User of the API token, with its realm.
    pub(crate) user: String,
    /// Name of the token among those of its user.
    pub(crate) token: String,
    /// Storage, from `PVE_STORAGE`.
    pub(crate) storage: Option<String>,
    /// Bridge, from `PVE_BRIDGE`.
    pub(crate) bridge: Option<String>,
    /// Whether sandboxes are virtual machines.
    pub(crate) has_vms: bool,
}

impl Apart {
    /// Reads them; `Settings` tells what is wrong with them.
    pub(crate) fn read(pairs: &[(String, String)]) -> Self {
        let mut reader = Reader::new(pairs);
        let base_path = reader.parsed("EDGE_BASE_PATH", base_path).unwrap_or_default();
        let provider =
            reader.parsed("SANDBOX_PROVIDER", |it| it.parse::<ProviderName>().map_err(String::from));
        let has_key = reader.has("MORPH_API_KEY");
        Self {
            origins: Origins::read(pairs),
            base_path,
            is_on_morph: provider.map_or(has_key, |it| it == ProviderName::Morph),
            named: Named::read(&mut reader, provider == Some(ProviderName::PveVm)),
        }
    }
}

impl Named {
    fn read(reader: &mut Reader<'_>, has_vms: bool) -> Self {
        let right = |it: &str| api_token(it).and_then(|_| token_id(it));
        let id = reader.parsed("PVE_API_TOKEN", right);
        let (user, token) = id.unwrap_or_else(|| ("edge@pve".to_owned(), "api".to_owned()));
        Self {
            user,
            token,
            storage: reader.parsed("PVE_STORAGE", plain_name),
            bridge: reader.parsed("PVE_BRIDGE", plain_name),
            has_vms,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Apart {
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        Apart::read(&pairs)
    }

    /// Nothing but a token that PVE could have made has an id; what stands in its place is shown to nobody.
    #[test]
    fn the_id_of_a_token_is_no_part_of_its_secret() {
        for (token, user, id) in [
            ("sand-box@pve!ci.1=7f5ab1d0", "sand-box@pve", "ci.1"),
            // PVE splits at the last `=`: what is before it would be the id.
            ("edge@pve!ci=7f5a=b1d0", "edge@pve", "api"),
            ("PVEAPIToken=root@pam!edge=s", "root@pam", "edge"),
            ("edge@pve!7f5ab1d0=s", "edge@pve", "api"),
            ("edge@pve!x=s", "edge@pve", "api"),
            ("edge@pve!$(reboot)=s", "edge@pve", "api"),
            ("a'b@pve!api=s", "edge@pve", "api"),
            ("edge@pve!api 7f5ab1d0", "edge@pve", "api"),
            ("", "edge@pve", "api"),
        ] {
            let named = read(&[("PVE_API_TOKEN", token)]).named;
            assert_eq!((&*named.user, &*named.token), (user, id), "{token}");
        }
    }

    #[test]
    fn one_that_is_wrong_spoils_no_other() {
        let apart = read(&[
            ("EDGE_BASE_PATH", "/edge/"),
            ("PVE_STORAGE", "tank"),
            ("PVE_BRIDGE", "a b"),
            ("SANDBOX_PROVIDER", "docker"),
            ("EDGE_SECRET", "short"),
        ]);
        assert_eq!((&*apart.base_path, apart.named.storage.as_deref()), ("/edge", Some("tank")));
        assert!(apart.named.bridge.is_none() && !apart.named.has_vms && !apart.is_on_morph);
        assert!(read(&[("SANDBOX_PROVIDER", "pve-vm"), ("MORPH_API_KEY", "k")]).named.has_vms);
        assert!(read(&[("MORPH_API_KEY", "k")]).is_on_morph);
    }
}
