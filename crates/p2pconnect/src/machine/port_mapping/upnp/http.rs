//! Answers by HTTP, read from bytes as they come, up to a bound.

use httparse::{EMPTY_HEADER, Header, Status, parse_chunk_size};

/// The longest head of an answer, in bytes.
const MAX_HEAD: usize = 4096;

/// The most lines that a head may have.
const MAX_HEADERS: usize = 32;

/// The longest body, in bytes. Descriptions of routers have 3 to 20 kB.
const MAX_BODY: usize = 64 * 1024;

/// The longest line before a chunk, in bytes: a length, and room for extensions that nobody uses.
const MAX_CHUNK_LINE: usize = 64;

/// Why bytes are no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HttpError {
    /// They are not HTTP.
    #[error("it is not HTTP")]
    Malformed,
    /// There are more than any router needs.
    #[error("it is too long")]
    TooLong,
    /// The connection ended before them.
    #[error("it is cut off")]
    Incomplete,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) body: Vec<u8>,
}

/// Takes the bytes of a connection on which one answer comes.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// What has come and is not understood yet.
    bytes: Vec<u8>,
    /// Up to where no head has ended.
    searched: usize,
    head: Option<(u16, Length)>,
    body: Vec<u8>,
}

/// How long a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    Bytes(usize),
    /// Until the end of the connection.
    ToTheEnd,
    Chunked,
}

