//! Hosts of virtual time.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

use netns_lab::{
    EventLog, Topology,
    virtual_time::{Failure, HostId, Ping, PongKind, SocketError, SocketId, SocketState, World},
};

use crate::ground::{Dial, Ground, IDENTIFIER, PATIENCE, Seen, Sock};

pub(crate) struct Virtual {
    world: World,
    sockets: Vec<Result<SocketId, Seen>>,
    listeners: BTreeMap<(String, u16), SocketId>,
}

impl Virtual {
    pub(crate) fn build(topology: &Topology) -> Self {
        Self {
            world: World::build(topology, 7).unwrap(),
            sockets: vec![],
            listeners: BTreeMap::new(),
        }
    }

    fn host(&self, name: &str) -> HostId {
        self.world.find_host(name).unwrap()
    }

    fn wait<T>(&mut self, mut look: impl FnMut(&mut World) -> Option<T>) -> Option<T> {
        let limit = self.world.now() + PATIENCE;
        let mut found = None;
        self.world.run_until(limit, |world| {
            found = look(world);
            found.is_some()
        });
        found
    }

    fn socket(&self, sock: Sock) -> SocketId {
        self.sockets[sock.0].clone().unwrap()
    }
}

fn meaning(failure: Failure) -> Seen {
    match failure {
        Failure::Refused => Seen::Refused,
        Failure::Reset => Seen::Reset,
        Failure::HostUnreachable => Seen::HostUnreachable,
        Failure::NetworkUnreachable => Seen::NetworkUnreachable,
        other => Seen::Other(other.to_string()),
    }
}

impl Ground for Virtual {
    fn local(&self, host: &str) -> Ipv4Addr {
        let addresses = self.world.addresses(self.host(host)).iter();
        let mut v4 = addresses.filter_map(|address| match address {
            IpAddr::V4(address) => Some(*address),
            IpAddr::V6(_) => None,
        });
        v4.next().unwrap()
    }

    fn listen(&mut self, host: &str, port: u16) {
        let listener = self.world.listen(self.host(host), port).unwrap();
        self.listeners.insert((host.into(), port), listener);
    }

    fn dial(&mut self, host: &str, port: u16, to: SocketAddr) -> Sock {
        let from = SocketAddr::from((self.local(host), port));
        let host = self.host(host);
        let socket = self.world.connect(host, from, to);
        self.sockets.push(socket.map_err(|error| match error {
            SocketError::AddressNotAvailable => Seen::AddressNotAvailable,
            other => Seen::Other(other.to_string()),
        }));
        Sock(self.sockets.len() - 1)
    }

    fn dial_together(&mut self, dials: [Dial<'_>; 2]) -> [Sock; 2] {
        // Calls take no time.
        dials.map(|(host, port, to)| self.dial(host, port, to))
    }

    fn settle(&mut self, sock: Sock) -> Seen {
        let socket = match &self.sockets[sock.0] {
            Ok(socket) => *socket,
            Err(failed) => return failed.clone(),
        };
        let state = self.wait(|world| match world.state(socket).unwrap() {
            SocketState::Connecting => None,
            state => Some(state),
        });
        match state {
            None => Seen::Silence,
            Some(SocketState::Failed(failure)) => meaning(failure),
            Some(_) => Seen::Connected,
        }
    }

    fn accept(&mut self, host: &str, port: u16) -> Option<(Sock, SocketAddr)> {
        let listener = self.listeners[&(host.to_owned(), port)];
        let accepted = self.wait(|world| world.accept(listener))?;
        self.sockets.push(Ok(accepted.socket));
        Some((Sock(self.sockets.len() - 1), accepted.remote))
    }

    fn send(&mut self, sock: Sock, text: &str) {
        // That a connection is gone shows when receiving.
        let _sent = self.world.send(self.socket(sock), text.as_bytes());
    }

    fn receive(&mut self, sock: Sock) -> Seen {
        let socket = self.socket(sock);
        let mut buffer = [0; 64];
        let result = self.wait(|world| world.recv(socket, &mut buffer).transpose());
        match result {
            None => Seen::Silence,
            Some(Ok(0)) => Seen::EndOfStream,
            Some(Ok(length)) => Seen::Bytes(String::from_utf8_lossy(&buffer[..length]).into()),
            Some(Err(SocketError::Failed(failure))) => meaning(failure),
            Some(Err(other)) => Seen::Other(other.to_string()),
        }
    }

    fn ping(&mut self, host: &str, to: Ipv4Addr, length: u16) -> Seen {
        let host = self.host(host);
        let ping = Ping {
            to: to.into(),
            identifier: IDENTIFIER,
            sequence: 1,
            length,
        };
        self.world.ping(host, ping).unwrap();
        let pong = self.wait(|world| world.take_pongs(host).pop());
        match pong.map(|pong| pong.kind) {
            None => Seen::Silence,
            Some(PongKind::Reply) => Seen::Echo,
            Some(PongKind::Error { kind, code }) => Seen::Told(kind, code),
        }
    }

    fn close(&mut self, sock: Sock) {
        if let Ok(socket) = self.sockets[sock.0] {
            self.world.close(socket).unwrap();
        }
    }

    fn abort(&mut self, sock: Sock) {
        self.world.abort(self.socket(sock)).unwrap();
    }

    fn flush(&mut self, name: &str) {
        let model = self.world.model(name).unwrap();
        model.with(|model| model.reboot(None)).unwrap();
    }

    fn finish(&mut self) -> EventLog {
        let limit = self.world.now() + PATIENCE / 4;
        self.world.run_until(limit, |_| false);
        self.world.log().clone()
    }
}
