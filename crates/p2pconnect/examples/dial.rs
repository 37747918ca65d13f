//! Sends a line to a peer and prints what comes back: `dial SERVER-ID@HOST:PORT PEER-ID`

#![expect(
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "an example talks to a person"
)]

use p2pconnect::Endpoint;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let [_, coordinator, peer] = &std::env::args().collect::<Vec<_>>()[..] else {
        anyhow::bail!("usage: dial SERVER-ID@HOST:PORT PEER-ID");
    };
    let builder = Endpoint::builder().coordinator(coordinator.parse()?);
    let endpoint = builder.bind().await?;
    let mut connection = endpoint.dial(peer.parse()?).await?;
    eprintln!("{} by {:?}", connection.peer_id(), connection.path());

    connection.write_all(b"hello through two NATs\n").await?;
    connection.shutdown().await?;
    let mut answer = String::new();
    connection.read_to_string(&mut answer).await?;
    print!("{answer}");
    connection.finish().await?;
    Ok(())
}
