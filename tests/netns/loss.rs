use netns_lab::{NatSpec, UnsolicitedSyn, test};

use crate::net::{Boxes, Net};

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
