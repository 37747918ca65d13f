//! Registrations, dials, and what both sides are told of each other.

use p2pconnect_proto::{
    Candidate, NatMapping, NatReport, PortAssignment, PunchPort, ReflexiveToken, Role,
    message::{
        DialPolicy, DialRequest, Introduction, RefusalReason, Registration, Request, Response,
    },
};

use crate::{IPV4, IPV6, STRANGER, address, client::Client, config, start, token_key};

#[tokio::test]
async fn a_client_is_welcomed_with_its_address_and_the_stun_servers() {
    for listen in [IPV4, IPV6] {
        let mut config = config(listen);
        config.stun_servers = vec![address("192.0.2.1:3478"), address("[2001:db8::1]:3478")];
        config.stun_alternates = vec![address("192.0.2.1:3479")];
        let server = start(config);
        let client = Client::connect(&server).await;
        let welcome = client.welcome().await;
        assert_eq!(welcome.observed, client.seen());
        assert_eq!(welcome.stun_servers.len(), 2);
        assert_eq!(welcome.stun_alternates, [address("192.0.2.1:3479")]);
    }
}

/// Asserts that a dialler and a callee are told of each other, as of one introduction.
pub(crate) fn are_told_of_each_other(
    [dialler, callee]: [&Client; 2],
    [at_dialler, at_callee]: [&Introduction; 2],
) {
    assert_eq!(at_dialler.session, at_callee.session);
    assert_eq!(
        at_dialler.rtt_via_coordinator_us,
        at_callee.rtt_via_coordinator_us
    );
    for (told, role, other) in [
        (at_dialler, Role::Controlling, callee),
        (at_callee, Role::Controlled, dialler),
    ] {
        assert_eq!(
            (told.peer, told.role, &told.candidates),
            (other.id, role, &other.candidates())
        );
    }
}

#[tokio::test]
async fn both_sides_are_told_of_each_other() {
    for listen in [IPV4, IPV6] {
        let server = start(config(listen));
        let callee = Client::connect(&server).await;
        let dialler = Client::connect(&server).await;
        callee.register(DialPolicy::Only(vec![dialler.id])).await;

        let at_dialler = dialler.dial(callee.id).await.unwrap();
        let at_callee = callee.introduction().await;

        are_told_of_each_other([&dialler, &callee], [&at_dialler, &at_callee]);
    }
}

#[tokio::test]
async fn every_introduction_has_its_own_token() {
    let server = start(config(IPV4));
    let callee = Client::connect(&server).await;
    let dialler = Client::connect(&server).await;
    callee.register(DialPolicy::Anyone).await;
    let (first, second) = tokio::join!(dialler.dial(callee.id), dialler.dial(callee.id));
    assert_ne!(first.unwrap().session, second.unwrap().session);
}

#[tokio::test]
async fn a_registration_is_updated_by_the_next() {
    let server = start(config(IPV4));
    let callee = Client::connect(&server).await;
    let dialler = Client::connect(&server).await;
    callee.register(DialPolicy::Anyone).await;

    let update = Registration {
        serial: 2,
        candidates: vec![Candidate::host(address("10.1.2.3:4000"), PunchPort::SPARE)],
        nat: NatReport {
            mapping: Some(NatMapping::AddressDependent),
            ports: Some(PortAssignment::Sequential { delta: 1 }),
            ..NatReport::default()
        },
        ..Registration::new(DialPolicy::Anyone)
    };
    let response = callee.request(&Request::Register(update.clone())).await;
    assert!(matches!(response, Response::Registered(_)), "{response:?}");
    let introduction = dialler.dial(callee.id).await.unwrap();
    assert_eq!(introduction.candidates, update.candidates);
    assert_eq!(introduction.nat, update.nat);
    assert_eq!(introduction.serial, 0);
    let serial = callee.introduction().await.serial;
    assert_eq!(serial, update.serial);
}

#[tokio::test]
async fn only_addresses_with_a_token_are_passed_on_and_the_token_is_not() {
    let server = start(config(IPV4));
    let callee = Client::connect(&server).await;
    let dialler = Client::connect(&server).await;
    let proven = address("203.0.113.9:40000");
    let salt = [7; 16];
    let expires_at = u64::MAX;
    let commitment = ReflexiveToken::commitment(&salt, &callee.id);
    let token = ReflexiveToken {
        salt,
        expires_at,
        mac: token_key().mint(&commitment, proven, expires_at),
    };
    let claimed = address("203.0.113.10:40000");
    let port = PunchPort::PRIMARY;
    let registration = Registration {
        serial: 1,
        candidates: vec![
            Candidate::server_reflexive(proven, port, Some(token.clone())),
            Candidate::server_reflexive(claimed, port, Some(token)),
        ],
        ..Registration::new(DialPolicy::Anyone)
    };
    let response = callee.request(&Request::Register(registration)).await;
    let Response::Registered(registered) = response else {
        panic!("{response:?}");
    };
    assert_eq!(registered.unproven, [claimed]);
    assert_eq!(
        dialler.dial(callee.id).await.unwrap().candidates,
        [Candidate::server_reflexive(proven, port, None)]
    );
}

#[tokio::test]
async fn who_may_not_dial_is_told_nothing() {
    let server = start(config(IPV4));
    let callee = Client::connect(&server).await;
    let dialler = Client::connect(&server).await;
    assert_eq!(
        dialler.dial(STRANGER).await,
        Err(RefusalReason::Unavailable)
    );
    assert_eq!(dialler.dial(dialler.id).await, Err(RefusalReason::OwnId));
    callee.register(DialPolicy::Only(vec![STRANGER])).await;
    assert_eq!(
        dialler.dial(callee.id).await,
        Err(RefusalReason::Unavailable)
    );
    callee.register(DialPolicy::Only(Vec::new())).await;
    assert_eq!(
        dialler.dial(callee.id).await,
        Err(RefusalReason::Unavailable)
    );
    callee.register(DialPolicy::Anyone).await;
    dialler.dial(callee.id).await.unwrap();
}

#[tokio::test]
async fn a_callee_that_reads_nothing_holds_up_its_own_diallers_only() {
    let server = start(config(IPV4));
    let deaf = Client::connect_deaf(&server).await;
    let callee = Client::connect(&server).await;
    let dialler = Client::connect(&server).await;
    deaf.register(DialPolicy::Anyone).await;
    callee.register(DialPolicy::Anyone).await;

    let mut to_deaf = std::pin::pin!(dialler.dial(deaf.id));
    let introduced = tokio::select! {
        biased;
        outcome = &mut to_deaf => panic!("the deaf callee came first: {outcome:?}"),
        introduced = dialler.dial(callee.id) => introduced,
    };
    introduced.unwrap();
    callee.introduction().await;
    assert_eq!(to_deaf.await, Err(RefusalReason::TooMany));
}

#[tokio::test]
async fn a_dial_may_follow_the_handshake_without_a_pause() {
    let server = start(config(IPV4));
    let callee = Client::connect(&server).await;
    callee.register(DialPolicy::Anyone).await;
    let dialler = Client::connect(&server).await;
    let request = Request::Dial(DialRequest::new(callee.id));
    let response = dialler.request(&request).await;
    assert!(matches!(response, Response::Introduced(_)), "{response:?}");
    assert!(callee.introduction().await.candidates.is_empty());
}
