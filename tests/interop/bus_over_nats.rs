//! What carries messages between coordinators, over a `nats-server` of Debian's.

use std::time::Duration;

use p2pconnect_cluster::{NatsBus, NatsOptions};
use p2pconnect_coordinator::nodes::{Bus, Incoming, Unanswered};
use p2pconnect_tests::nats::NatsServer;
use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

/// Far beyond what anything here takes.
const BOUND: Duration = Duration::from_secs(20);

/// How long an answer is waited for: who is asked may have gone just before.
const PATIENCE: Duration = Duration::from_secs(1);

/// How often to see whether something has happened by itself.
const POLL: Duration = Duration::from_millis(5);

const SUBJECT: &str = "p2pconnect.1.here";

async fn connected(urls: &[String]) -> NatsBus {
    let bus = NatsBus::connect(NatsOptions::new(urls).unwrap()).await;
    let bus = bus.unwrap();
    until(|| bus.away().is_none()).await;
    bus
}

async fn until(mut is_so: impl FnMut() -> bool) {
    let waiting = async {
        while !is_so() {
            sleep(POLL).await;
        }
    };
    timeout(BOUND, waiting)
        .await
        .expect("this should be so by now");
}

async fn ask(bus: &NatsBus) -> Result<Vec<u8>, Unanswered> {
    bus.request(SUBJECT.to_owned(), vec![1, 2], PATIENCE).await
}

/// Answers what comes, until there is nobody left to ask.
async fn answer(bus: &NatsBus, mut came: mpsc::Receiver<Incoming>) {
    while let Some(incoming) = came.recv().await {
        assert_eq!(incoming.subject, SUBJECT);
        assert_eq!(incoming.bytes, [1, 2]);
        bus.publish(incoming.reply.unwrap(), vec![3]).await;
    }
}

/// Asks until somebody answers: servers tell each other who listens a moment later.
async fn is_answered(bus: &NatsBus) {
    let asking = async { while ask(bus).await != Ok(vec![3]) {} };
    timeout(BOUND, asking).await.expect("nobody answers");
}

#[tokio::test]
async fn who_listens_anywhere_in_a_cluster_answers_and_nobody_listens_after_that() {
    let servers = NatsServer::cluster(3).await;
    let one = connected(&[servers[0].url()]).await;
    let other = connected(&[servers[2].url()]).await;
    assert_eq!(ask(&one).await, Err(Unanswered::NobodyThere));
    let (sink, came) = mpsc::channel(8);
    let listening = other.listen(SUBJECT.to_owned(), sink).await;
    tokio::select! {
        () = is_answered(&one) => {}
        () = answer(&other, came) => panic!("it listens no more"),
    }
    drop(listening);
    let asking = async { while ask(&one).await != Err(Unanswered::NobodyThere) {} };
    timeout(BOUND, asking)
        .await
        .expect("somebody still listens");
}

#[tokio::test]
async fn a_server_that_is_killed_is_replaced_by_another_and_who_listens_goes_on() {
    let mut servers = NatsServer::cluster(2).await;
    let (first, second) = (servers[0].url(), servers[1].url());
    let one = connected(std::slice::from_ref(&second)).await;
    let other = connected(&[first]).await;
    // It learns of the second one from the first.
    let (sink, came) = mpsc::channel(8);
    let _listening = other.listen(SUBJECT.to_owned(), sink).await;
    let before = other.returns();
    servers[0].kill();
    until(|| other.returns() > before).await;
    assert_eq!(other.away(), None);
    tokio::select! {
        () = is_answered(&one) => {}
        () = answer(&other, came) => panic!("it listens no more"),
    }
}

#[tokio::test]
async fn a_bus_begins_without_a_server_and_says_that_it_is_away() {
    let mut server = NatsServer::start(&[]).await;
    server.kill();
    let options = NatsOptions::new(&[server.url()]).unwrap();
    let bus = NatsBus::connect(options).await.unwrap();
    assert!(bus.away().is_some());
    assert_eq!(ask(&bus).await, Err(Unanswered::Away));
    let (sink, came) = mpsc::channel(8);
    let _listening = bus.listen(SUBJECT.to_owned(), sink).await;
    server.restart().await;
    let other = connected(&[server.url()]).await;
    until(|| bus.away().is_none()).await;
    tokio::select! {
        () = is_answered(&other) => {}
        () = answer(&bus, came) => panic!("it listens no more"),
    }
}

#[tokio::test]
async fn a_server_that_wants_a_password_or_a_token_is_shown_it() {
    for (options, login) in [
        (&["--user", "me", "--pass", "secret"][..], "me:secret"),
        (&["--auth", "secret"][..], "secret"),
    ] {
        let server = NatsServer::start(options).await;
        let bus = connected(&[server.url_as(login)]).await;
        assert_eq!(ask(&bus).await, Err(Unanswered::NobodyThere));
    }
}

#[tokio::test]
async fn a_bus_that_a_server_did_not_let_in_tries_again() {
    let wrong = NatsServer::start(&["--auth", "another"]).await;
    let options = NatsOptions::new(&[wrong.url_as("secret")]).unwrap();
    let bus = NatsBus::connect(options).await.unwrap();
    let (sink, came) = mpsc::channel(8);
    let _listening = bus.listen(SUBJECT.to_owned(), sink).await;
    assert!(bus.away().is_some());
    // Its operator puts that right.
    let mut right = wrong;
    right.kill();
    right.restart_with(&["--auth", "secret"]).await;
    until(|| bus.away().is_none()).await;
    let other = connected(&[right.url_as("secret")]).await;
    tokio::select! {
        () = is_answered(&other) => {}
        () = answer(&bus, came) => panic!("it listens no more"),
    }
}
