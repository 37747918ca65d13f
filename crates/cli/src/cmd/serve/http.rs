//! As much of HTTP/1.1 as somebody needs who asks for a page: one request on each connection, by
//! GET or HEAD, whose body nobody reads.

use std::{collections::VecDeque, io, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};

/// How long a request and its answer may take together.
const LIMIT: Duration = Duration::from_secs(5);

/// The longest head of a request.
const MAX_HEAD: usize = 8 * 1024;

/// The most lines of a head.
const MAX_FIELDS: usize = 64;

/// The most connections at a time. The oldest makes room for a newcomer, so that those who are slow
/// hold up nobody.
const MAX_CONNECTIONS: usize = 32;

/// How long to wait after an accept that failed for lack of something, such as open files.
const SHORTAGE_PAUSE: Duration = Duration::from_millis(100);

/// An answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Page {
    pub(super) status: Status,
    pub(super) media_type: &'static str,
    pub(super) text: String,
}

/// How a request went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Ok,
    BadRequest,
    NotFound,
    MethodNotAllowed,
    Unavailable,
}

impl Status {
    const fn line(self) -> &'static str {
        match self {
            Self::Ok => "200 OK",
            Self::BadRequest => "400 Bad Request",
            Self::NotFound => "404 Not Found",
            Self::MethodNotAllowed => "405 Method Not Allowed",
            Self::Unavailable => "503 Service Unavailable",
        }
    }

    /// Returns a page that says no more than this.
    pub(super) fn page(self) -> Page {
        Page {
            status: self,
            media_type: "text/plain; charset=utf-8",
            text: format!("{}\n", self.line()),
        }
    }
}

/// Answers with the page of each path until the future is dropped.
pub(super) async fn run(
    listener: TcpListener,
    pages: impl Fn(&str) -> Page + Send + Sync + 'static,
) {
    let pages = Arc::new(pages);
    let mut serving = JoinSet::new();
    let mut oldest: VecDeque<AbortHandle> = VecDeque::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    oldest.retain(|it| !it.is_finished());
                    if oldest.len() >= MAX_CONNECTIONS && let Some(oldest) = oldest.pop_front() {
                        oldest.abort();
                    }
                    let pages = Arc::clone(&pages);
                    oldest.push_back(serving.spawn(async move {
                        // Whoever asks has gone, or is too slow.
                        drop(timeout(LIMIT, serve(stream, &*pages)).await);
                    }));
                }
                Err(_) => sleep(SHORTAGE_PAUSE).await,
            },
            Some(_) = serving.join_next() => {}
        }
    }
}

async fn serve(mut stream: TcpStream, pages: impl Fn(&str) -> Page) -> io::Result<()> {
    let mut head = Vec::new();
    let asked = loop {
        match parse(&head) {
            Asked::More if head.len() < MAX_HEAD => {}
            asked @ (Asked::More | Asked::Nonsense | Asked::Page { .. }) => break asked,
        }
        if (&mut stream).take(1024).read_buf(&mut head).await? == 0 {
            break Asked::Nonsense;
        }
    };
    let (page, has_body) = match asked {
        Asked::More | Asked::Nonsense => (Status::BadRequest.page(), true),
        Asked::Page { path, method } => match method {
            Method::Get => (pages(&path), true),
            Method::Head => (pages(&path), false),
            Method::Other => (Status::MethodNotAllowed.page(), true),
        },
    };
    let mut answer = format!(
        "HTTP/1.1 {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nAllow: GET, HEAD\r\n\
         Cache-Control: no-store\r\nConnection: close\r\n\r\n",
        page.status.line(),
        page.media_type,
        page.text.len()
    );
    if has_body {
        answer.push_str(&page.text);
    }
    stream.write_all(answer.as_bytes()).await?;
    stream.shutdown().await?;
    // What is still under way would reset the connection, and the answer with it.
    while stream.read(&mut [0; 1024]).await? > 0 {}
    Ok(())
}

/// What is asked for, as far as it has come.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    More,
    Nonsense,
    Page { path: String, method: Method },
}

#[derive(Debug, PartialEq, Eq)]
enum Method {
    Get,
    Head,
    Other,
}

fn parse(head: &[u8]) -> Asked {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(head) {
        Err(_) => Asked::Nonsense,
        Ok(httparse::Status::Partial) => Asked::More,
        Ok(httparse::Status::Complete(_)) => {
            let path = request.path.unwrap_or_default();
            Asked::Page {
                path: path.split('?').next().unwrap_or_default().to_owned(),
                method: match request.method {
                    Some("GET") => Method::Get,
                    Some("HEAD") => Method::Head,
                    _ => Method::Other,
                },
            }
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    /// Serves a page at `/there` and nowhere else, as long as the task is not dropped.
    async fn start() -> (SocketAddr, JoinSet<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut task = JoinSet::new();
        task.spawn(run(listener, |path| match path {
            "/there" => Page {
                text: "hello".into(),
                ..Status::Ok.page()
            },
            _ => Status::NotFound.page(),
        }));
        (address, task)
    }

    async fn ask(address: SocketAddr, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    #[tokio::test]
    async fn a_page_is_served_and_what_is_none_is_refused() {
        let (address, _task) = start().await;
        let long = [b"GET /there HTTP/1.1\r\nA: ".as_slice(), &[b'a'; MAX_HEAD]].concat();
        let many = format!("GET /there HTTP/1.1\r\n{}\r\n", "A: a\r\n".repeat(100));
        for (request, line, end) in [
            (
                &b"GET /there HTTP/1.1\r\nHost: x\r\n\r\n"[..],
                "200 OK",
                "\r\n\r\nhello",
            ),
            (b"GET /there?a=b HTTP/1.0\r\n\r\n", "200 OK", "hello"),
            (b"HEAD /there HTTP/1.1\r\n\r\n", "200 OK", "\r\n\r\n"),
            (
                b"GET /elsewhere HTTP/1.1\r\n\r\n",
                "404 Not Found",
                "Found\n",
            ),
            (
                b"POST /there HTTP/1.1\r\n\r\n",
                "405 Method Not Allowed",
                "Allowed\n",
            ),
            (
                b"\x16\x03\x01\x02\x00\r\n\r\n",
                "400 Bad Request",
                "Request\n",
            ),
            (&long, "400 Bad Request", "Request\n"),
            (many.as_bytes(), "400 Bad Request", "Request\n"),
        ] {
            let answer = ask(address, request).await;
            let asked = String::from_utf8_lossy(&request[..request.len().min(40)]).into_owned();
            assert!(
                answer.starts_with(&format!("HTTP/1.1 {line}\r\n")),
                "{asked}: {answer}"
            );
            assert!(answer.ends_with(end), "{asked}: {answer}");
        }
    }

    #[tokio::test]
    async fn those_who_are_slow_hold_up_nobody() {
        let (address, _task) = start().await;
        let mut slow = Vec::new();
        for _ in 0..2 * MAX_CONNECTIONS {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET /there").await.unwrap();
            slow.push(stream);
        }
        let answer = ask(address, b"GET /there HTTP/1.1\r\n\r\n").await;
        assert!(answer.ends_with("hello"), "{answer}");
        // The first of them has made room, long before its time.
        let first = slow[0].read(&mut [0; 1]).await;
        assert!(!matches!(first, Ok(1..)), "{first:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_nothing_is_left() {
        let (address, _task) = start().await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        let end = stream.read(&mut [0; 1]).await;
        assert!(!matches!(end, Ok(1..)), "{end:?}");
    }
}
