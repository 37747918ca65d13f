//! One description on both grounds: the same boxes, the same order of packets.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use netns_lab::{
    BoxSpec, Engine, EventLog, Gate, Host, HostSpec, Lab, LinkSpec, NatSpec, Topology,
    UnsolicitedSyn,
    virtual_time::{Failure, Opening, SocketId, SocketState, World},
};
use socket2::{Domain, Socket, Type};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Crossing, and each side first.
fn crossing() -> [Gate; 2] {
    [
        gate("syn from a to b", "syn from b to a"),
        gate("syn from b to a", "syn from a to b"),
    ]
}

fn gate(hold: &str, until: &str) -> Gate {
    Gate::new(hold.parse().unwrap(), until.parse().unwrap())
}

fn two_homes(a: NatSpec, b: NatSpec, gates: &[Gate]) -> Topology {
    let link = LinkSpec::delay(20 * MS);
    let topology = Topology::new()
        .host(HostSpec::new("a").behind(a).link(link))
        .host(HostSpec::new("b").behind(b).link(link));
    gates.iter().cloned().fold(topology, Topology::gate)
}

/// The port that both sides dial from and to; the NATs keep it.
const PORT: u16 = 4000;

/// What came of one side's dial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialled {
    Connected,
    Refused,
    TimedOut,
}

/// Both sides dial the other's NAT, `b` some time after `a`.
fn dial_in_virtual_time(topology: &Topology, later: Duration) -> ([Dialled; 2], EventLog) {
    let mut world = World::build(topology, 1).unwrap();
    let (a, b) = (world.find_host("a").unwrap(), world.find_host("b").unwrap());
    let external = |number| SocketAddr::from(([203, 0, 113, number], PORT));
    let local = |world: &World, host| SocketAddr::new(world.addresses(host)[0], PORT);
    let from = local(&world, a);
    let first = world.connect(a, from, external(2)).unwrap();
    world.run_until(later, |_| false);
    let from = local(&world, b);
    let second = world.connect(b, from, external(1)).unwrap();
    let done = |world: &World, socket: SocketId| world.state(socket) != Ok(SocketState::Connecting);
    world.run_until(later + SECOND, |world| {
        done(world, first) && done(world, second)
    });
    let result = [first, second].map(|socket| match world.state(socket).unwrap() {
        SocketState::Connected => Dialled::Connected,
        SocketState::Failed(Failure::Refused) => Dialled::Refused,
        SocketState::Connecting => Dialled::TimedOut,
        other => panic!("{other:?}\n{}", world.log()),
    });
    (result, world.log().clone())
}

fn dial_in_namespaces(topology: &Topology, engine: Engine) -> ([Dialled; 2], EventLog) {
    let lab = Lab::builder()
        .topology(topology.clone())
        .engine(engine)
        .log(true);
    let lab = lab.build().unwrap();
    let (a, b) = (lab.host("a"), lab.host("b"));
    let first = thread::scope(|scope| {
        let first = scope.spawn(|| dial(a, b.external_ipv4()));
        let second = scope.spawn(|| dial(b, a.external_ipv4()));
        [first.join().unwrap(), second.join().unwrap()]
    });
    let log = lab.log();
    assert_eq!(lab.capture().private_sources(), [], "{log}");
    (first, log)
}

fn dial(host: &Host, to: Ipv4Addr) -> Dialled {
    let (from, to) = (
        SocketAddr::from((host.ipv4(), PORT)),
        SocketAddr::from((to, PORT)),
    );
    let result = host.run(|| {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        socket.bind(&from.into())?;
        socket.connect_timeout(&to.into(), SECOND)
    });
    match result.unwrap() {
        Ok(()) => Dialled::Connected,
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Dialled::Refused,
        Err(error) if error.kind() == io::ErrorKind::TimedOut => Dialled::TimedOut,
        Err(error) => panic!("{error}"),
    }
}

const ENGINES: [Engine; 2] = [Engine::Netfilter, Engine::Model];

