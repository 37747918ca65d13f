//! Hosts reach each other through the links, with the delay asked for.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use netns_lab::{
    Direction, Error, Fate, Handshake, HostSpec, Lab, LinkSpec, NatSpec, Packet, Transport,
};

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
        let connect = || {
            let start = Instant::now();
            let stream = a
                .run(|| TcpStream::connect((b.ipv4(), 1)).unwrap())
                .unwrap();
            (start.elapsed(), stream)
        };
        // A busy machine makes it longer, but hardly ten times in a row by a whole round trip.
        let (took, stream) = (0..10)
            .map(|_| connect())
            .min_by_key(|(took, _)| *took)
            .unwrap();
        assert!((ms(80)..ms(160)).contains(&took), "{took:?}");
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
        assert_eq!(lab.nat("a", 0).mappings().unwrap().len(), 2);
        assert_eq!(lab.capture().private_sources(), []);
    });
}

/// Sends datagrams over a lossy link and returns which of them arrived.
fn survivors(seed: u64) -> Vec<u8> {
    let lab = Lab::builder()
        .seed(seed)
        .host(HostSpec::new("a").link(LinkSpec::delay(ms(1)).loss(0.2)))
        .host(HostSpec::new("b"))
        .build()
        .unwrap();
    let (a, b) = (lab.host("a"), lab.host("b"));
    let receiver = b.run(|| UdpSocket::bind((b.ipv4(), 1)).unwrap()).unwrap();
    receiver.set_read_timeout(Some(ms(200))).unwrap();
    let sender = a.run(|| UdpSocket::bind((a.ipv4(), 1)).unwrap()).unwrap();
    for number in 0..=u8::MAX {
        sender.send_to(&[number], (b.ipv4(), 1)).unwrap();
    }
    let lost = || {
        lab.capture()
            .select(|packet| packet.fate == Fate::Lost)
            .len()
    };
    let mut arrived = Vec::new();
    let mut buffer = [0];
    let deadline = Instant::now() + Duration::from_secs(30);
    while arrived.len() + lost() < 256 {
        assert!(
            Instant::now() < deadline,
            "{} of 256 arrived",
            arrived.len()
        );
        if receiver.recv_from(&mut buffer).is_ok() {
            arrived.push(buffer[0]);
        }
    }
    arrived
}

fn source_port(packet: &Packet) -> Option<u16> {
    match packet.transport {
        Transport::Tcp { source_port, .. } => Some(source_port),
        _ => None,
    }
}

#[test]
fn the_seed_decides_which_packets_are_lost() {
    netns_lab::test(|| {
        let arrived = survivors(11);
        assert!(arrived.is_sorted());
        // Four standard deviations around 80 % of 256.
        assert!((179..231).contains(&arrived.len()), "{}", arrived.len());
        assert_eq!(survivors(11), arrived);
        assert_ne!(survivors(12), arrived);
    });
}

#[test]
fn the_capture_file_has_every_packet_and_its_fate() {
    netns_lab::test(|| {
        let path = std::env::temp_dir().join(format!("netns-lab-{}.pcapng", std::process::id()));
        let lab = Lab::builder()
            .host(HostSpec::new("alice").link(LinkSpec::default().loss(1.0)))
            .host(HostSpec::new("bob"))
            .capture(&path)
            .snap_length(60)
            .build()
            .unwrap();
        let (alice, bob) = (lab.host("alice"), lab.host("bob"));
        let target = (bob.ipv4(), 9);
        alice
            .run(|| {
                UdpSocket::bind("0.0.0.0:0")
                    .unwrap()
                    .send_to(&[7; 900], target)
            })
            .unwrap()
            .unwrap();
        lab.capture()
            .wait_for(ms(2000), |packet| packet.fate == Fate::Lost)
            .unwrap();
        lab.close().unwrap();
        let file = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(file[..4], [0x0a, 0x0d, 0x0d, 0x0a]);
        let has = |text: &[u8]| file.windows(text.len()).any(|window| window == text);
        assert!(has(b"alice") && has(b"bob") && has(b"lost on the link"));
        assert!(!has(&[7; 60]), "the packet was not cut");
        assert_eq!(blocks(&file), [0x0a0d_0d0a, 1, 1, 6]);
    });
}

