//! Tests of what an endpoint concludes from how servers see it.

use super::*;

fn seen(local: u16, server: u16, mapped: u16) -> Observation {
    Observation {
        local: ([192, 168, 1, 2], local).into(),
        server: ([198, 51, 100, 1], server).into(),
        mapped: ([203, 0, 113, 7], mapped).into(),
    }
}

/// A NAT that gave the punch port these ports, one for each destination.
fn behind(mapped: [u16; 2]) -> Behaviour {
    let behaviour = Behaviour::new(Host::default());
    behaviour.observe(seen(40_000, 3478, mapped[0]));
    behaviour.observe(seen(40_000, 4433, mapped[1]));
    behaviour
}

fn samples(behaviour: &Behaviour, mapped: &[u16]) {
    let samples = mapped
        .iter()
        .map(|port| seen(50_000 + port % 1000, 3478, *port));
    behaviour.sampled(samples.collect());
}

fn address(port: u16) -> Option<SocketAddr> {
    Some(([203, 0, 113, 7], port).into())
}

#[test]
fn a_mapping_that_stays_needs_no_prediction() {
    let behaviour = behind([7000, 7000]);
    assert_eq!(behaviour.samples_wanted(), 0);
    assert_eq!(behaviour.predict(10_000).1, None);
}

#[test]
fn a_nat64_is_judged_by_what_is_mapped_to_ipv4() {
    let local: SocketAddr = ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 40_000).into();
    let at = |last, port| SocketAddr::from(([0x64, 0xff9b, 0, 0, 0, 0, 0xc633, last], port));
    let behaviour = Behaviour::new(Host::default());
    for (server, mapped) in [
        // Over IPv6 nothing is translated.
        ("[2001:db8:1::1]:3478".parse().ok(), Some(local)),
        (Some(at(0x6401, 3478)), address(7000)),
    ] {
        behaviour.observe(Observation {
            local,
            server: server.expect("the test names one"),
            mapped: mapped.expect("the test names one"),
        });
    }
    assert_eq!(behaviour.report().mapping, None);
    let observed = |server, port| {
        behaviour.observe(Observation {
            local,
            server,
            mapped: ([203, 0, 113, 7], port).into(),
        });
        behaviour.report().mapping
    };
    let kept = observed(at(0x6401, 4433), 7000);
    assert_eq!(kept, Some(NatMapping::EndpointIndependent));
    let varies = observed(at(0x6402, 3478), 7001);
    assert_eq!(varies, Some(NatMapping::AddressDependent));
}

#[test]
fn what_is_learnt_at_the_same_moment_is_all_reported() {
    for _ in 0..500 {
        let behaviour = Behaviour::new(Host::default());
        behaviour.observe(seen(40_000, 3478, 7000));
        std::thread::scope(|scope| {
            scope.spawn(|| behaviour.observe(seen(40_000, 4433, 7002)));
            samples(&behaviour, &[7004, 7006, 7008, 7010]);
        });
        assert!(behaviour.is_sequential(), "{:?}", behaviour.report());
    }
}

#[test]
fn kept_ports_are_known_without_samples() {
    let behaviour = behind([40_000, 7000]);
    assert_eq!(behaviour.samples_wanted(), 0);
    assert_eq!(behaviour.predict(10_000).1, address(10_000));
}

/// The two punch ports are not seen anew at the same moment.
#[test]
fn a_nat_that_begins_anew_is_not_judged_by_what_was_seen_before() {
    let behaviour = behind([7000, 7000]);
    let mapping = || behaviour.report().mapping;
    assert_eq!(mapping(), Some(NatMapping::EndpointIndependent));
    behaviour.holds_other(seen(40_001, 3478, 7001));
    // The first server's answer is of before.
    behaviour.observe(seen(40_001, 3478, 7001));
    behaviour.observe(seen(40_001, 4433, 8001));
    assert_eq!(mapping(), Some(NatMapping::AddressAndPortDependent));
    behaviour.holds_other(seen(40_001, 3478, 8001));
    assert_eq!(mapping(), Some(NatMapping::EndpointIndependent));
}

