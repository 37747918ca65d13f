//! Dials that carry bytes.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use netns_lab::{Dependence, NatSpec, PortAssignment, SimultaneousOpen, preset};
use p2pconnect::{
    ConnectFailure, DialError, DialPolicy, Endpoint, PairOutcome, PeerId, PunchReport, Status,
    Verdict,
};
use p2pconnect_tests::{
    kinds::{BLOCK, COUNTS, DROPS, PUBLIC, RANDOM_PER_DESTINATION},
    virtual_ground::VirtualGround,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::JoinHandle,
    time::{Instant, timeout},
};

/// How long both may take until the one dials: longer than any NAT takes to be found out.
const SETTLING: Duration = Duration::from_secs(5);

/// Lets `a` dial `b`, which sends back what it gets, and returns how long it took until bytes were
/// back.
pub(crate) async fn dial(ground: &VirtualGround) -> Result<Duration, DialError> {
    let (peer, echoing) = echo(ground).await;
    let dialler = ground.endpoint("a").bind().await.unwrap();
    tokio::time::sleep(SETTLING).await;
    let began = Instant::now();
    carry(&dialler, peer).await?;
    let took = began.elapsed();
    echoing.await.unwrap();
    Ok(took)
}

/// Does the same from the moment at which `a` starts.
async fn dial_cold(ground: &VirtualGround) -> Result<Duration, DialError> {
    let (peer, echoing) = echo(ground).await;
    tokio::time::sleep(SETTLING).await;
    let began = Instant::now();
    let dialler = ground.endpoint("a").bind().await.unwrap();
    carry(&dialler, peer).await?;
    let took = began.elapsed();
    echoing.await.unwrap();
    Ok(took)
}

/// Lets `b` send back what it gets on one connection.
async fn echo(ground: &VirtualGround) -> (PeerId, JoinHandle<()>) {
    let listener = ground.endpoint("b").allow(DialPolicy::Anyone);
    let listener = listener.bind().await.unwrap();
    let peer = listener.peer_id();
    let echoing = tokio::spawn(async move {
        let mut connection = listener.accept().await.unwrap();
        let mut message = Vec::new();
        connection.read_to_end(&mut message).await.unwrap();
        connection.write_all(&message).await.unwrap();
        connection.shutdown().await.unwrap();
    });
    (peer, echoing)
}

/// Dials, and has something sent back.
async fn carry(dialler: &Endpoint, peer: PeerId) -> Result<(), DialError> {
    let mut connection = dialler.dial(peer).await?;
    connection.write_all(b"said").await.unwrap();
    connection.shutdown().await.unwrap();
    let mut heard = Vec::new();
    connection.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"said");
    Ok(())
}

/// From the question to the coordinator to the first bytes that come back: one way to the server
/// and one from there, the SYNs one way, and two round trips for what is said, of which TLS takes
/// none.
const PHYSICS: Duration = Duration::from_millis(42 + 40 + 120);

#[test]
fn dials_between_all_kinds_of_nat_are_as_fast_as_the_path_lets_them() {
    let kinds = [PUBLIC, DROPS, COUNTS, BLOCK].map(|it| it.boxes);
    for (seed, a) in (0..).zip(kinds) {
        for b in kinds {
            let took = VirtualGround::run(seed, [a, b], async |ground| dial(&ground).await);
            let took = took.unwrap_or_else(|error| panic!("seed {seed}, {a:?} to {b:?}: {error}"));
            // Whoever fills a range sends its SYNs one after the other, and timers are of a
            // millisecond. Of two, one waits for the other.
            let both_fill = a == BLOCK.boxes && b == BLOCK.boxes;
            let slack = Duration::from_millis(if both_fill { 120 } else { 50 });
            let range = PHYSICS..PHYSICS + slack;
            assert!(
                range.contains(&took),
                "{took:?}, seed {seed}, {a:?} to {b:?}"
            );
        }
    }
}

/// The coordinator knows the round trips of TCP as well as those of QUIC, so the start is common.
#[test]
fn dials_without_udp_are_as_fast_as_others() {
    let with = NatSpec::port_preserving();
    let without = with.drop_udp();
    for (seed, (a, b)) in (0..).zip([(without, without), (without, with), (with, without)]) {
        let boxes = [&[a][..], &[b]];
        let took = VirtualGround::run(seed, boxes, async |ground| dial(&ground).await);
        let took = took.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let range = PHYSICS..PHYSICS + Duration::from_millis(50);
        assert!(range.contains(&took), "{took:?}, seed {seed}");
    }
}

/// A process that has just started asks the coordinator as soon as it is there: by QUIC after a
/// round trip, by TLS on TCP after two, of which STUN makes the first one meanwhile.
#[test]
fn a_cold_dial_without_udp_waits_for_quic_for_a_moment() {
    let with = NatSpec::port_preserving();
    let round_trip = Duration::from_millis(42);
    let nats = [(with, round_trip), (with.drop_udp(), 2 * round_trip)];
    for (seed, (nat, before)) in (0..).zip(nats) {
        let boxes = [&[nat][..], &[with]];
        let took = VirtualGround::run(seed, boxes, async |ground| dial_cold(&ground).await);
        let took = took.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let range = PHYSICS + before..PHYSICS + before + Duration::from_millis(20);
        assert!(range.contains(&took), "{took:?} is not in {range:?}");
    }
}

