//! The kubelet's gRPC interfaces, and how to serve and call them over unix sockets.
//!
//! [`deviceplugin`] (v1beta1), [`podresources`] (v1) and [`cri`] (v1) hold the messages, clients and servers,
//! generated from `proto/` at build time. [`serve`] and [`connect`] are the transport: HTTP/2 on
//! a unix socket and nothing else, so that a call costs little and an error is known at once.
//! No connection is ever re-made behind the caller's back: when and whether to try again is a
//! decision, and decisions are the caller's.

pub mod cri;
pub mod deviceplugin;
pub mod podresources;

mod client;
mod server;
mod socket;

pub use client::{ConnectError, Connection, connect};
pub use server::{DRAIN_LIMIT, serve};
pub use socket::{BoundSocket, Socket, SocketPlace};
