//! One request by HTTP, on a connection of its own, bounded in time and bytes.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpSocket,
    time::timeout,
};

use super::{
    UpnpError,
    description::ServiceType,
    http::{Reading, Response},
    soap::{Action, Answer},
    url::Url,
};

/// How long a router may take for one answer, whole. Slow ones take a second to change their
/// firewall.
const EXCHANGE_LIMIT: Duration = Duration::from_secs(4);

/// Fetches what is at an address of the router.
pub(super) async fn get(from: Ipv4Addr, url: &Url) -> Result<String, UpnpError> {
    let Url { host, path } = url;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    let response = exchange(from, url, &request).await?;
    match response.status {
        200 => Ok(text(&response)),
        // A redirection is not followed: whatever it names, the router has said where it is.
        status => Err(UpnpError::Status(status)),
    }
}

/// Asks a service of the router for something. What it answers says whether it refuses.
pub(super) async fn call(
    from: Ipv4Addr,
    url: &Url,
    service: ServiceType,
    action: Action,
) -> Result<Answer, UpnpError> {
    let Url { host, path } = url;
    let (header, body) = (action.header(service), action.body(service));
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\
         Content-Type: text/xml; charset=\"utf-8\"\r\nSOAPAction: {header}\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let response = exchange(from, url, &request).await?;
    match response.status {
        200 => Ok(Answer::read(&text(&response))?),
        // How a service refuses.
        500 => {
            let answer = Answer::read(&text(&response))?;
            let refuses = answer.refusal.is_some();
            refuses.then_some(answer).ok_or(UpnpError::Status(500))
        }
        status => Err(UpnpError::Status(status)),
    }
}

fn text(response: &Response) -> String {
    // Some routers write names in other encodings than they say, and nothing here depends on these.
    String::from_utf8_lossy(&response.body).into_owned()
}

async fn exchange(from: Ipv4Addr, url: &Url, request: &str) -> Result<Response, UpnpError> {
    let exchanging = async {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((from, 0)))?;
        let mut stream = socket.connect(url.host.into()).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut reading = Reading::default();
        let mut piece = [0; 2048];
        loop {
            let length = stream.read(&mut piece).await?;
            if length == 0 {
                return Ok(reading.end()?);
            }
            if let Some(response) = reading.push(&piece[..length])? {
                return Ok(response);
            }
        }
    };
    match timeout(EXCHANGE_LIMIT, exchanging).await {
        Ok(result) => result,
        Err(_) => Err(io::Error::from(io::ErrorKind::TimedOut).into()),
    }
}
