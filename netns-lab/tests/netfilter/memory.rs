//! What a box remembers, and for how long.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::Ipv4Addr,
    time::Duration,
};

use netns_lab::{Limits, NatSpec, TcpState, Timers};

use crate::{
    lab,
    net::{PATIENCE, connect, connect_and_accept, listen},
};

/// An address that no host of a lab has.
const NOBODY: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 250);

#[test]
fn connections_are_remembered_as_long_as_asked() {
    netns_lab::test(|| {
        let timers = Timers {
            transitory: Duration::from_secs(50),
            established: Duration::from_secs(5000),
            ..Timers::LINUX
        };
        let lab = lab(NatSpec {
            timers,
            ..NatSpec::port_preserving()
        });
        let (s, a) = (lab.host("s"), lab.host("a"));
        connect(a, 5000, (NOBODY, 1).into()).unwrap_err();
        let _ends = connect_and_accept(a, 5001, &listen(s, 1, false));
        let mut entries = lab.nat("a", 0).mappings().unwrap();
        entries.sort_by_key(|entry| entry.source);
        println!("{entries:?}");
        let [trying, established] = &entries[..] else {
            panic!("{entries:?}");
        };
        // Both were made at most a few seconds ago.
        assert_eq!(trying.state, TcpState::SynSent);
        assert!((40..=50).contains(&trying.expires_in));
        assert_eq!(established.state, TcpState::Established);
        assert!((4990..=5000).contains(&established.expires_in));
    });
}

#[test]
fn a_refused_connection_is_forgotten_at_once() {
    netns_lab::test(|| {
        let lab = lab(NatSpec::port_preserving());
        let (s, a) = (lab.host("s"), lab.host("a"));
        let error = connect(a, 5000, (s.ipv4(), 1).into()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        assert_eq!(lab.nat("a", 0).mappings().unwrap(), []);
    });
}

#[test]
fn a_connection_from_before_a_restart_is_picked_up_if_asked() {
    netns_lab::test(|| {
        for pickup in [true, false] {
            let lab = lab(NatSpec::port_preserving().pickup(pickup));
            let (s, a) = (lab.host("s"), lab.host("a"));
            let (mut client, mut server, _) = connect_and_accept(a, 5000, &listen(s, 1, false));
            lab.nat("a", 0).flush().unwrap();
            client.write_all(b"still there?").unwrap();
            server.set_read_timeout(Some(PATIENCE)).unwrap();
            let heard = server.read(&mut [0; 64]);
            assert_eq!(heard.is_ok(), pickup, "{heard:?}");
            assert_eq!(lab.capture().private_sources(), []);
        }
    });
}

#[test]
fn no_more_connections_go_out_than_allowed() {
    netns_lab::test(|| {
        let limits = Limits {
            sessions: 2,
            ..Limits::GENEROUS
        };
        let lab = lab(NatSpec {
            limits,
            ..NatSpec::port_preserving()
        });
        let (s, t, a) = (lab.host("s"), lab.host("t"), lab.host("a"));
        let (at_s, at_t) = (listen(s, 1, false), listen(t, 1, false));
        let _first = connect_and_accept(a, 5000, &at_s);
        let _second = connect_and_accept(a, 5000, &at_t);
        let error = connect(a, 5001, at_s.local_addr().unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        // Another box has room of its own.
        let _elsewhere = connect_and_accept(t, 5000, &at_s);
        lab.nat("a", 0).flush().unwrap();
        let _third = connect_and_accept(a, 5002, &at_s);
    });
}