#[test]
fn the_next_of_a_sequence_follows_the_newest_connection() {
    // The second server answered first, although it was asked last.
    let behaviour = behind([7002, 7000]);
    assert_eq!(behaviour.samples_wanted(), SAMPLES);
    samples(&behaviour, &[7004, 7006, 7008, 7010]);
    assert!(behaviour.is_sequential());
    assert_eq!(behaviour.samples_wanted(), 0);
    assert_eq!(behaviour.predict(10_000).1, address(7012));
    let mut predictions = behaviour.predictions();
    behaviour.set_position(([203, 0, 113, 7], 7030).into(), 0);
    assert!(predictions.has_changed());
    predictions.mark_unchanged();
    assert_eq!(behaviour.predict(10_000).1, address(7032));
    // A connection to another server came later, and another one long before.
    behaviour.saw(([203, 0, 113, 7], 7034).into());
    behaviour.saw(([203, 0, 113, 7], 9000).into());
    assert_eq!(behaviour.predict(10_000).1, address(7036));
    assert!(predictions.has_changed(), "whoever was told is told anew");
    // No connection comes from port 0.
    behaviour.set_position(([203, 0, 113, 7], 65_534).into(), 0);
    assert_eq!(behaviour.predict(10_000).1, None);
}

#[test]
fn a_sequence_that_is_about_to_begin_anew_is_known() {
    let at = |port: u16| SocketAddr::from(([203, 0, 113, 2], port));
    let upwards = behind([65_480, 65_481]);
    samples(&upwards, &[65_482, 65_483, 65_484, 65_485]);
    assert!(!upwards.is_at_an_end());
    upwards.set_position(at(65_519), 0);
    assert!(!upwards.is_at_an_end(), "the last one is 65,535");
    upwards.saw(at(65_520));
    assert!(upwards.is_at_an_end());
    upwards.set_position(at(1030), 0);
    assert!(!upwards.is_at_an_end());
    let predicted = upwards.predict(10_000).1;
    assert_eq!(predicted.map(|it| it.port()), Some(1031));

    let downwards = behind([60, 58]);
    samples(&downwards, &[56, 54, 52, 50]);
    assert!(!downwards.is_at_an_end());
    downwards.set_position(at(32), 0);
    assert!(downwards.is_at_an_end());

    let random = behind([65_534, 2000]);
    samples(&random, &[65_535, 9000, 30_000]);
    assert!(!random.is_at_an_end());
}

#[test]
fn the_next_port_is_reserved_while_introductions_are_under_way() {
    let behaviour = Arc::new(behind([7000, 7002]));
    assert!(!behaviour.is_reserved());
    let (first, second) = (behaviour.reserve(), behaviour.reserve());
    drop(first);
    assert!(behaviour.is_reserved());
    drop(second);
    assert!(!behaviour.is_reserved());
}

#[test]
fn a_sequence_goes_on_from_the_port_furthest_along_it() {
    let ports = BTreeSet::from([10, 12, 14, 20_000, 65_530]);
    assert_eq!(furthest(10, 2, &ports), 14);
    assert_eq!(furthest(14, 2, &ports), 14);
    assert_eq!(furthest(14, 65_534, &ports), 65_530);
    assert_eq!(furthest(65_534, 4, &ports), 14);
}