/// What an answer by HTTP over UDP says of its place (UPnP Device Architecture section 1.3.3).
pub(super) fn location(datagram: &[u8]) -> Option<&str> {
    let mut headers = [EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Response::new(&mut headers);
    head.parse(datagram).ok()?;
    let is_answer = head.code == Some(200);
    is_answer.then_some(())?;
    str::from_utf8(value(head.headers, "location")?).ok()
}

impl Reading {
    /// Takes more bytes, and returns the answer once it is whole.
    pub(super) fn push(&mut self, more: &[u8]) -> Result<Option<Response>, HttpError> {
        self.bytes.extend_from_slice(more);
        let (status, length) = match self.head {
            Some(head) => head,
            None => match self.read_head()? {
                Some(head) => head,
                None => return Ok(None),
            },
        };
        let is_whole = match length {
            Length::Chunked => self.read_chunks()?,
            Length::Bytes(_) | Length::ToTheEnd => {
                self.body.append(&mut self.bytes);
                matches!(length, Length::Bytes(length) if self.body.len() >= length)
            }
        };
        if let Length::Bytes(length) = length {
            self.body.truncate(length);
        }
        if self.body.len() > MAX_BODY {
            return Err(HttpError::TooLong);
        }
        Ok(is_whole.then(|| self.response(status)))
    }

    /// Takes in that no more bytes come, and returns the answer if that is how it ends.
    pub(super) fn end(&mut self) -> Result<Response, HttpError> {
        match self.head {
            Some((status, Length::ToTheEnd)) => Ok(self.response(status)),
            _ => Err(HttpError::Incomplete),
        }
    }

    fn response(&mut self, status: u16) -> Response {
        Response {
            status,
            body: std::mem::take(&mut self.body),
        }
    }

    /// Reads the head when it is there, and leaves what follows.
    fn read_head(&mut self) -> Result<Option<(u16, Length)>, HttpError> {
        let from = self.searched.saturating_sub(3);
        let end = self.bytes[from..]
            .windows(4)
            .position(|it| it == b"\r\n\r\n");
        self.searched = self.bytes.len();
        let Some(end) = end.map(|at| from + at + 4).filter(|end| *end <= MAX_HEAD) else {
            let is_too_long = self.bytes.len() > MAX_HEAD;
            return if is_too_long {
                Err(HttpError::TooLong)
            } else {
                Ok(None)
            };
        };
        let mut headers = [EMPTY_HEADER; MAX_HEADERS];
        let mut head = httparse::Response::new(&mut headers);
        match head.parse(&self.bytes[..end]) {
            Ok(Status::Complete(_)) => {}
            Err(httparse::Error::TooManyHeaders) => return Err(HttpError::TooLong),
            Ok(Status::Partial) | Err(_) => return Err(HttpError::Malformed),
        }
        let status = head.code.ok_or(HttpError::Malformed)?;
        let length = Length::of(head.headers)?;
        self.bytes.drain(..end);
        self.head = Some((status, length));
        Ok(self.head)
    }

    /// Moves whole chunks into the body (RFC 9112 section 7.1), and tells whether that was the last
    /// one.
    fn read_chunks(&mut self) -> Result<bool, HttpError> {
        let mut read = 0;
        let is_last = loop {
            let rest = &self.bytes[read..];
            let (line, length) = match parse_chunk_size(rest) {
                Ok(Status::Complete(found)) => found,
                Ok(Status::Partial) if rest.len() <= MAX_CHUNK_LINE => break false,
                Ok(Status::Partial) | Err(_) => return Err(HttpError::Malformed),
            };
            if length == 0 {
                break true;
            }
            let length = usize::try_from(length).map_err(|_| HttpError::TooLong)?;
            if length > MAX_BODY - self.body.len().min(MAX_BODY) {
                return Err(HttpError::TooLong);
            }
            let end = line + length;
            // The line break behind a chunk.
            let Some(chunk) = rest.get(line..end + 2) else {
                break false;
            };
            self.body.extend_from_slice(&chunk[..length]);
            read += end + 2;
        };
        self.bytes.drain(..read);
        Ok(is_last)
    }
}

impl Length {
    fn of(headers: &[Header<'_>]) -> Result<Self, HttpError> {
        if let Some(encoding) = value(headers, "transfer-encoding") {
            let is_chunked = encoding.eq_ignore_ascii_case(b"chunked");
            return if is_chunked {
                Ok(Self::Chunked)
            } else {
                Err(HttpError::Malformed)
            };
        }
        let Some(length) = value(headers, "content-length") else {
            return Ok(Self::ToTheEnd);
        };
        let length = str::from_utf8(length)
            .ok()
            .and_then(|it| it.trim().parse().ok());
        match length {
            Some(length) if length <= MAX_BODY => Ok(Self::Bytes(length)),
            Some(_) => Err(HttpError::TooLong),
            None => Err(HttpError::Malformed),
        }
    }
}

fn value<'a>(headers: &[Header<'a>], name: &str) -> Option<&'a [u8]> {
    let header = headers.iter().find(|it| it.name.eq_ignore_ascii_case(name));
    header.map(|it| it.value)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failing unwrap is a failing test")]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads an answer whose connection ends behind it, in pieces of a length.
    fn read(bytes: &[u8], piece: usize) -> Result<Response, HttpError> {
        let mut reading = Reading::default();
        for piece in bytes.chunks(piece) {
            if let Some(response) = reading.push(piece)? {
                return Ok(response);
            }
        }
        reading.end()
    }

    #[test]
    fn a_body_ends_by_its_length_by_chunks_or_with_the_connection() {
        for answer in [
            "HTTP/1.1 200 OK\r\ncontent-LENGTH: 5\r\n\r\nhello, and more",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3;x\r\nllo\r\n0\r\n\r\n",
            "HTTP/1.0 200 OK\r\nServer: x\r\n\r\nhello",
        ] {
            for piece in [1, 2, 7, answer.len()] {
                let response = read(answer.as_bytes(), piece).unwrap();
                assert_eq!(
                    (response.status, &*response.body),
                    (200, &b"hello"[..]),
                    "{answer}"
                );
            }
        }
        let nothing = read(b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", 1).unwrap();
        assert!(nothing.body.is_empty());
    }

    #[test]
    fn what_has_no_end_is_given_up() {
        let head = "HTTP/1.1 200 OK\r\n";
        let long = [
            format!("{head}A: {}", "x".repeat(MAX_HEAD)),
            format!("{head}{}\r\n", "A: x\r\n".repeat(MAX_HEADERS + 1)),
            format!("{head}Content-Length: 65537\r\n\r\n"),
            format!("{head}\r\n{}", "x".repeat(MAX_BODY + 1)),
            format!("{head}Transfer-Encoding: chunked\r\n\r\n10001\r\n"),
            format!(
                "{head}Transfer-Encoding: chunked\r\n\r\n{}",
                "8\r\n12345678\r\n".repeat(MAX_BODY / 8 + 1)
            ),
        ];
        for answer in long {
            for piece in [100, 5000] {
                let read = read(answer.as_bytes(), piece);
                assert_eq!(read, Err(HttpError::TooLong), "{}", &answer[..40]);
            }
        }
        let chunk = format!(
            "{head}Transfer-Encoding: chunked\r\n\r\n1;{}",
            "x".repeat(100)
        );
        assert_eq!(read(chunk.as_bytes(), 100), Err(HttpError::Malformed));
        for cut in ["", head, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhell"] {
            assert_eq!(read(cut.as_bytes(), 9), Err(HttpError::Incomplete), "{cut}");
        }
    }

    #[test]
    fn an_answer_to_a_search_names_a_place() {
        let answer = "HTTP/1.1 200 OK\r\nEXT:\r\nLocation: http://10.0.0.1:5000/a\r\n\r\n";
        assert_eq!(location(answer.as_bytes()), Some("http://10.0.0.1:5000/a"));
        let notify = answer.replace("HTTP/1.1 200 OK", "NOTIFY * HTTP/1.1");
        assert_eq!(location(notify.as_bytes()), None);
        assert_eq!(location(b""), None);
    }

    proptest! {
        #[test]
        fn nothing_that_is_read_panics_or_grows(
            parts in prop::collection::vec(
                prop_oneof![
                    prop::collection::vec(any::<u8>(), 0..40),
                    prop::sample::select(vec![
                        "HTTP/1.1 200 OK\r\n", "Content-Length: 9\r\n", "\r\n",
                        "Transfer-Encoding: chunked\r\n", "ffffffffffffffff\r\n", "3\r\n", "0\r\n\r\n",
                    ]).prop_map(|text| text.as_bytes().to_vec()),
                ],
                0..40,
            )
        ) {
            // Whether it can be read is no matter here.
            drop(read(&parts.concat(), 7));
            location(&parts.concat());
            let mut reading = Reading::default();
            for part in &parts {
                if reading.push(part).is_err() {
                    break;
                }
                prop_assert!(reading.bytes.len() + reading.body.len() <= MAX_HEAD + MAX_BODY + 100);
            }
        }
    }
}
