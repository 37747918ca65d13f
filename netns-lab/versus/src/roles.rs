//! What a program of the comparison is to do, by its arguments.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, bail};

/// What a program is to do.
#[derive(Debug, Clone)]
pub enum Role {
    /// To be found by both peers at this address.
    Serve(SocketAddr),
    /// To wait for diallers at the server that `serve` printed.
    Listen(String),
    /// To dial.
    Dial(Dial),
}

/// Whom to dial, and for how long.
#[derive(Debug, Clone)]
pub struct Dial {
    /// What `serve` printed.
    pub server: String,
    /// What `listen` printed.
    pub peer: String,
    /// How long the dialler has, from its start on.
    pub limit: Duration,
    /// How long to fill the stream.
    pub bulk: Duration,
}

impl Role {
    /// Reads the command line.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn from_arguments() -> Result<Self> {
        let arguments: Vec<String> = std::env::args().skip(1).collect();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        Ok(match arguments[..] {
            ["serve", address] => Self::Serve(address.parse().context(address.to_owned())?),
            ["listen", server] => Self::Listen(server.into()),
            ["dial", server, peer, limit, bulk] => Self::Dial(Dial {
                server: server.into(),
                peer: peer.into(),
                limit: seconds(limit)?,
                bulk: seconds(bulk)?,
            }),
            _ => bail!("usage: serve ADDRESS:PORT | listen SERVER | dial SERVER PEER LIMIT BULK"),
        })
    }
}

/// Says that a server or listener is ready, and by what others find it.
#[expect(clippy::print_stdout, reason = "this is how it is said")]
pub fn announce(name: impl std::fmt::Display) {
    println!("ready {name}");
}

fn seconds(text: &str) -> Result<Duration> {
    let seconds = text.parse().with_context(|| format!("no time: {text}"))?;
    Ok(Duration::try_from_secs_f64(seconds)?)
}
