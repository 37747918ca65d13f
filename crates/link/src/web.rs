//! A WebSocket (RFC 6455) as what TLS runs over: what web servers and proxies for the web let
//! through where nothing else passes.
//!
//! Both sides prove their keys inside, by the same TLS as on TCP. So whoever ends the TLS of the
//! web that is around the WebSocket, be it a web server or a proxy that intercepts, sees frames of
//! what it cannot read.

mod certificate;
mod client;
mod frames;
mod outer;
mod server;
#[cfg(test)]
mod tests;

use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;

pub use certificate::{Certificate, CertificateError};
pub use client::{Client, Connected};
pub use server::{Incoming, receive};

/// The most bytes that either side puts into one message: a record of TLS.
const MAX_MESSAGE: usize = 20 * 1024;

/// What is read at once, at most.
const PIECE: usize = 4 * 1024;

/// Returns what holds for the frames of both sides.
fn config() -> WebSocketConfig {
    // Each message is written at once: TLS has put together what belongs together.
    WebSocketConfig::default()
        .read_buffer_size(PIECE)
        .write_buffer_size(0)
        .max_write_buffer_size(4 * MAX_MESSAGE)
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE))
}
