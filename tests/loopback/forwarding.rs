//! Streams that the command carries to and from TCP services.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::commands::{Running, Shell};

const LIMIT: Duration = Duration::from_secs(20);

/// A service that streams are carried to, a listener that does it, and a dialler with a key of its
/// own.
struct Forwarded {
    service: TcpListener,
    listen: Running,
    dial: Running,
    /// Where the keys are, and whom they meet.
    _shells: [Shell; 2],
}

impl Forwarded {
    async fn new() -> Self {
        let service = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let target = service.local_addr().unwrap();
        let (listen, dial, shells) = forward_to(target, &[]).await;
        Self {
            service,
            listen,
            dial,
            _shells: shells,
        }
    }

    async fn accept(&self) -> TcpStream {
        timeout(LIMIT, self.service.accept())
            .await
            .unwrap()
            .unwrap()
            .0
    }
}

/// Starts a listener that carries one stream to a service, and a dial to it.
async fn forward_to(target: SocketAddr, options: &[&str]) -> (Running, Running, [Shell; 2]) {
    let shell = Shell::new();
    let peer = shell.id().await.to_string();
    let target = target.to_string();
    let forward = ["listen", "--allow-any", "--once", "--forward", &target];
    let mut listen = shell.start(&[&forward[..], options].concat());
    listen.wait_for("can be dialled").await;
    let other = Shell::beside(&shell);
    let dial = other.start(&["dial", &peer]);
    (listen, dial, [shell, other])
}

/// Returns how many bytes the other end of a connection has not acknowledged, FIN being one, as
/// this end's system sees it (proc_net_tcp); `None` if there is no such connection any more.
fn unsent(here: SocketAddr, there: SocketAddr) -> Option<u64> {
    let written = |address: SocketAddr| match address {
        SocketAddr::V4(it) => {
            let ip = u32::from_ne_bytes(it.ip().octets());
            format!("{ip:08X}:{:04X}", it.port())
        }
        SocketAddr::V6(_) => panic!("the table of IPv4 has no {address}"),
    };
    let ends = format!(" {} {} ", written(here), written(there));
    let table = std::fs::read_to_string("/proc/self/net/tcp").unwrap();
    let (_, state) = table.lines().find_map(|line| line.split_once(&ends))?;
    let (unsent, _) = state.split(' ').nth(1)?.split_once(':')?;
    Some(u64::from_str_radix(unsent, 16).unwrap())
}

/// Waits until something is so.
async fn until(is_so: impl Fn() -> bool) {
    let mut pause = tokio::time::interval(Duration::from_millis(1));
    while !is_so() {
        pause.tick().await;
    }
}

/// Closes a connection so that the other end sees RST.
fn reset(stream: TcpStream) {
    let stream = p2pconnect_host::TcpStream::from(stream);
    stream.reset_on_close().unwrap();
}

#[tokio::test]
async fn the_reason_why_a_service_is_not_reached_gets_to_the_dialler() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = closed.local_addr().unwrap();
    drop(closed);
    let (listen, dial, _shells) = forward_to(target, &[]).await;
    let ((dialled, heard), (listened, _)) = tokio::join!(dial.end(), listen.end());
    assert_eq!(dialled.code(), Some(4), "{heard}");
    let reason = format!("the listener could not reach {target}: Connection refused\n");
    assert!(heard.ends_with(&reason), "{heard}");
    assert_eq!(listened.code(), Some(1));
}

#[tokio::test]
async fn a_service_that_resets_is_an_error_at_the_dialler() {
    let mut forwarded = Forwarded::new().await;
    let mut stream = forwarded.accept().await;
    stream.write_all(b"half").await.unwrap();
    let mut stdout = forwarded.dial.child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 4]).await.unwrap();
    reset(stream);
    let (status, said) = forwarded.dial.end().await;
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("the service behind it"), "{said}");
    let target = forwarded.service.local_addr().unwrap();
    let (status, said) = forwarded.listen.end().await;
    assert_eq!(status.code(), Some(1), "{said}");
    let told = format!("the service at {target} has broken its connection off");
    assert!(said.contains(&told), "{said}");
    assert!(!said.contains("os error"), "{said}");
}

