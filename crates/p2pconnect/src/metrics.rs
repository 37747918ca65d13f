//! Counts what an endpoint has done.

use std::{
    sync::Mutex,
    time::{Duration, Instant},
};

use p2pconnect_host::clock;
use p2pconnect_punch::{PairReport, Stats};

use crate::sync::lock;

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
    /// Punches that ended in a connection, also if that proved to be another one before the peer
    /// had answered on it.
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
        *lock(&self.0)
    }

    pub(crate) fn introduced(&self, time: Duration) {
        self.write(|metrics| {
            metrics.introduced += 1;
            metrics.introduced_time += time;
        });
    }

    /// Counts a punch that has ended in a connection: so long after its beginning TCP was open, and
    /// the connection to be used.
    pub(crate) fn established(&self, open: Duration, usable: Duration, stats: Stats) {
        self.write(|metrics| {
            // What has taken its place since is counted besides.
            metrics.established += 1;
            metrics.tcp_time += open;
            metrics.established_time += usable;
            metrics.attempts += u64::from(stats.attempts);
            metrics.redials += u64::from(stats.redials);
        });
    }

    /// Counts a punch that began at `started` and has just failed, after attempts on these pairs.
    pub(crate) fn failed(&self, started: Instant, pairs: &[PairReport]) {
        let time = clock::since(started);
        self.write(|metrics| {
            metrics.failed += 1;
            metrics.failed_time += time;
            for pair in pairs {
                metrics.attempts += u64::from(pair.attempts);
                metrics.redials += u64::from(pair.attempts.saturating_sub(1));
            }
        });
    }

    /// Counts what it took besides that a connection in use came to nothing and another one has its
    /// place: so much later TCP was open, and that one to be used, after so many attempts in all
    /// where there had been fewer.
    pub(crate) fn replaced(&self, open: Duration, usable: Duration, [before, now]: [Stats; 2]) {
        let more = |before: u32, now: u32| u64::from(now.saturating_sub(before));
        self.write(|metrics| {
            metrics.tcp_time += open;
            metrics.established_time += usable;
            metrics.attempts += more(before.attempts, now.attempts);
            metrics.redials += more(before.redials, now.redials);
        });
    }

    fn write(&self, change: impl FnOnce(&mut Metrics)) {
        change(&mut lock(&self.0));
    }
}
