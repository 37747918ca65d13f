//! The method CONNECT of HTTP (RFC 9110 section 9.3.6).

use data_encoding::BASE64;
use p2pconnect_host::TcpStream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::{Destination, Login, ProxyError, broken};
use crate::words::printable;

/// The longest head of an answer.
const MAX_HEAD: usize = 16 * 1024;

/// The most fields in a head.
const MAX_FIELDS: usize = 64;

/// Has a proxy connect to a coordinator.
pub(super) async fn connect(
    stream: &mut TcpStream,
    to: Destination<'_>,
    login: Option<&Login>,
) -> Result<(), ProxyError> {
    let request = request(to, login);
    let written = stream.write_all(request.as_bytes()).await;
    written.map_err(|error| broken(&error))?;
    let mut head = Vec::new();
    let mut piece = [0; 1024];
    loop {
        let count = stream.read(&mut piece).await;
        let count = count.map_err(|error| broken(&error))?;
        if count == 0 {
            return Err(ProxyError::Closed);
        }
        head.extend_from_slice(&piece[..count]);
        if let Some(answer) = answer(&head, login.is_some())? {
            // The coordinator waits for the first word of TLS.
            return match answer == head.len() {
                true => Ok(()),
                false => Err(ProxyError::NoProxy("there is more behind it".to_owned())),
            };
        }
        if head.len() > MAX_HEAD {
            return Err(ProxyError::NoProxy("it has no end".to_owned()));
        }
    }
}

fn request(to: Destination<'_>, login: Option<&Login>) -> String {
    let authorization = login.map(|Login { user, password }| {
        let encoded = BASE64.encode(format!("{user}:{password}").as_bytes());
        format!("Proxy-Authorization: Basic {encoded}\r\n")
    });
    let authorization = authorization.unwrap_or_default();
    format!("CONNECT {to} HTTP/1.1\r\nHost: {to}\r\n{authorization}\r\n")
}

/// Returns how long the head of an answer is that grants what was asked for; `None` if its end is
/// missing.
fn answer(head: &[u8], was_given: bool) -> Result<Option<usize>, ProxyError> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut parsed = httparse::Response::new(&mut fields);
    let length = match parsed.parse(head) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(error) => return Err(ProxyError::NoProxy(error.to_string())),
    };
    let (status, reason) = (parsed.code.unwrap_or(0), parsed.reason.unwrap_or(""));
    let field = |name: &str| {
        let fields = parsed.headers.iter();
        let named = fields.filter(|it| it.name.eq_ignore_ascii_case(name));
        let text = |it: &httparse::Header<'_>| String::from_utf8_lossy(it.value).into_owned();
        named.map(text).collect::<Vec<_>>()
    };
    match status {
        200..=299 => Ok(Some(length)),
        300..=399 => {
            let elsewhere = printable(&field("Location").concat());
            Err(ProxyError::NoProxy(format!("{status}, see {elsewhere}")))
        }
        // Some answer the latter to a wrong password (tinyproxy 1.11).
        407 | 401 => {
            let offered = field("Proxy-Authenticate");
            let scheme = |it: &String| it.split(' ').next().unwrap_or("").to_owned();
            Err(ProxyError::Login {
                was_given,
                schemes: offered.iter().map(scheme).collect(),
            })
        }
        _ => Err(ProxyError::Refused(printable(&format!(
            "{status} {reason}"
        )))),
    }
}
