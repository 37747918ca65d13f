//! A dialler that wants no connection, but to find out what is around the peer that it dials.

use std::{net::Ipv4Addr, sync::Arc};

use p2pconnect::{CoordinatorAddr, PeerId, SecretKey};
use p2pconnect_identity::client_config;
use p2pconnect_proto::{
    COORDINATION_ALPN, Candidate, NatReport, codec,
    message::{DialRequest, RefusalReason, Request, Response},
};
use quinn::{ClientConfig, Connection, Endpoint, crypto::rustls::QuicClientConfig};

/// A connection to a coordinator.
#[derive(Debug)]
pub struct Scanner {
    connection: Connection,
    _endpoint: Endpoint,
}

impl Scanner {
    /// Connects with a key of its own to a coordinator that is known by an IPv4 address.
    pub async fn connect(coordinator: &CoordinatorAddr) -> Self {
        let key = SecretKey::generate().unwrap();
        let tls = client_config(&key, coordinator.id, COORDINATION_ALPN).unwrap();
        let quic = QuicClientConfig::try_from(tls).unwrap();
        let mut endpoint = Endpoint::client((Ipv4Addr::UNSPECIFIED, 0).into()).unwrap();
        endpoint.set_default_client_config(ClientConfig::new(Arc::new(quic)));
        let address = (
            coordinator.host.parse::<Ipv4Addr>().unwrap(),
            coordinator.port,
        )
            .into();
        let connecting = endpoint.connect(address, "p2pconnect").unwrap();
        Self {
            connection: connecting.await.unwrap(),
            _endpoint: endpoint,
        }
    }

    /// Dials, and does nothing with the introduction.
    ///
    /// # Errors
    ///
    /// The coordinator's refusal.
    pub async fn dial(
        &self,
        callee: PeerId,
        candidates: Vec<Candidate>,
        nat: NatReport,
    ) -> Result<(), RefusalReason> {
        let request = Request::Dial(DialRequest {
            candidates,
            nat,
            ..DialRequest::new(callee)
        });
        let (mut send, mut receive) = self.connection.open_bi().await.unwrap();
        let bytes = codec::encode(&request).unwrap();
        send.write_all(&bytes).await.unwrap();
        send.finish().unwrap();
        let answer = receive
            .read_to_end(codec::MAX_BODY + codec::HEADER_LEN)
            .await;
        match codec::decode(&answer.unwrap()[codec::HEADER_LEN..]).unwrap() {
            Response::Introduced(_) => Ok(()),
            Response::Refused(refusal) => Err(refusal.reason),
            other => panic!("{other:?}"),
        }
    }
}
