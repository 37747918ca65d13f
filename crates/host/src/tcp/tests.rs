//! Connections of a platform that is not the operating system.

use std::sync::{Mutex, MutexGuard};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

/// What has been done with a connection.
#[derive(Debug, Default)]
struct Done {
    written: Vec<u8>,
    has_shut: bool,
    is_closed: bool,
}

/// A connection that takes three bytes and no more, and brings one.
#[derive(Debug)]
struct Narrow(Arc<Mutex<Done>>);

const ROOM: usize = 3;

fn narrow() -> (TcpStream, Arc<Mutex<Done>>) {
    let done = Arc::<Mutex<Done>>::default();
    (TcpStream::new(Narrow(Arc::clone(&done))), done)
}

impl Narrow {
    fn done(&self) -> MutexGuard<'_, Done> {
        self.0.lock().unwrap()
    }
}

impl Drop for Narrow {
    fn drop(&mut self) {
        self.done().is_closed = true;
    }
}

impl TcpConnection for Narrow {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(([192, 0, 2, 1], 1).into())
    }

    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Err(io::ErrorKind::NotConnected.into())
    }

    fn poll_read(&self, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        buf.put_slice(b"!");
        Poll::Ready(Ok(()))
    }

    fn poll_peek(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll_read(cx, buf)
    }

    fn poll_write(&self, _: &mut Context<'_>, bufs: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let written = &mut self.done().written;
        let bytes = bufs.iter().flat_map(|it| it.iter());
        let taken: Vec<_> = bytes.take(ROOM - written.len()).copied().collect();
        written.extend(&taken);
        match taken.len() {
            0 => Poll::Pending,
            len => Poll::Ready(Ok(len)),
        }
    }

    fn shutdown(&self) -> io::Result<()> {
        self.done().has_shut = true;
        Ok(())
    }

    fn send_at_once(&self) -> io::Result<()> {
        Ok(())
    }

    fn reset_on_close(&self, _: bool) -> io::Result<()> {
        Ok(())
    }

    fn keep_alive(&self, _: KeepAlive) -> io::Result<()> {
        Ok(())
    }

    fn info(&self) -> TcpInfo {
        TcpInfo::default()
    }
}

#[tokio::test]
async fn halves_of_a_platforms_connection_are_as_those_of_the_system() {
    let (stream, done) = narrow();
    let (mut read, mut write) = stream.into_split();
    assert_eq!(read.read_u8().await.unwrap(), b'!');
    write.write_all(b"ab").await.unwrap();
    assert_eq!(write.try_write(b"cd").unwrap(), 1);
    let error = write.try_write(b"d").unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    let whole = read.reunite(write).unwrap();
    assert!(!done.lock().unwrap().has_shut);
    let (read, write) = whole.into_split();
    drop(write);
    let has = |done: &Mutex<Done>| {
        let done = done.lock().unwrap();
        (done.has_shut, done.is_closed)
    };
    assert_eq!(has(&done), (true, false));
    drop(read);
    assert_eq!(has(&done), (true, true));
    assert_eq!(done.lock().unwrap().written, b"abc");
}

#[tokio::test]
async fn a_half_that_is_forgotten_sends_no_end() {
    let (stream, done) = narrow();
    let (_read, write) = stream.into_split();
    write.forget();
    assert!(!done.lock().unwrap().has_shut);
}
