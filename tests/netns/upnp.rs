//! A device in the LAN of a peer that answers the search for a router by UPnP with a description
//! that costs whoever parses it without a bound more than there is.

use std::{
    fmt::Write as _,
    io::{BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use netns_lab::Host;

/// The group and port of searches (UPnP Device Architecture section 1.3).
const GROUP: Ipv4Addr = Ipv4Addr::new(239, 255, 255, 250);
const PORT: u16 = 1900;

/// As much as it takes: 110 kB, of which a parser that keeps the names in scope with each element
/// makes forty million entries.
const NAMESPACES: usize = 2000;
const ELEMENTS: usize = 20_000;

/// How often a device was heard.
#[derive(Debug, Clone, Default)]
pub(crate) struct Heard {
    pub(crate) searches: Arc<AtomicUsize>,
    pub(crate) fetches: Arc<AtomicUsize>,
}

/// Answers as long as the lab is there, from one address of the host, and names itself.
pub(crate) fn serve(host: &Host, lan: Ipv4Addr, address: Ipv4Addr) -> Heard {
    let sockets = host.run(|| {
        let searches = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT)).unwrap();
        searches.join_multicast_v4(&GROUP, &lan).unwrap();
        let answers = UdpSocket::bind((address, 0)).unwrap();
        (searches, answers, TcpListener::bind((address, 0)).unwrap())
    });
    let (searches, answers, descriptions) = sockets.unwrap();
    let at = descriptions.local_addr().unwrap();
    let heard = Heard::default();
    let count = heard.clone();
    std::thread::spawn(move || {
        let mut search = [0; 1024];
        while let Ok((_, client)) = searches.recv_from(&mut search) {
            count.searches.fetch_add(1, Ordering::Relaxed);
            // A client that is gone needs none.
            drop(answers.send_to(answer(at).as_bytes(), client));
        }
    });
    let count = heard.clone();
    std::thread::spawn(move || {
        let response = response();
        for stream in descriptions.incoming() {
            count.fetches.fetch_add(1, Ordering::Relaxed);
            let mut stream = BufReader::new(stream.unwrap());
            let mut line = String::new();
            while stream.read_line(&mut line).is_ok_and(|length| length > 2) {
                line.clear();
            }
            // A client that reads no further is right.
            drop(stream.get_mut().write_all(response.as_bytes()));
        }
    });
    heard
}

fn answer(at: SocketAddr) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\nEXT:\r\n\
         ST: urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n\
         USN: uuid:1::urn:schemas-upnp-org:device:InternetGatewayDevice:1\r\n\
         SERVER: lan/1\r\nLOCATION: http://{at}/root.xml\r\n\r\n"
    )
}

fn response() -> String {
    let mut body = "<?xml version=\"1.0\"?><root".to_owned();
    for number in 0..NAMESPACES {
        write!(body, " xmlns:n{number}=\"u\"").unwrap();
    }
    let body = format!("{body}>{}</root>", "<a/>".repeat(ELEMENTS));
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nContent-Length: {length}\r\n\r\n{body}")
}
