use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use crate::{in_use::Usage, session::SessionError};

/// What an endpoint has done since it was bound, in both roles.
///
/// Times are sums: divided by the count beside them they are means.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// Introductions that a dial of this endpoint has got.
    pub introduced: u64,
    /// How long the dials waited for these.
    pub introduced_time: Duration,
    /// Punches that ended in a connection, also if that proved to be another one before the peer had answered on it.
    pub established: u64,
    /// How long these took from the introduction until TCP had the connection open.
    pub tcp_time: Duration,
    /// How long these took from the introduction until application bytes could be sent.
    pub established_time: Duration,
    /// Punches that found no direct path.
    pub failed: u64,
    /// How long these took from the introduction until they were given up.
    pub failed_time: Duration,
    /// TCP connections that were attempted, whatever came of them.
    pub attempts: u64,
    /// How many of the attempts repeated one between the same addresses.
    pub redials: u64,
}

/// Where an endpoint writes its metrics.
#[derive(Debug, Default)]
pub(crate) struct Recorder(Mutex<Metrics>);

impl Recorder {
    pub(crate) fn read(&self) -> Metrics {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn introduced(&self, time: Duration) {
        self.write(|metrics| {
            metrics.introduced += 1;
            metrics.introduced_time += time;
        });
    }

    /// Counts a punch that began at `started` and has just ended.
    pub(crate) fn ended(&self, started: Instant, result: Result<Usage, &SessionError>) {
        let time = started.elapsed();
        self.write(|metrics| match result {
            Ok(Usage { way, stats, .. }) => {
                // What has taken its place since is counted besides.
                metrics.established += 1;
                metrics.tcp_time += way.at.saturating_duration_since(started);
                metrics.established_time += time;
                metrics.attempts += u64::from(stats.attempts);
                metrics.redials += u64::from(stats.redials);
            }
            Err(SessionError::NoPath(report)) => {
                metrics.failed += 1;
                metrics.failed_time += time;
                for pair in &report.pairs {
                    metrics.attempts += u64::from(pair.attempts);
                    metrics.redials += u64::from(pair.attempts.saturating_sub(1));
                }
            }
            // It is counted when it begins anew.
            Err(
                SessionError::PeerLeft(_) | SessionError::PeerBusy | SessionError::PeerSilent(_),
            ) => {}
            Err(SessionError::Broken(_)) => {
                metrics.failed += 1;
                metrics.failed_time += time;
            }
        });
    }

    /// Counts what it took besides that a connection in use came to nothing and another one has
    /// its place.
    pub(crate) fn replaced(&self, former: &Usage, usage: &Usage) {
        let more = |former: u32, now: u32| u64::from(now.saturating_sub(former));
        self.write(|metrics| {
            metrics.tcp_time += usage.way.at.saturating_duration_since(former.way.at);
            metrics.established_time += usage.since.saturating_duration_since(former.since);
            metrics.attempts += more(former.stats.attempts, usage.stats.attempts);
            metrics.redials += more(former.stats.redials, usage.stats.redials);
        });
    }

    fn write(&self, change: impl FnOnce(&mut Metrics)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}
