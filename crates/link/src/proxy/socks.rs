//! SOCKS 5 (RFC 1928), with user and password (RFC 1929).

use std::net::IpAddr;

use p2pconnect_host::TcpStream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Destination, Login, ProxyError, broken, literal};

/// The version of the protocol, and that of user and password.
const VERSION: u8 = 5;
const LOGIN_VERSION: u8 = 1;

/// How to prove who uses the proxy: not at all, by user and password, or none of what was offered.
const NO_LOGIN: u8 = 0;
const PASSWORD: u8 = 2;
const NONE_FITS: u8 = 255;

/// What is asked for.
const CONNECT: u8 = 1;

/// Kinds of addresses.
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// Has a proxy connect to a coordinator.
pub(super) async fn connect(
    stream: &mut TcpStream,
    to: Destination<'_>,
    login: Option<&Login>,
) -> Result<(), ProxyError> {
    let request = request(to)?;
    let methods: &[u8] = match login {
        Some(_) => &[VERSION, 2, NO_LOGIN, PASSWORD],
        None => &[VERSION, 1, NO_LOGIN],
    };
    send(stream, methods).await?;
    match (receive(stream).await?, login) {
        ([VERSION, NO_LOGIN], _) => {}
        ([VERSION, PASSWORD], Some(login)) => prove(stream, login).await?,
        ([VERSION, NONE_FITS], _) => return Err(wants_login(login.is_some())),
        ([version, method], _) => {
            let found = format!("it begins with {version} and {method}");
            return Err(ProxyError::NoProxy(found));
        }
    }
    send(stream, &request).await?;
    let [version, reply, _, kind] = receive(stream).await?;
    if version != VERSION {
        return Err(ProxyError::NoProxy(format!("it begins with {version}")));
    }
    if reply != 0 {
        return Err(ProxyError::Refused(meaning(reply)));
    }
    // Where it connects from, and the port.
    match kind {
        IPV4 => drop(receive::<6>(stream).await?),
        IPV6 => drop(receive::<18>(stream).await?),
        NAME => {
            let [length] = receive(stream).await?;
            for _ in 0..usize::from(length) + 2 {
                receive::<1>(stream).await?;
            }
        }
        other => return Err(ProxyError::NoProxy(format!("address of kind {other}"))),
    }
    Ok(())
}

fn request(to: Destination<'_>) -> Result<Vec<u8>, ProxyError> {
    let mut request = vec![VERSION, CONNECT, 0];
    match literal(to) {
        Some(IpAddr::V4(ip)) => {
            request.push(IPV4);
            request.extend(ip.octets());
        }
        Some(IpAddr::V6(ip)) => {
            request.push(IPV6);
            request.extend(ip.octets());
        }
        None => {
            let too_long = |_| ProxyError::Refused("the name is too long".to_owned());
            request.push(NAME);
            request.push(u8::try_from(to.name.len()).map_err(too_long)?);
            request.extend(to.name.bytes());
        }
    }
    request.extend(to.port.to_be_bytes());
    Ok(request)
}

async fn prove(stream: &mut TcpStream, login: &Login) -> Result<(), ProxyError> {
    let mut proof = vec![LOGIN_VERSION];
    for text in [&login.user, &login.password] {
        // It is no longer than that, or was not read.
        proof.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
        proof.extend(text.bytes());
    }
    send(stream, &proof).await?;
    match receive(stream).await? {
        [_, 0] => Ok(()),
        [_, _] => Err(wants_login(true)),
    }
}

const fn wants_login(was_given: bool) -> ProxyError {
    ProxyError::Login {
        was_given,
        schemes: Vec::new(),
    }
}

/// Says what a reply means (RFC 1928 section 6).
fn meaning(reply: u8) -> String {
    match reply {
        1 => "general failure",
        2 => "its rules do not allow that",
        3 => "network unreachable",
        4 => "host unreachable",
        5 => "connection refused",
        6 => "no answer in time",
        7 => "it does not connect",
        8 => "it does not know this kind of address",
        other => return format!("reply {other}"),
    }
    .to_owned()
}

async fn send(stream: &mut TcpStream, bytes: &[u8]) -> Result<(), ProxyError> {
    let sent = stream.write_all(bytes).await;
    sent.map_err(|error| broken(&error))
}

async fn receive<const N: usize>(stream: &mut TcpStream) -> Result<[u8; N], ProxyError> {
    let mut bytes = [0; N];
    let received = stream.read_exact(&mut bytes).await;
    received.map_err(|error| broken(&error))?;
    Ok(bytes)
}
