//! Requests as core takes them: without what API Gateway puts before the API's own paths (rule P6.2).

use crate::body::Upload;
use http::Uri;
use lambda_http::{Body, Error, Request, RequestExt, request::RequestContext};
use pve_edge_core::api::Mount;

/// The request as the client sent it, without the stage or the custom domain's base path, which it has as
/// its [`Mount`].
pub fn plain(request: Request) -> Result<http::Request<Upload>, Error> {
    let at = own_path(&request);
    let client = client_path(&request).map(str::to_owned);
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().map_or("/", |it| it.as_str());
    let (before, inner) = path.split_at_checked(at).unwrap_or(("", path));
    let own = inner.split('?').next().unwrap_or_default();
    let mount = client.as_deref().and_then(|it| it.strip_suffix(own)).unwrap_or(before).to_owned();
    // Scheme and host are those of the client's URL.
    let inner = inner.parse()?;
    let mut uri = parts.uri.into_parts();
    uri.path_and_query = Some(inner);
    parts.uri = Uri::from_parts(uri)?;
    parts.extensions.clear();
    parts.extensions.insert(Mount(mount));
    let body = match body {
        Body::Text(text) => text.into_bytes(),
        Body::Binary(bytes) => bytes,
        _ => Vec::new(),
    };
    Ok(http::Request::from_parts(parts, body.into()))
}

/// Where the API's own path begins in that of the URI.
fn own_path(request: &Request) -> usize {
    let path = request.uri().path();
    let by_resource = resource(request).filter(|it| it.starts_with('/')).and_then(|it| {
        let before = path.trim_end_matches('/').strip_suffix(it.trim_end_matches('/'))?;
        Some(before.len())
    });
    by_resource.unwrap_or_else(|| {
        let stage = stage(request).map(|it| format!("/{it}"));
        let inner = stage.as_ref().and_then(|it| path.strip_prefix(it.as_str()));
        inner.filter(|it| it.starts_with('/')).map_or(0, |it| path.len() - it.len())
    })
}

/// The path within the API, which API Gateway has matched: `/{proxy+}` with what stands for `proxy`. The
/// event's own path has a custom domain's base path in front, and no word that says so.
fn resource(request: &Request) -> Option<String> {
    let template = match request.request_context_ref()? {
        RequestContext::ApiGatewayV1(context) => context.resource_path.as_deref()?,
        RequestContext::ApiGatewayV2(context) => context.route_key.as_deref()?.split_once(' ')?.1,
        _ => return None,
    };
    let parameters = request.path_parameters();
    let segments = template.split('/').map(|segment| {
        match segment.strip_prefix('{').and_then(|it| it.strip_suffix('}')) {
            Some(name) => parameters.first(name.trim_end_matches('+')).map(str::to_owned),
            None => Some(segment.to_owned()),
        }
    });
    Some(segments.collect::<Option<Vec<_>>>()?.join("/"))
}

/// The path of the URL that the client asked.
fn client_path(request: &Request) -> Option<&str> {
    match request.request_context_ref()? {
        RequestContext::ApiGatewayV1(context) => context.path.as_deref(),
        RequestContext::ApiGatewayV2(context) => context.http.path.as_deref(),
        _ => None,
    }
}

/// The stage that the URI begins with. A REST API's event has none in its path:
/// lambda_http puts it there, unless the path itself begins with that word.
fn stage(request: &Request) -> Option<String> {
    match request.request_context_ref()? {
        RequestContext::ApiGatewayV1(context) => {
            context.stage.clone().filter(|stage| !request.raw_http_path().starts_with(&format!("/{stage}/")))
        }
        RequestContext::ApiGatewayV2(context) => context.stage.clone().filter(|stage| stage != "$default"),
        _ => None,
    }
}
