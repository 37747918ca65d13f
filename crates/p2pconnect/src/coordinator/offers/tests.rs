//! Tests in paused time.

use std::net::Ipv4Addr;

use p2pconnect_host::{Host, Sharing};
use p2pconnect_stun::Query;
use tokio::time::{advance, pause, timeout};

use super::*;

const ROUND_TRIP: Duration = Duration::from_millis(80);

fn address(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

#[tokio::test(start_paused = true)]
async fn quic_is_late_a_quarter_of_a_round_trip_behind_tcp() {
    let offers = Arc::new(Offers::default());
    for (round_trip, lag) in [(Some(ROUND_TRIP), ROUND_TRIP / 4), (None, LEAST_LAG)] {
        let began = Instant::now();
        let late = offers.late(address(1));
        let offering = async {
            // That another one is offered does not matter.
            let _other = offers.offer(address(2), None);
            advance(ROUND_TRIP).await;
            let offered = offers.offer(address(1), round_trip);
            std::future::pending::<()>().await;
            drop(offered);
        };
        tokio::select! {
            () = late => {}
            () = offering => {}
        }
        let (expected, took) = (ROUND_TRIP + lag, began.elapsed());
        assert!(
            (expected..=expected + Duration::from_millis(1)).contains(&took),
            "{took:?}"
        );
        assert!(offers.0.borrow().is_empty());
    }
}

#[tokio::test]
async fn an_offer_leads_to_its_connection_once_and_none_without_it() {
    let socket = Host::default().tcp_socket(address(0), Sharing::Exclusive);
    let listener = socket.unwrap().listen(8).unwrap();
    let server = listener.local_addr().unwrap();
    let long = Duration::from_secs(20);
    let host = Host::default();
    let query = Query::begin(&host, address(0), server, long).await;
    let query = query.unwrap();
    let local = query.lasts();

    let offers = Arc::new(Offers::default());
    assert!(offers.take(server).await.is_none());
    let mut offered = offers.offer(server, query.round_trip());
    let offering = async {
        let taker = offered.wanted().await.unwrap();
        taker.send(query.go_on().0).unwrap();
    };
    let (taken, ()) = timeout(long, async { tokio::join!(offers.take(server), offering) })
        .await
        .unwrap();
    assert!(taken.is_some());
    assert_eq!(local.strong_count(), 1);
    assert!(offers.take(server).await.is_none());
}

#[tokio::test]
async fn who_offers_waits_until_quic_is_late_and_no_longer() {
    let offers = Arc::new(Offers::default());
    pause();
    let began = Instant::now();
    let mut offered = offers.offer(address(1), Some(ROUND_TRIP));
    assert!(offered.wanted_at_last().await.is_none());
    // Timers are of a millisecond.
    let expected = ROUND_TRIP / 4 + LEAST_LAG;
    let took = began.elapsed();
    assert!(
        (expected..=expected + Duration::from_millis(1)).contains(&took),
        "{took:?}"
    );
    drop(offered);
    assert!(offers.take(address(1)).await.is_none());
}
