//! A coordinator that is going to end lets its clients go.

use std::time::Duration;

use p2pconnect_coordinator::{Control, Coordinator, Drain, RunningCoordinator};
use p2pconnect_identity::SecretKey;
use p2pconnect_proto::{
    CoordinatorAddr,
    close::{self, Close},
    message::{DialPolicy, Move, Notice, Request, Response},
};
use tokio::task::JoinSet;

use crate::{
    IPV4, STRANGER,
    client::{Client, bounded},
    config,
};

const LONG: Duration = Duration::from_secs(60);

/// A coordinator that is being drained, until the task has ended.
struct Drained {
    server: RunningCoordinator,
    control: Control,
    draining: JoinSet<()>,
}

impl Drained {
    fn start() -> Self {
        let coordinator = Coordinator::bind(config(IPV4)).unwrap();
        Self {
            control: coordinator.control(),
            server: coordinator.start(),
            draining: JoinSet::new(),
        }
    }

    fn drain(&mut self, places: &[CoordinatorAddr], limit: Duration) {
        let mut drain = Drain::within(limit);
        drain.to = places.to_vec();
        let control = self.control.clone();
        self.draining
            .spawn(async move { control.drain(drain).await });
    }

    async fn is_over(&mut self) {
        bounded(self.draining.join_next()).await.unwrap().unwrap();
    }
}

fn elsewhere() -> CoordinatorAddr {
    CoordinatorAddr {
        id: STRANGER,
        host: "192.0.2.1".to_owned(),
        port: 4433,
        web: None,
    }
}

async fn told_to_move(client: &Client) -> Move {
    loop {
        if let Notice::Move(told) = client.notice().await {
            return told;
        }
    }
}

async fn end_of(client: &Client) -> Close {
    Close::from_wire(client.closed().await.0)
}

fn leave(client: &Client) {
    client.connection.close(close::DONE.into(), b"done");
}

#[tokio::test]
async fn clients_are_told_where_to_go_and_served_until_they_leave() {
    let mut it = Drained::start();
    let [callee, dialler] = [
        Client::connect(&it.server).await,
        Client::connect(&it.server).await,
    ];
    callee.register(DialPolicy::Anyone).await;
    it.drain(&[elsewhere()], LONG);
    for client in [&callee, &dialler] {
        let told = told_to_move(client).await;
        assert_eq!(told.places(), [elsewhere()]);
        // Until those who come last have had time to arrive, which is not the whole time.
        let stay = told.stay();
        assert!(stay > LONG / 20 && stay < LONG / 2, "{stay:?}");
    }
    // A client that comes now is served as well, and told at once.
    let late = Client::connect(&it.server).await;
    told_to_move(&late).await;
    for dialler in [&dialler, &late] {
        dialler.dial(callee.id).await.unwrap();
        callee.introduction().await;
    }
    callee.register(DialPolicy::Anyone).await;
    assert!(it.draining.try_join_next().is_none());
    for client in [&callee, &dialler, &late] {
        leave(client);
    }
    it.is_over().await;
}

#[tokio::test]
async fn who_has_registered_elsewhere_is_let_go_after_its_introductions() {
    let mut it = Drained::start();
    let key = SecretKey::generate().unwrap();
    let [callee, dialler] = [
        Client::connect_as(&key, &it.server).await,
        Client::connect(&it.server).await,
    ];
    callee.register(DialPolicy::Anyone).await;
    it.drain(&[elsewhere()], LONG);
    told_to_move(&callee).await;
    dialler.dial(callee.id).await.unwrap();
    // Any other connection of a cluster would do.
    let arrived = Client::connect_as(&key, &it.server).await;
    arrived.register(DialPolicy::Anyone).await;
    callee.introduction().await;
    let settled = callee.request(&Request::Settled(dialler.id)).await;
    assert_eq!(settled, Response::Settled);
    assert_eq!(end_of(&callee).await.code, close::REPLACED);
    assert_eq!(arrived.connection.close_reason(), None);
    for client in [&arrived, &dialler] {
        leave(client);
    }
    it.is_over().await;
}

#[tokio::test]
async fn without_another_place_introductions_are_finished_and_none_is_begun() {
    let mut it = Drained::start();
    let [callee, dialler, idle] = [
        Client::connect(&it.server).await,
        Client::connect(&it.server).await,
        Client::connect(&it.server).await,
    ];
    callee.register(DialPolicy::Anyone).await;
    dialler.dial(callee.id).await.unwrap();
    callee.introduction().await;
    it.drain(&[], LONG);
    // Nothing holds it.
    let end = end_of(&idle).await;
    assert_eq!(end.code, close::GOING_AWAY);
    assert!(
        end.retry_after
            .is_some_and(|it| it < Duration::from_secs(1))
    );
    let late = Client::connect(&it.server).await;
    assert_eq!(end_of(&late).await.code, close::GOING_AWAY);

    // The introduction goes on meanwhile, and the dial that is too late ends with the connection.
    assert_eq!(callee.connection.close_reason(), None);
    let dial = async {
        let request = Request::Dial(p2pconnect_proto::message::DialRequest::new(callee.id));
        let frame = p2pconnect_proto::codec::encode(&request).unwrap();
        dialler.send(&frame).await.unwrap_err()
    };
    let over = Request::Settled(dialler.id);
    let (_, settled) = tokio::join!(dial, callee.request(&over));
    assert_eq!(settled, Response::Settled);
    for client in [&callee, &dialler] {
        assert_eq!(end_of(client).await.code, close::GOING_AWAY);
    }
    it.is_over().await;
}

#[tokio::test]
async fn whoever_stays_holds_a_coordinator_up_for_a_time() {
    let mut it = Drained::start();
    let client = Client::connect(&it.server).await;
    it.drain(&[elsewhere()], Duration::from_millis(100));
    it.is_over().await;
    assert_eq!(client.connection.close_reason(), None);
    bounded(it.server.shutdown()).await;
    let end = end_of(&client).await;
    assert_eq!(end.code, close::GOING_AWAY);
    assert_eq!(end.retry_after, Some(Duration::from_millis(500)));
}
