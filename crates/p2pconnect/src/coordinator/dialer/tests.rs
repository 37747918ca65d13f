//! Tests over the loopback.

use std::net::Ipv4Addr;

use p2pconnect_coordinator::{Config, Coordinator, RendezvousPorts, RunningCoordinator};
use p2pconnect_proto::{PeerId, TokenKey};
use p2pconnect_stun::{Query, StunServer, StunServerConfig};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, UdpSocket},
    time::timeout,
};

use super::*;

fn any() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

fn dialer(id: PeerId, to: SocketAddr) -> Dialer {
    dialer_to(id, &to.ip().to_string(), to.port(), None)
}

fn dialer_to(id: PeerId, host: &str, port: u16, proxy: Option<SocketAddr>) -> Dialer {
    let host = host.to_owned();
    let address = CoordinatorAddr {
        id,
        host,
        port,
        web: None,
    };
    let key = SecretKey::generate().unwrap();
    let nat64 = Arc::new(Nat64::told("::"));
    let proxy = proxy.map(|it| format!("http://u:secret@{it}").parse().unwrap());
    let observer = Observer::none();
    Dialer::new(&key, address, Host::default(), nat64, proxy, observer).unwrap()
}

fn coordinator() -> RunningCoordinator {
    let key = SecretKey::generate().unwrap();
    let config = Config::new(any(), key, TokenKey::from_bytes([7; 32]));
    Coordinator::bind(config).unwrap().start()
}

#[tokio::test]
async fn an_address_that_is_silent_costs_little_time() {
    let coordinator = coordinator();
    let answers = coordinator.local_addr();
    let silent = UdpSocket::bind(any()).await.unwrap();
    let dialer = dialer(coordinator.server_id(), answers);
    let addresses = [silent.local_addr().unwrap(), answers];
    let connecting = timeout(quic::HANDSHAKE_LIMIT / 2, dialer.connect(&addresses));
    let reached = connecting.await.unwrap().unwrap();
    assert_eq!(reached.link.remote_address(), answers);
    assert_eq!(reached.host, answers);
}

#[tokio::test]
async fn nothing_comes_by_tcp_where_quic_answers() {
    let coordinator = coordinator();
    let at = coordinator.local_addr();
    let listener = TcpListener::bind(at).await.unwrap();
    let dialer = dialer(coordinator.server_id(), at);
    dialer.connect(&[at]).await.unwrap();
    let came = timeout(Duration::ZERO, listener.accept()).await;
    assert!(came.is_err(), "{came:?}");
}

/// Returns an address at which UDP is silent and TCP leads to a rendezvous, and who it is.
async fn by_tcp_alone() -> (PeerId, SocketAddr, JoinSet<()>) {
    let token_key = TokenKey::from_bytes([7; 32]);
    let stun = StunServerConfig::default();
    let ports = RendezvousPorts::bind(any(), &[any()], stun, token_key).unwrap();
    let config = ports.config(SecretKey::generate().unwrap());
    let rendezvous = ports.coordinate(config).unwrap();
    let (id, at) = {
        let it = &rendezvous.coordinator;
        (it.server_id(), it.local_addr())
    };
    let elsewhere = SocketAddr::from(([127, 0, 0, 2], at.port()));
    let silent = UdpSocket::bind(elsewhere).await.unwrap();
    let listener = TcpListener::bind(elsewhere).await.unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(rendezvous.run(std::future::pending()));
    tasks.spawn(async move {
        let mut ways = JoinSet::new();
        loop {
            let (mut from, _) = listener.accept().await.unwrap();
            let mut to = tokio::net::TcpStream::connect(at).await.unwrap();
            ways.spawn(async move {
                drop(tokio::io::copy_bidirectional(&mut from, &mut to).await);
            });
            let _is_silent = &silent;
        }
    });
    (id, elsewhere, tasks)
}

#[tokio::test]
async fn tcp_leads_to_a_coordinator_where_udp_is_silent_and_is_tried_first_afterwards() {
    let (id, at, _tasks) = by_tcp_alone().await;
    let dialer = dialer(id, at);
    let began = clock::now();
    let reached = dialer.connect(&[at]).await.unwrap();
    let took = clock::since(began);
    assert!(took >= HEAD_START, "{took:?}");
    assert_eq!(dialer.ways.order(clock::now())[0], Way::Tls);
    let mut notice = reached.link.accept_uni().await.unwrap();
    assert_eq!(notice.read_full(&mut [0; 4]).await, Ok(4));

    let began = clock::now();
    dialer.connect(&[at]).await.unwrap();
    let took = clock::since(began);
    assert!(took < HEAD_START, "QUIC was waited for: {took:?}");
}

