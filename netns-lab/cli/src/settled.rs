//! Endpoints that know their NAT before they go on.

use std::time::Duration;

use p2pconnect::{BindError, Builder, Endpoint, NatReport, Status};
use tokio::{sync::watch, time::timeout};

/// How long finding out may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Binds an endpoint and waits until it has found out how its NAT behaves, and until whoever dials
/// it is told so. There is no report where that takes too long, as it does without a server.
///
/// # Errors
///
/// [`BindError`], if there can be no such endpoint.
pub async fn settled(builder: Builder) -> Result<(Endpoint, Option<NatReport>), BindError> {
    let (found, mut finding) = watch::channel(None);
    let tell = move |status| {
        if let Status::NatFound { report } = status {
            found.send_replace(Some(report));
        }
    };
    let endpoint = builder.observer(tell).bind().await?;
    let report = timeout(PATIENCE, finding.wait_for(Option::is_some)).await;
    let report = report.ok().and_then(Result::ok).and_then(|it| *it);
    Ok((endpoint, report))
}

/// Runs a future on a thread that is on a host of a lab in namespaces.
///
/// # Panics
///
/// If the system has no files for the runtime.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_all().build();
    runtime
        .expect("there are files for a runtime")
        .block_on(future)
}
