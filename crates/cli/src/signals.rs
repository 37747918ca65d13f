use tokio::signal::unix::{SignalKind, signal};

/// Waits for Ctrl-C, or for the polite request to end that service managers send.
pub(crate) async fn interrupted() {
    match (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) {
        (Ok(mut interrupt), Ok(mut terminate)) => {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
        }
        // Without handlers the system's own behaviour stays: the signal ends the process.
        _ => std::future::pending().await,
    }
}
