//! A path of one client to the server on which datagrams take their time, and may be lost.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{net::UdpSocket, sync::mpsc, task::JoinSet, time::sleep_until};

use crate::IPV4;

/// More datagrams than a client ever has under way; further ones wait in the sockets.
const UNDER_WAY: usize = 1024;

/// Of so many datagrams, one is lost on a path that loses some.
const ONE_OF: u64 = 5;

pub(crate) struct Path {
    pub(crate) entrance: SocketAddr,
    loses: Arc<AtomicBool>,
    _tasks: JoinSet<()>,
}

impl Path {
    /// Opens a path to the server with this round trip.
    pub(crate) async fn to(server: SocketAddr, round_trip: Duration) -> Self {
        let near = Arc::new(UdpSocket::bind(IPV4).await.unwrap());
        let far = Arc::new(UdpSocket::bind(IPV4).await.unwrap());
        far.connect(server).await.unwrap();
        let entrance = near.local_addr().unwrap();
        let loses = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        let (to_server, from_client) = mpsc::channel(UNDER_WAY);
        let (to_client, from_server) = mpsc::channel(UNDER_WAY);
        tasks.spawn(receive(Arc::clone(&near), round_trip / 2, to_server));
        tasks.spawn(receive(Arc::clone(&far), round_trip / 2, to_client));
        tasks.spawn(deliver(from_client, far, Arc::clone(&loses), 1));
        tasks.spawn(deliver(from_server, near, Arc::clone(&loses), 2));
        Self {
            entrance,
            loses,
            _tasks: tasks,
        }
    }

    /// Lets a fifth of the datagrams be lost each way from now on.
    pub(crate) fn lose(&self) {
        self.loses.store(true, Ordering::Relaxed);
    }
}

type Due = (Instant, Vec<u8>);

async fn receive(socket: Arc<UdpSocket>, takes: Duration, under_way: mpsc::Sender<Due>) {
    let mut buffer = vec![0; 65_536];
    while let Ok((len, sender)) = socket.recv_from(&mut buffer).await {
        // The client's address is known from its first datagram on.
        socket.connect(sender).await.unwrap();
        let datagram = (Instant::now() + takes, buffer[..len].to_vec());
        if under_way.send(datagram).await.is_err() {
            return;
        }
    }
}

async fn deliver(
    mut under_way: mpsc::Receiver<Due>,
    socket: Arc<UdpSocket>,
    loses: Arc<AtomicBool>,
    mut random: u64,
) {
    while let Some((due, datagram)) = under_way.recv().await {
        sleep_until(due.into()).await;
        // SplitMix64, so that what is lost is the same in each run, as far as the clock lets it.
        random = random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = random;
        for (shift, factor) in [(30, 0xBF58_476D_1CE4_E5B9), (27, 0x94D0_49BB_1331_11EB)] {
            mixed = (mixed ^ (mixed >> shift)).wrapping_mul(factor);
        }
        let is_lost =
            loses.load(Ordering::Relaxed) && (mixed ^ (mixed >> 31)).is_multiple_of(ONE_OF);
        if !is_lost {
            // QUIC repeats what cannot be sent.
            drop(socket.send(&datagram).await);
        }
    }
}