/// The NAT of one lets in whomever it has sent to, so the other connects to it from a port that
/// nobody can know.
#[test]
fn a_random_port_gets_in_where_a_port_can_be_predicted_and_the_address_suffices() {
    let keeper = NatSpec {
        mapping: Dependence::AddressAndPortDependent,
        filtering: Dependence::AddressDependent,
        ports: PortAssignment::Sequential { delta: 1 },
        ..NatSpec::rfc5382()
    };
    let random = NatSpec::random_per_destination();
    for (seed, boxes) in (0..).zip([[[keeper], [random]], [[random], [keeper]]]) {
        let boxes = [&boxes[0][..], &boxes[1]];
        let took = VirtualGround::run(seed, boxes, async |ground| dial(&ground).await);
        // Whoever predicts asks the server once more before.
        let limit = PHYSICS + Duration::from_millis(42 + 50);
        let took = took.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert!(took < limit, "{took:?}, seed {seed}");
    }
}

#[test]
fn two_nats_with_random_ports_explain_themselves() {
    let random = RANDOM_PER_DESTINATION.boxes;
    let error = VirtualGround::run(1, [random; 2], async |ground| dial(&ground).await);
    let verdict = error.unwrap_err().report().map(|report| report.verdict);
    assert_eq!(verdict, Some(Verdict::BothMappingsVary));
}

/// What the listener's NAT lets in is found out last.
#[test]
fn no_way_to_a_listener_that_has_just_started_is_soon_known() {
    let random = RANDOM_PER_DESTINATION.boxes;
    for settling in [0, 500].map(Duration::from_millis) {
        let (took, error) = VirtualGround::run(1, [random; 2], async |ground| {
            let listener = ground.endpoint("b").allow(DialPolicy::Anyone);
            let listener = listener.bind().await.unwrap();
            tokio::time::sleep(settling).await;
            let began = Instant::now();
            let dialler = ground.endpoint("a").bind().await.unwrap();
            let error = dialler.dial(listener.peer_id()).await.unwrap_err();
            (began.elapsed(), error)
        });
        let verdict = error.report().map(|report| report.verdict);
        assert_eq!(verdict, Some(Verdict::BothMappingsVary));
        assert!(took < Duration::from_secs(2), "{took:?}");
    }
}

/// Each of the three introductions guesses hundreds of ports, and no connection opens.
#[test]
fn a_report_tells_of_the_attempts_of_all_introductions() {
    let refusing = |spec| NatSpec {
        simultaneous_open: SimultaneousOpen::Dropped,
        ..spec
    };
    let random = [refusing(NatSpec::random_per_destination())];
    let preserving = [refusing(NatSpec::port_preserving())];
    let boxes = [&random[..], &preserving];
    let error = VirtualGround::run(1, boxes, async |ground| dial(&ground).await);
    let error = error.unwrap_err();
    let report = error.report().unwrap();
    assert_eq!(report.others.introductions, 2, "{report}");
    assert!(report.others.attempts > 2 * 400, "{report}");
    let in_all = report.others.attempts + report.attempts();
    let told = format!("In 3 introductions there were {in_all} attempts.");
    assert!(report.to_string().contains(&told), "{report}");
}

/// Lets `a` dial `b` with all that it does not know yet, and returns the reports of both once they
/// are there.
async fn reports_of_a_fresh_dial(ground: &VirtualGround) -> [PunchReport; 2] {
    let told = Arc::new(Mutex::new(None));
    let telling = Arc::clone(&told);
    let observer = move |status| {
        if let Status::PunchFailed { report, .. } = status {
            *telling.lock().unwrap() = report;
        }
    };
    let listener = ground.endpoint("b").allow(DialPolicy::Anyone);
    let listener = listener.observer(observer).bind().await.unwrap();
    tokio::time::sleep(SETTLING).await;
    let dialler = ground.endpoint("a").bind().await.unwrap();
    let error = dialler.dial(listener.peer_id()).await.unwrap_err();
    // The listener has heard that the dial is over, and is not kept from its end.
    tokio::time::sleep(SETTLING / 5).await;
    listener.close().await;
    let told = told.lock().unwrap().take().unwrap();
    [error.report().unwrap().clone(), *told]
}

#[test]
fn nothing_is_told_to_have_come_that_has_not() {
    // The listener, whose ports nobody knows, opens holes to the dialler until that knows its NAT.
    // The next introduction meets these.
    let random = RANDOM_PER_DESTINATION.boxes;
    let reports = VirtualGround::run(1, [random; 2], async |ground| {
        reports_of_a_fresh_dial(&ground).await
    });
    for report in reports {
        for it in &report.pairs {
            let came = PairOutcome::Failed(ConnectFailure::AddressNotAvailable);
            assert_ne!(it.outcome, came, "{it:?}");
        }
        assert_eq!(report.verdict, Verdict::BothMappingsVary);
        let text = report.to_string();
        assert!(
            text.ends_with("4 attempts on 4 pairs of addresses: 4 unanswered."),
            "{text}"
        );
    }
}