#[test]
fn a_random_port_is_one_between_those_seen_that_is_not_in_use() {
    let behaviour = behind([20_048, 20_050]);
    samples(&behaviour, &[20_049, 20_250, 20_100, 20_051]);
    assert_eq!(behaviour.samples_wanted(), SAMPLES - 4);
    assert_eq!(behaviour.report().ports, None);
    samples(
        &behaviour,
        &[
            20_077, 20_222, 20_111, 20_200, 20_090, 20_180, 20_066, 20_240, 20_149,
        ],
    );
    assert_eq!(behaviour.samples_wanted(), 0);
    let Some(PortAssignment::Random { first, last }) = behaviour.report().ports else {
        panic!("not random");
    };
    assert!((19_980..20_048).contains(&first) && (20_251..20_320).contains(&last));
    // The middle is in use.
    assert_eq!(behaviour.predict(10_000).1, address(20_150));
    // That of the connection by which a server was asked to connect back.
    behaviour.saw(([203, 0, 113, 7], 20_150).into());
    assert_eq!(behaviour.predict(10_000).1, address(20_151));
    // What one peer has been told of says nothing of the range.
    let before = behaviour.report();
    behaviour.uses_up(([203, 0, 113, 7], 20_151).into());
    assert_eq!(behaviour.predict(10_000).1, address(20_152));
    assert_eq!(behaviour.report(), before);
}

#[test]
fn other_connections_show_more_of_a_range() {
    let behaviour = behind([60_000, 20_050]);
    let lower = [
        20_049, 20_250, 20_100, 20_051, 20_077, 20_222, 20_111, 20_200, 20_090, 20_180, 20_066,
        20_240, 20_149,
    ];
    samples(&behaviour, &lower);
    let last = |behaviour: &Behaviour| match behaviour.report().ports {
        Some(PortAssignment::Random { last, .. }) => last,
        other => panic!("{other:?}"),
    };
    let before = last(&behaviour);
    assert!(before < 21_000, "one that was kept is not of the range");
    behaviour.saw(([203, 0, 113, 7], before).into());
    assert!(last(&behaviour) > before);
}

#[test]
fn what_was_seen_before_a_mapping_changed_is_no_contradiction() {
    let behaviour = Behaviour::new(Host::default());
    let mapping = || behaviour.report().mapping;
    behaviour.holds(seen(40_000, 3478, 7000));
    behaviour.holds(seen(40_000, 4433, 7000));
    behaviour.observe(seen(40_000, 5000, 7000));
    assert_eq!(mapping(), Some(NatMapping::EndpointIndependent));
    behaviour.holds(seen(40_000, 3478, 8000));
    assert_eq!(mapping(), None, "it may be of any kind now");
    behaviour.holds(seen(40_000, 4433, 8000));
    assert_eq!(mapping(), Some(NatMapping::EndpointIndependent));
    // A question has a connection of its own each time, and so another port here.
    behaviour.observe(seen(40_000, 5000, 8001));
    behaviour.observe(seen(40_000, 5000, 8002));
    assert_eq!(mapping(), Some(NatMapping::AddressAndPortDependent));
}

#[test]
fn what_lost_servers_saw_does_not_contradict_one_that_stands_in_for_them() {
    let behaviour = behind([7000, 7000]);
    behaviour.holds_instead(seen(40_000, 4433, 8000));
    assert_eq!(behaviour.report().mapping, None);
    behaviour.holds(seen(40_000, 3478, 8000));
    let stays = Some(NatMapping::EndpointIndependent);
    assert_eq!(behaviour.report().mapping, stays);
    let stand_in = seen(40_000, 4433, 8000);
    behaviour.stands_down(stand_in.local, stand_in.server);
    assert_eq!(behaviour.report().mapping, None);
    let behaviour = behind([7000, 7001]);
    behaviour.holds_instead(stand_in);
    behaviour.stands_down(stand_in.local, stand_in.server);
    let depends = Some(NatMapping::AddressAndPortDependent);
    assert_eq!(behaviour.report().mapping, depends);
}

#[test]
fn another_network_is_another_nat() {
    let behaviour = behind([7000, 7002]);
    samples(&behaviour, &[7004, 7006, 7008]);
    behaviour.forget([192, 168, 1, 2].into());
    assert_eq!(behaviour.report(), NatReport::default());
    assert_eq!(behaviour.predict(10_000).1, None);
}

