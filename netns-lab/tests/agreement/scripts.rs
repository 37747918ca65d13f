//! What hosts do; each script says what it shows.

use std::net::{Ipv4Addr, SocketAddr};

use netns_lab::{BoxSpec, Gate, HostSpec, LinkSpec, NatSpec, Topology};
use netns_lab_rig::packets::ends;

use crate::ground::{Ground, IDENTIFIER, Seen, Sight, Sock};

/// A sequence of calls in a network around a box.
#[derive(Clone, Copy)]
pub(crate) struct Script {
    pub(crate) name: &'static str,
    /// The network, with the box in it.
    pub(crate) topology: fn(NatSpec) -> Topology,
    pub(crate) run: fn(&mut dyn Ground, &mut Sight),
}

/// The port that `a` and `b` dial from.
const PORT: u16 = 5000;

const S: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const T: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
const A: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 3);

pub(crate) const ALL: &[Script] = &[
    Script {
        name: "destinations",
        topology: two_boxes,
        run: destinations,
    },
    Script {
        name: "strangers",
        topology: two_boxes,
        run: strangers,
    },
    Script {
        name: "unsolicited",
        topology: two_boxes,
        run: unsolicited,
    },
    Script {
        name: "crossing",
        topology: crossing_gates,
        run: both_dial,
    },
    Script {
        name: "a first",
        topology: a_first_gate,
        run: both_dial,
    },
    Script {
        name: "a first, answered",
        topology: a_first_answered_gate,
        run: both_dial,
    },
    Script {
        name: "refused, then redialled",
        topology: two_boxes,
        run: redial,
    },
    Script {
        name: "closed, then redialled",
        topology: two_boxes,
        run: close_and_redial,
    },
    Script {
        name: "end of both",
        topology: two_boxes,
        run: end_of_both,
    },
    Script {
        name: "reset from inside",
        topology: two_boxes,
        run: |g, s| reset(g, s, true),
    },
    Script {
        name: "reset from outside",
        topology: two_boxes,
        run: |g, s| reset(g, s, false),
    },
    Script {
        name: "reboot, inside speaks",
        topology: two_boxes,
        run: |g, s| reboot(g, s, true),
    },
    Script {
        name: "reboot, outside speaks",
        topology: two_boxes,
        run: |g, s| reboot(g, s, false),
    },
    Script {
        name: "echo",
        topology: small_link,
        run: echo,
    },
    Script {
        name: "hairpin",
        topology: shared_box,
        run: hairpin,
    },
    Script {
        name: "same port",
        topology: shared_box,
        run: same_port,
    },
];

fn link() -> LinkSpec {
    LinkSpec::delay(std::time::Duration::from_millis(50))
}

fn two_boxes(nat: NatSpec) -> Topology {
    let behind = |name| HostSpec::new(name).behind(nat).link(link());
    Topology::new()
        .host(HostSpec::new("s"))
        .host(HostSpec::new("t"))
        .host(behind("a"))
        .host(behind("b"))
}

fn gated(nat: NatSpec, gates: &[(&str, &str)]) -> Topology {
    gates
        .iter()
        .fold(two_boxes(nat), |topology, (hold, until)| {
            topology.gate(Gate::new(hold.parse().unwrap(), until.parse().unwrap()))
        })
}

fn crossing_gates(nat: NatSpec) -> Topology {
    gated(
        nat,
        &[
            ("syn from a to b", "syn from b to a"),
            ("syn from b to a", "syn from a to b"),
        ],
    )
}

/// The SYN from `a` is at the other box before `b` sends its own, whose way is open then.
fn a_first_gate(nat: NatSpec) -> Topology {
    gated(nat, &[("syn from b to a", "syn from a to b at b.nat")])
}

/// Even the answer, if there is one, is back first.
fn a_first_answered_gate(nat: NatSpec) -> Topology {
    let hold = "syn from b to a".parse().unwrap();
    let until = "any from b to a at a".parse().unwrap();
    let limit = std::time::Duration::from_millis(300);
    two_boxes(nat).gate(Gate::new(hold, until).limit(limit))
}

/// The link to `t` tells that it carries no more than 1,000 bytes.
fn small_link(nat: NatSpec) -> Topology {
    Topology::new()
        .host(HostSpec::new("s"))
        .host(HostSpec::new("t").link(link().mtu(1000)))
        .host(HostSpec::new("a").behind(nat).link(link()))
        .host(HostSpec::new("b").behind(nat).link(link()))
}

fn shared_box(nat: NatSpec) -> Topology {
    let behind = |name| HostSpec::new(name).behind_shared("box").link(link());
    Topology::new()
        .shared_box(BoxSpec::new("box", nat).link(link()))
        .host(HostSpec::new("s"))
        .host(HostSpec::new("t"))
        .host(behind("a"))
        .host(behind("b"))
}

