//! Tests of plans: the SYNs of both sides meet, whatever their NATs do.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use p2pconnect_proto::{NatMapping, Role, is_global};
use rand::{RngExt as _, seq::SliceRandom as _};

use super::*;
use crate::Base;

const FRESH: u16 = 20_000;
const RANGES: [(u16, u16); 5] = [
    (2048, 2111),
    (3072, 3327),
    (4096, 4096 + 1023),
    (30_001, 30_001 + 2015),
    (1024, 65_535),
];

/// All NATs that reports tell apart, as far as plans go.
fn nats() -> Vec<NatReport> {
    let filterings = [
        None,
        Some(NatFiltering::EndpointIndependent),
        Some(NatFiltering::AddressDependent),
    ];
    let random = RANGES.map(|(first, last)| PortAssignment::Random { first, last });
    let mut ports = vec![
        None,
        Some(PortAssignment::Preserved),
        Some(PortAssignment::Sequential { delta: 2 }),
        Some(PortAssignment::Sequential { delta: 65_535 }),
    ];
    ports.extend(random.map(Some));
    let mappings = [None, Some(NatMapping::AddressAndPortDependent)];
    let mut nats = Vec::new();
    for mapping in mappings {
        for ports in &ports {
            for filtering in filterings {
                nats.push(NatReport {
                    mapping,
                    ports: *ports,
                    filtering,
                    ..NatReport::default()
                });
            }
        }
    }
    nats
}

/// A NAT with another port for each destination, that chooses it like this.
fn varying(ports: PortAssignment) -> NatReport {
    NatReport {
        mapping: Some(NatMapping::AddressAndPortDependent),
        ports: Some(ports),
        ..NatReport::default()
    }
}

/// The same, with any port of a range.
fn random(first: u16, last: u16) -> NatReport {
    varying(PortAssignment::Random { first, last })
}

fn outside(side: u8) -> Ipv4Addr {
    Ipv4Addr::new(198, 51, 100, side)
}

fn inside(side: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 0, side, 2)
}

/// Where the first connection from an unused port comes from.
fn predicted(nat: &NatReport) -> u16 {
    match nat.ports {
        Some(PortAssignment::Sequential { .. }) => 50_000,
        Some(PortAssignment::Random { first, .. }) => first,
        Some(PortAssignment::Preserved) | None => FRESH,
    }
}

/// The ports that the connections to servers have.
fn reflexive(nat: &NatReport) -> [u16; 2] {
    match nat.ports {
        Some(PortAssignment::Random { first, .. }) => [first + 3, first + 17],
        Some(PortAssignment::Sequential { .. } | PortAssignment::Preserved) | None => {
            [40_000, 40_001]
        }
    }
}

fn candidates(side: u8, nat: &NatReport) -> Vec<Candidate> {
    let of = |kind, port: u16, punch_port| Candidate {
        kind,
        address: (outside(side), port).into(),
        punch_port,
        token: None,
    };
    let [primary, spare] = reflexive(nat);
    let seen = CandidateKind::ServerReflexive;
    vec![
        Candidate::host((inside(side), 4000).into(), PunchPort::PRIMARY),
        of(seen, primary, PunchPort::PRIMARY),
        of(seen, spare, PunchPort::SPARE),
        of(CandidateKind::Predicted, predicted(nat), PunchPort::FRESH),
    ]
}

fn introduced(side: u8, nats: [NatReport; 2]) -> Introduced {
    let base = |port: u16, punch_port| Base {
        address: (inside(side), port).into(),
        punch_port,
    };
    let [own, other] = [nats[usize::from(side)], nats[usize::from(1 - side)]];
    Introduced {
        role: [Role::Controlling, Role::Controlled][usize::from(side)],
        routes: Default::default(),
        unrouted: Default::default(),
        translated: Default::default(),
        bases: vec![
            base(4000, PunchPort::PRIMARY),
            base(4001, PunchPort::SPARE),
            base(FRESH, PunchPort::FRESH),
        ],
        remote_candidates: candidates(1 - side, &other),
        may_be_reached: false,
        families_apart: false,
        rtt_via_coordinator: Duration::from_millis(80),
        local_nat: own,
        remote_nat: other,
    }
}