#[tokio::test]
async fn tls_goes_on_behind_stun_once_quic_is_late() {
    let (id, at, _tasks) = by_tcp_alone().await;
    let dialer = dialer(id, at);
    let offers = Arc::clone(dialer.offers());
    let offering = async move {
        let query = Query::begin(&Host::default(), any(), at, HEAD_START)
            .await
            .unwrap();
        let local = query.lasts();
        let mut offered = offers.offer(at, query.round_trip());
        let taker = offered.wanted().await.unwrap();
        let (onward, answer) = query.go_on();
        taker.send(onward).unwrap();
        answer.await.unwrap();
        local
    };
    let (began, addresses) = (clock::now(), [at]);
    let (reached, local) = tokio::join!(dialer.connect(&addresses), offering);
    let (reached, took) = (reached.unwrap(), clock::since(began));
    assert!(took < HEAD_START, "QUIC was waited for: {took:?}");
    assert_eq!(local.strong_count(), 1, "there is another connection");
    let mut notice = reached.link.accept_uni().await.unwrap();
    assert_eq!(notice.read_full(&mut [0; 4]).await, Ok(4));
}

#[tokio::test]
async fn tls_begins_anew_where_it_cannot_go_on_behind_stun() {
    let (id, at, _tasks) = by_tcp_alone().await;
    let dialer = dialer(id, at);
    let offers = Arc::clone(dialer.offers());
    // A server that answers STUN and nothing else.
    let stun = StunServer::bind(&[any()], StunServerConfig::default()).unwrap();
    let elsewhere = stun.local_addrs()[0];
    let _serving = stun.spawn();
    let offering = async move {
        let host = Host::default();
        let query = Query::begin(&host, any(), elsewhere, HEAD_START);
        let query = query.await.unwrap();
        let mut offered = offers.offer(at, query.round_trip());
        let taker = offered.wanted().await.unwrap();
        taker.send(query.go_on().0).unwrap();
    };
    let addresses = [at];
    let (reached, ()) = tokio::join!(dialer.connect(&addresses), offering);
    let mut notice = reached.unwrap().link.accept_uni().await.unwrap();
    assert_eq!(notice.read_full(&mut [0; 4]).await, Ok(4));
}

/// Returns a dialler that knows a coordinator by an address at which nothing answers, and finds it
/// by a WebSocket there.
async fn by_web_alone() -> (Dialer, SocketAddr, impl Sized) {
    let token_key = TokenKey::from_bytes([7; 32]);
    let stun = StunServerConfig::default();
    let mut ports = RendezvousPorts::bind(any(), &[any()], stun, token_key).unwrap();
    let web = ports.listen_for_web_sockets(any(), None).unwrap();
    let config = ports.config(SecretKey::generate().unwrap());
    let rendezvous = ports.coordinate(config).unwrap();
    let id = rendezvous.coordinator.server_id();
    let mut serving = JoinSet::new();
    serving.spawn(rendezvous.run(std::future::pending()));
    let silent = UdpSocket::bind(any()).await.unwrap();
    let at = silent.local_addr().unwrap();
    let mut dialer = dialer_to(id, "127.0.0.1", at.port(), None);
    // Without TLS, for which there is no server here.
    let by_web = format!("{id}@ws://{web}").parse().unwrap();
    dialer.web = Some(web::Client::new(dialer.tcp.clone(), &by_web).unwrap());
    dialer.web_port = web.port();
    (dialer, at, (serving, silent))
}

#[tokio::test]
async fn the_web_leads_to_a_coordinator_where_nothing_else_does_and_is_tried_first_afterwards() {
    let (dialer, at, _serving) = by_web_alone().await;
    let began = clock::now();
    let reached = dialer.connect(&[at]).await.unwrap();
    let took = clock::since(began);
    assert!(took >= HEAD_START + HEAD_START_OF_WEB, "{took:?}");
    assert!(reached.is_hidden && reached.host == at);
    let (server, _) = reached.web.unwrap();
    assert_eq!(server.port(), dialer.web_port);

    let began = clock::now();
    dialer.connect(&[at]).await.unwrap();
    let took = clock::since(began);
    assert!(took < HEAD_START, "the others were waited for: {took:?}");
}

#[tokio::test]
async fn a_proxy_that_leads_to_no_port_but_that_of_the_web_is_asked_for_that() {
    let (mut dialer, at, _serving) = by_web_alone().await;
    let web = dialer.at_web(at);
    let (address, _proxying) = proxy(web, move |head| head.contains(&web.to_string())).await;
    dialer.proxy = Some(Arc::new(format!("http://{address}").parse().unwrap()));
    let reached = dialer.connect(&[]).await.unwrap();
    assert_eq!(reached.link.remote_address(), address);
    // The proxy serves one at a time.
    drop(reached);
    dialer.web_port = at.port();
    let error = dialer.connect(&[]).await.unwrap_err().to_string();
    let told = "TCP: it refuses: 403 Not here; WebSocket: it refuses: 403 Not here";
    assert!(error.contains(told), "{error}");
}

#[tokio::test]
async fn what_has_failed_is_told_of_each_way() {
    let silent = UdpSocket::bind(any()).await.unwrap();
    let at = silent.local_addr().unwrap();
    let id = SecretKey::generate().unwrap().peer_id();
    let error = dialer(id, at).connect(&[at]).await.unwrap_err().to_string();
    assert!(error.contains("UDP: no answer for 5 s"), "{error}");
    assert!(error.contains("TCP: Connection refused"), "{error}");
    assert!(error.contains("WebSocket: "), "{error}");
}

