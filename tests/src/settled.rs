//! Endpoints of the library on the hosts of a lab, which know their NAT before they go on.

use std::time::Duration;

use p2pconnect::{Builder, Endpoint, NatReport, Status};
use tokio::{sync::watch, time::timeout};

/// How long finding out may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs a future on a thread that is on a host.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_all().build().unwrap().block_on(future)
}

/// Binds an endpoint and waits until it has found out how its NAT behaves, and until whoever
/// dials it is told so.
pub async fn settled(builder: Builder) -> (Endpoint, NatReport) {
    let (found, mut finding) = watch::channel(None);
    let tell = move |status| {
        if let Status::NatFound { report } = status {
            found.send_replace(Some(report));
        }
    };
    let endpoint = builder.observer(tell).bind().await.unwrap();
    let report = timeout(PATIENCE, finding.wait_for(Option::is_some)).await;
    let report = report.unwrap().unwrap().unwrap();
    (endpoint, report)
}
