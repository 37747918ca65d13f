//! What a coordinator that lies can make a listener send to somebody who has nothing to do with it.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr, TcpListener},
    thread,
    time::{Duration, Instant},
};

use netns_lab::{Direction, HostSpec, Lab, LinkSpec, NatSpec, TcpFlags, test};
use p2pconnect::{CoordinatorAddr, DialPolicy, Endpoint, PeerId, SecretKey};
use p2pconnect_proto::{
    Candidate, CandidateKind, NatFiltering, NatMapping, NatReport, PortAssignment, PunchPort, Role,
    SessionToken,
    message::{Introduction, MAX_CANDIDATES},
};
use p2pconnect_stun::{StunServer, StunServerConfig};
use p2pconnect_tests::{
    net::Net,
    process::run,
    rogue::{RogueCoordinator, introduction},
    scanner::Scanner,
    settled::block_on,
};
use tokio::sync::oneshot;

/// For how long the coordinator lies: as long as an attempt lives.
const LASTS: Duration = Duration::from_secs(6);

/// How often it does. A listener has 64 sessions at a time, which last for some seconds.
const PAUSE: Duration = Duration::from_millis(20);

/// How long it may take at most until a listener has sent some.
const LONG: Duration = Duration::from_secs(30);

/// How many SYNs a listener may send at once to addresses in one network that a peer has named.
const NAMED: u64 = 512;

/// And to ports that it guesses.
const GUESSED: u64 = 9_600;

/// How many of either it may send in each second from then on.
const EACH_SECOND: u64 = 8;

/// How often the kernel repeats a SYN while an attempt lives.
const REPEATED: u64 = 7;

/// Returns 16 ports of the victim's, each time others.
fn ports_of(victim: IpAddr, n: u64) -> Vec<SocketAddr> {
    let ports = (0..MAX_CANDIDATES as u64).map(|i| (n * 16 + i) % 60_000 + 1_024);
    ports.map(|port| (victim, port as u16).into()).collect()
}

/// Returns the n-th lie: the peer has these addresses, and this NAT.
fn lie(addresses: Vec<SocketAddr>, n: u64, nat: NatReport) -> Introduction {
    let mut told = introduction(addresses);
    let mut session = [0; SessionToken::LEN];
    session[..8].copy_from_slice(&n.to_be_bytes());
    for (i, candidate) in told.candidates.iter_mut().enumerate() {
        candidate.punch_port = [PunchPort::PRIMARY, PunchPort::SPARE][i % 2];
        candidate.kind = CandidateKind::ServerReflexive;
    }
    if nat.ports.is_some() {
        told.candidates[0] = Candidate {
            kind: CandidateKind::Predicted,
            punch_port: PunchPort::FRESH,
            ..told.candidates[0].clone()
        };
    }
    Introduction {
        session: SessionToken::from_bytes(session),
        role: Role::Controlled,
        nat,
        rtt_via_coordinator_us: 40_000,
        ..told
    }
}

/// Builds a lab with a coordinator that lies, who listens to it, and who has nothing to do with it.
fn three_hosts() -> Lab {
    let link = || LinkSpec::delay(Duration::from_millis(1));
    let host = |name: &str| HostSpec::new(name).link(link());
    let names = ["server", "listener", "victim"];
    let lab = names
        .into_iter()
        .fold(Lab::builder().seed(3), |lab, name| lab.host(host(name)));
    lab.build().unwrap()
}

/// Returns how many SYNs reach the victim, and in how many seconds, while a listener believes what
/// a coordinator says of it.
fn attack(is_silent: bool, nat: NatReport) -> (u64, u64) {
    let lab = three_hosts();
    let victim = IpAddr::from(lab.host("victim").ipv4());
    if is_silent {
        let silence = "add table ip silent
            add chain ip silent in { type filter hook input priority 0; policy drop; }";
        run(lab.host("victim").command("nft").arg(silence));
    }
    let began = Instant::now();
    tell_lies(
        &lab,
        move |n| lie(ports_of(victim, n), n, nat),
        async || tokio::time::sleep(LASTS).await,
    );
    let took = began.elapsed().as_secs() + 1;
    (syns(&lab, victim), took)
}

