//! Links: websockets that core opens itself.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use crate::net::{Guard, words};
use futures_channel::mpsc::{UnboundedReceiver, unbounded};
use futures_util::{Stream, StreamExt};
use pve_edge_core::io::{
    Failure, NetError, Sent,
    link::{self, LARGEST_HEARD},
};
use worker::{
    js_sys::Uint8Array,
    wasm_bindgen::{JsCast, JsValue, closure::Closure},
    web_sys::{BinaryType, Event, MessageEvent, WebSocket},
    worker_sys::ext::WebSocketExt,
};

/// Events of a websocket.
const EVENTS: [&str; 3] = ["message", "close", "error"];

/// Websocket that core has opened. The platform sends and receives by itself, and what has come waits here.
#[derive(Debug)]
pub struct Link {
    socket: WebSocket,
    events: UnboundedReceiver<Event>,
    listener: Closure<dyn FnMut(Event)>,
    ended: bool,
    _guard: Guard,
}

impl Link {
    /// The link on a websocket that nobody has accepted yet.
    pub(crate) fn new(socket: WebSocket, guard: Guard) -> Result<Self, NetError> {
        // Otherwise a binary message is a `Blob`, whose bytes nobody has yet.
        socket.set_binary_type(BinaryType::Arraybuffer);
        let (tell, events) = unbounded();
        let listener = Closure::new(move |event| {
            let _ = tell.unbounded_send(event);
        });
        let link = Self { socket, events, listener, ended: false, _guard: guard };
        for name in EVENTS {
            let listener = link.listener.as_ref().unchecked_ref();
            link.socket.add_event_listener_with_callback(name, listener).map_err(thrown)?;
        }
        link.socket.accept().map_err(thrown)?;
        Ok(link)
    }
}

impl link::Link for Link {
    fn send(&mut self, message: Vec<u8>) -> Result<(), NetError> {
        if self.ended {
            return Err(cut("the websocket has ended"));
        }
        // A copy, because the platform reads it later.
        let bytes = Uint8Array::from(message.as_slice());
        self.socket.send_with_array_buffer(&bytes.buffer()).map_err(thrown)
    }
}

impl Stream for Link {
    type Item = Result<Vec<u8>, NetError>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let heard = ready!(self.events.poll_next_unpin(context)).and_then(|event| heard(&event));
        self.ended = !matches!(heard, Some(Ok(_)));
        Poll::Ready(heard)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        for name in EVENTS {
            let listener = self.listener.as_ref().unchecked_ref();
            let _ = self.socket.remove_event_listener_with_callback(name, listener);
        }
        let _ = self.socket.close_with_code(1000);
    }
}

/// The message of an event; `None` is the end.
fn heard(event: &Event) -> Option<Result<Vec<u8>, NetError>> {
    match event.type_().as_str() {
        "message" => Some(bytes(&event.unchecked_ref::<MessageEvent>().data())),
        "error" => {
            let words = words(event);
            // The platform has a limit of its own, of 32 MiB.
            Some(Err(if words.contains("too large") { too_large(&words) } else { cut(&words) }))
        }
        _ => None,
    }
}

fn bytes(data: &JsValue) -> Result<Vec<u8>, NetError> {
    let message = match data.as_string() {
        Some(text) => text.into_bytes(),
        None => Uint8Array::new(data).to_vec(),
    };
    if message.len() > LARGEST_HEARD {
        return Err(too_large("a message is too large"));
    }
    Ok(message)
}

fn thrown(error: JsValue) -> NetError {
    cut(&words(&error))
}

fn cut(detail: &str) -> NetError {
    NetError::new(Sent::Maybe, Failure::Cut, detail)
}

fn too_large(detail: &str) -> NetError {
    NetError::new(Sent::Maybe, Failure::TooLarge, detail)
}
