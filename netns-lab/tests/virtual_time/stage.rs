//! Two hosts, and looking at them.

use std::{net::SocketAddr, time::Duration};

use netns_lab::{
    LinkSpec,
    virtual_time::{HostId, SocketId, SocketState, Uplink, World},
};

pub(crate) const MS: Duration = Duration::from_millis(1);
pub(crate) const SECOND: Duration = Duration::from_secs(1);

pub(crate) const A: &str = "203.0.113.1:4000";
pub(crate) const B: &str = "203.0.113.2:5000";

pub(crate) fn end(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

/// Two public hosts, 40 ms apart.
pub(crate) fn pair(link: LinkSpec) -> (World, HostId, HostId) {
    let mut world = World::new(1);
    let a = world
        .add_host("a", &[end(A).ip()], Uplink::core(link))
        .unwrap();
    let b = world
        .add_host("b", &[end(B).ip()], Uplink::core(link))
        .unwrap();
    (world, a, b)
}

pub(crate) fn near() -> LinkSpec {
    LinkSpec::delay(20 * MS)
}

pub(crate) fn is(world: &World, socket: SocketId, state: SocketState) -> bool {
    world.state(socket) == Ok(state)
}

pub(crate) fn wait(world: &mut World, socket: SocketId, state: SocketState) {
    let limit = world.now() + 200 * SECOND;
    assert!(
        world.run_until(limit, |world| is(world, socket, state)),
        "never {state:?}:\n{}",
        world.log()
    );
}

/// When a place recorded a line with this text in it, in milliseconds.
pub(crate) fn times(world: &World, place: &str, text: &str) -> Vec<u128> {
    let entries = world.log().entries().iter();
    entries
        .filter(|entry| entry.place() == place && entry.to_string().contains(text))
        .map(|entry| entry.at.as_millis())
        .collect()
}

/// Lets so much time pass.
pub(crate) fn pass(world: &mut World, time: Duration) {
    let until = world.now() + time;
    world.run_until(until, |_| false);
}
