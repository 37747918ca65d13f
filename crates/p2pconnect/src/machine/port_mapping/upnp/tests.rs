//! Tests of port mapping by UPnP against routers that break off, lie or never end.

#![expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UdpSocket},
};

use super::*;

const ROUTE: Route = Route {
    gateway: Ipv4Addr::LOCALHOST,
    local: Ipv4Addr::LOCALHOST,
};

/// Another device in the LAN.
const DEVICE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Longer than any one request may take, and no measure of how long it does.
const PATIENCE: Duration = Duration::from_secs(20);

fn http(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn description(service: &str, control: &str) -> String {
    format!(
        "<root><device><serviceList><service><serviceType>{service}</serviceType>\
         <controlURL>{control}</controlURL></service></serviceList></device></root>"
    )
}

const VERSION_1: &str = "urn:schemas-upnp-org:service:WANIPConnection:1";
const VERSION_2: &str = "urn:schemas-upnp-org:service:WANIPConnection:2";

fn answer(inner: &str) -> String {
    http(
        "200 OK",
        &format!("<s:Envelope xmlns:s='e'><s:Body>{inner}</s:Body></s:Envelope>"),
    )
}

fn fault(code: u16) -> String {
    let error = format!("<UPnPError><errorCode>{code}</errorCode></UPnPError>");
    http(
        "500 Internal Server Error",
        &format!("<e><f>{error}</f></e>"),
    )
}

const ADDRESS: &str = "<r><NewExternalIPAddress>203.0.113.9</NewExternalIPAddress></r>";

/// Reads a request, head and body.
async fn request(stream: &mut TcpStream) -> String {
    let mut request = String::new();
    loop {
        let mut piece = [0; 4096];
        let length = stream.read(&mut piece).await.unwrap();
        request.push_str(str::from_utf8(&piece[..length]).unwrap());
        let is_whole = match request.split_once("\r\n\r\n") {
            Some((head, _)) if head.starts_with("GET") => true,
            Some((_, body)) => body.contains("</s:Envelope>"),
            None => false,
        };
        if is_whole || length == 0 {
            return request;
        }
    }
}

/// A router that answers each request with what a function returns, and says what it was asked for.
async fn router(
    answers: impl Fn(&str) -> String + Send + 'static,
) -> (Url, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind((ROUTE.gateway, 0)).await.unwrap();
    let url = Url::parse(&format!(
        "http://{}/root.xml",
        listener.local_addr().unwrap()
    ))
    .unwrap();
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let heard = Arc::clone(&asked);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let request = request(&mut stream).await;
            stream
                .write_all(answers(&request).as_bytes())
                .await
                .unwrap();
            heard.lock().unwrap().push(request);
        }
    });
    (url, asked)
}

#[tokio::test]
async fn a_router_that_chooses_ports_maps_extends_and_unmaps() {
    let (url, asked) = router(|request| match request {
        _ if request.starts_with("GET") => http("200 OK", &description(VERSION_2, "/ctl")),
        _ if request.contains("#GetExternalIPAddress") => answer(ADDRESS),
        _ if request.contains("#AddAny") => answer("<r><NewReservedPort>777</NewReservedPort></r>"),
        _ => answer("<r/>"),
    })
    .await;
    let router = Router::described(&ROUTE, &url).await.unwrap();
    assert_eq!(
        router.external_ip().await.unwrap(),
        Ipv4Addr::new(203, 0, 113, 9)
    );
    assert_eq!(router.map(5000, 60).await.unwrap(), 777);
    router.extend(777, 5000, 60).await.unwrap();
    router.unmap(777).await.unwrap();
    let asked = asked.lock().unwrap();
    for (at, action) in [
        (3, "AddAnyPortMapping"),
        (4, "AddPortMapping"),
        (5, "DeletePortMapping"),
    ] {
        assert!(asked[at].starts_with("POST /ctl HTTP/1.1\r\nHost: 127.0.0.1:"));
        assert!(
            asked[at].contains(&format!("<u:{action} ")),
            "{}",
            asked[at]
        );
    }
    assert!(
        asked[4].contains("<NewExternalPort>777<") && asked[4].contains("<NewInternalPort>5000<")
    );
}

