//! An introduction, and what a driver says to the punch agent after it.

mod driver;

use std::{collections::BTreeSet, time::Duration};

use p2pconnect_proto::{
    Candidate, CandidateKind, NatFiltering, NatMapping, NatReport, PortAssignment, PunchPort, Role,
    UnsolicitedSyn,
};
use p2pconnect_punch::{Base, ConnectFailure, Introduced, PunchConfig, VerifyFailure};

use self::driver::{Driver, Step};
use crate::input::Input;

/// The peer's addresses, by the byte that picks one; the last but one is this side's own, and the
/// last one stands for an IPv4 address behind a NAT64.
const REMOTE: [&str; 9] = [
    "198.51.100.2",
    "198.51.100.3",
    "10.0.0.1",
    "2001:db8::5",
    "192.168.1.9",
    "fe80::1",
    "127.0.0.1",
    "192.168.1.2",
    "64:ff9b::c633:6404",
];

/// This side's addresses, with one port for each kind of punch port.
const LOCAL: [(&str, u16, PunchPort); 6] = [
    ("192.168.1.2", 4000, PunchPort::PRIMARY),
    ("192.168.1.2", 4001, PunchPort::SPARE),
    ("192.168.1.2", 4002, PunchPort::FRESH),
    ("2001:db8::2", 4000, PunchPort::PRIMARY),
    ("2001:db8::2", 4001, PunchPort::SPARE),
    ("10.0.0.2", 4000, PunchPort::PRIMARY),
];

const KINDS: [CandidateKind; 5] = [
    CandidateKind::ServerReflexive,
    CandidateKind::Host,
    CandidateKind::Predicted,
    CandidateKind::Mapped,
    CandidateKind::PeerReflexive,
];

const CONNECT_FAILURES: [ConnectFailure; 12] = [
    ConnectFailure::Refused,
    ConnectFailure::Reset,
    ConnectFailure::HostUnreachable,
    ConnectFailure::NetworkUnreachable,
    ConnectFailure::TimedOut,
    ConnectFailure::AddressInUse,
    ConnectFailure::AddressNotAvailable,
    ConnectFailure::NoResources,
    ConnectFailure::Withheld,
    ConnectFailure::Other,
    ConnectFailure::NoLocalAddress,
    ConnectFailure::NotPermitted,
];

const VERIFY_FAILURES: [VerifyFailure; 4] = [
    VerifyFailure::Stranger,
    VerifyFailure::WrongIdentity,
    VerifyFailure::Closed,
    VerifyFailure::TimedOut,
];

/// The most candidates, as in an introduction.
const MAX_CANDIDATES: u8 = 16;

/// Takes an input for an introduction and for what a driver says to the punch agent, step by step.
///
/// Whatever that is, limits are kept, there is one outcome by a moment that is known before, at
/// most one connection is nominated and every other one is closed. The same again gives the same
/// run.
///
/// Bytes, in this order: flags (1 controlling, 2 the peer may come, 4 families apart, 8 small
/// budgets, 16 a seed for holes); the round-trip time in hundredths of a second; the seed; both NAT
/// reports; which local addresses there are, a bit for each; how many candidates, and each of them
/// as address, kind, punch port and port. Then steps.
pub fn punch_agent(input: &[u8]) {
    let first = run(&mut Input::new(input));
    assert_eq!(first, run(&mut Input::new(input)), "another run");
}

fn run(input: &mut Input<'_>) -> Vec<String> {
    let flags = input.u8();
    let rtt = Duration::from_millis(10 * u64::from(input.u8()));
    let seed = [input.u8(); 32];
    let (local_nat, remote_nat) = (nat(input), nat(input));
    let (bases, remote_candidates) = (bases(input.u8()), candidates(input));
    let translated = remote_candidates.iter().map(|it| it.address.ip());
    let introduced = Introduced {
        role: if flags & 1 == 1 {
            Role::Controlling
        } else {
            Role::Controlled
        },
        bases,
        routes: Default::default(),
        unrouted: Default::default(),
        translated: translated
            .filter(|ip| ip.to_string().starts_with("64:"))
            .collect::<BTreeSet<_>>(),
        remote_candidates,
        may_be_reached: flags & 2 != 0,
        families_apart: flags & 4 != 0,
        rtt_via_coordinator: rtt,
        local_nat,
        remote_nat,
    };
    let mut config = PunchConfig::default();
    if flags & 8 != 0 {
        (config.max_syns, config.max_guess_syns, config.max_guesses) = (9, 7, 5);
    }
    config.hole_seed = (flags & 16 != 0).then_some([16; 32]);
    let mut driver = Driver::new(config, introduced, seed);
    while !input.is_empty() {
        driver.take(step(input));
    }
    driver.finish()
}