/// What can be predicted of an external endpoint.
fn class(seen: SocketAddr, port: u16) -> String {
    let port = match seen.port() {
        same if same == port => "kept",
        _ => "another",
    };
    format!("{} {port}", seen.ip())
}

/// Connects to a server that listens, and sends a word each way.
fn meet(
    ground: &mut dyn Ground,
    sight: &mut Sight,
    host: &str,
    port: u16,
    server: &str,
    to: SocketAddr,
) -> Option<(Sock, Sock, SocketAddr)> {
    let what = format!("{host}:{port} to {to}");
    let client = ground.dial(host, port, to);
    let result = ground.settle(client);
    sight.note(&what, &result);
    if result != Seen::Connected {
        ground.close(client);
        return None;
    }
    let (socket, seen) = ground.accept(server, to.port())?;
    sight.note(&format!("{what} seen as"), class(seen, port));
    ground.send(client, "there");
    sight.note(&what, ground.receive(socket));
    ground.send(socket, "back");
    sight.note(&what, ground.receive(client));
    Some((client, socket, seen))
}

/// Three destinations for one port, and one for another (mapping, port assignment, table limit).
fn destinations(ground: &mut dyn Ground, sight: &mut Sight) {
    for (server, port) in [("s", 1), ("s", 2), ("t", 1)] {
        ground.listen(server, port);
    }
    let mut ends = vec![];
    for (port, server, to) in [
        (PORT, "s", (S, 1)),
        (PORT, "s", (S, 2)),
        (PORT, "t", (T, 1)),
        (PORT + 1, "s", (S, 1)),
    ] {
        let met = meet(ground, sight, "a", port, server, to.into());
        ends.push(met.map(|(_, _, seen)| seen));
    }
    for (one, other) in [(0, 1), (0, 2), (1, 2), (0, 3)] {
        sight.note(&format!("{one} like {other}"), ends[one] == ends[other]);
    }
}

/// Others send to a mapped endpoint where somebody listens (filtering).
fn strangers(ground: &mut dyn Ground, sight: &mut Sight) {
    ground.listen("s", 1);
    ground.listen("a", PORT);
    let Some((.., mapped)) = meet(ground, sight, "a", PORT, "s", (S, 1).into()) else {
        return;
    };
    for (stranger, port) in [("s", 2), ("t", 1)] {
        let dialled = ground.dial(stranger, port, mapped);
        let result = ground.settle(dialled);
        sight.note(stranger, &result);
        if result == Seen::Connected {
            let (accepted, seen) = ground.accept("a", PORT).unwrap();
            sight.note("seen as", seen);
            ground.send(accepted, "welcome");
            sight.note(stranger, ground.receive(dialled));
        }
    }
}

/// A SYN to a port that nobody has used (the answer).
fn unsolicited(ground: &mut dyn Ground, sight: &mut Sight) {
    let to = SocketAddr::from((A, 7000));
    let dialled = ground.dial("t", 1, to);
    sight.note("t", ground.settle(dialled));
    ground.close(dialled);
    let again = ground.dial("t", 1, to);
    sight.note("t again", ground.settle(again));
}

/// Learns the external endpoints of `a` and `b`.
fn learn(ground: &mut dyn Ground, sight: &mut Sight) -> Option<[SocketAddr; 2]> {
    ground.listen("s", 1);
    let (.., a) = meet(ground, sight, "a", PORT, "s", (S, 1).into())?;
    let (.., b) = meet(ground, sight, "b", PORT, "s", (S, 1).into())?;
    Some([a, b])
}

/// Both dial the other's endpoint, as the gates order it.
fn both_dial(ground: &mut dyn Ground, sight: &mut Sight) {
    let Some([a, b]) = learn(ground, sight) else {
        return;
    };
    dial_both(ground, sight, a, b);
}

fn dial_both(ground: &mut dyn Ground, sight: &mut Sight, a: SocketAddr, b: SocketAddr) {
    let [from_a, from_b] = ground.dial_together([("a", PORT, b), ("b", PORT, a)]);
    let results = [ground.settle(from_a), ground.settle(from_b)];
    sight.note("both", &results);
    if results == [Seen::Connected, Seen::Connected] {
        ground.send(from_a, "direct");
        sight.note("b", ground.receive(from_b));
    }
}

/// `a` fails, and then both try.
fn redial(ground: &mut dyn Ground, sight: &mut Sight) {
    let Some([a, b]) = learn(ground, sight) else {
        return;
    };
    let early = ground.dial("a", PORT, b);
    sight.note("a alone", ground.settle(early));
    ground.close(early);
    dial_both(ground, sight, a, b);
}

