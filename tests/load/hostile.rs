//! Peers that do their worst beside the others, from networks of their own.

use std::{net::SocketAddr, time::Duration};

use p2pconnect_identity::SecretKey;
use p2pconnect_proto::{
    PeerId, codec,
    message::{DialPolicy, DialRequest, Registration, Request, Response},
};
use quinn::{Connection, Endpoint};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use crate::{
    crowd::{Route, ask_on},
    process::Server,
};

/// From how many addresses they come.
const SOCKETS: u8 = 8;

/// How long whoever is sent away waits before it comes again.
const PAUSE: Duration = Duration::from_millis(50);

/// How long one stays that does nothing but take room.
const STAY: Duration = Duration::from_secs(10);

/// How many requests one has under way at a time.
const AT_ONCE: usize = 7;

/// Lets so many do their worst until what is returned is dropped.
pub(crate) fn attack(server: &Server, number: usize) -> JoinSet<()> {
    let any = |n| SocketAddr::from(([127, 0, 2, n], 0));
    let endpoints = (1..=SOCKETS).map(|n| Endpoint::client(any(n)).unwrap());
    let routes: Vec<_> = endpoints.map(|it| Route::new(it, server)).collect();
    let routes = routes.iter().cycle().take(number).cloned().enumerate();
    routes.map(|(n, route)| attack_by(n, route)).collect()
}

async fn attack_by(n: usize, route: Route) {
    loop {
        let key = SecretKey::generate().unwrap();
        if let Ok(connection) = route.by_quic(&key).await {
            match n % 4 {
                0 => dial_strangers(&connection).await,
                1 => send_halves(&connection).await,
                2 => break_the_rules(&connection).await,
                _ => read_nothing(&connection).await,
            }
            connection.close(0_u8.into(), &[]);
        }
        sleep(PAUSE).await;
    }
}

/// Asks for peers that are not there, as fast as it is answered.
async fn dial_strangers(connection: &Connection) {
    let stranger = PeerId::from_public_key([0x55; 32]);
    let asking = (0..AT_ONCE).map(|_| {
        let connection = connection.clone();
        async move {
            let dial = Request::Dial(DialRequest {
                handshake: vec![0; 4096],
                ..DialRequest::new(stranger)
            });
            while ask(&connection, &dial).await.is_some() {}
        }
    });
    asking.collect::<JoinSet<_>>().join_all().await;
}

/// Begins long requests and never ends them.
async fn send_halves(connection: &Connection) {
    let mut streams = Vec::new();
    let half = [&60_000_u32.to_be_bytes()[..], &[0; 15_000]].concat();
    let sending = async {
        while let Ok((mut send, receive)) = connection.open_bi().await {
            drop(send.write_all(&half).await);
            streams.push((send, receive));
        }
    };
    drop(timeout(STAY, sending).await);
}

/// Registers, and sends what is no message.
async fn break_the_rules(connection: &Connection) {
    let registration = Request::Register(Registration::new(DialPolicy::Anyone));
    ask(connection, &registration).await;
    if let Ok((mut send, _receive)) = connection.open_bi().await {
        drop(send.write_all(&[0xFF; 64]).await);
        drop(timeout(STAY, connection.closed()).await);
    }
}

/// Registers again and again, and takes no answer.
async fn read_nothing(connection: &Connection) {
    let registration = Request::Register(Registration::new(DialPolicy::Anyone));
    let frame = codec::encode(&registration).unwrap();
    let mut unread = Vec::new();
    let asking = async {
        while let Ok((mut send, receive)) = connection.open_bi().await {
            drop(send.write_all(&frame).await);
            unread.push(receive);
            sleep(PAUSE / 10).await;
        }
    };
    drop(timeout(STAY, asking).await);
}

async fn ask(connection: &Connection, request: &Request) -> Option<Response> {
    let (send, receive) = connection.open_bi().await.ok()?;
    ask_on(send.into(), receive.into(), request).await
}
