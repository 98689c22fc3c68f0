//! What the Lambda function and the local server share: [`net`], core's
//! [`Io`](pve_edge_core::io::Io) over sockets, and [`http`], its answers as HTTP bodies; beside them
//! [`function`], what is AWS Lambda's alone.

pub mod body;
pub mod function;
pub mod http;
pub mod link;
pub mod net;
mod path;