#[tokio::test]
async fn another_port_is_asked_for_where_one_is_taken() {
    let (url, asked) = router(|request| match request {
        _ if request.starts_with("GET") => http("200 OK", &description(VERSION_1, "ctl")),
        _ if request.contains("#GetExternalIPAddress") => answer(ADDRESS),
        _ if request.contains("<NewExternalPort>5000<") => fault(CONFLICT),
        _ => answer("<r/>"),
    })
    .await;
    let router = Router::described(&ROUTE, &url).await.unwrap();
    let external = router.map(5000, 60).await.unwrap();
    assert!(external >= 1024 && external != 5000);
    assert_eq!(asked.lock().unwrap().len(), 4);
}

#[tokio::test]
async fn a_refusal_is_the_routers() {
    let (url, _) = router(|request| match request {
        _ if request.starts_with("GET") => http("200 OK", &description(VERSION_1, "/ctl")),
        _ if request.contains("#GetExternalIPAddress") => answer(ADDRESS),
        _ if request.contains("<NewExternalPort>5000<") => fault(725),
        _ => http("500 No", "<e/>"),
    })
    .await;
    let router = Router::described(&ROUTE, &url).await.unwrap();
    let refused = router.map(5000, 60).await;
    assert!(matches!(refused, Err(UpnpError::Refused(refusal)) if refusal.code == 725));
    assert!(matches!(
        router.map(5001, 60).await,
        Err(UpnpError::Status(500))
    ));
}

/// What a hostile router sends, and for how long.
enum Hostile {
    Says(String),
    /// Repeats it without an end, with this pause in between, or as fast as it is taken.
    Repeats {
        head: &'static str,
        part: &'static str,
        pause: Duration,
    },
    Nothing,
}

/// Returns where a hostile router has its description.
async fn hostile(sends: Hostile) -> Url {
    let listener = TcpListener::bind((ROUTE.gateway, 0)).await.unwrap();
    let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap()));
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        request(&mut stream).await;
        match sends {
            Hostile::Says(answer) => drop(stream.write_all(answer.as_bytes()).await),
            Hostile::Nothing => std::future::pending().await,
            Hostile::Repeats { head, part, pause } => {
                let mut sent = stream.write_all(head.as_bytes()).await;
                let times = if pause.is_zero() { 256 } else { 1 };
                let parts = part.repeat(times);
                while sent.is_ok() {
                    sent = stream.write_all(parts.as_bytes()).await;
                    tokio::time::sleep(pause).await;
                }
            }
        }
    });
    url.unwrap()
}