/// Returns what a side knows whose addresses are IPv6 ones, with a NAT64 in front.
fn behind_nat64(mut introduced: Introduced) -> Introduced {
    let prefixed = |address: &mut SocketAddr| {
        if let IpAddr::V4(v4) = address.ip() {
            let [a, b, c, d] = v4.octets().map(u16::from);
            let groups = [0x64, 0xff9b, 0, 0, 0, 0, a << 8 | b, c << 8 | d];
            address.set_ip(groups.into());
        }
    };
    let own = |port| SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 2], port));
    for base in &mut introduced.bases {
        base.address = own(base.address.port());
    }
    for candidate in &mut introduced.remote_candidates {
        if is_global(candidate.address.ip()) {
            prefixed(&mut candidate.address);
            introduced.translated.insert(candidate.address.ip());
            introduced
                .routes
                .insert(candidate.address.ip(), own(0).ip());
        }
    }
    // The peer has IPv6 as well, and this side another network, and both come first.
    let native = SocketAddr::from(([0x2001, 0xdb8, 1, 0, 0, 0, 0, 2], 4000));
    let host = Candidate::host(native, PunchPort::PRIMARY);
    introduced
        .routes
        .insert(native.ip(), Ipv6Addr::LOCALHOST.into());
    introduced.remote_candidates.insert(0, host);
    let other = Base {
        address: (Ipv6Addr::LOCALHOST, 4000).into(),
        punch_port: PunchPort::PRIMARY,
    };
    introduced.bases.insert(0, other);
    introduced
}

#[test]
fn a_nat64_changes_no_plan() {
    let ends = |it: &Planned| {
        let last = |address: SocketAddr| match address.ip() {
            IpAddr::V4(v4) => v4.to_bits(),
            // The prefix and the address of the host end in the same place.
            IpAddr::V6(v6) => v6.to_bits() as u32,
        };
        (it.local.port(), last(it.remote), it.remote.port(), it.kind)
    };
    for local in nats() {
        for remote in nats() {
            let plain = introduced(0, [local, remote]);
            let expected = Plan::new(&plain, 1280, [3; 32], None);
            let plan = Plan::new(&behind_nat64(plain), 1280, [3; 32], None);
            assert_eq!(plan.strategy, expected.strategy);
            assert_eq!(plan.plain_after, expected.plain_after);
            let attempts = plan.attempts.iter().map(ends);
            assert!(
                attempts.eq(expected.attempts.iter().map(ends)),
                "{local:?}, {remote:?}"
            );
            let local = |it: &Planned| it.local.ip() == Ipv6Addr::LOCALHOST;
            assert!(!plan.attempts.iter().any(local));
        }
    }
}

fn plans(nats: [NatReport; 2], seed: u8) -> [Plan; 2] {
    [0, 1].map(|side| {
        Plan::new(
            &introduced(side, nats),
            MAX_FILL,
            [2 * seed + side; 32],
            None,
        )
    })
}

/// What the outside sees of a plan: from which port to which address, in the order of the SYNs,
/// if others have got so many ports of a sequence.
fn seen(
    side: u8,
    lost: u32,
    nat: &NatReport,
    plan: &Plan,
    random: &mut ChaCha8Rng,
) -> BTreeSet<(u16, SocketAddr)> {
    let mut order: Vec<_> = plan.attempts.iter().collect();
    order.sort_by_key(|attempt| (attempt.stage, attempt.after));
    let [primary, spare] = reflexive(nat);
    let mut free = match nat.ports {
        Some(PortAssignment::Random { first, last }) => (first..=last)
            .filter(|port| ![primary, spare].contains(port))
            .collect(),
        _ => Vec::new(),
    };
    free.shuffle(random);
    let mut step = lost as u16;
    let varies = mapping_varies(nat.mapping).is_some();
    let mut given = BTreeMap::new();
    for attempt in order {
        assert_eq!(attempt.local.ip(), inside(side));
        let ends = (attempt.local, attempt.remote);
        let port = match nat.ports {
            _ if !varies => Some(primary),
            Some(PortAssignment::Sequential { delta }) => {
                step += 1;
                Some(50_000_u16.wrapping_add((step - 1).wrapping_mul(delta)))
            }
            Some(PortAssignment::Random { .. }) => free.pop(),
            Some(PortAssignment::Preserved) | None => Some(attempt.local.port()),
        };
        if let Some(port) = port {
            given.insert(ends, port);
        }
    }
    given
        .into_iter()
        .map(|((_, remote), port)| (port, remote))
        .collect()
}

