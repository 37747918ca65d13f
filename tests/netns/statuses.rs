//! What the command ends with, by what has gone wrong.

use std::{
    io::Write as _,
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use netns_lab::{NatSpec, SimultaneousOpen, test};
use p2pconnect_tests::{
    net::Net,
    process::{Process, run},
};

const NAT: [NatSpec; 1] = [NatSpec::port_preserving()];
const UNKNOWN: &str = "a4dqobyha4dqobyha4dqobyha4dqobyha4dqobyha4dqobyha4dq";

#[test]
fn an_unknown_peer_is_status_3() {
    test(|| {
        let net = Net::new(&NAT, &NAT);
        let dialled = net.dial("a", UNKNOWN, b"");
        assert_eq!(dialled.code(), 3, "{:#?}", dialled.stderr);
        assert!(
            dialled.reason().contains("not online"),
            "{}",
            dialled.reason()
        );
        net.finish();
    });
}

#[test]
fn a_peer_that_does_not_want_us_is_like_one_that_is_not_online() {
    test(|| {
        let net = Net::new(&NAT, &NAT);
        let peer = net.id("b");
        let _listener = net.listen_with("b", &["--allow", UNKNOWN]);
        let dialled = net.dial("a", &peer, b"");
        assert_eq!(dialled.code(), 3, "{:#?}", dialled.stderr);
        // The other side has to be told which id that is.
        let own_id = net.id("a");
        assert!(dialled.reason().contains(&own_id), "{}", dialled.reason());
        let heard = net.lab.capture().select(|packet| {
            packet.source == IpAddr::from(net.external("a"))
                && packet.destination == IpAddr::from(net.external("b"))
        });
        assert!(
            heard.is_empty(),
            "the refused dialler knew where to send: {heard:#?}"
        );
        net.finish();
    });
}

#[test]
fn a_coordinator_that_is_gone_is_status_6() {
    test(|| {
        let mut net = Net::new(&NAT, &NAT);
        let peer = net.id("b");
        let _listener = net.listen("b");
        net.server.kill().unwrap();
        net.server.wait().unwrap();
        let began = Instant::now();
        let dialled = net.dial("a", &peer, b"");
        assert_eq!(dialled.code(), 6, "{:#?}", dialled.stderr);
        assert!(began.elapsed() < Duration::from_secs(16));
        net.finish();
    });
}

#[test]
fn the_coordinators_port_makes_up_for_a_closed_stun_port() {
    test(|| {
        for is_silent in [false, true] {
            let net = if is_silent {
                let net = Net::new(&NAT, &NAT);
                let drop = "add table ip closed
                    add chain ip closed out { type filter hook output priority 0; }
                    add rule ip closed out tcp dport 3478 drop";
                for host in ["a", "b"] {
                    run(net.lab.host(host).command("nft").arg(drop));
                }
                net
            } else {
                Net::with_closed_stun(&NAT, &NAT)
            };
            let peer = net.id("b");
            let _listener = net.listen("b");
            let began = Instant::now();
            net.dial_echo("a", &peer, "by the other port");
            // It took 12 s to fail.
            assert!(
                began.elapsed() < Duration::from_secs(8),
                "{:?}",
                began.elapsed()
            );
            net.finish();
        }
    });
}

/// Has a host refuse its own connections to STUN servers, those beside the coordinator included.
fn close_stun(net: &Net, host: &str) {
    let closed = "add table ip closed
        add chain ip closed out { type filter hook output priority 0; }
        add rule ip closed out tcp dport { 3478, 4433 } reject with tcp reset";
    let status = net.lab.host(host).command("nft").arg(closed).status();
    assert!(status.unwrap().success());
}

#[test]
fn a_peer_that_needs_no_mapping_is_reached_without_stun() {
    test(|| {
        let in_one_lan = Net::behind_one(NatSpec::port_preserving(), &[], &[]);
        for net in [Net::new(&[], &[]), in_one_lan] {
            close_stun(&net, "a");
            let peer = net.id("b");
            let _listener = net.listen("b");
            net.dial_echo("a", &peer, "without a mapping");
            net.finish();
        }
    });
}

#[test]
fn a_dial_that_fails_for_the_lack_of_a_mapping_is_status_6() {
    test(|| {
        let net = Net::new(&NAT, &NAT);
        close_stun(&net, "a");
        let peer = net.id("b");
        let _listener = net.listen("b");
        let began = Instant::now();
        let dialled = net.dial("a", &peer, b"");
        assert_eq!(dialled.code(), 6, "{:#?}", dialled.stderr);
        assert!(dialled.reason().contains("STUN"), "{}", dialled.reason());
        assert!(began.elapsed() < Duration::from_secs(16));
        net.finish();
    });
}

#[test]
fn a_server_with_another_key_is_status_7() {
    test(|| {
        let net = Net::new(&NAT, &NAT);
        let elsewhere = format!("{UNKNOWN}@{}:4433", net.lab.host("server").ipv4());
        let peer = net.id("b");
        let dialled = net.dial_with(
            "a",
            &["dial", "--json", &peer, "--coordinator", &elsewhere],
            b"",
        );
        assert_eq!(dialled.code(), 7, "{:#?}", dialled.stderr);
        net.finish();
    });
}

#[test]
fn wrong_usage_is_status_2_and_says_what_is_wrong() {
    test(|| {
        let net = Net::new(&[], &[]);
        let cases: [(&[&str], &str); 5] = [
            (&["dial", "too-short"], "peer id"),
            (&["dial", UNKNOWN, "--timeout", "soon"], "timeout"),
            (
                &["dial", UNKNOWN, "--coordinator", "nowhere"],
                "server id is missing",
            ),
            (&["listen"], "--allow"),
            (&["serve", "--listen", "nowhere"], "IP:PORT"),
        ];
        for (arguments, words) in cases {
            let finished = net.dial_with("a", arguments, b"");
            let said = finished.stderr.join("\n");
            assert_eq!(finished.code(), 2, "{arguments:?}: {said}");
            assert!(said.contains(words), "{arguments:?}: {said}");
        }
        net.finish();
    });
}

#[test]
fn a_short_timeout_is_kept() {
    test(|| {
        // Nothing tells that this cannot work, so the dial would go on.
        let refuses = [NatSpec {
            simultaneous_open: SimultaneousOpen::Dropped,
            ..NatSpec::port_preserving()
        }];
        let net = Net::on_model(&refuses, &refuses);
        let peer = net.id("b");
        let _listener = net.listen("b");
        let began = Instant::now();
        let dialled = net.dial_with("a", &["dial", "--json", &peer, "--timeout", "1s"], b"");
        assert_eq!(dialled.code(), 5, "{:#?}", dialled.stderr);
        assert!(
            began.elapsed() < Duration::from_secs(2),
            "{:?}",
            began.elapsed()
        );
        net.finish();
    });
}

#[test]
fn once_ends_with_the_stream_and_carries_both_ways() {
    test(|| {
        let net = Net::new(&NAT, &NAT);
        let (own, peer) = (net.id("a"), net.id("b"));
        let mut listener = net.listen_with("b", &["--once", "--allow", &own]);
        listener.give(b"from b to a");
        let dialled = net.dial("a", &peer, b"from a to b");
        assert_eq!(dialled.code(), 0, "{:#?}", dialled.stderr);
        assert_eq!(dialled.stdout, b"from b to a");
        let listened = listener.finish();
        assert_eq!(listened.code(), 0, "{:#?}", listened.stderr);
        assert_eq!(listened.stdout, b"from a to b");
        for finished in [&dialled, &listened] {
            for event in ["mapped", "introduced", "punching", "established", "closed"] {
                assert!(
                    finished.event(event).is_some(),
                    "{event}: {:#?}",
                    finished.stderr
                );
            }
        }
        net.finish();
    });
}

#[test]
fn ctrl_c_ends_cleanly() {
    test(|| {
        let net = Net::new(&NAT, &NAT);
        let peer = net.id("b");
        let listener = net.listen("b");
        let mut dial = Process::spawn(net.command("a", &["dial", "--json", &peer]));
        dial.wait_for("established");
        interrupt(&dial);
        assert_eq!(dial.finish().code(), 130);
        interrupt(&listener);
        assert_eq!(listener.finish().code(), 0);
        net.finish();
    });
}

#[test]
fn garbage_on_every_port_disturbs_nobody() {
    test(|| {
        let net = Net::new(&[], &[]);
        let peer = net.id("b");
        let mut listener = net.listen("b");
        let mapped = listener
            .heard
            .iter()
            .find(|line| line.contains("\"mapped\""))
            .unwrap();
        let mapped: serde_json::Value = serde_json::from_str(mapped).unwrap();
        let punch_port: SocketAddr = mapped["local"].as_str().unwrap().parse().unwrap();
        let server = IpAddr::from(net.lab.host("server").ipv4());
        let targets = [punch_port, (server, 3478).into(), (server, 4433).into()];
        let held = net
            .lab
            .host("a")
            .run(|| {
                let garbage = vec![0xA5; 20_000];
                let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
                socket.send_to(&garbage[..1200], targets[2]).unwrap();
                targets.map(|target| {
                    let mut stream = TcpStream::connect(target).unwrap();
                    // The other side may close before it has read everything.
                    drop(stream.write_all(&garbage));
                    stream
                })
            })
            .unwrap();
        net.dial_echo("a", &peer, "undisturbed");
        drop(held);
        listener.wait_for("closed");
        net.finish();
    });
}

/// Sends the signal of Ctrl-C.
fn interrupt(process: &Process) {
    let kill = format!("kill -INT {}", process.pid());
    let status = std::process::Command::new("sh")
        .args(["-c", &kill])
        .status()
        .unwrap();
    assert!(status.success());
}
