//! Calls to Cloudflare's API.

use std::fmt;

use http::{HeaderValue, Method, Request, header};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{
    Site,
    found::TunnelId,
    refusal::{CloudflareError, decode},
};
use crate::{
    access::secret::Secret,
    io::{
        Io, Way,
        call::{Call, uri},
    },
    text::json,
};

/// Where the API is.
const BASE: &str = "https://api.cloudflare.com/client/v4";

/// Pages of a list that are read: a plan may cost no more than eight calls.
const PAGES: u32 = 2;

/// Records on a page. A zone that has more than two of these is not one that holds guests alone.
const RECORDS: &str = "5000";

/// Permission that a call needs of the token.
#[derive(Clone, Copy, Debug)]
pub(super) enum Right {
    Zone,
    Tunnel,
    Records,
    Services,
}

impl Right {
    /// Name of the permission, as the dashboard has it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Zone => "Zone > Zone > Read",
            Self::Tunnel => "Account > Cloudflare Tunnel > Edit",
            Self::Records => "Zone > DNS > Edit",
            Self::Services => "Account > Connectivity Directory > Admin",
        }
    }
}

/// Call, and the permission that it needs.
pub(super) struct Asked {
    call: Call<Value>,
    right: Right,
}

/// Client of the API, for one account and one zone.
pub(super) struct Client {
    authorization: HeaderValue,
    account: String,
    zone: String,
}

impl Client {
    /// The client; `None` when the token cannot be a header's value.
    pub(super) fn new(token: &Secret, account: &str, zone: &str) -> Option<Self> {
        let mut authorization = HeaderValue::from_str(&format!("Bearer {}", token.expose())).ok()?;
        authorization.set_sensitive(true);
        Some(Self { authorization, account: account.to_owned(), zone: zone.to_owned() })
    }

    /// Account of the client.
    pub(super) fn account(&self) -> &str {
        &self.account
    }

    /// Reads the zone.
    pub(super) fn zone(&self) -> Asked {
        self.asked(Right::Zone, "zones/{z}", Method::GET, &[&"zones", &self.zone], &[], None)
    }

    /// Finds tunnels by their name. Without `is_deleted=false` those that were deleted come too.
    pub(super) fn find_tunnel(&self, name: &str, page: u32) -> Asked {
        let page = page.to_string();
        let query = [("name", name), ("is_deleted", "false"), ("page", &*page)];
        self.of_tunnels(Method::GET, "cfd_tunnel", &[], &query, None)
    }

    /// Makes a tunnel whose ingress is kept by Cloudflare. The answer has its secret.
    pub(super) fn create_tunnel(&self, name: &str) -> Asked {
        let body = json!({"name": name, "config_src": "cloudflare"});
        self.of_tunnels(Method::POST, "cfd_tunnel", &[], &[], Some(&body))
    }

    /// Deletes a tunnel.
    pub(super) fn remove_tunnel(&self, id: &TunnelId) -> Asked {
        self.of_tunnels(Method::DELETE, "cfd_tunnel/{t}", &[id], &[], None)
    }

    /// Reads the token by which cloudflared connects to a tunnel.
    pub(super) fn token(&self, id: &TunnelId) -> Asked {
        self.of_tunnels(Method::GET, "cfd_tunnel/{t}/token", &[id, &"token"], &[], None)
    }

    /// Reads the configuration of a tunnel.
    pub(super) fn configuration(&self, id: &TunnelId) -> Asked {
        let path: [&dyn fmt::Display; 2] = [id, &"configurations"];
        self.of_tunnels(Method::GET, "cfd_tunnel/{t}/configurations", &path, &[], None)
    }

    /// Replaces the configuration of a tunnel.
    pub(super) fn configure(&self, id: &TunnelId, config: &Value) -> Asked {
        let path: [&dyn fmt::Display; 2] = [id, &"configurations"];
        let body = json!({ "config": config });
        self.of_tunnels(Method::PUT, "cfd_tunnel/{t}/configurations", &path, &[], Some(&body))
    }

    /// Lists what is connected to a tunnel.
    pub(super) fn connectors(&self, id: &TunnelId) -> Asked {
        let path: [&dyn fmt::Display; 2] = [id, &"connections"];
        self.of_tunnels(Method::GET, "cfd_tunnel/{t}/connections", &path, &[], None)
    }

    /// Ends all connections of a tunnel.
    pub(super) fn disconnect(&self, id: &TunnelId) -> Asked {
        let path: [&dyn fmt::Display; 2] = [id, &"connections"];
        self.of_tunnels(Method::DELETE, "cfd_tunnel/{t}/connections", &path, &[], None)
    }

