//! coturn closes a connection on which there is only STUN after some seconds, whatever is asked:
//! three manners, and one made short.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use p2pconnect_host::Host;
use p2pconnect_proto::PeerId;
use p2pconnect_stun::{
    Commitment, HeldMapping, Mapping, MappingConfig, MappingError, MappingEvent, query,
};
use tokio::time::timeout;

use crate::coturn::Coturn;

/// Above anything that loopback needs on a loaded machine.
const LONG: Duration = Duration::from_secs(20);

fn any_port() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

async fn hold(coturn: &Coturn, config: MappingConfig) -> HeldMapping {
    let held = HeldMapping::open(any_port(), coturn.address(), config)
        .await
        .unwrap();
    let mapping = held.current();
    assert_eq!(mapping.mapped, mapping.local, "nothing translates");
    held
}

/// Waits for the connection to be closed by coturn and replaced from the same port, and returns
/// when it was closed.
async fn survive(held: &mut HeldMapping, mapping: &Mapping, within: Duration) -> Instant {
    let lost = timeout(within, held.next_event()).await.unwrap().unwrap();
    let at = Instant::now();
    let mut event = lost;
    // The two may be seen as one if this test is slower than the reconnect.
    if let MappingEvent::Lost { error } = &event {
        assert_eq!(*error, MappingError::Reset, "coturn sends RST");
        event = timeout(LONG, held.next_event()).await.unwrap().unwrap();
    }
    assert_eq!(event, MappingEvent::Mapped(mapping.clone()));
    at
}

#[tokio::test]
async fn stun_only_resets_after_three_seconds_and_the_mapping_comes_back_each_time() {
    let coturn = Coturn::start(&["--stun-only"]).await;
    let mut held = hold(&coturn, MappingConfig::default()).await;
    let (start, mapping) = (Instant::now(), held.current());
    for _ in 0..3 {
        survive(&mut held, &mapping, LONG).await;
    }
    // Three times 3 s, and the pauses before the second and third connection: up to 1 s and 2 s.
    let took = start.elapsed();
    assert!(took > Duration::from_secs(8), "{took:?}");
    assert_eq!(held.state().reconnects, 3);
}

#[tokio::test]
async fn by_default_it_resets_after_a_minute() {
    let coturn = Coturn::start(&[]).await;
    let mut held = hold(&coturn, MappingConfig::default()).await;
    let (start, mapping) = (Instant::now(), held.current());
    let closed = survive(&mut held, &mapping, 5 * LONG).await;
    let lasted = closed - start;
    assert!((55..75).contains(&lasted.as_secs()), "{lasted:?}");
    // A connection that has lasted is replaced at once.
    assert!(closed.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn with_a_longer_allocation_timeout_it_stays() {
    let coturn = Coturn::start(&["--max-allocate-timeout=3600"]).await;
    let mut held = hold(&coturn, MappingConfig::default()).await;
    let minute_and_more = Duration::from_secs(66);
    let event = timeout(minute_and_more, held.next_event()).await;
    assert!(event.is_err(), "{event:?}");
    assert_eq!(held.state().reconnects, 0);
}

#[tokio::test]
async fn frequent_and_pipelined_requests_do_not_keep_it_from_closing() {
    let coturn = Coturn::start(&["--max-allocate-timeout=2"]).await;
    let mut config = MappingConfig::default();
    config.refresh_interval = Duration::from_millis(1);
    let mut held = hold(&coturn, config).await;
    let mapping = held.current();
    survive(&mut held, &mapping, LONG).await;
}

#[tokio::test]
async fn an_attribute_that_it_does_not_know_does_not_disturb_it() {
    let coturn = Coturn::start(&["--max-allocate-timeout=3600"]).await;
    let mut config = MappingConfig::default();
    config.commitment = Some(Commitment::new([1; 16], &PeerId::from_public_key([2; 32])));
    let held = hold(&coturn, config).await;
    assert_eq!(held.current().token, None);
}

#[tokio::test]
async fn queries_from_one_port_follow_each_other_without_waiting() {
    let coturn = Coturn::start(&["--max-allocate-timeout=3600"]).await;
    let held = hold(&coturn, MappingConfig::default()).await;
    let other = Coturn::start(&["--max-allocate-timeout=3600"]).await;
    let local = held.current().local;
    for _ in 0..5 {
        assert_eq!(
            query(&Host::default(), local, other.address(), LONG).await,
            Ok(local)
        );
    }
}
