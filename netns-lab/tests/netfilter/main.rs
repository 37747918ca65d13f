//! Every behaviour of a box made of netfilter, seen from outside with real sockets.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]
#![expect(clippy::print_stdout, reason = "what was seen explains a failure")]

mod filtering;
mod mapping;
mod memory;
mod net;
mod simultaneous;

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use net::{connect, connect_and_accept, listen, ms};
use netns_lab::{Dependence, Error, HostSpec, Lab, LinkSpec, NatSpec, TcpState, UnsolicitedSyn};

const EIF: NatSpec = NatSpec::port_preserving().filtering(Dependence::EndpointIndependent);

/// Two servers, and a host behind what is under test.
fn lab(nat: NatSpec) -> Lab {
    let link = LinkSpec::delay(ms(2));
    Lab::builder()
        .seed(7)
        .host(HostSpec::new("s").link(link))
        .host(HostSpec::new("t").link(link))
        .host(HostSpec::new("a").behind(nat).link(link))
        .build()
        .unwrap()
}

/// What two addresses and two ports see of one local port.
fn seen_by_servers(lab: &Lab, port: u16) -> Vec<SocketAddr> {
    let (s, t, a) = (lab.host("s"), lab.host("t"), lab.host("a"));
    let listeners = [
        listen(s, 1, false),
        listen(s, 2, false),
        listen(t, 1, false),
    ];
    let ends: Vec<_> = listeners
        .iter()
        .map(|l| connect_and_accept(a, port, l))
        .collect();
    assert_eq!(lab.capture().private_sources(), []);
    ends.iter().map(|(_, _, seen)| *seen).collect()
}

#[test]
fn port_preserving_mapping_is_the_same_for_all() {
    netns_lab::test(|| {
        let lab = lab(NatSpec::port_preserving());
        let external = lab.host("a").external_ipv4();
        assert_eq!(
            seen_by_servers(&lab, 5000),
            [SocketAddr::from((external, 5000)); 3]
        );
    });
}

#[test]
fn random_port_mapping_is_the_same_for_all_and_for_the_seed() {
    netns_lab::test(|| {
        let first_lab = lab(NatSpec::random_port());
        let seen = seen_by_servers(&first_lab, 5000);
        println!("{seen:?}");
        assert!((20_000..30_000).contains(&seen[0].port()));
        assert_eq!(seen, [seen[0]; 3]);
        assert_ne!(
            seen_by_servers(&first_lab, 5001)[0].port(),
            seen[0].port() + 1
        );
        assert_eq!(seen_by_servers(&lab(NatSpec::random_port()), 5000), seen);
    });
}

#[test]
fn random_per_destination_mapping_differs_for_all() {
    netns_lab::test(|| {
        let seen = seen_by_servers(&lab(NatSpec::random_per_destination()), 5000);
        println!("{seen:?}");
        // Three draws from 64,512 ports: equal once in 21,000 runs.
        assert!(seen[0] != seen[1] && seen[1] != seen[2] && seen[0] != seen[2]);
    });
}

#[test]
fn a_firewall_changes_nothing() {
    netns_lab::test(|| {
        let lab = lab(NatSpec::firewall());
        let a = lab.host("a");
        assert_eq!(a.ipv4(), a.external_ipv4());
        assert_eq!(
            seen_by_servers(&lab, 5000),
            [SocketAddr::from((a.ipv4(), 5000)); 3]
        );
    });
}

/// Opens a mapping to one server and lets the other try it.
fn stranger_connects(nat: NatSpec, ipv6: bool) -> io::Result<SocketAddr> {
    let lab = lab(nat);
    let (s, t, a) = (lab.host("s"), lab.host("t"), lab.host("a"));
    let stun = listen(s, 1, ipv6);
    let (_client, _server, mapped) = connect_and_accept(a, 5000, &stun);
    let listener = listen(a, 5000, ipv6);
    let mut stranger = connect(t, 0, mapped)?;
    let (mut accepted, seen) = listener.accept()?;
    assert_eq!(seen, stranger.local_addr()?);
    stranger.write_all(b"hi")?;
    let mut buffer = [0; 2];
    accepted.read_exact(&mut buffer)?;
    assert_eq!(lab.capture().private_sources(), []);
    Ok(seen)
}

#[test]
fn strangers_pass_only_endpoint_independent_filtering() {
    netns_lab::test(|| {
        let translating = [NatSpec::port_preserving(), NatSpec::random_port()];
        for nat in [NatSpec::firewall(), translating[0], translating[1]] {
            for ipv6 in [false, true] {
                let error = stranger_connects(nat, ipv6).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::TimedOut, "{nat:?} {ipv6}");
                let open = nat.filtering(Dependence::EndpointIndependent);
                stranger_connects(open, ipv6).unwrap_or_else(|e| panic!("{open:?} {ipv6}: {e}"));
                let expiring = open.established_timeout(Duration::from_secs(60));
                stranger_connects(expiring, ipv6).unwrap();
            }
        }
    });
}

