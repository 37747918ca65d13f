//! The common start, over a path on which one client is far away.

use std::time::{Duration, Instant};

use p2pconnect_coordinator::RunningCoordinator;
use p2pconnect_identity::SecretKey;
use p2pconnect_proto::{
    PeerId,
    message::{DialPolicy, Request, Response},
};

use crate::{IPV4, client::Client, config, path::Path, start};

/// The far client's round trip. The near one's is that of the loopback interface.
const FAR: Duration = Duration::from_millis(100);

/// What a busy machine may add; without a common start the messages would be FAR / 2 apart.
const TOLERANCE: Duration = Duration::from_millis(20);

/// Dials of which the best counts, since the machine may be busy with other tests.
const ATTEMPTS: usize = 5;

/// Registers a few times, so that the coordinator knows the round-trip time well.
async fn settle(client: &Client) {
    for _ in 0..4 {
        client.register(DialPolicy::Anyone).await;
    }
}

struct Timing {
    /// From the dial to the dialler's introduction.
    dialler: Duration,
    /// From the dial to the callee's introduction.
    callee: Duration,
}

async fn time_dial(dialler: &Client, callee: &Client) -> Timing {
    let begin = Instant::now();
    let (dialler, callee) = tokio::join!(
        async {
            dialler.dial(callee.id).await.unwrap();
            begin.elapsed()
        },
        async {
            callee.introduction().await;
            begin.elapsed()
        },
    );
    Timing { dialler, callee }
}

async fn best_dial(dialler: &Client, callee: &Client, expected: Duration) -> Timing {
    let mut best: Option<(Duration, Timing)> = None;
    for _ in 0..ATTEMPTS {
        let timing = time_dial(dialler, callee).await;
        let error = timing
            .dialler
            .abs_diff(expected)
            .max(timing.callee.abs_diff(expected));
        if best.as_ref().is_none_or(|(least, _)| error < *least) {
            best = Some((error, timing));
        }
    }
    best.unwrap().1
}

async fn near_and_far(server: &RunningCoordinator) -> (Client, Client, Path) {
    let path = Path::to(server.local_addr(), FAR).await;
    let far_key = SecretKey::generate().unwrap();
    let far = Client::connect_via(&far_key, server, path.entrance).await;
    let near = Client::connect(server).await;
    settle(&far).await;
    settle(&near).await;
    (near, far, path)
}

fn assert_about(actual: Duration, expected: Duration) {
    assert!(
        actual.abs_diff(expected) < TOLERANCE,
        "{actual:?} instead of about {expected:?}"
    );
}

#[tokio::test]
async fn a_near_dialler_hears_when_the_far_callee_does() {
    let server = start(config(IPV4));
    let (near, far, _path) = near_and_far(&server).await;
    let timing = best_dial(&near, &far, FAR / 2).await;
    assert_about(timing.dialler, FAR / 2);
    assert_about(timing.callee, FAR / 2);
}

#[tokio::test]
async fn a_far_dialler_waits_one_round_trip_and_the_near_callee_as_long() {
    let server = start(config(IPV4));
    let (near, far, _path) = near_and_far(&server).await;
    let timing = best_dial(&far, &near, FAR).await;
    assert_about(timing.dialler, FAR);
    assert_about(timing.callee, FAR);
}

#[tokio::test]
async fn the_relayed_round_trip_is_that_of_both_paths() {
    let server = start(config(IPV4));
    let (near, far, _path) = near_and_far(&server).await;
    let introduction = near.dial(far.id).await.unwrap();
    let relayed = Duration::from_micros(introduction.rtt_via_coordinator_us.into());
    assert!(relayed >= FAR && relayed < 2 * FAR, "{relayed:?}");
}

/// Says that the callee is done with what this dialler was introduced for.
async fn be_done(callee: &Client, dialler: PeerId) {
    let over = callee.request(&Request::Settled(dialler)).await;
    assert_eq!(over, Response::Settled);
}

/// Has `near` dial again and again while an introduction of `far` is under way; returns how long
/// the callee waited for a notice after a near dial was answered, at most.
async fn longest_wait(near: &Client, far: &Client, callee: &Client) -> Duration {
    let mut longest = Duration::ZERO;
    let dials = async {
        loop {
            near.dial(callee.id).await.unwrap();
            let answered = Instant::now();
            let first = callee.introduction().await.peer;
            longest = longest.max(answered.elapsed());
            if first == far.id {
                assert_eq!(callee.introduction().await.peer, near.id);
            }
            be_done(callee, near.id).await;
            if first == far.id {
                break;
            }
        }
    };
    let (far_dial, ()) = tokio::join!(far.dial(callee.id), dials);
    far_dial.unwrap();
    be_done(callee, far.id).await;
    longest
}

#[tokio::test]
async fn an_introduction_that_is_held_back_holds_up_no_other() {
    let mut config = config(IPV4);
    config.limits.dial_interval_per_peer = Duration::ZERO;
    config.limits.dial_interval_per_source = Duration::ZERO;
    let server = start(config);
    let (near, far, _path) = near_and_far(&server).await;
    let callee = Client::connect(&server).await;
    settle(&callee).await;
    let mut least = Duration::MAX;
    for _ in 0..ATTEMPTS {
        least = least.min(longest_wait(&near, &far, &callee).await);
    }
    assert!(
        least < TOLERANCE,
        "{least:?}, while {:?} are held back",
        FAR / 2
    );
}
