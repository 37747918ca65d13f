//! Dials over links that lose packets.

use netns_lab::{Dependence, NatSpec, UnsolicitedSyn, test};
use p2pconnect_tests::net::{Boxes, Net};

/// What each access link loses: both together lose one packet in twenty.
const LOSS: f64 = 0.0253;

/// Dials so often that most steps of a dial lose a packet once.
const DIALS: usize = 20;

fn dials_in_spite_of_loss(boxes: Boxes<'_>) {
    let net = Net::with_loss(boxes, boxes, LOSS);
    let peer = net.id("b");
    let _listener = net.listen("b");
    for dial in 1..=DIALS {
        net.dial_echo("a", &peer, &format!("dial {dial}"));
    }
    net.finish();
}

#[test]
fn between_nats_that_drop() {
    test(|| dials_in_spite_of_loss(&[NatSpec::port_preserving()]));
}

#[test]
fn between_nats_that_reset() {
    let nat = NatSpec::port_preserving().answering(UnsolicitedSyn::Rst);
    test(move || dials_in_spite_of_loss(&[nat]));
}

#[test]
fn a_lost_packet_does_not_make_an_open_nat_a_strict_one() {
    test(|| {
        let open = NatSpec::port_preserving().filtering(Dependence::EndpointIndependent);
        let net = Net::new(&[], &[open]);
        // The server's first SYN, by which it tries what the NAT lets in. Each takes 60 bytes.
        let lose = "add table ip lost
            add chain ip lost out { type filter hook output priority 0; }
            add rule ip lost out tcp flags syn / syn,ack quota until 61 bytes counter drop";
        let server = net.lab.host("server");
        let status = server.command("nft").arg(lose).status().unwrap();
        assert!(status.success());
        let mut listener = net.listen("b");
        let found = listener.wait_for("nat-found");
        // Whether by no address at all takes another one of the server's to find out.
        assert_eq!(found["local_nat"]["filtering"], "address-dependent");
        let mut list = server.command("nft");
        let listed = list.args(["list", "table", "ip", "lost"]).output().unwrap();
        let lost = String::from_utf8(listed.stdout).unwrap();
        assert!(lost.contains("packets 1 "), "{lost}");
        net.finish();
    });
}