#[tokio::test]
async fn a_service_sees_that_a_dialler_was_killed_and_has_not_said_all() {
    let mut forwarded = Forwarded::new().await;
    let mut stream = forwarded.accept().await;
    let mut stdin = forwarded.dial.child.stdin.take().unwrap();
    stdin.write_all(b"half").await.unwrap();
    stream.read_exact(&mut [0; 4]).await.unwrap();
    forwarded.dial.signal("KILL").await;
    let read = timeout(LIMIT, stream.read(&mut [0])).await.unwrap();
    assert_eq!(
        read.unwrap_err().kind(),
        std::io::ErrorKind::ConnectionReset
    );
}

#[tokio::test]
async fn a_service_that_has_closed_wholly_ends_the_stream_though_the_dialler_goes_on() {
    let mut forwarded = Forwarded::new().await;
    let _stdin = forwarded.dial.child.stdin.take();
    let mut stream = forwarded.accept().await;
    stream.write_all(b"goodbye").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut heard = Vec::new();
    let mut stdout = forwarded.dial.child.stdout.take().unwrap();
    stdout.read_to_end(&mut heard).await.unwrap();
    assert_eq!(heard, b"goodbye");
    reset(stream);
    let (status, said) = forwarded.listen.end().await;
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("closed the connection wholly"), "{said}");
    let (status, said) = forwarded.dial.end().await;
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("or the service behind it"), "{said}");
}

/// The service has nothing to say, and nobody is left to hear it.
#[tokio::test]
async fn a_dialler_that_is_gone_after_its_end_ends_the_stream() {
    let mut forwarded = Forwarded::new().await;
    let mut stream = forwarded.accept().await;
    drop(forwarded.dial.child.stdin.take());
    let read = timeout(LIMIT, stream.read(&mut [0])).await.unwrap();
    assert_eq!(read.unwrap(), 0);
    forwarded.dial.signal("KILL").await;
    let (status, said) = forwarded.listen.end().await;
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("went away, and has not confirmed"), "{said}");
}

#[tokio::test]
async fn what_a_service_has_said_before_it_broke_arrives() {
    // More than is under way where nobody reads.
    const MUCH: usize = 2_000_000;

    for ends_before in [false, true] {
        let mut forwarded = Forwarded::new().await;
        let _stdin = forwarded.dial.child.stdin.take();
        let mut stream = forwarded.accept().await;
        let said = async {
            stream.write_all(&[7; MUCH]).await.unwrap();
            if ends_before {
                stream.shutdown().await.unwrap();
            }
            let (service, listener) = (stream.local_addr().unwrap(), stream.peer_addr().unwrap());
            // What is with the service when it resets is lost by its own fault.
            until(|| unsent(service, listener) == Some(0)).await;
            reset(stream);
            // The listener's system has heard of it before anybody reads on.
            until(|| unsent(listener, service).is_none()).await;
        };
        timeout(LIMIT, said).await.unwrap();
        let mut heard = Vec::new();
        let mut stdout = forwarded.dial.child.stdout.take().unwrap();
        stdout.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard.len(), MUCH, "ended before: {ends_before}");
        let (status, said) = forwarded.listen.end().await;
        assert_eq!(status.code(), Some(1), "{said}");
    }
}

#[tokio::test]
async fn a_dial_ends_with_0_when_the_other_side_has_written_everything_out() {
    let shell = Shell::new();
    let peer = shell.id().await.to_string();
    // More than a pipe holds.
    let sent = vec![7; 200_000];
    for is_killed in [true, false] {
        let mut listen = shell.start(&["listen", "--allow-any", "-v"]);
        // The listener has nothing to say.
        drop(listen.child.stdin.take());
        listen.wait_for("can be dialled").await;
        let other = Shell::beside(&shell);
        let mut dial = other.start(&["dial", &peer]);
        let mut stdin = dial.child.stdin.take().unwrap();
        stdin.write_all(&sent).await.unwrap();
        drop(stdin);
        let mut output = listen.child.stdout.take().unwrap();
        let mut heard = vec![0; 1];
        output.read_exact(&mut heard).await.unwrap();
        if is_killed {
            // The kernel has taken everything by then, as a rule.
            tokio::time::sleep(Duration::from_millis(300)).await;
            listen.signal("KILL").await;
            let (status, said) = dial.end().await;
            assert_eq!(status.code(), Some(1), "{said}");
        } else {
            output.read_to_end(&mut heard).await.unwrap();
            assert!(heard == sent);
            let (status, said) = dial.end().await;
            assert_eq!(status.code(), Some(0), "{said}");
        }
    }
}
