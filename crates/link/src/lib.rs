//! The connection between a peer and a coordinator, whatever it runs over.
//!
//! A [`Link`] carries requests, each on a stream of its own that the peer opens, and notices, each
//! on one that the coordinator opens. Both sides have proved their keys before there is a link. The
//! transports make links: [`quic`] over UDP, [`tcp`], by way of a [`Proxy`] if need be, and
//! [`web`]. Peers and coordinators know a link, and only where they begin do they name a transport.
//!
//! What is deliberately absent: messages and their frames, which are of `p2pconnect-proto`, and
//! every decision about whom to serve or when to come back.

#![forbid(unsafe_code)]

mod end;
#[cfg(test)]
mod foreign;
mod link;
mod proxy;
pub mod quic;
mod setup;
mod stream;
pub mod tcp;
pub mod web;
mod words;

pub use end::{CloseCode, End, StreamError};
pub use link::Link;
pub use proxy::{
    Destination, PROXY_LIMIT, ParseProxyError, Proxy, ProxyError, WrongVariable, proxy_of_variables,
};
pub use setup::{ConnectError, SetupError};
pub use stream::{RecvStream, SendStream};
