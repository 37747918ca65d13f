//! How TCP opened a connection, and through which NATs.

use netns_lab::{Dependence, Handshake, NatSpec, TestRun, test};
use p2pconnect::{Endpoint, How, NatFiltering, Path};
use p2pconnect_tests::{
    net::{Boxes, Net},
    process::Process,
    settled::{block_on, settled},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// How often SYNs may fail to cross, each time in a lab of its own.
const TIMES: usize = 5;

/// Dials from a to b, whose NAT diallers are told of, and returns how the program says it was
/// opened, and what the capture shows.
fn dial(a: Boxes<'_>, b: Boxes<'_>) -> (String, Handshake, Net) {
    let net = Net::new(a, b);
    let peer = net.id("b");
    let mut listener = net.listen("b");
    listener.wait_for("nat-found");
    let dialled = net.dial_echo("a", &peer, "which way?");
    let (how, _, remote) = net.reported(&dialled);
    assert_eq!(remote.ip(), net.external("b"));
    let seen = net.lab.capture().tcp_handshake(net.external("a"), remote);
    (how, seen, net)
}

#[test]
fn between_two_filtering_nats_the_syns_cross() {
    test(|| {
        let nat = [NatSpec::port_preserving()];
        let crossed = || {
            let (how, seen, net) = dial(&nat, &nat);
            net.finish();
            // One side may be so late, on a busy machine, that its SYN leaves behind the peer's.
            match seen {
                Handshake::Simultaneous => assert_eq!(how, "simultaneous-open"),
                _ => assert!(
                    matches!(seen, Handshake::Accepted { .. }),
                    "{how}: {seen:?}"
                ),
            }
            seen == Handshake::Simultaneous
        };
        assert!((0..TIMES).any(|_| crossed()), "no SYNs have crossed");
    });
}

#[test]
fn a_peer_that_is_reached_from_an_unknown_port_accepts() {
    test(|| {
        let (how, seen, net) = dial(&[NatSpec::random_per_destination()], &[]);
        let client = net.external("a").into();
        assert_eq!(
            (how.as_str(), seen),
            ("connected", Handshake::Accepted { client })
        );
        net.finish();
    });
}

/// A NAT in front of the dialler that lets anybody in, and one in front of the peer that gives each
/// connection another random port.
fn open_and_random() -> (NatSpec, NatSpec) {
    (
        NatSpec::port_preserving().filtering(Dependence::EndpointIndependent),
        NatSpec::random_per_destination(),
    )
}

/// Starts the peer, and waits until diallers are told of its NAT.
fn listen_settled(net: &Net) -> Process {
    let mut listener = net.listen("b");
    let found = listener.wait_for("nat-found");
    let nat = &found["local_nat"];
    assert_eq!(nat["mapping"], "address-and-port-dependent", "{found}");
    assert_eq!(nat["ports"]["assignment"], "random", "{found}");
    listener
}

/// Dials `b` once the dialler has found out all of how its own NAT behaves.
async fn dial_settled(net: &Net) -> Path {
    let builder = Endpoint::builder().coordinator(net.coordinator.parse().unwrap());
    let (endpoint, report) = settled(builder).await;
    assert_eq!(report.filtering, Some(NatFiltering::EndpointIndependent));
    let connection = endpoint.dial(net.id("b").parse().unwrap()).await.unwrap();
    connection.path()
}

#[test]
fn a_dialler_that_filters_nothing_can_be_the_one_that_accepts() {
    test(|| {
        let (open, random) = open_and_random();
        let net = Net::with_two_stun_addresses(&[open], &[random]);
        let _listener = listen_settled(&net);
        let path = net.lab.host("a").run(|| block_on(dial_settled(&net)));
        let path = path.unwrap();
        let capture = net.lab.capture();
        let seen = capture.tcp_handshake(net.external("a"), path.remote);
        let client = net.external("b").into();
        assert_eq!(
            (path.how, seen),
            (How::Accepted, Handshake::Accepted { client })
        );
        net.finish();
    });
}

/// A fresh process does not know yet that its NAT lets anybody in, and opens holes for a peer who
/// dials from hundreds of ports. All of these connections open, and both sides keep the same one.
///
/// Where the peer gets no processor for a second, the dialler uses a second one. So nothing runs
/// beside this.
#[test]
fn of_hundreds_of_connections_the_first_one_that_is_used_stays() {
    TestRun::new().alone().run(|| {
        let (open, random) = open_and_random();
        let net = Net::new(&[open], &[random]);
        let _listener = listen_settled(&net);
        let peer = net.id("b").parse().unwrap();
        let dialling = async {
            let builder = Endpoint::builder().coordinator(net.coordinator.parse().unwrap());
            let endpoint = builder.bind().await.unwrap();
            let mut connection = endpoint.dial(peer).await.unwrap();
            let first = connection.path();
            connection.write_all(b"which of them?").await.unwrap();
            connection.shutdown().await.unwrap();
            let mut heard = String::new();
            connection.read_to_string(&mut heard).await.unwrap();
            assert_eq!(heard, "which of them?");
            let last = connection.path();
            assert_eq!((last.local, last.remote), (first.local, first.remote));
        };
        net.lab.host("a").run(|| block_on(dialling)).unwrap();
        net.finish();
    });
}