/// Tells whether two SYNs meet, if others have got so many ports of either side's sequence.
fn meet(nats: [NatReport; 2], plans: &[Plan; 2], lost: [u32; 2], random: &mut ChaCha8Rng) -> bool {
    let [one, other] = [0_u8, 1].map(|side| {
        let of = usize::from(side);
        seen(side, lost[of], &nats[of], &plans[of], random)
    });
    one.iter().any(|(port, to)| {
        to.ip() == outside(1) && other.contains(&(to.port(), (outside(0), *port).into()))
    })
}

fn mirrored(strategy: Strategy) -> Strategy {
    match strategy {
        Strategy::Plain | Strategy::Prediction | Strategy::Fill | Strategy::OutOfReach => strategy,
        Strategy::Door { keeper } => Strategy::Door {
            keeper: keeper.other(),
        },
        Strategy::Guess { random } => Strategy::Guess {
            random: random.other(),
        },
    }
}

#[test]
fn both_sides_make_plans_that_fit() {
    let all = nats();
    let mut random = ChaCha8Rng::from_seed([1; 32]);
    for one in &all {
        for other in &all {
            let nats = [*one, *other];
            let plans = plans(nats, random.random_range(0..100));
            let case = format!("{nats:?}");
            let [a, b] = &plans;
            assert_eq!(a.strategy, mirrored(b.strategy), "{case}");
            let out_of_reach = a.strategy == Strategy::OutOfReach;
            assert_eq!(spare_ports([one, other]).is_none(), out_of_reach, "{case}");
            let bounded = |plan: &Plan| plan.attempts.len() <= MAX_FILL as usize;
            assert!(plans.iter().all(bounded), "{case}");
            let locals = |plan: &Plan| {
                let ends = plan.attempts.iter().map(|it| (it.local, it.remote));
                ends.collect::<BTreeSet<_>>().len() == plan.attempts.len()
            };
            assert!(plans.iter().all(locals), "the same twice: {case}");
            match a.strategy {
                Strategy::Plain | Strategy::OutOfReach => {
                    assert!(a.attempts.is_empty() && b.attempts.is_empty(), "{case}");
                }
                Strategy::Prediction | Strategy::Fill => {
                    assert!(meet(nats, &plans, [0; 2], &mut random), "{case}");
                }
                Strategy::Door { keeper } => {
                    let side = usize::from(keeper == Who::Remote);
                    let keeps = seen(side as u8, 0, &nats[side], &plans[side], &mut random);
                    let knocks = &plans[1 - side].attempts;
                    let fits = knocks.iter().any(|knock| {
                        let opens = |(port, _): &(u16, SocketAddr)| *port == knock.remote.port();
                        keeps.iter().any(opens)
                    });
                    assert!(fits, "{case}");
                    let (opened, other) = (plans[side].doors(), plans[1 - side].doors());
                    assert!(opened.len() == plans[side].attempts.len() && other.is_empty());
                }
                Strategy::Guess { .. } => {}
            }
        }
    }
}

#[test]
fn a_plan_bears_that_others_get_the_ports_it_has_to_spare() {
    let all = nats();
    let mut random = ChaCha8Rng::from_seed([4; 32]);
    let mut borne = BTreeSet::new();
    let varies = |nat: &&NatReport| mapping_varies(nat.mapping).is_some();
    let counts = |nat: &&NatReport| matches!(nat.ports, Some(PortAssignment::Sequential { .. }));
    for one in all.iter().filter(varies).filter(counts) {
        for other in &all {
            let nats = [*one, *other];
            let spare = spare_ports([one, other]).unwrap_or_default();
            let plans = plans(nats, 3);
            for lost in [1, spare / 2, spare]
                .into_iter()
                .filter(|it| *it > 0 && *it <= spare)
            {
                let meets = meet(nats, &plans, [lost, 0], &mut random);
                assert!(meets, "{lost} lost: {nats:?}");
            }
            borne.insert(spare);
        }
    }
    assert_eq!(borne, [0, 2, 92].into());
}

#[test]
fn guessing_hardly_ever_misses() {
    for (first, last) in RANGES {
        let one = NatReport {
            mapping: Some(NatMapping::AddressAndPortDependent),
            ports: Some(PortAssignment::Random { first, last }),
            ..NatReport::default()
        };
        let nats = [one, NatReport::default()];
        let mut random = ChaCha8Rng::from_seed([2; 32]);
        for seed in 0..60 {
            let plans = plans(nats, seed);
            assert!(
                meet(nats, &plans, [0; 2], &mut random),
                "{first} to {last}, {seed}"
            );
        }
    }
}

