//! Peers behind NATs that dial each other at the same moment.

use netns_lab::{NatSpec, UnsolicitedSyn, test};
use p2pconnect::{CoordinatorAddr, DialPolicy, Endpoint, PeerId, SecretKey};
use p2pconnect_tests::{
    net::{Boxes, Net},
    settled::block_on,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::Barrier,
    time::timeout,
};

/// How many connections the same two endpoints make, which all live to the end.
const TIMES: usize = 3;

struct Side {
    key: SecretKey,
    peer: PeerId,
    coordinator: CoordinatorAddr,
}

impl Side {
    /// Dials the peer whenever the peer dials too, and says over each connection who it is.
    async fn dial(self, together: &Barrier) {
        let endpoint = Endpoint::builder()
            .secret_key(self.key)
            .coordinator(self.coordinator)
            .allow(DialPolicy::Only(vec![self.peer]))
            .bind()
            .await
            .unwrap();
        let mut streams = Vec::new();
        for _ in 0..TIMES {
            together.wait().await;
            streams.push(endpoint.dial(self.peer).await.unwrap());
        }
        together.wait().await;
        let accepted = timeout(std::time::Duration::ZERO, endpoint.accept()).await;
        assert!(accepted.is_err(), "{accepted:?} comes on top");
        let metrics = endpoint.metrics();
        assert_eq!(metrics.established, TIMES as u64);
        assert_eq!(metrics.failed, 0);
        for stream in &mut streams {
            stream
                .write_all(endpoint.peer_id().to_string().as_bytes())
                .await
                .unwrap();
            stream.shutdown().await.unwrap();
            let mut heard = String::new();
            stream.read_to_string(&mut heard).await.unwrap();
            assert_eq!(heard, self.peer.to_string());
        }
    }
}

/// Has two peers dial each other at the same moment.
fn dial_each_other(boxes: Boxes<'_>) {
    let net = Net::new(boxes, boxes);
    let keys = [(); 2].map(|()| SecretKey::generate().unwrap());
    let [id_a, id_b] = [keys[0].peer_id(), keys[1].peer_id()];
    let coordinator: CoordinatorAddr = net.coordinator.parse().unwrap();
    let together = Barrier::new(2);
    std::thread::scope(|scope| {
        for ((host, peer), key) in [("a", id_b), ("b", id_a)].into_iter().zip(keys) {
            let side = Side {
                key,
                peer,
                coordinator: coordinator.clone(),
            };
            let (host, together) = (net.lab.host(host), &together);
            scope.spawn(move || {
                host.run(move || block_on(side.dial(together))).unwrap();
            });
        }
    });
    net.finish();
}

#[test]
fn through_nats_that_drop() {
    test(|| dial_each_other(&[NatSpec::port_preserving()]));
}

#[test]
fn through_nats_that_reset() {
    test(|| dial_each_other(&[NatSpec::port_preserving().answering(UnsolicitedSyn::Rst)]));
}
