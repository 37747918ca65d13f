//! The NAT model between hosts in virtual time.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use netns_lab::LinkSpec;
use netns_lab::model::{NatModel, NatSpec};
use netns_lab::virtual_time::{HostId, Opening, Uplink, World};

const MS: Duration = Duration::from_millis(1);

fn end(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Adds a host with the same private address as the other, behind a NAT.
fn home(world: &mut World, name: &str, external: IpAddr, seed: u64) -> HostId {
    let nat = NatModel::new(NatSpec::rfc5382(), vec![external], seed).unwrap();
    let core = Uplink::core(LinkSpec::delay(20 * MS));
    let nat = world
        .add_middlebox(
            &format!("nat of {name}"),
            Box::new(nat),
            &[external.into()],
            core,
        )
        .unwrap();
    let inside = [end("192.168.1.2:1").ip()];
    world.add_host(name, &inside, Uplink::behind(nat)).unwrap()
}

#[test]
fn two_homes_punch_through_and_no_private_address_leaves() {
    let mut world = World::new(1);
    let (outside_a, outside_b) = (end("203.0.113.1:4000"), end("203.0.113.2:5000"));
    let a = home(&mut world, "a", outside_a.ip(), 1);
    let b = home(&mut world, "b", outside_b.ip(), 2);
    let from_a = world
        .connect(a, end("192.168.1.2:4000"), outside_b)
        .unwrap();
    let from_b = world
        .connect(b, end("192.168.1.2:5000"), outside_a)
        .unwrap();
    world.run_until(500 * MS, |_| false);
    let opened = Ok(Some((Opening::Simultaneous, 80 * MS)));
    assert_eq!(world.opened(from_a), opened, "{}", world.log());
    assert_eq!(world.opened(from_b), opened, "{}", world.log());
    assert!(!world.log().to_string().contains("private source"));
}