#[tokio::test]
async fn another_server_is_told_of_whichever_way_leads_there() {
    let (_, at, _tasks) = by_tcp_alone().await;
    let id = SecretKey::generate().unwrap().peer_id();
    let error = dialer(id, at).connect(&[at]).await.unwrap_err();
    assert!(
        matches!(error, CoordinatorError::WrongIdentity { .. }),
        "{error}"
    );
    let coordinator = coordinator();
    let at = coordinator.local_addr();
    let error = dialer(id, at).connect(&[at]).await.unwrap_err();
    assert!(
        matches!(error, CoordinatorError::WrongIdentity { .. }),
        "{error}"
    );
}

/// Starts a proxy that leads to `to` those whose request it grants.
async fn proxy(
    to: SocketAddr,
    grants: impl Fn(&str) -> bool + Send + 'static,
) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind(any()).await.unwrap();
    let at = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        loop {
            let (mut from, _) = listener.accept().await.unwrap();
            let mut asked = Vec::new();
            while !asked.ends_with(b"\r\n\r\n") {
                asked.push(from.read_u8().await.unwrap());
            }
            let is_granted = grants(str::from_utf8(&asked).unwrap());
            let head = if is_granted { GRANTED } else { REFUSED };
            from.write_all(head.as_bytes()).await.unwrap();
            if is_granted {
                let mut to = tokio::net::TcpStream::connect(to).await.unwrap();
                drop(tokio::io::copy_bidirectional(&mut from, &mut to).await);
            }
        }
    });
    (at, tasks)
}

const GRANTED: &str = "HTTP/1.1 200 Yes\r\n\r\n";

const REFUSED: &str = "HTTP/1.1 403 Not here\r\n\r\n";

#[tokio::test]
async fn a_proxy_leads_to_a_coordinator_whose_name_it_alone_knows_and_is_tried_first_then() {
    let (id, at, _tasks) = by_tcp_alone().await;
    let (proxy, _proxying) = proxy(at, |_| true).await;
    let dialer = dialer_to(id, "c.invalid", 4433, Some(proxy));
    let found = dialer.resolve(Duration::from_secs(5)).await.unwrap();
    assert_eq!(found, []);
    let reached = dialer.connect(&found).await.unwrap();
    assert!(reached.is_hidden && reached.host == SOMEWHERE);
    assert_eq!(reached.link.remote_address(), proxy);
    let routes = dialer.routes(&[at]);
    assert!(matches!(routes[0], Route::Proxy), "{routes:?}");
}

#[tokio::test]
async fn nothing_comes_to_a_proxy_where_quic_answers() {
    let coordinator = coordinator();
    let at = coordinator.local_addr();
    let listener = TcpListener::bind(any()).await.unwrap();
    let proxy = listener.local_addr().unwrap();
    let id = coordinator.server_id();
    let dialer = dialer_to(id, "127.0.0.1", at.port(), Some(proxy));
    assert!(!dialer.connect(&[at]).await.unwrap().is_hidden);
    let came = timeout(Duration::ZERO, listener.accept()).await;
    assert!(came.is_err(), "{came:?}");
}

#[tokio::test]
async fn what_has_failed_by_way_of_a_proxy_is_told_beside_the_rest() {
    let silent = UdpSocket::bind(any()).await.unwrap();
    let at = silent.local_addr().unwrap();
    let (proxy, _proxying) = proxy(at, |_| false).await;
    let id = SecretKey::generate().unwrap().peer_id();
    let dialer = dialer_to(id, "127.0.0.1", at.port(), Some(proxy));
    let error = dialer.connect(&[at]).await.unwrap_err().to_string();
    let by_proxy = format!("proxy http://{proxy} (TCP: it refuses: 403 Not here; ");
    for told in [
        &by_proxy,
        "UDP: no answer for 5 s",
        "TCP: Connection refused",
    ] {
        assert!(error.contains(told), "{error}");
    }
    assert!(!error.contains("secret"), "{error}");
    let error = dialer.connect(&[]).await.unwrap_err().to_string();
    assert!(error.contains("cannot be looked up here"), "{error}");
}

/// Answers one connection with these bytes.
async fn answering(answer: &'static [u8]) -> (SocketAddr, JoinSet<()>) {
    let listener = TcpListener::bind(any()).await.unwrap();
    let at = listener.local_addr().unwrap();
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        let (mut from, _) = listener.accept().await.unwrap();
        from.write_all(answer).await.unwrap();
        drop(from.read_to_end(&mut Vec::new()).await);
    });
    (at, tasks)
}

#[tokio::test]
async fn what_does_not_speak_tls_is_told_of() {
    let (at, _answering) =
        answering(b"HTTP/1.1 302 Found\r\nLocation: http://portal/\r\n\r\n").await;
    let _silent = UdpSocket::bind(at).await.unwrap();
    let id = SecretKey::generate().unwrap().peer_id();
    let error = dialer(id, at).connect(&[at]).await.unwrap_err().to_string();
    assert!(
        error.contains("TCP: what answers does not speak TLS"),
        "{error}"
    );
}
