//! Bytes of handshakes that pass between the two sides of an introduction.

use p2pconnect_proto::message::{
    DialPolicy, Flight, MAX_HANDSHAKE, RefusalReason, Request, Response,
};

use crate::{IPV4, client::Client, config, start};

#[tokio::test]
async fn a_handshake_passes_between_the_two_sides_of_an_introduction() {
    let server = start(config(IPV4));
    let callee = Client::connect(&server).await;
    let dialler = Client::connect(&server).await;
    let stranger = Client::connect(&server).await;
    callee.register(DialPolicy::Anyone).await;

    let hello = vec![1; 500];
    let to_dialler = dialler.dial_with(callee.id, hello.clone()).await.unwrap();
    let to_callee = callee.introduction().await;
    assert_eq!((to_dialler.handshake, to_callee.handshake), (vec![], hello));

    let flight = |byte, len| Flight {
        session: to_callee.session,
        bytes: vec![byte; len],
    };
    let relay = |flight: &Flight| Request::Relay(flight.clone());
    let answer = flight(2, 1_500);
    assert_eq!(callee.request(&relay(&answer)).await, Response::Relayed);
    assert_eq!(dialler.flight().await, answer);
    let last = flight(3, 600);
    assert_eq!(dialler.request(&relay(&last)).await, Response::Relayed);
    assert_eq!(callee.flight().await, last);

    let refused = Response::Refused(RefusalReason::Unavailable.into());
    assert_eq!(stranger.request(&relay(&last)).await, refused);
    let refused = Response::Refused(RefusalReason::TooLarge.into());
    let rest = flight(4, MAX_HANDSHAKE - 1_500 + 1);
    assert_eq!(callee.request(&relay(&rest)).await, refused);
}

#[tokio::test]
async fn nothing_passes_to_a_side_that_has_gone() {
    let server = start(config(IPV4));
    let callee = Client::connect(&server).await;
    let dialler = Client::connect(&server).await;
    callee.register(DialPolicy::Anyone).await;
    let introduction = dialler.dial(callee.id).await.unwrap();
    callee.connection.close(0_u32.into(), b"");
    dialler.dial_until_offline(callee.id).await;
    let flight = Flight {
        session: introduction.session,
        bytes: vec![0],
    };
    let refused = Response::Refused(RefusalReason::Unavailable.into());
    assert_eq!(dialler.request(&Request::Relay(flight)).await, refused);
}

#[tokio::test]
async fn a_dial_with_too_long_a_beginning_is_refused() {
    let server = start(config(IPV4));
    let callee = Client::connect(&server).await;
    let dialler = Client::connect(&server).await;
    callee.register(DialPolicy::Anyone).await;
    let hello = vec![0; MAX_HANDSHAKE + 1];
    let result = dialler.dial_with(callee.id, hello).await;
    assert_eq!(result, Err(RefusalReason::TooLarge));
}
