//! Who gets in.

use std::io::ErrorKind;

use netns_lab::{Dependence, Hairpinning, NatSpec, PortAssignment};

use crate::lab;
use crate::net::{connect, connect_and_accept, listen};

/// Opens a mapping to one server. Returns whether it gets in from another port,
/// and whether another server gets in.
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