/// Runs a punch on all grounds and compares what both sides saw.
fn check(topology: &Topology, expected: [Dialled; 2]) {
    for later in [Duration::ZERO, 70 * MS] {
        let (result, log) = dial_in_virtual_time(topology, later);
        assert_eq!(result, expected, "in virtual time:\n{log}");
    }
    for engine in ENGINES {
        let (result, log) = dial_in_namespaces(topology, engine);
        assert_eq!(result, expected, "{engine:?}:\n{log}");
    }
}

#[test]
fn gates_make_syns_cross_however_late_one_is() {
    netns_lab::test(|| {
        let rst = NatSpec::port_preserving().answering(UnsolicitedSyn::Rst);
        let topology = two_homes(rst, rst, &crossing());
        check(&topology, [Dialled::Connected; 2]);
    });
}

#[test]
fn a_late_syn_meets_a_nat_that_a_reset_has_closed() {
    netns_lab::test(|| {
        let rst = NatSpec::port_preserving().answering(UnsolicitedSyn::Rst);
        // A's SYN is answered by b's NAT, and its own NAT forgets it at once.
        let late = gate("syn from b to a", "rst from b to a at a");
        check(&two_homes(rst, rst, &[late]), [Dialled::Refused; 2]);
    });
}

#[test]
fn a_gate_at_a_nat_lets_the_other_go_first() {
    netns_lab::test(|| {
        let drop = NatSpec::port_preserving();
        // Both dial at once, yet a's SYN is dropped before b's leaves.
        let first = [gate("syn from b to a", "syn from a to b at b.nat")];
        let topology = two_homes(drop, drop, &first);
        check(&topology, [Dialled::Connected; 2]);
        let rst = drop.answering(UnsolicitedSyn::Rst);
        let first = [gate("syn from b to a", "rst from b to a at a")];
        let topology = two_homes(drop, rst, &first);
        check(&topology, [Dialled::Refused, Dialled::TimedOut]);
    });
}

#[test]
fn a_gate_that_waits_in_vain_opens_by_itself() {
    netns_lab::test(|| {
        let gate = gate("syn from a", "fin from b").limit(200 * MS);
        let topology = two_homes(NatSpec::port_preserving(), NatSpec::firewall(), &[gate]);
        let mut world = World::build(&topology, 1).unwrap();
        let a = world.find_host("a").unwrap();
        let from = SocketAddr::new(world.addresses(a)[0], PORT);
        let socket = world.connect(a, from, SocketAddr::from(([203, 0, 113, 2], PORT)));
        world.run_until(SECOND, |_| false);
        assert_eq!(world.state(socket.unwrap()), Ok(SocketState::Connecting));
        let log = world.log().to_string();
        assert!(log.contains("0.200000000 a -> a.nat"), "{log}");
        assert!(
            log.contains("waited too long: hold syn from a until fin from b"),
            "{log}"
        );
    });
}

#[test]
fn a_gate_names_places_that_exist() {
    let nat = NatSpec::port_preserving();
    let topology = two_homes(nat, nat, &[gate("syn from a", "syn from c")]);
    let error = World::build(&topology, 1).unwrap_err().to_string();
    assert!(
        error.contains("\"c\"") && error.contains("a.nat, a, b.nat, b"),
        "{error}"
    );
    for wrong in [
        "",
        "syn",
        "syn from",
        "syn of a",
        "syn from a from b",
        "ack from a",
    ] {
        let error = wrong.parse::<netns_lab::PacketPattern>().unwrap_err();
        assert!(error.to_string().contains("syn-ack"), "{error}");
    }
}

/// Two homes behind one carrier NAT, and a server.
fn carrier(cgn: NatSpec) -> Topology {
    let link = LinkSpec::delay(5 * MS);
    let home = |name| {
        HostSpec::new(name)
            .behind(NatSpec::port_preserving())
            .behind_shared("cgn")
            .link(link)
    };
    Topology::new()
        .shared_box(BoxSpec::new("cgn", cgn).link(link))
        .host(HostSpec::new("s").link(link))
        .host(home("a"))
        .host(home("b"))
}