#[test]
fn nothing_is_sprayed_at_whoever_lets_everybody_in() {
    let random = random(1024, 65_535);
    let open = |filtering| NatReport {
        filtering: Some(filtering),
        ..NatReport::default()
    };
    for stable in [
        open(NatFiltering::EndpointIndependent),
        open(NatFiltering::AddressDependent),
    ] {
        for plan in plans([stable, random], 1) {
            assert_eq!((plan.strategy, plan.attempts), (Strategy::Plain, vec![]));
        }
    }
}

#[test]
fn a_row_of_local_ports_is_as_long_as_what_a_round_uses() {
    assert_eq!(guessed_ports(&NatReport::default()), 0);
    assert_eq!(guessed_ports(&varying(PortAssignment::Preserved)), 0);
    assert_eq!(guessed_ports(&random(20_001, 20_256)), 1280);
    assert_eq!(guessed_ports(&random(20_001, 22_016)), 2016);
    assert_eq!(guessed_ports(&random(20_001, 24_000)), 3200);
    assert_eq!(guessed_ports(&random(1024, 65_535)), 1280);
}

#[test]
fn sessions_are_in_each_others_way_where_ports_of_both_sides_are_scarce_or_in_order() {
    let fixed = NatReport::default();
    let kept = varying(PortAssignment::Preserved);
    let counts = varying(PortAssignment::Sequential { delta: 1 });
    let (block, any) = (random(30_001, 30_400), random(1024, 65_535));
    for (one, other, expected) in [
        (counts, counts, true),
        (counts, kept, true),
        (counts, block, true),
        (kept, block, true),
        (block, block, true),
        (kept, kept, false),
        (counts, fixed, false),
        (block, fixed, false),
        (any, fixed, false),
        (any, any, false),
        (fixed, fixed, false),
    ] {
        for nats in [[&one, &other], [&other, &one]] {
            assert_eq!(is_contended(nats), expected, "{nats:?}");
        }
    }
}

#[test]
fn two_large_ranges_are_out_of_reach() {
    let large = random(1024, 65_535);
    for other in [large, random(2048, 2111)] {
        let plan = &plans([large, other], 1)[0];
        assert_eq!(plan.strategy, Strategy::OutOfReach);
    }
}

#[test]
fn the_side_whose_syn_meets_silence_goes_first() {
    use UnsolicitedSyn::{Dropped, Icmp, Reset};
    let after = |nats: [Option<UnsolicitedSyn>; 2]| {
        let nats = nats.map(|unsolicited| NatReport {
            unsolicited,
            ..NatReport::default()
        });
        plans(nats, 1).map(|plan| plan.plain_after)
    };
    let lead = Duration::from_millis(5);
    for answer in [Reset, Icmp] {
        assert_eq!(after([Some(Dropped), Some(answer)]), [lead, Duration::ZERO]);
        assert_eq!(after([Some(answer), Some(Dropped)]), [Duration::ZERO, lead]);
        for other in [None, Some(Reset), Some(Icmp)] {
            assert_eq!(after([Some(answer), other]), [Duration::ZERO; 2]);
        }
    }
    assert_eq!(after([Some(Dropped); 2]), [Duration::ZERO; 2]);
}

/// The first and the last moment of the SYNs of both sides.
fn under_way(nats: [NatReport; 2]) -> [[Duration; 2]; 2] {
    plans(nats, 1).map(|plan| {
        assert_eq!(plan.strategy, Strategy::Fill);
        let after = || plan.attempts.iter().map(|attempt| attempt.after);
        let moments = [after().min(), after().max()].map(Option::unwrap_or_default);
        // The plain pairs would take ports, too.
        assert!(plan.plain_after > moments[1]);
        assert!(plan.lasts_longer >= moments[0]);
        moments
    })
}

