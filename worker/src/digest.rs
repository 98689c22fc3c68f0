//! The digest of a client's body that is sent on. Its bytes pass from stream to stream, and never come into the Worker's
//! memory.

use crate::request::Upload;
use pve_edge_core::io::{
    WithDigest,
    digest::{Digested, NoDigest},
};
use worker::{
    crypto::{DigestStream, DigestStreamAlgorithm},
    js_sys::{self, Array, Function, Reflect, Uint8Array},
    wasm_bindgen::{JsCast, JsValue},
    wasm_bindgen_futures::JsFuture,
    web_sys::{ReadableStream, ReadableStreamDefaultReader, TransformStream, WritableStreamDefaultWriter},
};

impl WithDigest for Upload {
    fn with_digest(self) -> (Self, impl Future<Output = Result<Digested, NoDigest>>) {
        let passage = passage();
        let upload = passage.as_ref().map(TransformStream::readable);
        let body = self.into_inner();
        let digest = async move {
            let to = passage.and_then(|it| it.writable().get_writer().ok()).ok_or(NoDigest::Unread)?;
            let passed = pass(body, &to).await;
            if passed.is_err() {
                // The upstream sees its request break off, and not end.
                drop(to.abort());
            }
            passed
        };
        (Self::new(upload), digest)
    }
}

/// A stream that hands on what is written to it, and keeps nothing: a write ends when its bytes are read. The standard's
/// `TransformStream` would keep them.
fn passage() -> Option<TransformStream> {
    let class: Function = Reflect::get(&js_sys::global(), &"IdentityTransformStream".into()).ok()?.into();
    Reflect::construct(&class, &Array::new()).ok().map(JsCast::unchecked_into)
}

/// Writes a body to the digest and to the upstream, chunk by chunk, in the upstream's time.
async fn pass(body: Option<ReadableStream>, to: &WritableStreamDefaultWriter) -> Result<Digested, NoDigest> {
    let digest = DigestStream::new(DigestStreamAlgorithm::Sha256);
    let hash = digest.raw().get_writer().map_err(unread)?;
    let mut length = 0;
    if let Some(body) = body {
        let reader: ReadableStreamDefaultReader = body.get_reader().unchecked_into();
        while let Some(chunk) = next(&reader).await? {
            length += u64::from(chunk.byte_length());
            JsFuture::from(hash.write_with_chunk(&chunk)).await.map_err(unread)?;
            JsFuture::from(to.write_with_chunk(&chunk)).await.map_err(unread)?;
        }
    }
    JsFuture::from(hash.close()).await.map_err(unread)?;
    let sha256 = digest.digest().await.ok().and_then(|it| it.to_vec().try_into().ok());
    let sha256 = sha256.ok_or(NoDigest::Unread)?;
    JsFuture::from(to.close()).await.map_err(unread)?;
    Ok(Digested { length, sha256 })
}

/// The next chunk of a client's body.
async fn next(reader: &ReadableStreamDefaultReader) -> Result<Option<Uint8Array>, NoDigest> {
    let next = JsFuture::from(reader.read()).await.map_err(|_broken| NoDigest::Broken)?;
    let member = |name: &str| Reflect::get(&next, &name.into()).map_err(unread);
    if member("done")?.is_truthy() {
        return Ok(None);
    }
    member("value")?.dyn_into().map(Some).map_err(unread)
}

fn unread(_thrown: JsValue) -> NoDigest {
    NoDigest::Unread
}