/// `a` gives its attempt up before the SYN from `b` comes, and then dials anew.
fn close_and_redial(ground: &mut dyn Ground, sight: &mut Sight) {
    let Some([a, b]) = learn(ground, sight) else {
        return;
    };
    let early = ground.dial("a", PORT, b);
    sight.note("a alone", ground.settle(early));
    ground.close(early);
    let late = ground.dial("b", PORT, a);
    sight.note("b alone", ground.settle(late));
    let again = ground.dial("a", PORT, b);
    sight.note("a again", ground.settle(again));
    sight.note("b at last", ground.settle(late));
}

/// Both ends close in order; the ports are free for another connection.
fn end_of_both(ground: &mut dyn Ground, sight: &mut Sight) {
    ground.listen("s", 1);
    let to = SocketAddr::from((S, 1));
    let Some((client, server, seen)) = meet(ground, sight, "a", PORT, "s", to) else {
        return;
    };
    ground.close(client);
    sight.note("s", ground.receive(server));
    // Nobody is there to read it any more.
    ground.send(server, "late");
    sight.note("s", ground.receive(server));
    let next = meet(ground, sight, "a", PORT + 1, "s", to);
    sight.note("like the first", next.map(|(_, _, next)| next == seen));
}

/// One end resets; the other hears of it, and what comes later is answered.
fn reset(ground: &mut dyn Ground, sight: &mut Sight, inside: bool) {
    ground.listen("s", 1);
    let to = SocketAddr::from((S, 1));
    let Some((client, server, seen)) = meet(ground, sight, "a", PORT, "s", to) else {
        return;
    };
    // No acknowledgement must come behind the reset.
    ground.finish();
    let (resets, other) = if inside {
        (client, server)
    } else {
        (server, client)
    };
    ground.abort(resets);
    sight.note("the other", ground.receive(other));
    ground.close(other);
    // The mapping may be gone: the server tries it, and the host dials anew.
    let back = ground.dial("s", 1, seen);
    sight.note("back", ground.settle(back));
    ground.close(back);
    let next = meet(ground, sight, "a", PORT, "s", to);
    sight.note("a again", next.map(|(_, _, seen)| class(seen, PORT)));
}

/// The box forgets everything while a connection is up.
fn reboot(ground: &mut dyn Ground, sight: &mut Sight, inside: bool) {
    ground.listen("s", 1);
    let to = SocketAddr::from((S, 1));
    let Some((client, server, _)) = meet(ground, sight, "a", PORT, "s", to) else {
        return;
    };
    // No acknowledgement must come behind the reboot.
    ground.finish();
    ground.flush("a.nat");
    let (first, second) = if inside {
        (client, server)
    } else {
        (server, client)
    };
    ground.send(first, "still there?");
    sight.note("second", ground.receive(second));
    ground.send(second, "yes");
    sight.note("first", ground.receive(first));
}

/// Neighbours behind one box dial each other's external endpoint.
fn hairpin(ground: &mut dyn Ground, sight: &mut Sight) {
    ground.listen("s", 1);
    ground.listen("b", PORT);
    let Some((.., b)) = meet(ground, sight, "b", PORT, "s", (S, 1).into()) else {
        return;
    };
    let dialled = ground.dial("a", PORT + 1, b);
    let result = ground.settle(dialled);
    sight.note("a to b", &result);
    if result == Seen::Connected {
        let (accepted, seen) = ground.accept("b", PORT).unwrap();
        sight.note("seen as", class(seen, PORT + 1));
        ground.send(accepted, "neighbour");
        sight.note("a", ground.receive(dialled));
    }
}

/// Who is asked answers, unless a box is in front; and routers tell what is wrong.
fn echo(ground: &mut dyn Ground, sight: &mut Sight) {
    for (host, to, length) in [
        ("a", S, 56),
        ("a", S, 0),
        ("b", S, 56),
        ("a", T, 56),
        ("a", T, 1200),
        ("s", A, 56),
    ] {
        let seen = ground.ping(host, to, length);
        sight.note(&format!("{host} to {to}, {length} bytes"), seen);
    }
    ground.flush("a.nat");
    sight.note("a once more", ground.ping("a", S, 56));
    let log = ground.finish();
    let asked = log
        .entries()
        .iter()
        .filter(|entry| &*entry.to == "s" && entry.place() == "s");
    let kept = asked.map(|entry| ends(&entry.packet).1.port() == IDENTIFIER);
    sight.note("identifiers kept", kept.collect::<Vec<_>>());
}

/// Two hosts behind one box use the same port to the same server.
fn same_port(ground: &mut dyn Ground, sight: &mut Sight) {
    ground.listen("s", 1);
    ground.listen("t", 1);
    let ends = [("a", "s", S), ("b", "s", S), ("b", "t", T), ("a", "t", T)].map(
        |(host, server, address)| {
            let met = meet(ground, sight, host, PORT, server, (address, 1).into());
            met.map(|(_, _, seen)| seen)
        },
    );
    for (one, other) in [(0, 1), (1, 2), (0, 3), (2, 3)] {
        sight.note(&format!("{one} like {other}"), ends[one] == ends[other]);
    }
}
