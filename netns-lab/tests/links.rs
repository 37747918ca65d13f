//! Hosts reach each other through the links, with the delay asked for.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use netns_lab::{Handshake, HostSpec, Lab, LinkSpec, NatSpec};

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

#[test]
fn two_public_hosts_connect_in_one_round_trip() {
    netns_lab::test(|| {
        let lab = Lab::builder()
            .host(HostSpec::new("a").link(LinkSpec::delay(ms(20))))
            .host(HostSpec::new("b").link(LinkSpec::delay(ms(20))))
            .build()
            .unwrap();
        let (a, b) = (lab.host("a"), lab.host("b"));
        let listener = b.run(|| TcpListener::bind((b.ipv4(), 1)).unwrap()).unwrap();
        let start = Instant::now();
        let stream = a
            .run(|| TcpStream::connect((b.ipv4(), 1)).unwrap())
            .unwrap();
        let took = start.elapsed();
        assert!((ms(80)..ms(83)).contains(&took), "{took:?}");
        assert_eq!(stream.local_addr().unwrap().ip(), a.ipv4());
        listener.accept().unwrap();
        let handshake = lab.capture().tcp_handshake(a.ipv4(), b.ipv4());
        assert_eq!(
            handshake,
            Handshake::Accepted {
                client: a.ipv4().into()
            }
        );
    });
}

#[test]
fn a_nat_keeps_the_port_and_hides_the_address() {
    netns_lab::test(|| {
        let lab = Lab::builder()
            .host(HostSpec::new("server").link(LinkSpec::delay(ms(1))))
            .host(HostSpec::new("a").behind(NatSpec::port_preserving()))
            .build()
            .unwrap();
        let (server, a) = (lab.host("server"), lab.host("a"));
        for address in [server.ipv4().into(), std::net::IpAddr::V6(server.ipv6())] {
            let listener = server
                .run(|| TcpListener::bind((address, 1)).unwrap())
                .unwrap();
            let mut stream = a.run(|| TcpStream::connect((address, 1)).unwrap()).unwrap();
            let (mut accepted, seen) = listener.accept().unwrap();
            let local = stream.local_addr().unwrap();
            assert_eq!(seen.port(), local.port());
            if address.is_ipv4() {
                assert_eq!(seen.ip(), a.external_ipv4());
            } else {
                assert_eq!(seen.ip(), local.ip());
            }
            stream.write_all(b"hello").unwrap();
            let mut buffer = [0; 5];
            accepted.read_exact(&mut buffer).unwrap();
            assert_eq!(&buffer, b"hello");
        }
        println!("{:?}", lab.nat("a", 0).mappings().unwrap());
        assert_eq!(lab.capture().private_sources(), []);
    });
}