#[test]
fn two_homes_share_a_carrier_nat() {
    netns_lab::test(|| {
        for engine in ENGINES {
            let topology = carrier(NatSpec::port_preserving());
            let lab = Lab::builder().topology(topology).engine(engine).log(true);
            let lab = lab.build().unwrap();
            let server = lab.host("s");
            let listener = server.run(|| TcpListener::bind((server.ipv4(), 80)).unwrap());
            let listener = listener.unwrap();
            for name in ["a", "b"] {
                let host = lab.host(name);
                assert_eq!(host.nats().len(), 2);
                let connect = || TcpStream::connect((server.ipv4(), 80)).unwrap();
                let stream = host.run(connect).unwrap();
                let (_, seen) = listener.accept().unwrap();
                assert_eq!(seen.ip(), IpAddr::from([203, 0, 113, 151]));
                assert_eq!(seen.ip(), IpAddr::from(host.external_ipv4()));
                let mappings = lab.nat_named("cgn").mappings().unwrap();
                let found = mappings.iter().any(|mapping| mapping.mapped == seen);
                assert!(found, "{engine:?}: {mappings:?}");
                drop(stream);
            }
        }
    });
}

#[test]
fn neighbours_behind_a_carrier_nat_meet_by_hairpinning() {
    let cgn = NatSpec::rfc5382();
    let mut world = World::build(&carrier(cgn), 1).unwrap();
    let (a, b) = (world.find_host("a").unwrap(), world.find_host("b").unwrap());
    let end = |world: &World, host, port| SocketAddr::new(world.addresses(host)[0], port);
    let external = |port| SocketAddr::from(([203, 0, 113, 151], port));
    // Each opens its own NAT towards the other's external endpoint.
    let from = end(&world, a, 4000);
    let first = world.connect(a, from, external(5000)).unwrap();
    let from = end(&world, b, 5000);
    let second = world.connect(b, from, external(4000)).unwrap();
    let up = |world: &World, socket| world.state(socket) == Ok(SocketState::Connected);
    let met = world.run_until(SECOND, |world| up(world, first) && up(world, second));
    assert!(met, "{}", world.log());
    let (how, _) = world.opened(first).unwrap().unwrap();
    assert_eq!(how, Opening::Simultaneous, "{}", world.log());
    assert!(
        !world.log().to_string().contains("-> core"),
        "{}",
        world.log()
    );
}

#[test]
fn an_unanswered_syn_is_repeated_after_the_same_times() {
    netns_lab::test(|| {
        let topology = two_homes(NatSpec::port_preserving(), NatSpec::firewall(), &[]);
        // Long enough for three repetitions, after one second each.
        let limit = Duration::from_millis(3500);
        let mut world = World::build(&topology, 1).unwrap();
        let a = world.find_host("a").unwrap();
        let from = SocketAddr::new(world.addresses(a)[0], PORT);
        let to = SocketAddr::from(([203, 0, 113, 2], PORT));
        world.connect(a, from, to).unwrap();
        world.run_until(limit, |_| false);
        let virtual_times = syns_of_a(world.log());
        let lab = Lab::builder().topology(topology).log(true).build().unwrap();
        let a = lab.host("a");
        let connect = || TcpStream::connect_timeout(&to, limit).unwrap_err().kind();
        assert_eq!(a.run(connect).unwrap(), io::ErrorKind::TimedOut);
        let real_times = syns_of_a(&lab.log());
        assert_eq!(virtual_times.len(), 4, "{virtual_times:?}");
        assert_eq!(real_times.len(), 4, "{real_times:?}");
        for (real, expected) in gaps(&real_times).zip(gaps(&virtual_times)) {
            // The kernel's timers are coarse, and late on a busy machine.
            let close = expected * 9 / 10..expected * 3 / 2;
            assert!(close.contains(&real), "{real_times:?} {virtual_times:?}");
        }
    });
}

/// When host a sent SYNs.
fn syns_of_a(log: &EventLog) -> Vec<Duration> {
    let entries = log.entries().iter();
    let sent = entries.filter(|entry| entry.place() == "a" && entry.to_string().contains(" S "));
    sent.map(|entry| entry.at).collect()
}

fn gaps(times: &[Duration]) -> impl Iterator<Item = Duration> {
    times.windows(2).map(|pair| pair[1] - pair[0])
}
