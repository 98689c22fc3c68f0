//! What the Lambda function and the local server share: [`net`], core's
//! [`Io`](pve_edge_core::io::Io) over sockets, and [`http`], its answers as HTTP bodies.

pub mod http;
pub mod net;
