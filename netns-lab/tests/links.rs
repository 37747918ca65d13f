//! Hosts reach each other through the links, with the delay asked for.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::{
    collections::BTreeSet,
    io::{Read as _, Write as _},
    net::{IpAddr, TcpListener, TcpStream, UdpSocket},
    os::unix::process::ExitStatusExt as _,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use netns_lab::{
    Direction, Engine, Error, Fate, Handshake, Host, HostSpec, Lab, LinkSpec, NatSpec, Packet,
    Transport,
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
        for address in [server.ipv4().into(), IpAddr::V6(server.ipv6())] {
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
        for text in ["alice (to core)", "core (to bob)", "lost on the link"] {
            assert!(has(text.as_bytes()), "{text}");
        }
        assert!(!has(&[7; 60]), "the packet was not cut");
        assert_eq!(blocks(&file), [0x0a0d_0d0a, 1, 1, 1, 1, 6]);
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
        let labs: Vec<_> = thread::scope(|scope| {
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
fn labs_one_after_the_other_are_as_good_as_the_first() {
    netns_lab::test(|| {
        // From the third on, part of a lab is made while the one before lives.
        for number in 1..=5 {
            let lab = Lab::builder()
                .host(HostSpec::new("a").behind(NatSpec::port_preserving()))
                .host(HostSpec::new("b"))
                .build()
                .unwrap();
            let (a, b) = (lab.host("a"), lab.host("b"));
            let listener = b.run(|| TcpListener::bind((b.ipv4(), 1)).unwrap()).unwrap();
            let stream = a
                .run(|| TcpStream::connect((b.ipv4(), 1)).unwrap())
                .unwrap();
            let seen = listener.accept().unwrap().1;
            assert_eq!(seen.ip(), a.external_ipv4(), "lab {number}");
            // Nothing of the labs before is on record.
            let own = stream.local_addr().unwrap().port();
            let others = lab.capture().select(|packet| {
                packet
                    .transport
                    .tcp_flags()
                    .is_some_and(|flags| flags.is_syn())
                    && source_port(packet) != Some(own)
            });
            assert_eq!(others, [], "lab {number}");
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
fn a_transfer_takes_what_the_rate_makes_it_take() {
    const BYTES: usize = 300_000;
    netns_lab::test(|| {
        let slow = LinkSpec::delay(ms(2)).rate(10_000_000, 100_000);
        let lab = Lab::builder()
            .host(HostSpec::new("a").link(slow))
            .host(HostSpec::new("b"))
            .build()
            .unwrap();
        let (a, b) = (lab.host("a"), lab.host("b"));
        let listener = b.run(|| TcpListener::bind((b.ipv4(), 1)).unwrap()).unwrap();
        let mut upload = a
            .run(|| TcpStream::connect((b.ipv4(), 1)).unwrap())
            .unwrap();
        let (mut download, _) = listener.accept().unwrap();
        // Both directions at once: each has the rate for itself.
        thread::scope(|scope| {
            for stream in [&upload, &download] {
                let mut stream = stream.try_clone().unwrap();
                scope.spawn(move || stream.write_all(&[7; BYTES]).unwrap());
            }
            for stream in [&mut upload, &mut download] {
                stream.read_exact(&mut vec![0; BYTES]).unwrap();
            }
        });
        let data = lab
            .capture()
            .select(|packet| matches!(packet.transport, Transport::Tcp { payload: 1.., .. }));
        let of = |host, direction| {
            data.iter()
                .filter(move |packet| &*packet.host == host && packet.direction == direction)
        };
        for (from, to) in [("a", "b"), ("b", "a")] {
            let begin = of(from, Direction::FromHost).map(|packet| packet.at).min();
            let end = of(to, Direction::ToHost).map(|packet| packet.at).max();
            let took = end.unwrap() - begin.unwrap();
            let least = Duration::from_micros(BYTES as u64 * 8 / 10);
            assert!(took >= least, "{from} to {to}: {took:?}");
        }
    });
}

#[test]
fn a_full_queue_loses_what_comes() {
    const QUEUE: usize = 10;
    /// 1000 bytes without the headers of IPv4 and UDP.
    const DATAGRAM: [u8; 1000 - 28] = [0; 972];
    netns_lab::test(|| {
        // One packet in 10 ms, and room for ten.
        let slow = LinkSpec::default().rate(800_000, 1000 * QUEUE as u32);
        let lab = Lab::builder()
            .host(HostSpec::new("a").link(slow))
            .host(HostSpec::new("b"))
            .build()
            .unwrap();
        let (a, b) = (lab.host("a"), lab.host("b"));
        let _receiver = b.run(|| UdpSocket::bind((b.ipv4(), 1)).unwrap()).unwrap();
        let sender = a.run(|| UdpSocket::bind((a.ipv4(), 1)).unwrap()).unwrap();
        for _ in 0..100 {
            sender.send_to(&DATAGRAM, (b.ipv4(), 1)).unwrap();
        }
        let mut sent = Vec::new();
        let deadline = Instant::now() + Duration::from_secs(30);
        while sent.len() < 100 {
            assert!(Instant::now() < deadline, "{} of 100 were seen", sent.len());
            sent = lab
                .capture()
                .select(|packet| packet.direction == Direction::FromHost);
        }
        let entered = sent
            .iter()
            .filter(|packet| packet.fate == Fate::Carried)
            .count();
        // A slow sender gives the link time for more.
        let took = sent[99].at - sent[0].at;
        let most = QUEUE + 1 + usize::try_from(took.as_millis() / 10).unwrap();
        assert!((QUEUE..=most).contains(&entered), "{entered} in {took:?}");
        assert!(
            sent[..QUEUE]
                .iter()
                .all(|packet| packet.fate == Fate::Carried)
        );
    });
}

#[test]
fn a_link_delivers_twice_what_it_copies() {
    const LAST: u8 = 128;
    netns_lab::test(|| {
        let lab = Lab::builder()
            .seed(5)
            .host(HostSpec::new("a").link(LinkSpec::delay(ms(1)).duplicating(0.5)))
            .host(HostSpec::new("b"))
            .build()
            .unwrap();
        let (a, b) = (lab.host("a"), lab.host("b"));
        let receiver = b.run(|| UdpSocket::bind((b.ipv4(), 1)).unwrap()).unwrap();
        receiver
            .set_read_timeout(Some(Duration::from_secs(30)))
            .unwrap();
        let sender = a.run(|| UdpSocket::bind((a.ipv4(), 1)).unwrap()).unwrap();
        for number in 0..=LAST {
            sender.send_to(&[number], (b.ipv4(), 1)).unwrap();
        }
        let mut arrived = Vec::new();
        // The link keeps the order.
        while arrived.last() != Some(&LAST) {
            let mut buffer = [0];
            receiver.recv_from(&mut buffer).unwrap();
            arrived.push(buffer[0]);
        }
        assert!(arrived.is_sorted());
        let once: BTreeSet<_> = arrived.iter().copied().collect();
        assert_eq!(once.len(), usize::from(LAST) + 1);
        let copies = arrived.len() - once.len();
        // Four standard deviations around half of 128.
        assert!((41..87).contains(&copies), "{copies}");
    });
}

#[test]
fn tcp_gets_over_a_link_that_copies_everything() {
    netns_lab::test(|| {
        let link = LinkSpec::delay(ms(1)).duplicating(1.0);
        let lab = Lab::builder()
            .host(HostSpec::new("a").link(link).behind(NatSpec::random_port()))
            .host(HostSpec::new("b").link(link))
            .build()
            .unwrap();
        let (a, b) = (lab.host("a"), lab.host("b"));
        let listener = b.run(|| TcpListener::bind((b.ipv4(), 1)).unwrap()).unwrap();
        let mut stream = a
            .run(|| TcpStream::connect((b.ipv4(), 1)).unwrap())
            .unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        let sent: Vec<_> = (0..100_000_u32).map(|number| number as u8).collect();
        let mut received = vec![0; sent.len()];
        thread::scope(|scope| {
            scope.spawn(|| stream.write_all(&sent).unwrap());
            accepted.read_exact(&mut received).unwrap();
        });
        assert!(received == sent);
    });
}

#[test]
fn a_small_mtu_is_told_to_whoever_sends_too_much() {
    netns_lab::test(|| {
        for engine in [Engine::Netfilter, Engine::Model] {
            for nats in [&[][..], &[NatSpec::port_preserving()]] {
                let link = LinkSpec::delay(ms(1));
                let a = HostSpec::new("a").link(link.mtu(1400));
                let a = nats.iter().copied().fold(a, HostSpec::behind);
                let lab = Lab::builder().host(a).host(HostSpec::new("b").link(link));
                let lab = lab.engine(engine).build().unwrap();
                let (a, b) = (lab.host("a"), lab.host("b"));
                let listener = b.run(|| TcpListener::bind((b.ipv4(), 1)).unwrap()).unwrap();
                let connect = || TcpStream::connect((b.ipv4(), 1)).unwrap();
                let mut stream = a.run(connect).unwrap();
                let (mut accepted, _) = listener.accept().unwrap();
                // Larger than what is under way before the first answer.
                let bytes = [5; 100_000];
                thread::scope(|scope| {
                    scope.spawn(|| stream.write_all(&bytes).unwrap());
                    let mut read = [0; 100_000];
                    accepted.read_exact(&mut read).unwrap();
                    scope.spawn(|| accepted.write_all(&bytes).unwrap());
                });
                let mut read = [0; 100_000];
                stream.read_exact(&mut read).unwrap();
                let lost = lab.capture().select(|packet| packet.fate == Fate::Lost);
                assert!(!lost.is_empty(), "{engine:?}: nothing was too long");
            }
        }
    });
}

#[test]
fn a_small_mtu_is_a_black_hole_where_nobody_tells() {
    netns_lab::test(|| {
        let lab = Lab::builder()
            .host(HostSpec::new("a").link(LinkSpec::delay(ms(1)).silent_mtu(1400)))
            .host(HostSpec::new("b").link(LinkSpec::delay(ms(1))))
            .build()
            .unwrap();
        let (a, b) = (lab.host("a"), lab.host("b"));
        let listener = b.run(|| TcpListener::bind((b.ipv4(), 1)).unwrap()).unwrap();
        let mut stream = a
            .run(|| TcpStream::connect((b.ipv4(), 1)).unwrap())
            .unwrap();
        let (mut accepted, _) = listener.accept().unwrap();
        // A packet of exactly the MTU passes: 20 bytes of IP, 32 of TCP with time stamps.
        let mut fits = [1; 1400 - 52];
        accepted.write_all(&fits).unwrap();
        stream.read_exact(&mut fits).unwrap();
        accepted.write_all(&[2; 1400 - 51]).unwrap();
        let lost_after = |after| {
            let lost = |packet: &Packet| packet.fate == Fate::Lost && packet.at > after;
            lab.capture()
                .wait_for(Duration::from_secs(30), lost)
                .unwrap()
        };
        // Neither the first time nor the next: the sender is not told to send less.
        let first = lost_after(Duration::ZERO);
        let again = lost_after(first.at);
        assert_eq!(first.transport, again.transport);
        stream.set_nonblocking(true).unwrap();
        let read = stream.read(&mut [0]);
        assert_eq!(read.unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
    });
}

#[test]
fn descriptions_that_cannot_be_built_are_refused() {
    let build = |host: HostSpec| Lab::builder().host(HostSpec::new("a")).host(host).build();
    let lossy = HostSpec::new("b").link(LinkSpec::default().loss(1.5));
    assert!(matches!(
        build(HostSpec::new("a")),
        Err(Error::DuplicateName { .. })
    ));
    assert!(matches!(build(lossy), Err(Error::InvalidLink { .. })));
    assert!(matches!(build(HostSpec::new("b")), Err(Error::NotIsolated)));
}

#[test]
fn this_system_is_supported() {
    netns_lab::support().unwrap();
    netns_lab::test(netns_lab::support);
}

/// Reads how many packets a host has been handed by its link.
fn handed(host: &Host) -> usize {
    let read = || std::fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let text = host.run(read).unwrap();
    let mut lines = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("eth0:"));
    // The first is the bytes.
    let packets = lines.next().unwrap().split_whitespace().nth(1);
    packets.unwrap().parse().unwrap()
}

/// Bytes that no shortcut would get right by chance.
fn pattern(length: usize) -> Vec<u8> {
    let numbers = (0..length as u32 / 4).map(|n| n.wrapping_mul(2_654_435_761));
    numbers.flat_map(u32::to_le_bytes).collect()
}

#[test]
fn hosts_get_segments_together_that_come_together() {
    netns_lab::test(|| {
        for engine in [Engine::Model, Engine::Netfilter] {
            let lab = Lab::builder()
                .host(HostSpec::new("a").behind(NatSpec::port_preserving()))
                .host(HostSpec::new("b"))
                .engine(engine)
                .build()
                .unwrap();
            let (a, b) = (lab.host("a"), lab.host("b"));
            for to in [IpAddr::from(b.ipv4()), b.ipv6().into()] {
                let listener = b.run(|| TcpListener::bind((to, 0)).unwrap()).unwrap();
                let end = listener.local_addr().unwrap();
                let mut client = a.run(|| TcpStream::connect(end).unwrap()).unwrap();
                let (mut server, _) = listener.accept().unwrap();
                let sent = pattern(4 << 20);
                let sending = sent.clone();
                let sender = thread::spawn(move || client.write_all(&sending).unwrap());
                let mut received = Vec::new();
                server.read_to_end(&mut received).unwrap();
                sender.join().unwrap();
                assert!(received == sent, "{engine:?}: {} bytes", received.len());
            }
            // The record has them one by one, none longer than the link carries.
            let data = lab.capture().select(|packet| {
                let full = matches!(
                    packet.transport,
                    Transport::Tcp {
                        payload: 1000..=1460,
                        ..
                    }
                );
                full && &*packet.host == "b" && packet.direction == Direction::ToHost
            });
            assert!(data.len() > 2 * (4 << 20) / 1460 - 100, "{}", data.len());
            let handed = handed(b);
            assert!(handed < data.len(), "{handed} of {}", data.len());
        }
    });
}