/// A name, what is sent, and the error that has to come of it.
type Attack = (&'static str, Hostile, fn(&UpnpError) -> bool);

fn is_too_long(error: &UpnpError) -> bool {
    matches!(error, UpnpError::Http(HttpError::TooLong))
}

fn is_too_late(error: &UpnpError) -> bool {
    matches!(error, UpnpError::Io(error) if error.kind() == io::ErrorKind::TimedOut)
}

/// Attacks by more bytes than there should be, or slower ones.
fn attacks_by_length() -> Vec<Attack> {
    const OK: &str = "HTTP/1.1 200 OK\r\n\r\n";
    const HEAD: &str = "HTTP/1.1 200 OK\r\n";
    const HEADER: &str = "HTTP/1.1 200 OK\r\nA: ";
    const CHUNKS: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    const LENGTH: &str = "HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n";
    let repeats = |head, part, pause| Hostile::Repeats { head, part, pause };
    let (none, some) = (Duration::ZERO, Duration::from_millis(50));
    let names: String = (0..2000).map(|at| format!(" xmlns:n{at}='u'")).collect();
    let bomb = format!("<root{names}>{}</root>", "<a/>".repeat(20_000));
    let half = bomb[..60_000].to_owned();
    vec![
        ("bomb", Hostile::Says(http("200 OK", &bomb)), is_too_long),
        (
            "half a bomb",
            Hostile::Says(http("200 OK", &half)),
            |error| matches!(error, UpnpError::Xml(_)),
        ),
        ("body", repeats(OK, "<b/>", none), is_too_long),
        (
            "chunks",
            repeats(CHUNKS, "4\r\n<b/>\r\n", none),
            is_too_long,
        ),
        ("headers", repeats(HEAD, "A: b\r\n", none), is_too_long),
        ("one header", repeats(HEADER, "b", none), is_too_long),
        ("slow head", repeats(HEAD, "A", some), is_too_late),
        ("slow body", repeats(LENGTH, "<", some), is_too_late),
        ("silence", Hostile::Nothing, is_too_late),
    ]
}

/// Attacks by leading elsewhere.
fn attacks_by_address(elsewhere: SocketAddr) -> Vec<Attack> {
    let redirection = format!("HTTP/1.1 302 Found\r\nLocation: http://{elsewhere}/\r\n\r\n");
    let control = |at: &str| Hostile::Says(http("200 OK", &description(VERSION_1, at)));
    vec![
        ("redirection", Hostile::Says(redirection), |error| {
            matches!(error, UpnpError::Status(302))
        }),
        (
            "control",
            control(&format!("http://{elsewhere}/ctl")),
            |error| matches!(error, UpnpError::NoConnection),
        ),
        ("no port", control("http://127.0.0.1:0/"), |error| {
            matches!(error, UpnpError::Io(_))
        }),
    ]
}

#[tokio::test]
async fn a_hostile_router_takes_little_and_leads_nowhere() {
    let device = TcpListener::bind((DEVICE, 0)).await.unwrap();
    let attacks = attacks_by_address(device.local_addr().unwrap());
    let began = Instant::now();
    let mut asking = tokio::task::JoinSet::new();
    for (name, attack, is_right) in attacks_by_length().into_iter().chain(attacks) {
        let url = hostile(attack).await;
        asking.spawn(async move { (name, is_right, Router::described(&ROUTE, &url).await) });
    }
    while let Some(ended) = asking.join_next().await {
        let (name, is_right, result) = ended.unwrap();
        let error = result.err();
        assert!(error.as_ref().is_some_and(is_right), "{name}: {error:?}");
    }
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
    let nobody = tokio::time::timeout(Duration::ZERO, device.accept()).await;
    assert!(nobody.is_err(), "another host was asked");
}

/// Answers searches for as long as the test runs.
async fn answer_searches(answers: Vec<(Ipv4Addr, String)>) -> u16 {
    let searches = UdpSocket::bind((ROUTE.gateway, 0)).await.unwrap();
    let port = searches.local_addr().unwrap().port();
    tokio::spawn(async move {
        let mut search = [0; 1024];
        let (length, client) = searches.recv_from(&mut search).await.unwrap();
        assert!(search[..length].starts_with(b"M-SEARCH * HTTP/1.1\r\n"));
        for (from, answer) in answers {
            let socket = UdpSocket::bind((from, 0)).await.unwrap();
            socket.send_to(answer.as_bytes(), client).await.unwrap();
        }
    });
    port
}

fn place(at: impl std::fmt::Display) -> String {
    format!("HTTP/1.1 200 OK\r\nST: x\r\nLocation: http://{at}/root.xml\r\n\r\n")
}

#[tokio::test]
async fn only_the_router_says_where_it_is() {
    let right = SocketAddr::from((ROUTE.gateway, 5000));
    let port = answer_searches(vec![
        (DEVICE, place(SocketAddr::from((DEVICE, 5000)))),
        (DEVICE, place(SocketAddr::from((ROUTE.gateway, 1)))),
        (ROUTE.gateway, place(SocketAddr::from((DEVICE, 5000)))),
        (ROUTE.gateway, place("router.example")),
        (ROUTE.gateway, "nonsense".to_owned()),
        (ROUTE.gateway, place(right)),
    ])
    .await;
    let found = search::search(&ROUTE, port).await.unwrap();
    assert_eq!(SocketAddr::from(found.host), right);
}

#[tokio::test]
async fn a_search_ends_whatever_devices_say() {
    let port = answer_searches(vec![(DEVICE, place(SocketAddr::from((DEVICE, 5000)))); 100]).await;
    let found = search::search(&ROUTE, port).await;
    assert!(matches!(found, Err(UpnpError::NotFound)), "{found:?}");
}
