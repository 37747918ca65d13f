//! Tests with proxies that play a script.

#![expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]

use std::net::Ipv4Addr;

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinHandle,
};

use super::*;

/// What a proxy reads, and answers then.
type Script = Vec<(Vec<u8>, Vec<u8>)>;

/// Starts a proxy that plays a script, and then returns what comes over the connection.
async fn playing(script: Script) -> (SocketAddr, JoinHandle<Vec<u8>>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let at = listener.local_addr().unwrap();
    let played = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        for (expected, answer) in script {
            let mut asked = vec![0; expected.len()];
            stream.read_exact(&mut asked).await.unwrap();
            let shown = String::from_utf8_lossy(&asked);
            assert_eq!(asked, expected, "{shown}");
            stream.write_all(&answer).await.unwrap();
        }
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).await.unwrap();
        rest
    });
    (at, played)
}

/// Connects by way of such a proxy to a coordinator, and sends something there.
async fn through(scheme: &str, script: Script) -> Result<Vec<u8>, ProxyError> {
    let (at, played) = playing(script).await;
    let proxy: Proxy = format!("{scheme}{at}").parse().unwrap();
    let to = Destination {
        name: "c.example",
        port: 4433,
        address: Some(([192, 0, 2, 7], 4433).into()),
    };
    let mut stream = proxy.connect(&Host::default(), to).await?;
    stream.write_all(b"hello").await.unwrap();
    drop(stream);
    Ok(played.await.unwrap())
}

fn exchange(asked: &[u8], answer: &[u8]) -> (Vec<u8>, Vec<u8>) {
    (asked.to_vec(), answer.to_vec())
}

const CONNECT: &str = "CONNECT c.example:4433 HTTP/1.1\r\nHost: c.example:4433\r\n";

/// Returns what becomes of a CONNECT that is answered like this.
async fn answered(answer: &str) -> Result<Vec<u8>, ProxyError> {
    let asked = format!("{CONNECT}\r\n");
    through(
        "http://",
        vec![exchange(asked.as_bytes(), answer.as_bytes())],
    )
    .await
}

#[tokio::test]
async fn connect_leads_to_the_coordinator() {
    let granted = "HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n";
    assert_eq!(answered(granted).await.unwrap(), b"hello");
    let asked = format!("{CONNECT}Proxy-Authorization: Basic dTpwQDo=\r\n\r\n");
    let script = vec![exchange(asked.as_bytes(), granted.as_bytes())];
    assert_eq!(through("http://u:p%40:@", script).await.unwrap(), b"hello");
}

#[tokio::test]
async fn what_a_proxy_answers_is_told() {
    for (answer, told) in [
        ("HTTP/1.1 403 Filtered\r\n\r\n", "it refuses: 403 Filtered"),
        (
            "HTTP/1.1 407 No\r\nProxy-Authenticate: Basic realm=x\r\n\r\n",
            "it wants a user and a password: http://USER:PASSWORD@HOST:PORT",
        ),
        (
            "HTTP/1.1 407 No\r\nProxy-Authenticate: NTLM\r\n\r\n",
            "by NTLM, which is not known here",
        ),
        (
            "HTTP/1.1 302 Found\r\nLocation: http://portal.example/\u{202e}\r\n\r\n",
            "none of a proxy: 302, see http://portal.example/?",
        ),
        ("SSH-2.0-OpenSSH\r\n", "none of a proxy"),
        ("HTTP/1.1 200 OK\r\n\r\nx", "there is more behind it"),
    ] {
        let error = answered(answer).await.unwrap_err().to_string();
        assert!(error.contains(told), "{error}");
    }
    let asked = format!("{CONNECT}Proxy-Authorization: Basic dTpw\r\n\r\n");
    for status in [407, 401] {
        let refused = format!("HTTP/1.1 {status} No\r\n\r\n");
        let refused = exchange(asked.as_bytes(), refused.as_bytes());
        let error = through("http://u:p@", vec![refused]).await.unwrap_err();
        let told = "it does not accept this user and password";
        assert_eq!(error.to_string(), told);
    }
}

#[tokio::test]
async fn socks_is_told_an_address_or_a_name() {
    let greeting = exchange(&[5, 1, 0], &[5, 0]);
    let granted = [5, 0, 0, 1, 1, 2, 3, 4, 5, 6];
    let by_address = exchange(&[5, 1, 0, 1, 192, 0, 2, 7, 17, 81], &granted);
    let script = vec![greeting.clone(), by_address];
    assert_eq!(through("socks5://", script).await.unwrap(), b"hello");

    let by_name = [&[5, 1, 0, 3, 9], &b"c.example"[..], &[17, 81]].concat();
    let granted = [5, 0, 0, 3, 2, b'a', b'b', 0, 1];
    let script = vec![greeting, exchange(&by_name, &granted)];
    assert_eq!(through("socks5h://", script).await.unwrap(), b"hello");
}

#[tokio::test]
async fn socks_is_told_who_uses_it() {
    let greeting = exchange(&[5, 2, 0, 2], &[5, 2]);
    let proof = [1, 1, b'u', 2, b'p', b'w'];
    let request = exchange(
        &[5, 1, 0, 1, 192, 0, 2, 7, 17, 81],
        &[
            5, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        ],
    );
    let script = vec![greeting.clone(), exchange(&proof, &[1, 0]), request];
    assert_eq!(through("socks5://u:pw@", script).await.unwrap(), b"hello");
    let script = vec![greeting, exchange(&proof, &[1, 1])];
    let error = through("socks5://u:pw@", script).await.unwrap_err();
    let told = "it does not accept this user and password";
    assert_eq!(error.to_string(), told);
}

#[tokio::test]
async fn what_socks_answers_is_told() {
    let greeting = exchange(&[5, 1, 0], &[5, 0]);
    let request = [5, 1, 0, 1, 192, 0, 2, 7, 17, 81];
    let refused = exchange(&request, &[5, 2, 0, 1]);
    for (script, told) in [
        (
            vec![greeting, refused],
            "it refuses: its rules do not allow that",
        ),
        (
            vec![exchange(&[5, 1, 0], &[5, 255])],
            "wants a user and a password",
        ),
        (vec![exchange(&[5, 1, 0], b"HT")], "none of a proxy"),
    ] {
        let error = through("socks5://", script).await.unwrap_err().to_string();
        assert!(error.contains(told), "{error}");
    }
}

#[tokio::test]
async fn a_proxy_that_is_not_there_is_told_of() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let at = listener.local_addr().unwrap();
    drop(listener);
    let proxy: Proxy = at.to_string().parse().unwrap();
    let to = Destination {
        name: "c.example",
        port: 1,
        address: None,
    };
    let error = proxy.connect(&Host::default(), to).await.unwrap_err();
    assert!(error.to_string().contains("no connection to it"), "{error}");
}
