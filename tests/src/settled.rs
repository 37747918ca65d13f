//! Endpoints of the library on the hosts of a lab, which know their NAT before they go on.

use p2pconnect::{Builder, Endpoint, NatReport};

pub use netns_lab_cli::block_on;

/// Binds an endpoint and waits until it has found out how its NAT behaves, and until whoever
/// dials it is told so.
pub async fn settled(builder: Builder) -> (Endpoint, NatReport) {
    let (endpoint, report) = netns_lab_cli::settled(builder).await.unwrap();
    (endpoint, report.unwrap())
}
