//! Who gets in.

use std::{
    io::{ErrorKind, Read as _},
    net::{IpAddr, SocketAddr},
};

use netns_lab::{Dependence, Hairpinning, Host, NatSpec, PortAssignment};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    EIF, lab,
    net::{PATIENCE, connect, connect_and_accept, listen},
};

/// Opens a mapping to one server. Returns whether it gets in from another port, and whether another
/// server gets in.
fn who_gets_in(nat: NatSpec, ipv6: bool) -> [bool; 2] {
    let lab = lab(nat);
    let (s, t, a) = (lab.host("s"), lab.host("t"), lab.host("a"));
    let (_client, _server, mapped) = connect_and_accept(a, 5000, &listen(s, 1, ipv6));
    let _listener = listen(a, 5000, ipv6);
    let passes = [s, t].map(|host| match connect(host, 9, mapped) {
        Ok(_) => true,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::TimedOut, "{nat:?}");
            false
        }
    });
    assert_eq!(lab.capture().private_sources(), []);
    passes
}

#[test]
fn filtering_does_not_depend_on_the_mapping() {
    netns_lab::test(|| {
        let keep = NatSpec::port_preserving();
        let adm = keep
            .mapping(Dependence::AddressDependent)
            .ports(PortAssignment::Random);
        let apdm = keep
            .mapping(Dependence::AddressAndPortDependent)
            .ports(PortAssignment::Sequential { delta: 1 });
        let boxes = [
            (keep, false),
            (keep, true),
            (NatSpec::random_port(), false),
            (adm, false),
            (apdm, false),
            (NatSpec::firewall(), false),
            (NatSpec::firewall(), true),
        ];
        for (filtering, expected) in [
            (Dependence::EndpointIndependent, [true, true]),
            (Dependence::AddressDependent, [true, false]),
            (Dependence::AddressAndPortDependent, [false, false]),
        ] {
            // All at once, since each waits for what does not get in.
            std::thread::scope(|scope| {
                for (nat, ipv6) in boxes {
                    scope.spawn(move || {
                        let nat = nat.filtering(filtering);
                        assert_eq!(who_gets_in(nat, ipv6), expected, "{nat:?} {ipv6}");
                    });
                }
            });
        }
    });
}

#[test]
fn packets_to_the_own_external_endpoint_come_back() {
    netns_lab::test(|| {
        for open in [NatSpec::port_preserving(), NatSpec::random_port()] {
            let nat = NatSpec {
                hairpinning: Hairpinning::ExternalSource,
                ..open.filtering(Dependence::EndpointIndependent)
            };
            let lab = lab(nat);
            let (s, a) = (lab.host("s"), lab.host("a"));
            let (_client, _server, mapped) = connect_and_accept(a, 5000, &listen(s, 1, false));
            let listener = listen(a, 5000, false);
            let _dialled = connect(a, 6000, mapped).unwrap();
            let from = listener.accept().unwrap().1;
            println!("{mapped} {from}");
            assert_eq!(from.ip(), mapped.ip());
            assert_ne!(from.port(), mapped.port());
            // What the others see of that endpoint is the same.
            let (_client, _server, seen) = connect_and_accept(a, 6000, &listen(s, 2, false));
            assert_eq!(from, seen);
            assert_eq!(lab.capture().private_sources(), []);
        }
    });
}

#[test]
fn packets_to_the_own_external_endpoint_are_dropped_otherwise() {
    netns_lab::test(|| {
        let lab = lab(NatSpec::port_preserving());
        let (s, a) = (lab.host("s"), lab.host("a"));
        let (_client, _server, mapped) = connect_and_accept(a, 5000, &listen(s, 1, false));
        let error = connect(a, 6000, mapped).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    });
}

/// Sends an ICMP echo message of a type with identifier 77, and waits for one from somebody else.
fn echo(host: &Host, kind: u8, to: impl Into<IpAddr>) -> (Socket, Option<IpAddr>) {
    let open = || Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)).unwrap();
    let socket = host.run(open).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let [high, low] = (!(u16::from(kind) << 8) - 77).to_be_bytes();
    let message = [kind, 0, high, low, 0, 77, 0, 0];
    let to = SocketAddr::from((to.into(), 0));
    socket.send_to(&message, &to.into()).unwrap();
    let from = answer(&socket);
    (socket, from)
}

fn answer(mut socket: &Socket) -> Option<IpAddr> {
    let mut packet = [0; 128];
    let length = socket.read(&mut packet).ok()?;
    assert_eq!((length, packet[20]), (28, 0), "no echo reply");
    Some(IpAddr::from([
        packet[12], packet[13], packet[14], packet[15],
    ]))
}

#[test]
fn an_echo_is_answered_by_who_was_asked_alone() {
    netns_lab::test(|| {
        let lab = lab(EIF);
        let (s, t, a) = (lab.host("s"), lab.host("t"), lab.host("a"));
        let (asks, from) = echo(a, 8, s.ipv4());
        assert_eq!(from, Some(s.ipv4().into()));
        let (_stranger, _) = echo(t, 0, a.external_ipv4());
        assert_eq!(answer(&asks), None);
        // So is a request, with the same identifier.
        let (_server, _) = echo(s, 8, a.external_ipv4());
        assert_eq!(answer(&asks), None);
    });
}