#[test]
fn the_answer_to_an_unsolicited_syn_is_as_asked() {
    netns_lab::test(|| {
        for nat in [NatSpec::port_preserving(), NatSpec::firewall(), EIF] {
            for (answer, v4, v6) in [
                (
                    UnsolicitedSyn::Nothing,
                    ErrorKind::TimedOut,
                    ErrorKind::TimedOut,
                ),
                (
                    UnsolicitedSyn::Rst,
                    ErrorKind::ConnectionRefused,
                    ErrorKind::ConnectionRefused,
                ),
                (
                    UnsolicitedSyn::IcmpPortUnreachable,
                    ErrorKind::ConnectionRefused,
                    ErrorKind::ConnectionRefused,
                ),
                (
                    UnsolicitedSyn::IcmpProhibited,
                    ErrorKind::HostUnreachable,
                    ErrorKind::PermissionDenied,
                ),
            ] {
                let lab = lab(nat.answering(answer));
                let (s, a) = (lab.host("s"), lab.host("a"));
                for (address, expected) in [
                    (IpAddr::V4(a.external_ipv4()), v4),
                    (IpAddr::V6(a.ipv6()), v6),
                ] {
                    let error = connect(s, 0, (address, 5000).into()).unwrap_err();
                    assert_eq!(error.kind(), expected, "{nat:?} {answer:?} {address}");
                }
                let answers = lab.capture().select(|packet| &*packet.host == "a");
                let replies = if answer == UnsolicitedSyn::Nothing {
                    0
                } else {
                    2
                };
                assert_eq!(answers.len(), 2 + replies, "{answers:?}");
            }
        }
    });
}

#[test]
fn an_idle_connection_is_forgotten_and_then_dead() {
    netns_lab::test(|| {
        let lab = lab(NatSpec::port_preserving()
            .established_timeout(Duration::from_secs(1))
            .pickup(false));
        let (s, a) = (lab.host("s"), lab.host("a"));
        let (mut client, mut server, _) = connect_and_accept(a, 5000, &listen(s, 1, false));
        let entry = lab.nat("a", 0).mappings().unwrap()[0];
        assert_eq!(
            (entry.state, entry.expires_in <= 1),
            (TcpState::Established, true)
        );
        assert_eq!(entry.source, client.local_addr().unwrap());
        assert_eq!(entry.mapped, SocketAddr::from((a.external_ipv4(), 5000)));
        let start = Instant::now();
        while !lab.nat("a", 0).mappings().unwrap().is_empty() {
            assert!(
                start.elapsed() < Duration::from_secs(10),
                "the mapping stays"
            );
            std::thread::yield_now();
        }
        assert_silent(&mut server, &mut client);
        assert_silent(&mut client, &mut server);
        assert_eq!(lab.capture().private_sources(), []);
    });
}

fn assert_silent(from: &mut TcpStream, to: &mut TcpStream) {
    from.write_all(b"anyone there?").unwrap();
    to.set_read_timeout(Some(ms(300))).unwrap();
    assert_eq!(
        to.read(&mut [0; 64]).unwrap_err().kind(),
        ErrorKind::WouldBlock
    );
}

#[test]
fn a_flush_forgets_connections_and_open_endpoints() {
    netns_lab::test(|| {
        let lab = lab(EIF);
        let (s, t, a) = (lab.host("s"), lab.host("t"), lab.host("a"));
        let (_client, _server, mapped) = connect_and_accept(a, 5000, &listen(s, 1, false));
        let listener = listen(a, 5000, false);
        // Accepted, it has nothing more under way that would make an entry anew.
        let (stranger, _accepted) = (connect(t, 0, mapped).unwrap(), listener.accept().unwrap());
        lab.nat("a", 0).flush().unwrap();
        assert_eq!(lab.nat("a", 0).mappings().unwrap(), []);
        drop(stranger);
        assert_eq!(
            connect(t, 0, mapped).unwrap_err().kind(),
            ErrorKind::TimedOut
        );
    });
}

#[test]
fn datagrams_pass_every_mapping() {
    netns_lab::test(|| {
        for nat in [
            NatSpec::port_preserving(),
            NatSpec::random_port(),
            NatSpec::random_per_destination(),
            NatSpec::firewall(),
            EIF,
        ] {
            let lab = lab(nat);
            let (s, a) = (lab.host("s"), lab.host("a"));
            for (server, client) in [
                (IpAddr::V4(s.ipv4()), IpAddr::V4(a.ipv4())),
                (IpAddr::V6(s.ipv6()), IpAddr::V6(a.ipv6())),
            ] {
                let server = s.run(|| UdpSocket::bind((server, 1)).unwrap()).unwrap();
                let client = a.run(|| UdpSocket::bind((client, 5000)).unwrap()).unwrap();
                client.set_read_timeout(Some(net::PATIENCE)).unwrap();
                server.set_read_timeout(Some(net::PATIENCE)).unwrap();
                client
                    .send_to(b"ping", server.local_addr().unwrap())
                    .unwrap();
                let (_, seen) = server.recv_from(&mut [0; 8]).unwrap();
                server.send_to(b"pong", seen).unwrap();
                let answered = client.recv_from(&mut [0; 8]).unwrap().1;
                assert_eq!(answered, server.local_addr().unwrap());
            }
            assert_eq!(lab.capture().private_sources(), []);
        }
    });
}

#[test]
fn what_netfilter_cannot_do_is_refused_before_anything_is_made() {
    let late = UnsolicitedSyn::IcmpPortUnreachableAfter(NatSpec::RFC5382_ANSWER_DELAY);
    let build = |nat: NatSpec| Lab::builder().host(HostSpec::new("a").behind(nat)).build();
    assert_eq!(
        build(NatSpec::firewall().answering(late))
            .unwrap_err()
            .to_string(),
        "host \"a\" is behind a box that netfilter cannot be: it cannot wait before it answers a \
         SYN; use the model"
    );
    assert_eq!(
        build(NatSpec::port_preserving().port_range(0, 9))
            .unwrap_err()
            .to_string(),
        "host \"a\" is behind an impossible box: the port range is empty or starts at zero"
    );
    let possible = build(NatSpec::port_preserving()).unwrap_err();
    assert!(matches!(possible, Error::NotIsolated), "{possible}");
}