    /// Lists the zone's records.
    pub(super) fn records(&self, page: u32) -> Asked {
        let page = page.to_string();
        self.of_records(Method::GET, &[], &[("per_page", RECORDS), ("page", &page)], None)
    }

    /// Makes a record.
    pub(super) fn create_record(&self, record: &Value) -> Asked {
        self.of_records(Method::POST, &[], &[], Some(record))
    }

    /// Deletes records and makes others, all of it or nothing.
    pub(super) fn replace_records(&self, ids: &[&str], records: &[Value]) -> Asked {
        let deletes: Vec<Value> = ids.iter().map(|id| json!({ "id": id })).collect();
        let body = json!({"deletes": deletes, "posts": records});
        self.of_records(Method::POST, &[&"batch"], &[], Some(&body))
    }

    /// Lists the account's VPC services.
    pub(super) fn services(&self, page: u32) -> Asked {
        let page = page.to_string();
        let query = [("type", "http"), ("per_page", "100"), ("page", &*page)];
        self.of_services(Method::GET, &[], &query, None)
    }

    /// Makes a VPC service.
    pub(super) fn create_service(&self, service: &Value) -> Asked {
        self.of_services(Method::POST, &[], &[], Some(service))
    }

    /// Replaces a VPC service.
    pub(super) fn change_service(&self, id: &str, service: &Value) -> Asked {
        self.of_services(Method::PUT, &[&id], &[], Some(service))
    }

    /// Deletes a VPC service.
    pub(super) fn remove_service(&self, id: &str) -> Asked {
        self.of_services(Method::DELETE, &[&id], &[], None)
    }

    fn of_tunnels(
        &self,
        method: Method,
        template: &'static str,
        path: &[&dyn fmt::Display],
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Asked {
        let root: [&dyn fmt::Display; 3] = [&"accounts", &self.account, &"cfd_tunnel"];
        self.asked(Right::Tunnel, template, method, &[&root, path].concat(), query, body)
    }

    fn of_records(
        &self,
        method: Method,
        path: &[&dyn fmt::Display],
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Asked {
        let root: [&dyn fmt::Display; 3] = [&"zones", &self.zone, &"dns_records"];
        self.asked(Right::Records, "dns_records", method, &[&root, path].concat(), query, body)
    }

    fn of_services(
        &self,
        method: Method,
        path: &[&dyn fmt::Display],
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Asked {
        let root: [&dyn fmt::Display; 5] =
            [&"accounts", &self.account, &"connectivity", &"directory", &"services"];
        let template = "connectivity/directory/services";
        self.asked(Right::Services, template, method, &[&root, path].concat(), query, body)
    }

    fn asked(
        &self,
        right: Right,
        template: &'static str,
        method: Method,
        path: &[&dyn fmt::Display],
        query: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Asked {
        let mut request = Request::new(Vec::new());
        *request.uri_mut() = uri(BASE, path, query);
        *request.method_mut() = method;
        let headers = request.headers_mut();
        headers.insert(header::AUTHORIZATION, self.authorization.clone());
        // Cloudflare's own firewall turns away what names no client.
        headers.insert(header::USER_AGENT, HeaderValue::from_static("pve-edge"));
        if let Some(body) = body {
            let body = body.to_string().into_bytes();
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
            *request.body_mut() = body;
        }
        request.extensions_mut().insert(Way::Public);
        Asked { call: Call::new(request, template), right }
    }
}

impl<I: Io> Site<I> {
    /// Sends a call and reads its result as a `T`. A read that was not answered is sent once more, a write never.
    pub(super) async fn send<T: DeserializeOwned>(&self, asked: Asked) -> Result<T, CloudflareError> {
        let (result, _) = self.exchange(asked).await?;
        shape(result)
    }

    /// Reads all rows of a list, page by page.
    pub(super) async fn list<T: DeserializeOwned>(
        &self,
        page: impl Fn(u32) -> Asked,
    ) -> Result<Vec<T>, CloudflareError> {
        let mut rows = Vec::new();
        for number in 1.. {
            let (result, pages) = self.exchange(page(number)).await?;
            // A list of nothing may be null.
            rows.extend(shape::<Option<Vec<T>>>(result)?.unwrap_or_default());
            if number >= pages {
                break;
            }
            if number >= PAGES {
                return Err(CloudflareError::Long(pages));
            }
        }
        Ok(rows)
    }

    async fn exchange(&self, Asked { call, right }: Asked) -> Result<(Value, u32), CloudflareError> {
        let is_read = call.is_read();
        let whole = self.invocation.exchange(call.request, call.template, is_read).await?;
        decode(&whole, right)
    }
}

fn shape<T: DeserializeOwned>(result: Value) -> Result<T, CloudflareError> {
    json::read(result).map_err(|error| CloudflareError::Shape(error.to_string()))
}
