//! Introductions at a steady rate.

use std::{fmt, time::Duration};

use p2pconnect_proto::message::{DialRequest, Request, Response};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::{
    crowd::{Crowd, Peer},
    process::Server,
};

/// How many introductions begin at a time: what is due in a millisecond or two.
const TICK: Duration = Duration::from_millis(1);

/// How many introductions begin in a second, and for how long.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Drive {
    pub(crate) rate: u32,
    pub(crate) seconds: u32,
}

/// What became of the introductions.
#[derive(Debug)]
pub(crate) struct Introduced {
    took: Duration,
    /// How long each took that succeeded, from the moment at which it was due.
    times: Vec<Duration>,
    failed: usize,
    computed: Duration,
}

impl Drive {
    /// Lets one peer after another dial another one, both drawn at random (seed 1).
    pub(crate) async fn run(self, server: &Server, crowd: &Crowd) -> Introduced {
        let mut random = StdRng::seed_from_u64(1);
        let mut draw = || crowd.peers[random.random_range(0..crowd.peers.len())].clone();
        let (began, computed) = (Instant::now(), server.processor_time());
        let mut running = JoinSet::new();
        let mut results = Vec::new();
        let all = self.rate * self.seconds;
        let mut begun = 0;
        while begun < all {
            sleep(TICK).await;
            let due = (began.elapsed().as_secs_f64() * f64::from(self.rate)).min(f64::from(all));
            while f64::from(begun) < due {
                let at = began + Duration::from_secs(1) * begun / self.rate;
                running.spawn(introduce(draw(), draw(), at));
                begun += 1;
            }
            while let Some(ended) = running.try_join_next() {
                results.push(ended.unwrap());
            }
        }
        results.append(&mut running.join_all().await);
        let mut times: Vec<_> = results.iter().copied().flatten().collect();
        times.sort_unstable();
        Introduced {
            took: began.elapsed(),
            failed: results.len() - times.len(),
            times,
            computed: server.processor_time() - computed,
        }
    }
}

/// Returns how long an introduction takes, or `None` if it comes to nothing. Who draws itself
/// counts as introduced at once.
async fn introduce(dialler: Peer, callee: Peer, due: Instant) -> Option<Duration> {
    if dialler.id == callee.id {
        return Some(Duration::ZERO);
    }
    let request = Request::Dial(DialRequest {
        handshake: vec![0; 512],
        ..DialRequest::new(callee.id)
    });
    match dialler.ask(&request).await? {
        Response::Introduced(_) | Response::Crossed(_) => Some(due.elapsed()),
        Response::Registered(_)
        | Response::Refused(_)
        | Response::Settled
        | Response::Relayed
        | Response::Noted
        | Response::Found(_)
        | Response::Unknown(_) => None,
    }
}

impl fmt::Display for Introduced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.times.len() + self.failed;
        let at = |thousandth: usize| {
            let last = self.times.len().saturating_sub(1);
            let time = self.times.get(last * thousandth / 1000).copied();
            time.unwrap_or_default().as_secs_f64() * 1e3
        };
        #[expect(clippy::cast_precision_loss, reason = "a figure to look at")]
        let count = all.max(1) as f64;
        write!(
            f,
            "{:.0} | {} | {:.2} ms | {:.2} ms | {:.1} ms | {:.0} % of a core | {:.0} µs",
            count / self.took.as_secs_f64(),
            self.failed,
            at(500),
            at(990),
            at(1000),
            100.0 * self.computed.as_secs_f64() / self.took.as_secs_f64(),
            self.computed.as_secs_f64() * 1e6 / count,
        )
    }
}