fn nat(input: &mut Input<'_>) -> NatReport {
    use NatMapping as M;
    let ports = [
        None,
        Some(PortAssignment::Preserved),
        Some(PortAssignment::Sequential { delta: input.u16() }),
        Some(PortAssignment::Random {
            first: input.u16(),
            last: input.u16(),
        }),
    ];
    let report = NatReport {
        mapping: input.pick(&[
            None,
            Some(M::EndpointIndependent),
            Some(M::AddressDependent),
            Some(M::AddressAndPortDependent),
        ]),
        ports: input.pick(&ports),
        filtering: input.pick(&[
            None,
            Some(NatFiltering::EndpointIndependent),
            Some(NatFiltering::AddressDependent),
            Some(NatFiltering::AddressAndPortDependent),
        ]),
        unsolicited: input.pick(&[
            None,
            Some(UnsolicitedSyn::Dropped),
            Some(UnsolicitedSyn::Reset),
            Some(UnsolicitedSyn::Icmp),
        ]),
        hairpinning: None,
    };
    report.well_formed()
}

fn bases(which: u8) -> Vec<Base> {
    let bases = LOCAL.iter().enumerate();
    let there = bases.filter(|(bit, _)| which >> bit & 1 == 1);
    let base = |(_, (ip, port, punch_port)): (usize, &(&str, u16, PunchPort))| Base {
        address: (ip.parse::<std::net::IpAddr>().unwrap(), *port).into(),
        punch_port: *punch_port,
    };
    there.map(base).collect()
}

/// Reads candidates, of which those remain that a peer can have.
fn candidates(input: &mut Input<'_>) -> Vec<Candidate> {
    let count = input.u8() % (MAX_CANDIDATES + 1);
    let candidates = (0..count).map(|_| Candidate {
        address: (remote(input), 0).into(),
        kind: input.pick(&KINDS),
        punch_port: PunchPort(input.u8() % 3),
        token: None,
    });
    let mut candidates: Vec<_> = candidates.collect();
    for candidate in &mut candidates {
        candidate.address.set_port(input.u16());
    }
    candidates.retain(Candidate::is_well_formed);
    candidates
}

fn remote(input: &mut Input<'_>) -> std::net::IpAddr {
    input.pick(&REMOTE).parse().unwrap()
}

/// Reads a step: a byte says which, and others what with. Checks are counted from the newest.
fn step(input: &mut Input<'_>) -> Step {
    let kind = input.u8() % 12;
    match kind {
        0 | 1 => Step::Wait(Duration::from_millis(input.u8().into())),
        2 => Step::Wait(Duration::from_millis(20 * u64::from(input.u8()))),
        3 => Step::Connected(input.u16(), input.u8().is_multiple_of(2)),
        4 | 5 => Step::Failed(input.u16(), input.pick(&CONNECT_FAILURES)),
        6 => Step::Accept {
            local: usize::from(input.u8()),
            remote: (remote(input), input.u16()).into(),
        },
        7 => Step::NotVerified(input.u16(), input.pick(&VERIFY_FAILURES)),
        8 => Step::Used(input.u16()),
        9 => Step::Learn(nat(input)),
        // Seldom, or every run is over soon.
        10 if input.u8() < 2 => Step::GiveUp,
        11 if input.u8() < 32 => Step::Verified(input.u16()),
        _ => Step::GoBack(Duration::from_millis(input.u8().into())),
    }
}
