//! gday_hole_punch for the comparison, with the server and the encryption that its own command
//! uses.
//!
//! The peers share a room and a secret, as the command's users share a code. The server is spoken
//! to without TLS, which the server offers (`--unencrypted`) and which is one round trip faster. If
//! a punch ends with an error, it is tried again on both sides, as the command's users would.

use std::{net::SocketAddr, process::ExitCode};

use anyhow::{Context as _, Result};
use gday_contact_exchange_protocol::{Contact, FullContact};
use gday_encryption::EncryptedStream;
use gday_hole_punch::{
    server_connector::{ServerConnection, connect_tcp},
    share_contacts, try_connect_to_peer,
};
use tokio::net::TcpStream;
use versus::{Arrival, Dial, Role, Stopwatch, announce};

const ROOM: &str = "room";

/// As long as those that the command makes.
const SECRET: &str = "wvqsf";

/// How many errors one dial survives.
const ATTEMPTS: usize = 3;

type Stream = EncryptedStream<TcpStream>;

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let stopwatch = Stopwatch::start();
    match Role::from_arguments()? {
        Role::Serve(address) => serve(address).await,
        Role::Listen(server) => listen(stopwatch, server).await,
        Role::Dial(dial) => Ok(Stopwatch::report(&dial, connect(stopwatch, &dial)).await),
    }
}

async fn serve(address: SocketAddr) -> Result<ExitCode> {
    let (addresses, running) = gday_server::start_server(gday_server::Args {
        key: None,
        certificate: None,
        unencrypted: true,
        addresses: vec![address],
        timeout: 600,
        request_limit: 10,
        verbosity: "off".parse()?,
    })?;
    announce(addresses.first().context("no address")?);
    running.await;
    Ok(ExitCode::FAILURE)
}

async fn listen(mut stopwatch: Stopwatch, server: String) -> Result<ExitCode> {
    let mut server = connect_tcp(server).await?;
    // The library says nothing between making the room and waiting for the peer, so this is said as
    // late as can be.
    let (own, peer) = share_contacts(&mut server, ROOM, true).await?;
    stopwatch.ready();
    announce(ROOM);
    let stream = punch(own.local, peer.await?).await?;
    stopwatch.serve(stream).await?;
    Ok(ExitCode::SUCCESS)
}

async fn connect(mut stopwatch: Stopwatch, dial: &Dial) -> Result<(Arrival, Stream)> {
    let mut server: ServerConnection = connect_tcp(dial.server.clone()).await?;
    stopwatch.ready();
    let (own, peer) = share_contacts(&mut server, &dial.peer, false).await?;
    let stream = punch(own.local, peer.await?).await?;
    Ok((stopwatch.arrived(), stream))
}

async fn punch(own: Contact, peer: FullContact) -> Result<Stream> {
    let mut attempt = 1;
    loop {
        let punched = async {
            let (stream, key) = try_connect_to_peer(own, peer, SECRET).await?;
            stream.set_nodelay(true)?;
            Ok(EncryptedStream::encrypt_connection(stream, &key).await?)
        };
        match punched.await {
            Err(_) if attempt < ATTEMPTS => attempt += 1,
            result => return result,
        }
    }
}
