//! Whatever programs do and whatever happens to their hosts, nothing panics, programs
//! hear of it, and the same calls have the same effects.

use std::{
    fmt::Debug,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use netns_lab::{
    LinkSpec,
    model::NatSpec,
    virtual_time::{HostId, SocketId, TcpOptions, Transmit, Uplink, World},
};
use proptest::prelude::*;

use crate::stage::{MS, SECOND};

/// Ports that all sockets use, so that they meet.
const PORTS: u16 = 2;

/// What can be done, with two numbers that choose to what.
#[derive(Debug, Clone, Copy)]
enum Call {
    Open(Open),
    On(On),
    Fault(Fault),
}

/// Makes a socket.
#[derive(Debug, Clone, Copy)]
enum Open {
    Connect,
    Listen,
    BindUdp,
}

/// Is done with a socket, of whatever kind.
#[derive(Debug, Clone, Copy)]
enum On {
    Accept,
    Send,
    Receive,
    Shutdown,
    Close,
    Abort,
    ConnectUdp,
    SendTo,
    ReceiveFrom,
    SetOptions,
    LeaveOut,
}

/// Happens to a host, or to all of the world.
#[derive(Debug, Clone, Copy)]
enum Fault {
    AddAddress,
    RemoveAddress,
    Crash,
    Reboot,
    Link,
    TimePasses,
}

fn any_call() -> impl Strategy<Value = Call> {
    let open = [Open::Connect, Open::Listen, Open::BindUdp];
    let on = [
        On::Accept,
        On::Send,
        On::Receive,
        On::Shutdown,
        On::Close,
        On::Abort,
        On::ConnectUdp,
        On::SendTo,
        On::ReceiveFrom,
        On::SetOptions,
        On::LeaveOut,
    ];
    let fault = [
        Fault::AddAddress,
        Fault::RemoveAddress,
        Fault::Crash,
        Fault::Reboot,
        Fault::Link,
    ];
    prop_oneof![
        4 => prop::sample::select(open.to_vec()).prop_map(Call::Open),
        6 => prop::sample::select(on.to_vec()).prop_map(Call::On),
        1 => prop::sample::select(fault.to_vec()).prop_map(Call::Fault),
        4 => Just(Call::Fault(Fault::TimePasses)),
    ]
}

/// A world whose programs choose at random.
struct Chaos {
    world: World,
    hosts: Vec<HostId>,
    sockets: Vec<SocketId>,
    changed: Vec<SocketId>,
    /// What a call may name: addresses of hosts, boxes and nobody.
    addresses: Vec<IpAddr>,
}

impl Chaos {
    fn new(seed: u64) -> Self {
        let mut world = World::new(seed);
        let link = LinkSpec::delay(7 * MS)
            .jitter(5 * MS)
            .reordering()
            .loss(0.1)
            .duplicating(0.1);
        let core = Uplink::core(link);
        let texts = [
            "192.168.1.2",
            "203.0.113.2",
            "203.0.113.9",
            "203.0.113.1",
            "2001:db8::2",
            "2001:db8::3",
            "203.0.113.77",
        ];
        let addresses: Vec<IpAddr> = texts.map(|text| text.parse().unwrap()).into();
        let spec = NatSpec::port_preserving();
        let nat = world.add_nat("nat", spec, &addresses[3..4], core).unwrap();
        let own = [
            ("a", vec![addresses[0]], Uplink::behind(nat)),
            ("b", vec![addresses[1], addresses[4]], core),
            ("c", vec![addresses[2], addresses[5]], core),
        ];
        let hosts = own.map(|(name, own, uplink)| world.add_host(name, &own, uplink).unwrap());
        Self {
            world,
            hosts: hosts.into(),
            sockets: Vec::new(),
            changed: Vec::new(),
            addresses,
        }
    }

    fn end(&self, number: usize) -> SocketAddr {
        let address = self.addresses[number % self.addresses.len()];
        let port = 5000 + (number / self.addresses.len()) as u16 % PORTS;
        SocketAddr::new(address, port)
    }

    /// Makes a call. Many cannot be made on what they are made on; then nothing happens.
    fn call(&mut self, call: Call, first: usize, second: usize) {
        let host = self.hosts[first % self.hosts.len()];
        match call {
            Call::Open(what) => self.open(what, host, first, second),
            Call::On(what) => {
                let count = self.sockets.len().max(1);
                if let Some(socket) = self.sockets.get(first % count).copied() {
                    self.call_on(what, socket, second);
                }
            }
            Call::Fault(what) => self.happen(what, host, second),
        }
        self.changed.extend(self.world.take_changed());
    }

    fn open(&mut self, what: Open, host: HostId, first: usize, second: usize) {
        let (local, remote) = (self.end(first), self.end(second));
        let local: SocketAddr = if second.is_multiple_of(4) {
            local
        } else {
            ([0; 4], local.port()).into()
        };
        let opened = match what {
            Open::Connect => self.world.connect(host, local, remote),
            Open::Listen => self.world.listen_on(host, local, second % 3),
            Open::BindUdp => self.world.bind_udp(host, local),
        };
        self.sockets.extend(opened);
    }

    fn call_on(&mut self, what: On, socket: SocketId, number: usize) {
        let remote = self.end(number);
        let world = &mut self.world;
        let data = vec![number as u8; number * 40];
        let transmit = Transmit {
            destination: remote,
            source: number.is_multiple_of(5).then(|| remote.ip()),
            ecn: number as u8,
            payload: &data,
        };
        // Whether a call can be made makes no difference here.
        let _done = match what {
            On::Accept => {
                self.sockets
                    .extend(world.accept(socket).map(|it| it.socket));
                true
            }
            On::Send => world.send(socket, &data).is_ok(),
            On::Receive => world.recv(socket, &mut vec![0; number]).is_ok(),
            On::Shutdown => world.shutdown(socket).is_ok(),
            On::Close => world.close(socket).is_ok(),
            On::Abort => world.abort(socket).is_ok(),
            On::ConnectUdp => world.connect_udp(socket, remote).is_ok(),
            On::SendTo => world.send_to(socket, &transmit).is_ok(),
            On::ReceiveFrom => world.recv_from(socket).is_ok(),
            On::SetOptions => world.set_options(socket, TcpOptions::default()).is_ok(),
            On::LeaveOut => world.leave_out(socket, [remote].into()).is_ok(),
        };
    }

    fn happen(&mut self, what: Fault, host: HostId, number: usize) {
        let address = self.end(number).ip();
        let world = &mut self.world;
        let _done = match what {
            Fault::AddAddress => world.add_address(host, address).is_ok(),
            Fault::RemoveAddress => world.remove_address(host, address).is_ok(),
            Fault::Crash => world.crash(host).is_ok(),
            Fault::Reboot => world.reboot("nat", Some(&[address])).is_ok(),
            Fault::Link => world.set_link_up("b", number.is_multiple_of(2)),
            Fault::TimePasses => {
                let unit = if number.is_multiple_of(6) {
                    2 * SECOND
                } else {
                    10 * MS
                };
                self.pass(unit * number as u32);
                true
            }
        };
    }

    /// Lets time pass, in which no socket becomes another one unnoticed.
    fn pass(&mut self, time: Duration) {
        let before: Vec<_> = self.sockets.iter().map(|it| self.look(*it)).collect();
        let until = self.world.now() + time;
        self.world.run_until(until, |_| false);
        let changed = self.world.take_changed();
        for (socket, before) in self.sockets.iter().zip(before) {
            let after = self.look(*socket);
            let is_told = before == after || changed.contains(socket);
            assert!(is_told, "{socket:?}: {before:?}, then {after:?}");
        }
        self.changed.extend(changed);
    }

    /// What a program sees of a connection without doing anything.
    fn look(&self, socket: SocketId) -> impl Debug + PartialEq + use<> {
        (
            self.world.state(socket),
            self.world.peek(socket, &mut [0; 4096]),
            self.world.info(socket).map(|info| info.outstanding),
        )
    }
}

fn play(seed: u64, calls: &[(Call, usize, usize)]) -> (String, Vec<SocketId>) {
    let mut chaos = Chaos::new(seed);
    for (call, first, second) in calls {
        chaos.call(*call, *first, *second);
    }
    for socket in std::mem::take(&mut chaos.sockets) {
        // Some are closed already.
        let _done = chaos.world.close(socket).is_ok();
    }
    chaos.world.run_until(3000 * SECOND, |_| false);
    assert_eq!(chaos.world.next_event(), None, "somebody never ends");
    (chaos.world.log().to_string(), chaos.changed)
}

proptest! {
    #[test]
    fn random_calls_never_panic_and_have_the_same_effects(
        seed in 0u64..1000,
        calls in prop::collection::vec(
            (any_call(), 0usize..60, 0usize..60),
            0..300,
        ),
    ) {
        let (first, second) = (play(seed, &calls), play(seed, &calls));
        prop_assert_eq!(first, second);
    }
}
