//! Our STUN client and server, the streams of links by TCP, and what coordinators say to each
//! other, against implementations that are not ours.

#![expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

mod bus_over_nats;
mod client_of_coturn;
mod client_with_coturn;
mod coturn;
mod link_with_yamux;
mod server_with_raw_bytes;
mod server_with_stun_codec;