/// Returns how many addresses a dial says that it connects to, for each introduction.
async fn targets_of_a_fresh_dial(ground: &VirtualGround) -> Vec<usize> {
    let told = Arc::new(Mutex::new(Vec::new()));
    let telling = Arc::clone(&told);
    let observer = move |status| {
        if let Status::Punching { candidates, .. } = status {
            telling.lock().unwrap().push(candidates);
        }
    };
    let listener = ground.endpoint("b").allow(DialPolicy::Anyone);
    let listener = listener.bind().await.unwrap();
    tokio::time::sleep(SETTLING).await;
    let dialler = ground.endpoint("a").observer(observer);
    let dialler = dialler.bind().await.unwrap();
    dialler.dial(listener.peer_id()).await.unwrap();
    std::mem::take(&mut *told.lock().unwrap())
}

#[test]
fn a_dial_tells_of_all_addresses_that_it_connects_to() {
    let boxes = [DROPS, RANDOM_PER_DESTINATION].map(|it| it.boxes);
    let told = VirtualGround::run(1, boxes, async |ground| {
        targets_of_a_fresh_dial(&ground).await
    });
    // The peer's own address and its NAT's, and a hole for each port that it may come from.
    assert!(told.iter().all(|it| (600..700).contains(it)), "{told:?}");
}

/// How often a cloud's machine with 32 ports is dialled within the two minutes for which its NAT
/// keeps each.
const IN_A_ROW: usize = 10;

#[test]
fn a_machine_with_few_ports_is_dialled_again_and_again() {
    let few = preset::find("gcp-cloud-nat").unwrap().specs();
    let reached = VirtualGround::run(1, [DROPS.boxes, &few], async |ground| {
        let listener = ground.endpoint("b").allow(DialPolicy::Anyone);
        let listener = listener.bind().await.unwrap();
        let peer = listener.peer_id();
        tokio::time::sleep(SETTLING).await;
        for n in 0..IN_A_ROW {
            // As a process of its own, that knows nothing yet.
            let dialler = ground.endpoint("a").bind().await.unwrap();
            let Ok(connection) = dialler.dial(peer).await else {
                return n;
            };
            drop((connection, listener.accept().await.unwrap()));
            dialler.close().await;
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        IN_A_ROW
    });
    assert_eq!(reached, IN_A_ROW);
}

/// A NAT that keeps ports gives a block of them to one peer alone.
#[test]
fn whoever_has_dialled_names_other_ports_to_each_peer_that_dials_it() {
    let keeper = [NatSpec {
        mapping: Dependence::AddressAndPortDependent,
        filtering: Dependence::AddressAndPortDependent,
        ports: PortAssignment::Preserved,
        ..NatSpec::rfc5382()
    }];
    VirtualGround::run(1, [DROPS.boxes, &keeper], async |ground| {
        let bind = |name| ground.endpoint(name).allow(DialPolicy::Anyone).bind();
        let (a, b) = (bind("a").await.unwrap(), bind("b").await.unwrap());
        tokio::time::sleep(SETTLING).await;
        let mut open = vec![b.dial(a.peer_id()).await.unwrap()];
        open.push(a.accept().await.unwrap());
        for number in 0..3 {
            tokio::time::sleep(SETTLING).await;
            let began = Instant::now();
            open.push(a.dial(b.peer_id()).await.unwrap());
            let took = began.elapsed();
            assert!(took < PHYSICS, "{took:?}, dial {number}");
            open.push(b.accept().await.unwrap());
        }
    });
}

/// Dials a listener that has room for one connection and drops the dial after so long, with its
/// endpoint or without. Returns how long the next dial takes.
async fn dial_after_another(ground: &VirtualGround, after: Duration, ends: bool) -> Duration {
    let listener = ground.endpoint("b").allow(DialPolicy::Anyone);
    let listener = listener.max_connections(1).bind().await.unwrap();
    let mut dialler = ground.endpoint("a").bind().await.unwrap();
    tokio::time::sleep(SETTLING).await;
    let dialling = dialler.dial(listener.peer_id());
    assert!(timeout(after, dialling).await.is_err(), "it is not over");
    if ends {
        dialler.close().await;
        dialler = ground.endpoint("a").bind().await.unwrap();
    }
    let began = Instant::now();
    dialler.dial(listener.peer_id()).await.unwrap();
    began.elapsed()
}

/// Wherever a dial is dropped: before it was asked for, on the way to the coordinator, on the way
/// back, and while the two connect.
#[test]
fn a_dial_that_is_dropped_leaves_its_place_to_the_next_one() {
    let boxes = [DROPS.boxes; 2];
    for ends in [false, true] {
        for after in (0..120).step_by(10).map(Duration::from_millis) {
            let took = VirtualGround::run(1, boxes, async |ground| {
                dial_after_another(&ground, after, ends).await
            });
            let limit = Duration::from_secs(1);
            assert!(took < limit, "{took:?} after {after:?}, {ends}");
        }
    }
}
