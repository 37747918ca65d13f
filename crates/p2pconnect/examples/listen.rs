//! Waits for one peer and echoes what it sends: `listen SERVER-ID@HOST:PORT`

#![expect(clippy::print_stderr, reason = "an example talks to a person")]

use anyhow::Context as _;
use p2pconnect::{DialPolicy, Endpoint};
use tokio::io::{AsyncWriteExt as _, copy, split};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let coordinator = std::env::args().nth(1);
    let coordinator = coordinator
        .context("usage: listen SERVER-ID@HOST:PORT")?
        .parse()?;
    let builder = Endpoint::builder()
        .coordinator(coordinator)
        .allow(DialPolicy::Anyone);
    let endpoint = builder.bind().await?;
    eprintln!("dial me: {}", endpoint.peer_id());

    let connection = endpoint
        .accept()
        .await
        .context("nobody can dial any more")?;
    eprintln!("{} came by {:?}", connection.peer_id(), connection.path());
    let (mut input, mut output) = split(connection);
    copy(&mut input, &mut output).await?;
    output.shutdown().await?;
    Ok(())
}