/// Has the coordinator tell the listener of a peer again and again, as long as it `lasts`.
fn tell_lies(
    lab: &Lab,
    lie: impl Fn(u64) -> Introduction + Send + Sync + 'static,
    lasts: impl AsyncFnOnce() + Send,
) {
    let dialler = SecretKey::generate().unwrap().peer_id();
    let (telling, told) = oneshot::channel();
    let (ending, ended) = oneshot::channel::<()>();
    thread::scope(|scope| {
        let (server, listener) = (lab.host("server"), lab.host("listener"));
        scope.spawn(move || {
            server.run(|| {
                block_on(async move {
                    let any = (server.ipv4(), 0).into();
                    let stun = StunServer::bind(&[any], StunServerConfig::default()).unwrap();
                    let at = stun.local_addrs()[0];
                    let _stun = stun.spawn();
                    let rogue = RogueCoordinator::flooding(at, PAUSE, move |n| Introduction {
                        peer: dialler,
                        ..lie(n)
                    });
                    telling.send((rogue.id, rogue.address)).unwrap();
                    // Until the listener has gone.
                    drop(ended.await);
                });
            })
        });
        scope.spawn(move || {
            listener.run(|| {
                block_on(async move {
                    let (id, address) = told.await.unwrap();
                    let coordinator = CoordinatorAddr::at(id, address);
                    let endpoint = Endpoint::builder()
                        .coordinator(coordinator)
                        .allow(DialPolicy::Only(vec![dialler]))
                        .port_mapping(false)
                        .bind()
                        .await
                        .unwrap();
                    lasts().await;
                    drop((endpoint, ending));
                });
            })
        });
    });
}

/// Returns how many SYNs to somebody have left other hosts.
fn syns(lab: &Lab, victim: IpAddr) -> u64 {
    let syns = lab.capture().select(|packet| {
        packet.direction == Direction::FromHost
            && packet.destination == victim
            && packet.transport.tcp_flags().is_some_and(TcpFlags::is_syn)
    });
    syns.len() as u64
}

/// Asserts that so many SYNs reach the victim at most, and so many more in each second.
fn assert_bounded(syns: u64, seconds: u64, at_once: u64, each_second: u64) {
    assert!(syns > 0, "the listener believes nothing at all");
    let most = at_once + each_second * seconds;
    assert!(syns <= most, "{syns} SYNs in {seconds} s, and not {most}");
}

/// What makes a listener guess ports, if its own NAT is as it says of a host without one.
fn random() -> NatReport {
    NatReport {
        mapping: Some(NatMapping::AddressAndPortDependent),
        ports: Some(PortAssignment::Random {
            first: 1_024,
            last: 65_535,
        }),
        filtering: Some(NatFiltering::AddressAndPortDependent),
        ..NatReport::default()
    }
}

#[test]
fn a_third_party_that_refuses_is_sent_little() {
    test(|| {
        let (syns, seconds) = attack(false, NatReport::default());
        assert_bounded(syns, seconds, NAMED, EACH_SECOND);
    });
}

#[test]
fn a_third_party_that_is_silent_is_sent_little() {
    test(|| {
        let (syns, seconds) = attack(true, NatReport::default());
        assert_bounded(syns, seconds, NAMED * (1 + REPEATED), EACH_SECOND);
    });
}

#[test]
fn a_third_party_whose_ports_are_guessed_is_sent_little() {
    test(|| {
        let (syns, seconds) = attack(false, random());
        assert_bounded(syns, seconds, NAMED + GUESSED, 2 * EACH_SECOND);
    });
}

/// Addresses that a listener's machine has by a route alone, as one that answers for whole
/// networks.
#[test]
fn nobody_is_led_to_addresses_that_only_its_routes_say_are_its_own() {
    const PORT: u16 = 2222;

    test(|| {
        let lab = three_hosts();
        for route in [
            "-4 route add local 198.51.100.0/24",
            "-6 route add local 2001:db8:77::/64",
        ] {
            let mut ip = lab.host("listener").command("ip");
            run(ip.args(route.split(' ')).args(["dev", "lo"]));
        }
        let listen = |host: &str| {
            let bound = || TcpListener::bind((Ipv6Addr::UNSPECIFIED, PORT)).unwrap();
            let listener = lab.host(host).run(bound).unwrap();
            listener.set_nonblocking(true).unwrap();
            listener
        };
        let (own, elsewhere) = (listen("listener"), listen("victim"));
        let victim = IpAddr::from(lab.host("victim").ipv4());
        let addresses = ["198.51.100.7", "2001:db8:77::7"].map(|it| it.parse().unwrap());
        let addresses = [addresses[0], addresses[1], victim].map(|ip: IpAddr| (ip, PORT).into());
        tell_lies(
            &lab,
            move |n| lie(addresses.to_vec(), n, NatReport::default()),
            async || {
                // Long after the pairs of the first lies have all been tried.
                let tried = async {
                    for _ in 0..8 {
                        while elsewhere.accept().is_err() {
                            tokio::time::sleep(Duration::from_millis(1)).await;
                        }
                    }
                };
                tokio::time::timeout(LONG, tried).await.unwrap();
            },
        );
        let taken = own.accept().map(|(_, from)| from);
        assert!(taken.is_err(), "the listener connects to itself: {taken:?}");
    });
}

