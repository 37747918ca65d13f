//! Waits for one peer and echoes what it sends.
//!
//! `cargo run --example listen -- <server-id>@<host>:<port>`

#![expect(clippy::print_stderr, reason = "an example talks to a person")]

use p2pconnect::{DialPolicy, Endpoint};
use tokio::io::{AsyncWriteExt as _, copy, split};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let coordinator = std::env::args()
        .nth(1)
        .expect("usage: listen SERVER-ID@HOST:PORT")
        .parse()?;
    let endpoint = Endpoint::builder()
        .coordinator(coordinator)
        .allow(DialPolicy::Anyone)
        .bind()
        .await?;
    eprintln!("dial me: {}", endpoint.peer_id());

    let connection = endpoint
        .accept()
        .await
        .expect("an endpoint with a policy accepts");
    eprintln!("{} came by {:?}", connection.peer_id(), connection.path());
    let (mut input, mut output) = split(connection);
    copy(&mut input, &mut output).await?;
    output.shutdown().await?;
    Ok(())
}
