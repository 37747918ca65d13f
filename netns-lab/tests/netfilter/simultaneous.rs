//! Simultaneous opens through two boxes.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::SocketAddr,
    sync::Barrier,
};

use netns_lab::{
    Handshake, Host, HostSpec, Lab, LinkSpec, NatSpec, SimultaneousOpen, Transport, UnsolicitedSyn,
};

use crate::net::{connect, connect_and_accept, listen, ms};

/// Learns both mappings from a server, then connects both ways at once.
fn punch(a_nats: &[NatSpec], b_nats: &[NatSpec], ipv6: bool) {
    let behind = |name, nats: &[NatSpec], delay| {
        let host = HostSpec::new(name).link(LinkSpec::delay(ms(delay)));
        nats.iter().fold(host, |host, nat| host.behind(*nat))
    };
    let lab = Lab::builder()
        .host(behind("s", &[], 1))
        .host(behind("a", a_nats, 10))
        .host(behind("b", b_nats, 10))
        .build()
        .unwrap();
    let (s, a, b) = (lab.host("s"), lab.host("a"), lab.host("b"));
    let stun = listen(s, 1, ipv6);
    let (_keep_a, _server_a, mapped_a) = connect_and_accept(a, 5000, &stun);
    let (_keep_b, _server_b, mapped_b) = connect_and_accept(b, 6000, &stun);
    let together = Barrier::new(2);
    let dial = |host: &Host, port, to| {
        together.wait();
        connect(host, port, to).unwrap_or_else(|e| panic!("{a_nats:?} {b_nats:?} {ipv6}: {e}"))
    };
    let (mut from_a, mut from_b) = std::thread::scope(|scope| {
        let one = scope.spawn(|| dial(a, 5000, mapped_b));
        let other = scope.spawn(|| dial(b, 6000, mapped_a));
        (one.join().unwrap(), other.join().unwrap())
    });
    from_a.write_all(b"direct").unwrap();
    let mut buffer = [0; 6];
    from_b.read_exact(&mut buffer).unwrap();
    assert_eq!(&buffer, b"direct");
    assert_simultaneous(&lab, mapped_a, mapped_b);
    assert_eq!(lab.capture().private_sources(), []);
}

/// Reads SYN, SYN, SYN-ACK, SYN-ACK out of the capture.
fn assert_simultaneous(lab: &Lab, one: SocketAddr, other: SocketAddr) {
    assert_eq!(
        lab.capture().tcp_handshake(one, other),
        Handshake::Simultaneous
    );
    let steps: Vec<_> = lab
        .capture()
        .packets()
        .iter()
        .filter(|packet| packet.direction == netns_lab::Direction::FromHost)
        .filter_map(|packet| match packet.transport {
            Transport::Tcp {
                source_port,
                destination_port,
                flags,
                ..
            } => {
                let from = SocketAddr::new(packet.source, source_port);
                let to = SocketAddr::new(packet.destination, destination_port);
                let ours = (from, to) == (one, other) || (from, to) == (other, one);
                ours.then(|| format!("{flags:?}"))
            }
            _ => None,
        })
        .take(4)
        .collect();
    assert_eq!(steps, ["SYN", "SYN", "SYN-ACK", "SYN-ACK"]);
}

#[test]
fn a_simultaneous_open_passes_two_of_any_filtering_kind() {
    netns_lab::test(|| {
        let keep = NatSpec::port_preserving();
        let kinds: [&[NatSpec]; 6] = [
            &[keep],
            &[keep.answering(UnsolicitedSyn::Rst)],
            &[keep.answering(UnsolicitedSyn::IcmpProhibited)],
            &[NatSpec::random_port()],
            &[NatSpec::firewall()],
            &[keep, keep],
        ];
        for a in kinds {
            for b in kinds {
                punch(a, b, false);
            }
        }
    });
}

#[test]
fn a_simultaneous_open_passes_two_ipv6_firewalls() {
    netns_lab::test(|| {
        let keep = NatSpec::port_preserving();
        punch(&[keep], &[NatSpec::firewall()], true);
        punch(&[keep, keep], &[keep.answering(UnsolicitedSyn::Rst)], true);
    });
}

/// Both dial at once; returns what became of it.
fn cross(refusal: SimultaneousOpen, ipv6: bool) -> [Result<(), ErrorKind>; 2] {
    let nat = NatSpec {
        simultaneous_open: refusal,
        ..NatSpec::port_preserving()
    };
    let host = |name| {
        HostSpec::new(name)
            .behind(nat)
            .link(LinkSpec::delay(ms(30)))
    };
    let lab = Lab::builder()
        .host(host("a"))
        .host(host("b"))
        .build()
        .unwrap();
    let address = |host: &Host, port| {
        if ipv6 {
            SocketAddr::from((host.ipv6(), port))
        } else {
            SocketAddr::from((host.external_ipv4(), port))
        }
    };
    let (a, b) = (lab.host("a"), lab.host("b"));
    let together = Barrier::new(2);
    let dial = |host: &Host, port, to| {
        together.wait();
        connect(host, port, to)
            .map(drop)
            .map_err(|error| error.kind())
    };
    std::thread::scope(|scope| {
        let one = scope.spawn(|| dial(a, 5000, address(b, 6000)));
        let other = scope.spawn(|| dial(b, 6000, address(a, 5000)));
        [one.join().unwrap(), other.join().unwrap()]
    })
}

#[test]
fn a_box_can_refuse_a_simultaneous_open() {
    netns_lab::test(|| {
        for ipv6 in [false, true] {
            let dropped = cross(SimultaneousOpen::Dropped, ipv6);
            assert_eq!(dropped, [Err(ErrorKind::TimedOut); 2], "{ipv6}");
            let reset = cross(SimultaneousOpen::Reset, ipv6);
            println!("{reset:?}");
            assert!(reset.iter().all(Result::is_err));
            // The SYN that arrives first may come before the other side has dialled.
            assert!(reset.contains(&Err(ErrorKind::ConnectionRefused)));
        }
    });
}
