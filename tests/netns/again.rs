use netns_lab::{NatSpec, UnsolicitedSyn, test};
use p2pconnect::{Endpoint, PeerId};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::net::{Boxes, Net};

/// Dials the same peer from one endpoint, again and again, each time after the stream has ended.
fn redials(boxes: Boxes<'_>) {
    let net = Net::new(boxes, boxes);
    let (coordinator, peer): (_, PeerId) = (
        net.coordinator.parse().unwrap(),
        net.id("b").parse().unwrap(),
    );
    let _listener = net.listen("b");
    let dial_again = move || async move {
        let endpoint = Endpoint::builder()
            .coordinator(coordinator)
            .bind()
            .await
            .unwrap();
        for _ in 0..5 {
            let mut connection = endpoint.dial(peer).await.unwrap();
            connection.write_all(b"again").await.unwrap();
            connection.shutdown().await.unwrap();
            let mut answer = String::new();
            connection.read_to_string(&mut answer).await.unwrap();
            assert_eq!(answer, "again");
        }
    };
    net.lab
        .host("a")
        .run(move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            runtime.enable_all().build().unwrap().block_on(dial_again());
        })
        .unwrap();
    net.finish();
}

#[test]
fn through_nats_that_drop() {
    test(|| redials(&[NatSpec::port_preserving()]));
}

#[test]
fn through_nats_that_reset() {
    test(|| redials(&[NatSpec::port_preserving().answering(UnsolicitedSyn::Rst)]));
}