#[tokio::test]
async fn only_what_makes_a_plan_possible_makes_a_dial_stale() {
    let unknown = NatReport::default();
    let behaviour = behind([7000, 7000]);
    behaviour.settle(true);
    let is_stale = |behaviour: &Behaviour, known: NatReport| {
        let mut waiting = Box::pin(behaviour.makes_stale(&known));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        waiting.as_mut().poll(&mut context) == std::task::Poll::Ready(true)
    };
    assert!(!is_stale(&behaviour, unknown));
    let behaviour = behind([40_000, 7000]);
    assert!(!is_stale(&behaviour, unknown), "more may be found");
    behaviour.settle(true);
    assert!(is_stale(&behaviour, unknown));
    assert!(!is_stale(&behaviour, behaviour.report()));
}

#[test]
fn a_port_that_is_not_kept_is_looked_into_at_once() {
    let behaviour = Behaviour::new(Host::default());
    assert_eq!(behaviour.samples_wanted(), 0);
    behaviour.observe(seen(40_000, 3478, 7000));
    assert_eq!(behaviour.samples_wanted(), SAMPLES);
    behaviour.observe(seen(40_000, 4433, 7000));
    assert_eq!(behaviour.samples_wanted(), 0);
    let behaviour = Behaviour::new(Host::default());
    behaviour.observe(seen(40_000, 3478, 40_000));
    assert_eq!(behaviour.samples_wanted(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_question_that_may_cost_the_server_waits_for_a_dial() {
    let patience = Duration::from_secs(2);
    let waited = async |behaviour: &Behaviour| {
        let began = tokio::time::Instant::now();
        behaviour.may_be_probed(patience).await;
        began.elapsed()
    };
    let stays = Arc::new(behind([7000, 7000]));
    assert_eq!(waited(&stays).await, BREATH);
    let bound = stays.reserve();
    let dialled = async {
        sleep(patience / 4).await;
        drop(bound);
        let dialling = stays.reserve();
        sleep(patience / 4).await;
        drop(dialling);
    };
    let until = tokio::join!(waited(&stays), dialled).0;
    assert_eq!(until, patience / 2 + BREATH);
    let _reserved = stays.reserve();
    assert_eq!(waited(&stays).await, patience);
    // A plan needs the answer.
    let varies = Arc::new(behind([7000, 7001]));
    let _reserved = varies.reserve();
    assert_eq!(waited(&varies).await, Duration::ZERO);
}

/// Somebody else had each second port while the samples were taken, and is done now.
#[test]
fn a_step_that_others_made_longer_is_found_out_later() {
    let step = |behaviour: &Behaviour| behaviour.report().ports;
    let at = |port: u16| SocketAddr::from(([203, 0, 113, 7], port));
    let sequential = |delta: u16| Some(PortAssignment::Sequential { delta });
    for (taken, probes, delta) in [
        ([7010, 7012, 7014, 7016], [7018, 7019], 1),
        ([7010, 7012, 7014, 7016], [7018, 7024], 2),
        ([7016, 7014, 7012, 7010], [7008, 7007], u16::MAX),
        ([7012, 7018, 7024, 7030], [7036, 7040], 2),
        // The sequence has begun anew.
        ([7010, 7012, 7014, 7016], [7018, 1025], 2),
        ([65_528, 65_530, 65_532, 65_534], [65_535, 1024], 1),
        ([65_527, 65_529, 65_531, 65_533], [65_535, 1024], 2),
    ] {
        let behaviour = behind([6000, 6001]);
        samples(&behaviour, &taken);
        for port in probes {
            behaviour.set_position(at(port), 0);
        }
        assert_eq!(step(&behaviour), sequential(delta), "{probes:?}");
        let next = probes[1].wrapping_add(delta);
        assert_eq!(behaviour.predict(10_000).1, Some(at(next)));
    }
}
