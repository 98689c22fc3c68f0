//! Requests as core takes them: without what API Gateway puts before the API's own paths (rule P6.2).

use crate::body::Upload;
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
    parts.uri = inner.parse()?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;
    use pve_edge_core::io::collect;
    use serde_json::{Value, json};

    /// What core sees, and what the client's paths begin with.
    fn check(event: &Value, uri: &str, mount: &str) {
        let request = lambda_http::request::from_str(&event.to_string()).expect("an event");
        let request = plain(request).expect("a request");
        assert_eq!(request.uri(), uri, "{event}");
        assert_eq!(request.extensions().get::<Mount>().map(|it| it.0.as_str()), Some(mount), "{event}");
        let body = collect(request.into_body(), 2).now_or_never();
        assert_eq!(body, Some(Ok(b"{}".to_vec())), "{event}");
    }

    fn http_api(route: &str, stage: &str, path: &str) -> Value {
        json!({
            "version": "2.0", "routeKey": route, "rawPath": path, "rawQueryString": "a=b%20c",
            "headers": {"host": "x.example"}, "body": "e30=", "isBase64Encoded": true,
            "requestContext": {
                "accountId": "1", "apiId": "x", "stage": stage, "time": "", "timeEpoch": 0, "routeKey": route,
                "http": {"method": "POST", "path": path, "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1"},
            },
        })
    }

    /// `seen` is the path of the client's URL.
    fn rest_api(stage: &str, path: &str, seen: &str) -> Value {
        json!({
            "resource": "/{proxy+}", "path": path, "httpMethod": "POST", "body": "{}",
            "headers": {"Host": "x.example"}, "multiValueHeaders": {"Host": ["x.example"]},
            "queryStringParameters": {"a": "b"}, "multiValueQueryStringParameters": {"a": ["b"]},
            "requestContext": {"stage": stage, "path": seen, "httpMethod": "POST", "identity": {}},
        })
    }

    fn with_resource(mut event: Value, resource: &str, proxy: &str) -> Value {
        event["requestContext"]["resourcePath"] = json!(resource);
        event["pathParameters"] = json!({"proxy": proxy});
        event
    }

    #[test]
    fn the_stage_of_an_http_api_is_stripped() {
        let event = |stage, path| http_api("$default", stage, path);
        check(&event("$default", "/api/sand%20boxes"), "/api/sand%20boxes?a=b%20c", "");
        check(&event("prod", "/prod/api/sandboxes"), "/api/sandboxes?a=b%20c", "/prod");
        check(&event("api", "/api/api/sandboxes"), "/api/sandboxes?a=b%20c", "/api");
    }

    #[test]
    fn the_stage_of_a_rest_api_is_stripped() {
        for stage in ["prod", "api"] {
            let event = rest_api(stage, "/api/sandboxes", &format!("/{stage}/api/sandboxes"));
            check(&event, "/api/sandboxes?a=b", &format!("/{stage}"));
            check(
                &with_resource(event, "/{proxy+}", "api/sandboxes"),
                "/api/sandboxes?a=b",
                &format!("/{stage}"),
            );
        }
    }

    /// As API Gateway tells it of a mapping with a base path, a stage, both and neither.
    #[test]
    fn a_custom_domains_base_path_is_stripped() {
        for (path, mount) in [
            ("/api/sandboxes", ""),
            ("/edge/api/sandboxes", "/edge"),
            ("/prod/api/sandboxes", "/prod"),
            ("/edge/prod/api/sandboxes", "/edge/prod"),
            ("/api/api/sandboxes", "/api"),
        ] {
            let event = with_resource(rest_api("prod", path, path), "/{proxy+}", "api/sandboxes");
            check(&event, "/api/sandboxes?a=b", mount);
            let mut event = http_api("ANY /{proxy+}", "$default", path);
            event["pathParameters"] = json!({"proxy": "api/sandboxes"});
            check(&event, "/api/sandboxes?a=b%20c", mount);
        }
        let below = with_resource(
            rest_api("prod", "/e/api/sandboxes/", "/e/api/sandboxes/"),
            "/api/{proxy+}",
            "sandboxes",
        );
        check(&below, "/api/sandboxes/?a=b", "/e");
    }

    /// Without a resource nothing tells it apart from a path: `EDGE_BASE_PATH` does.
    #[test]
    fn what_cannot_be_told_is_left_to_the_setting() {
        check(&http_api("$default", "$default", "/edge/api/gc"), "/edge/api/gc?a=b%20c", "");
        check(&rest_api("prod", "/edge/api/gc", "/edge/api/gc"), "/edge/api/gc?a=b", "");
    }
}
