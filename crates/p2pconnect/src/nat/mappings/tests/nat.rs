//! A NAT in front of STUN servers, on this machine.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use p2pconnect_host::{Host, Sharing, TcpListener, TcpSocket, TcpStream};
use tokio::{io::copy_bidirectional, task::JoinSet};

use super::any_port;

/// Gives each address inside one outside, whomever it connects to, unless told otherwise.
#[derive(Default)]
pub(super) struct Nat {
    state: Arc<Mutex<State>>,
    ways: Mutex<JoinSet<()>>,
}

#[derive(Default)]
struct State {
    /// By the address inside, and the way where that counts. The sockets keep the ports.
    mappings: BTreeMap<(SocketAddr, usize), TcpSocket>,
    /// The only address that has the same one for all ways, if others have not.
    same_for: Option<SocketAddr>,
    /// Kept so that nothing gets the same port again.
    former: Vec<TcpSocket>,
    connections: JoinSet<()>,
}

impl Nat {
    /// Returns an address at which the NAT takes connections to `server`.
    pub(super) fn lead_to(&self, server: SocketAddr) -> SocketAddr {
        let listener = Host::default().shared_listener(any_port(), 16).unwrap();
        let address = listener.local_addr().unwrap();
        let mut ways = self.ways.lock().unwrap();
        let way = translate(Arc::clone(&self.state), listener, server, ways.len());
        ways.spawn(way);
        address
    }

    /// From now on gives each address inside another one outside for each further way, but for one,
    /// by chance.
    pub(super) fn keep_by_chance(&self, inside: SocketAddr) {
        self.state.lock().unwrap().same_for = Some(inside);
    }

    /// Forgets all mappings, and with them the connections.
    pub(super) fn begin_anew(&self) {
        let mut state = self.state.lock().unwrap();
        let former = std::mem::take(&mut state.mappings);
        state.former.extend(former.into_values());
        state.connections.abort_all();
    }
}

async fn translate(
    state: Arc<Mutex<State>>,
    listener: TcpListener,
    server: SocketAddr,
    way: usize,
) {
    loop {
        let (inside, from) = listener.accept().await.unwrap();
        let mut state = state.lock().unwrap();
        let unused = || shared_socket(any_port());
        let is_same = state.same_for.is_none_or(|same| same == from);
        let way = if is_same { 0 } else { way };
        let mapping = state.mappings.entry((from, way)).or_insert_with(unused);
        let mapped = mapping.local_addr().unwrap();
        state.connections.spawn(carry(inside, mapped, server));
    }
}

async fn carry(mut inside: TcpStream, mapped: SocketAddr, server: SocketAddr) {
    inside.reset_on_close().unwrap();
    let socket = shared_socket(mapped);
    let mut outside = socket.connect(server).await.unwrap();
    // That either side ends it is no failure.
    drop(copy_bidirectional(&mut inside, &mut outside).await);
}

fn shared_socket(local: SocketAddr) -> TcpSocket {
    Host::default().tcp_socket(local, Sharing::Shared).unwrap()
}
