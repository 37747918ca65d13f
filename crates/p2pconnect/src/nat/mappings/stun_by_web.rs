//! STUN inside a WebSocket of the coordinator, for networks that let nothing else out to it.

use std::{io, net::SocketAddr, sync::Arc};

use p2pconnect_host::TcpStream;
use p2pconnect_link::web;
use p2pconnect_stun::{Opening, Over, Stream};

use super::Shared;
use crate::sync::lock;

/// A server that is asked by a WebSocket.
#[derive(Debug, Clone)]
pub(crate) struct StunByWeb {
    pub(crate) server: SocketAddr,
    pub(crate) client: web::Client,
}

impl Over for StunByWeb {
    fn open(&self, stream: TcpStream) -> Opening<'_> {
        Box::pin(async move {
            let opened = self.client.open(stream).await;
            let (stream, _) = opened.map_err(|error| io::Error::other(error.to_string()))?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}

impl Shared {
    /// Returns where STUN is asked by a WebSocket.
    pub(super) fn web_server(&self) -> Option<SocketAddr> {
        lock(&self.by_web).as_ref().map(|it| it.server)
    }

    /// Returns what STUN is spoken over with a server, if not with TCP alone.
    pub(super) fn over(&self, server: SocketAddr) -> Option<Arc<dyn Over>> {
        let by_web = lock(&self.by_web);
        let over = by_web.as_ref().filter(|it| it.server == server)?;
        Some(Arc::new(over.clone()))
    }
}
