//! A router that speaks NAT-PMP alone (RFC 6886), as some did before there was PCP.

use std::{
    io::Write as _,
    net::{Ipv4Addr, UdpSocket},
    process::Stdio,
};

use netns_lab::Host;

/// The port of NAT-PMP and PCP.
const PORT: u16 = 5351;

/// Result codes of section 3.5.
const SUCCESS: u16 = 0;
const UNSUPPORTED_VERSION: u16 = 1;

/// The operations, and what is added to them in an answer (section 3).
const EXTERNAL_ADDRESS: u8 = 0;
const MAP_TCP: u8 = 2;
const ANSWER: u8 = 128;

/// Answers as long as the lab is there.
pub(crate) fn serve(host: &Host, gateway: Ipv4Addr, home: Ipv4Addr, public: Ipv4Addr) {
    let socket = host.run(|| UdpSocket::bind((gateway, PORT)).unwrap());
    let (socket, host) = (socket.unwrap(), host.clone());
    std::thread::spawn(move || {
        let mut request = [0; 128];
        while let Ok((length, client)) = socket.recv_from(&mut request) {
            let answer = answer(&host, &request[..length], home, public);
            // A client that is gone needs none.
            drop(socket.send_to(&answer, client));
        }
    });
}

fn answer(host: &Host, request: &[u8], home: Ipv4Addr, public: Ipv4Addr) -> Vec<u8> {
    let operation = request[1];
    let head = |result: u16| {
        // What follows the result code is the router's age in seconds.
        [
            &[0, operation | ANSWER][..],
            &result.to_be_bytes(),
            &[0, 0, 0, 9],
        ]
        .concat()
    };
    // Section 3.5: of another version is PCP, too.
    if request[0] != 0 {
        return head(UNSUPPORTED_VERSION);
    }
    match operation {
        EXTERNAL_ADDRESS => [head(SUCCESS), public.octets().to_vec()].concat(),
        MAP_TCP => {
            let internal = u16::from_be_bytes([request[4], request[5]]);
            let lifetime = &request[8..12];
            map(host, home, internal, lifetime != [0; 4]);
            let port = internal.to_be_bytes();
            let external = if lifetime == [0; 4] { [0; 2] } else { port };
            [&head(SUCCESS), &port[..], &external, lifetime].concat()
        }
        _ => panic!("nobody asks for {operation}"),
    }
}

/// Forwards a port, or none any more.
fn map(host: &Host, home: Ipv4Addr, port: u16, wanted: bool) {
    let rules = if wanted {
        format!(
            "add rule inet router upnp_in iifname eth0 tcp dport {port} dnat ip to {home}:{port}
             add rule inet router upnp ip daddr {home} tcp dport {port} accept"
        )
    } else {
        "flush chain inet router upnp_in\nflush chain inet router upnp".to_owned()
    };
    let mut nft = host.command("nft");
    let mut nft = nft.args(["-f", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut input = nft.stdin.take().unwrap();
    input.write_all(rules.as_bytes()).unwrap();
    drop(input);
    assert!(nft.wait().unwrap().success());
}
