//! Core's answers, compiled once for all tests.

use std::{future::Future, pin::Pin, rc::Rc};

use futures_util::StreamExt;
use http::{Request, Response};
use pve_edge_core::{
    api::{Service, handle},
    io::{Platform, ResponseBody},
};
use time::OffsetDateTime;

use super::World;
use crate::sim::execd::Piece;

/// An answer that is still to come, and when it came.
type Pending = Pin<Box<dyn Future<Output = (Response<Vec<u8>>, OffsetDateTime)>>>;

impl World {
    /// Asks core, as an adapter of this name does; a stream is read to its end, or until it is cut.
    pub fn answer(
        &self,
        name: &str,
        service: &Rc<Service>,
        platform: Platform,
        seed: [u8; 32],
        request: Request<Vec<Piece>>,
    ) -> Pending {
        let (io, service, world) = (self.io_named(name), service.clone(), self.clone());
        Box::pin(async move {
            let request = request.map(|body| io.upload(body));
            let (head, body) = handle(io, &service, platform, seed, request).await.into_parts();
            let mut bytes = Vec::new();
            match body {
                ResponseBody::Whole(whole) => bytes = whole,
                ResponseBody::Events(mut events) => {
                    while let Some(Ok(event)) = events.next().await {
                        bytes.extend(event);
                    }
                }
                ResponseBody::Proxied(mut body) => {
                    while let Some(Ok(chunk)) = body.next().await {
                        bytes.extend(chunk);
                    }
                }
                // Its messages are nobody's here.
                ResponseBody::Upgraded(_) => {}
                ResponseBody::Closed { code, reason } => bytes = format!("{code} {reason}").into_bytes(),
            }
            (Response::from_parts(head, bytes), world.now())
        })
    }
}
