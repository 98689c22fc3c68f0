//! Routes about services of a sandbox, and the links that open them.

use http::Response;

use crate::{
    access::pass::{Carrier, Pass, Realm},
    api::{
        answer::{empty, plain},
        request::{ApiRequest, CHANGE_WAIT},
    },
    error::{Code, Error},
    gateway,
    io::Io,
    provider::Provider,
    sandbox::{
        Service,
        address::{public_url, visit_url},
        id::SpelledId,
        service::{LinkBody, ServiceBody, ServiceLink, ServiceName, Terms, ensure_visitable},
    },
    text::rfc3339::stamp,
};

pub(super) async fn put<I: Io>(
    provider: &Provider<'_, I>,
    asked: &ApiRequest<'_>,
) -> Result<Response<Vec<u8>>, Error> {
    let name = name(asked)?;
    let wish = asked.json::<ServiceBody>()?.wish(provider.settings().public_services)?;
    let deadline = provider.deadline(asked.wait_or(CHANGE_WAIT));
    let service = provider.put_service(asked.caller, asked.id(), &name, &wish, deadline).await?;
    Ok(plain(200, &shown(provider, asked, &name, service)))
}

pub(super) async fn get<I: Io>(
    provider: &Provider<'_, I>,
    asked: &ApiRequest<'_>,
) -> Result<Response<Vec<u8>>, Error> {
    let name = name(asked)?;
    let (_, services) = provider.services(asked.caller, asked.id()).await?;
    let service = services.get(&name).ok_or_else(|| unknown(&name))?;
    Ok(plain(200, &shown(provider, asked, &name, service)))
}

pub(super) async fn remove<I: Io>(
    provider: &Provider<'_, I>,
    asked: &ApiRequest<'_>,
) -> Result<Response<Vec<u8>>, Error> {
    let deadline = provider.deadline(asked.wait_or(CHANGE_WAIT));
    provider.remove_service(asked.caller, asked.id(), &name(asked)?, deadline).await?;
    Ok(empty())
}

/// Makes a link that opens a service in a browser.
pub(super) async fn link<I: Io>(
    provider: &Provider<'_, I>,
    asked: &ApiRequest<'_>,
) -> Result<Response<Vec<u8>>, Error> {
    let (name, settings) = (name(asked)?, provider.settings());
    let (seconds, embed) = asked.json::<LinkBody>()?.check()?;
    let (id, services) = provider.services(asked.caller, asked.id()).await?;
    let Terms { port, epoch, .. } = services.get(&name).ok_or_else(|| unknown(&name))?;
    ensure_visitable(port)?;
    let domain = settings.public_domain.as_ref().ok_or_else(|| {
        let text = "links need the domain of the guests: set PVE_PUBLIC_DOMAIN, and let a Worker or a local server be its gateway";
        Error::new(Code::GatewayUnsupported, text)
    })?;
    let expires = (provider.now() + time::Duration::seconds(seconds.into())).truncate_to_second();
    let (vmid, nonce) = (id.vmid, id.nonce);
    let pass = Pass {
        sandbox: id.to_string(),
        port,
        expires: expires.unix_timestamp(),
        epoch,
        embed: embed.into_iter().map(String::from).collect(),
    };
    let realm = Realm { deployment: &settings.deployment, domain: domain.authority() };
    let token = pass.token(Carrier::Link, &settings.secrets, realm);
    let url = gateway::with_token(&visit_url(domain, port, vmid, nonce), "/", &token);
    Ok(plain(200, &ServiceLink { url, expires_at: stamp(expires) }))
}

fn name(asked: &ApiRequest<'_>) -> Result<ServiceName, Error> {
    asked.route.part.parse().map_err(|fix| Error::field("name", fix))
}

fn unknown(name: &ServiceName) -> Error {
    Error::new(Code::NotFound, format!("the sandbox has no service {name}: PUT declares it"))
}

/// A service as answers show it.
fn shown<I: Io>(
    provider: &Provider<'_, I>,
    asked: &ApiRequest<'_>,
    name: &ServiceName,
    terms: Terms,
) -> Service {
    let vmid = asked.id().parse::<SpelledId>().map(|it| it.vmid()).ok();
    let domain = provider.settings().public_domain.as_ref();
    let url = domain.zip(vmid).map(|(domain, vmid)| public_url(domain, terms.port, vmid));
    Service::on(terms, name.to_string(), url)
}