/// A SYN for which a NAT has no port left may take that of a SYN that has just met the peer's.
#[test]
fn no_syn_of_the_peers_comes_while_there_may_be_no_port_left() {
    use UnsolicitedSyn::{Dropped, Reset};
    let with = |nat: NatReport, unsolicited| NatReport { unsolicited, ..nat };
    let dropped = |nat| with(nat, Some(Dropped));
    let [small, large] = [random(3072, 3327), random(30_001, 32_016)];
    let counts = varying(PortAssignment::Sequential { delta: 1 });
    let on_the_way = Duration::from_millis(40);
    for nats in [
        [dropped(small), dropped(large)],
        [dropped(large); 2],
        [dropped(counts), dropped(small)],
        [dropped(counts), dropped(large)],
        [with(large, Some(Reset)), dropped(small)],
        // Nobody knows what its NAT does whose process has just started.
        [with(large, None), dropped(large)],
    ] {
        let sides = under_way(nats);
        for (nat, [own, peers]) in nats.iter().zip([sides, [sides[1], sides[0]]]) {
            if let Some(PortAssignment::Random { .. }) = nat.ports {
                let sure = own[0] + (own[1] - own[0]) * 3 / 5;
                // The way may be as short as it can be.
                let done_before = peers[0] > own[1];
                let come_before = peers[1] + on_the_way < sure;
                assert!(done_before || come_before, "{sides:?}, {nats:?}");
            }
        }
        // Where only the roles differ, so do the sides.
        if nats[0] != nats[1] {
            let [other, own] = under_way([nats[1], nats[0]]);
            assert_eq!([own, other], sides, "{nats:?}");
        }
    }
    // What is not dropped ends an attempt, so the SYNs leave together.
    for unsolicited in [None, Some(Reset)] {
        let [one, other] = under_way([with(large, unsolicited); 2]);
        assert_eq!([one[0], other[0]], [Duration::ZERO; 2]);
    }
    // There is hardly anything to wait for.
    let [one, other] = under_way([dropped(counts), dropped(large)]);
    assert_eq!(one[0], Duration::ZERO);
    assert!(other[0] < Duration::from_millis(10), "{other:?}");
}

#[test]
fn the_lead_is_short_on_a_short_path() {
    let unsolicited = |answer| NatReport {
        unsolicited: Some(answer),
        ..NatReport::default()
    };
    let nats = [UnsolicitedSyn::Dropped, UnsolicitedSyn::Reset].map(unsolicited);
    let mut introduced = introduced(0, nats);
    introduced.rtt_via_coordinator = Duration::from_millis(8);
    let plan = Plan::new(&introduced, 1280, [0; 32], None);
    assert_eq!(plan.plain_after, Duration::from_millis(2));
}

#[test]
fn holes_for_a_peer_stay_where_they_were() {
    let holes = |reflexive: u16| {
        let mut introduced = introduced(0, [NatReport::default(), random(1024, 65_535)]);
        for candidate in &mut introduced.remote_candidates {
            if candidate.kind == CandidateKind::ServerReflexive {
                candidate.address.set_port(reflexive);
            }
        }
        let plan = Plan::new(&introduced, 1280, [1; 32], None);
        let remotes = plan.attempts.iter().map(|attempt| attempt.remote);
        remotes.collect::<BTreeSet<_>>()
    };
    let first = holes(1024);
    assert_eq!(first.len(), guess::BATCH as usize);
    let taken = first
        .iter()
        .next()
        .map(SocketAddr::port)
        .unwrap_or_default();
    let second = holes(taken);
    assert_eq!(first.intersection(&second).count(), first.len() - 1);
}

#[test]
fn few_ports_are_spared_while_the_peer_does_not_know_its_nat() {
    let few = random(2048, 2111);
    let delays = |nats: [NatReport; 2]| {
        let plan = &plans(nats, 1)[0];
        let first = plan.attempts.iter().map(|attempt| attempt.after).min();
        [first.unwrap_or_default(), plan.plain_after]
    };
    let unknown = NatReport::default();
    let fixed = NatReport {
        mapping: Some(NatMapping::EndpointIndependent),
        ..unknown
    };
    let patience = discovery_time(Duration::from_millis(80));
    assert!(patience > Duration::from_millis(80));
    // Plain pairs would take some too, where one port suffices.
    assert_eq!(delays([few, unknown]), [patience, patience + LEAST_HOLD]);
    assert_eq!(delays([few, fixed]), [Duration::ZERO, LEAST_HOLD]);
    let at_once = [Duration::ZERO; 2];
    assert_eq!(delays([random(2048, 2560), unknown]), at_once);
    assert_eq!(delays([fixed, unknown]), at_once);
    assert_eq!(discovery_time(Duration::from_secs(9)), MAX_DISCOVERY_TIME);
}
