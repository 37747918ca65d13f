//! The callee's side of a verification.

use std::{io, sync::Arc};

use p2pconnect_host::TcpStream;
use p2pconnect_proto::{message::MAX_HANDSHAKE, preamble::PreambleReader};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use super::{
    COORDINATED, FLIGHT_PATIENCE, ON_STREAM, Open, Tagged, Verified, Verifier, expect_nomination,
};
use crate::{
    session::path_faults::probe,
    stream::{
        coordinated_handshake::{Progress, TAG_LEN, Tags},
        preamble::{Preamble, read_opening, read_to_end, stranger},
        transport::Transport,
    },
};

impl Verifier {
    /// Verifies a connection as the callee.
    pub(super) async fn as_controlled(
        &self,
        open: Open,
        config: Arc<ServerConfig>,
    ) -> io::Result<Verified> {
        let mut stream = open.stream;
        stream.write_all(self.ours.as_bytes()).await?;
        if !open.opening_read {
            let opening = read_opening(&mut stream).await;
            if opening.inspect_err(|error| self.note_silent_end(open.origin, error))? != self.theirs
            {
                return Err(stranger());
            }
        }
        let _hearing = self.hearings.begin();
        let mode = stream.read_u8().await?;
        read_to_end(&mut stream, &mut PreambleReader::behind(self.theirs)).await?;
        match mode {
            ON_STREAM => {
                // The semaphore is never closed.
                let _running = self.handshakes.acquire().await.map_err(io::Error::other)?;
                stream.write_all(&probe(&stream)).await?;
                let transport = Transport::Direct(Preamble::passed(stream));
                let mut tls = TlsAcceptor::from(config).accept(transport).await?;
                let predecessors = expect_nomination(&mut tls).await?;
                Ok(Verified::OnStream(Box::new(tls.into()), predecessors))
            }
            COORDINATED => self.expect_tag(stream).await,
            _ => Err(stranger()),
        }
    }

    /// Waits for the dialler's tag, and until the dialler uses the connection.
    async fn expect_tag(&self, mut stream: TcpStream) -> io::Result<Verified> {
        let mut tag = [0; TAG_LEN];
        stream.read_exact(&mut tag).await?;
        let len = usize::from(stream.read_u16().await?);
        if len > MAX_HANDSHAKE {
            return Err(stranger());
        }
        let mut flight = vec![0; len];
        stream.read_exact(&mut flight).await?;
        let tags = self.tags_with(flight).await.ok_or_else(stranger)?;
        if !tags.is_theirs(&tag) {
            return Err(stranger());
        }
        if stream.peek(&mut [0]).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(Verified::Tagged(Tagged {
            stream,
            ours: tags.ours,
        }))
    }

    /// Waits for the end of the coordinated handshake. If the coordinator does not pass the last
    /// flight on, there is this copy of it.
    async fn tags_with(&self, flight: Vec<u8>) -> Option<Tags> {
        let mut progress = self.handshake_progress.clone();
        let is_over = |progress: &Progress| !matches!(progress, Progress::UnderWay);
        let is_late = timeout(FLIGHT_PATIENCE, progress.wait_for(is_over))
            .await
            .is_err();
        if is_late && self.handshake_bytes.try_send(flight).is_err() {
            tracing::debug!("a last flight has come too often");
        }
        match &*progress.wait_for(is_over).await.ok()? {
            Progress::Done(tags) => Some(tags.clone()),
            Progress::UnderWay | Progress::Failed(_) => None,
        }
    }
}
