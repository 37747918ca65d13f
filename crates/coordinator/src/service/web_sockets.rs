//! Clients that come by a WebSocket, most of them by way of a web server.

use std::{io, net::SocketAddr, time::Duration};

use p2pconnect_host::{Host, Sharing, TcpListener};
use p2pconnect_link::web::{Certificate, Incoming, receive};
use p2pconnect_stun::StunTaker;
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing::{debug, warn};

/// Connections that may wait to be accepted, as with STUN.
const BACKLOG: u32 = 1024;

/// How many may be becoming WebSockets at a time. Each takes some 8 KiB, without TLS.
const MAX_UPGRADING: usize = 1024;

/// How long that may take, until the first bytes inside: three round trips, or four with TLS.
const UPGRADE: Duration = Duration::from_secs(5);

/// How long nobody is accepted after that has failed: something is lacking, which ends with others.
const PAUSE: Duration = Duration::from_millis(100);

/// Where WebSockets come from.
#[derive(Debug)]
pub(crate) struct WebSockets {
    listener: TcpListener,
    /// With which TLS is spoken here, if no web server does.
    certificate: Option<Certificate>,
    upgrading: JoinSet<Option<Incoming>>,
    /// Serves those of clients that speak STUN.
    stun: StunTaker,
    asking: JoinSet<()>,
    /// Whether it has been said that the web server tells no ports.
    is_told: bool,
}

impl WebSockets {
    pub(crate) fn listen(
        host: &Host,
        address: SocketAddr,
        certificate: Option<Certificate>,
        stun: StunTaker,
    ) -> io::Result<Self> {
        let socket = host.tcp_socket(address, Sharing::Exclusive)?;
        Ok(Self {
            listener: socket.listen(BACKLOG)?,
            certificate,
            upgrading: JoinSet::new(),
            stun,
            asking: JoinSet::new(),
            is_told: false,
        })
    }

    pub(crate) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Waits for the next one that is no client of STUN; these are served. Cancel safe.
    pub(crate) async fn next(&mut self) -> Incoming {
        loop {
            tokio::select! {
                accepted = self.listener.accept(), if self.upgrading.len() < MAX_UPGRADING => {
                    match accepted {
                        Ok((stream, remote)) => {
                            let certificate = self.certificate.clone();
                            self.upgrading.spawn(async move {
                                let receiving = receive(stream, remote, certificate.as_ref());
                                let told = |error| debug!(%error, "no web socket");
                                timeout(UPGRADE, receiving).await.ok()?.map_err(told).ok()
                            });
                        }
                        Err(error) => {
                            debug!(%error, "a web socket cannot be accepted");
                            sleep(PAUSE).await;
                        }
                    }
                }
                Some(ended) = self.upgrading.join_next() => match ended {
                    Ok(Some(incoming)) if incoming.is_tls() => return incoming,
                    Ok(Some(incoming)) => self.answer(incoming),
                    Ok(None) | Err(_) => {}
                },
                Some(_) = self.asking.join_next() => {}
            }
        }
    }

    /// Serves one that speaks STUN, if it is known where it comes from.
    fn answer(&mut self, incoming: Incoming) {
        let source = incoming.source;
        if incoming.has_port {
            let stun = self.stun.clone();
            let serving = async move { stun.serve(incoming.into_stream(), source).await };
            self.asking.spawn(serving);
        } else if !std::mem::replace(&mut self.is_told, true) {
            warn!(
                "the web server does not say by X-Forwarded-For from which port its clients come, so those \
                 whose network lets out nothing else learn nothing of their NAT"
            );
        }
    }
}