/// Walks a capture file and returns the types of its blocks.
fn blocks(mut file: &[u8]) -> Vec<u32> {
    let word = |bytes: &[u8]| u32::from_ne_bytes(bytes[..4].try_into().unwrap());
    let mut kinds = Vec::new();
    while !file.is_empty() {
        let length = word(&file[4..]) as usize;
        assert_eq!(word(&file[length - 4..]) as usize, length);
        kinds.push(word(file));
        file = &file[length..];
    }
    kinds
}

#[test]
fn labs_in_parallel_do_not_meet() {
    netns_lab::test(|| {
        let labs: Vec<_> = std::thread::scope(|scope| {
            let build = || {
                Lab::builder()
                    .host(HostSpec::new("a"))
                    .host(HostSpec::new("b"))
                    .build()
            };
            let builders: Vec<_> = (0..4).map(|_| scope.spawn(build)).collect();
            builders
                .into_iter()
                .map(|builder| builder.join().unwrap().unwrap())
                .collect()
        });
        let listeners: Vec<_> = labs
            .iter()
            .map(|lab| lab.host("b"))
            .map(|b| b.run(|| TcpListener::bind((b.ipv4(), 1)).unwrap()).unwrap())
            .collect();
        for (lab, listener) in labs.iter().zip(&listeners) {
            let (a, b) = (lab.host("a"), lab.host("b"));
            let stream = a
                .run(|| TcpStream::connect((b.ipv4(), 1)).unwrap())
                .unwrap();
            assert_eq!(listener.accept().unwrap().1, stream.local_addr().unwrap());
        }
        for lab in &labs {
            let syns = lab.capture().select(|packet| {
                packet.direction == Direction::FromHost
                    && packet
                        .transport
                        .tcp_flags()
                        .is_some_and(|flags| flags.is_syn())
            });
            // A busy machine may send it twice, from the same port.
            let ports: BTreeSet<_> = syns.iter().filter_map(source_port).collect();
            assert_eq!(ports.len(), 1, "{syns:#?}");
        }
    });
}

#[test]
fn a_program_runs_on_its_host_and_dies_with_the_lab() {
    netns_lab::test(|| {
        let lab = Lab::builder().host(HostSpec::new("a")).build().unwrap();
        let a = lab.host("a");
        let output = a
            .command("cat")
            .arg("/proc/self/net/fib_trie")
            .output()
            .unwrap();
        assert!(String::from_utf8_lossy(&output.stdout).contains(&a.ipv4().to_string()));
        let mut program = a.command("cat").stdin(Stdio::piped()).spawn().unwrap();
        drop(lab);
        assert_eq!(program.wait().unwrap().signal(), Some(9));
    });
}

#[test]
fn nothing_crosses_the_core_unasked() {
    netns_lab::test(|| {
        let lab = Lab::builder()
            .host(HostSpec::new("a").behind(NatSpec::port_preserving()))
            .host(HostSpec::new("b"))
            .build()
            .unwrap();
        let (a, b) = (lab.host("a"), lab.host("b"));
        let sender = a.run(|| UdpSocket::bind((a.ipv4(), 1)).unwrap()).unwrap();
        sender.send_to(b"last", (b.ipv4(), 1)).unwrap();
        let is_answer = |transport| matches!(transport, Transport::Icmp { kind: 3, code: 3 });
        lab.capture()
            .wait_for(ms(2000), |packet| is_answer(packet.transport))
            .unwrap();
        let sent = lab
            .capture()
            .select(|packet| packet.direction == Direction::FromHost);
        assert_eq!(sent.len(), 2, "{sent:?}");
    });
}

#[test]
fn descriptions_that_cannot_be_built_are_refused() {
    let build = |host: HostSpec| Lab::builder().host(HostSpec::new("a")).host(host).build();
    let lossy = HostSpec::new("b").link(LinkSpec::default().loss(1.5));
    assert!(matches!(
        build(HostSpec::new("a")),
        Err(Error::DuplicateHost { .. })
    ));
    assert!(matches!(build(lossy), Err(Error::InvalidLink { .. })));
    assert!(matches!(build(HostSpec::new("b")), Err(Error::NotIsolated)));
}

#[test]
fn this_system_is_supported() {
    netns_lab::support().unwrap();
    netns_lab::test(netns_lab::support);
}
