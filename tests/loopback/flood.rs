//! Forged connection attempts by the thousand.

use std::net::Ipv4Addr;

use p2pconnect_tests::forger::{DATAGRAM, Forger};
use tokio::net::UdpSocket;

use crate::world::World;

#[tokio::test]
async fn forged_attempts_take_little_and_leave_room_for_honest_clients() {
    const FORGED: usize = 2_000;

    let world = World::start();
    let mut forger = Forger::new();
    for n in 0..FORGED {
        // Sixteen from each address, as many addresses as it takes.
        let [_, high, low] =
            [0, n / 16 / 250, 1 + n / 16 % 250].map(|it| u8::try_from(it).unwrap());
        let source = UdpSocket::bind((Ipv4Addr::new(127, 9, high, low), 0)).await;
        let source = source.unwrap();
        let datagram = forger.datagram();
        let sent = source
            .send_to(&datagram, world.coordinator.local_addr())
            .await;
        assert_eq!(sent.unwrap(), DATAGRAM);
        // Some are lost if the server gets no turn.
        tokio::task::yield_now().await;
    }
    let _honest = world.listener().await;
    let kept = world.coordinator.connections();
    assert!(kept > 10, "the forged attempts are none: {kept}");
    assert!(kept < FORGED / 2, "{kept} of {FORGED} attempts are kept");
}