/// A peer behind the same NAT as the one that it dials, which looks around in their network.
fn look_around<T: Send>(
    look: impl AsyncFnOnce(CoordinatorAddr, PeerId, IpAddr) -> T + Send,
) -> (Net, T) {
    let net = Net::behind_one(NatSpec::port_preserving(), &[], &[]);
    let peer = net.id("b").parse().unwrap();
    let _listener = net.listen("b");
    let coordinator = net.coordinator.parse().unwrap();
    let inside = net.lab.host("a").ipv4().into();
    let host = net.lab.host("a");
    let seen = host.run(|| block_on(look(coordinator, peer, inside)));
    (net, seen.unwrap())
}

fn inside(ip: IpAddr, first: u16) -> Vec<Candidate> {
    let port = |n| Candidate::host((ip, first + n).into(), PunchPort::PRIMARY);
    (0..MAX_CANDIDATES as u16).map(port).collect()
}

/// Returns how many SYNs a host has turned away.
fn resets(net: &Net, host: &str) -> u64 {
    let mut cat = net.lab.host(host).command("cat");
    let output = cat.arg("/proc/self/net/snmp").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let mut tcp = text.lines().filter_map(|line| line.strip_prefix("Tcp: "));
    let (names, values) = (tcp.next().unwrap(), tcp.next().unwrap());
    let mut fields = names.split(' ').zip(values.split(' '));
    let (_, resets) = fields.find(|(name, _)| *name == "OutRsts").unwrap();
    resets.parse().unwrap()
}

#[test]
fn a_crowd_of_diallers_does_not_flood_the_lan() {
    const CROWD: u16 = 32;

    test(|| {
        let began = Instant::now();
        let (net, ()) = look_around(async |coordinator, peer, ip| {
            let mut crowd = Vec::new();
            for _ in 0..CROWD {
                crowd.push(Scanner::connect(&coordinator).await);
            }
            // A port that is closed is answered at once, and asked again.
            while began.elapsed() < LASTS {
                for (n, scanner) in (0..).zip(&crowd) {
                    let candidates = inside(ip, 1_024 + n * MAX_CANDIDATES as u16);
                    // Too many at a time, as a rule.
                    let _refused = scanner.dial(peer, candidates, NatReport::default()).await;
                }
            }
        });
        let took = began.elapsed().as_secs() + 1;
        let sent = resets(&net, "a");
        assert_bounded(sent, took, NAMED, EACH_SECOND);
        net.finish();
    });
}

#[test]
fn the_moment_of_the_end_tells_nothing_of_the_lan() {
    test(|| {
        let (net, ends) = look_around(async |coordinator, peer, ip| {
            let nobody = [10, 255, 255, 254].into();
            // With this NAT the attempt is hopeless soon, unless somebody accepts.
            let nat = random();
            let mut ends = Vec::new();
            for (ip, nat) in [(ip, NatReport::default()), (ip, nat), (nobody, nat)] {
                let scanner = Scanner::connect(&coordinator).await;
                let began = Instant::now();
                // As many as are in flight between two.
                while scanner.dial(peer, inside(ip, 1_024), nat).await.is_ok() {}
                while scanner.dial(peer, inside(ip, 1_024), nat).await.is_err() {
                    tokio::time::sleep(Duration::from_millis(150)).await;
                }
                ends.push(began.elapsed());
            }
            ends
        });
        // The coordinator forgets them then by itself.
        let least = Duration::from_millis(4_900);
        assert!(ends.iter().all(|it| *it >= least), "{ends:?}");
        net.finish();
    });
}
