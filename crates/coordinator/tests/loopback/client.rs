//! A minimal client: one connection, requests and notices, every wait bounded.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use p2pconnect_coordinator::RunningCoordinator;
use p2pconnect_identity::{SecretKey, client_config};
use p2pconnect_proto::{
    COORDINATION_ALPN, Candidate, Grease, PeerId, PunchPort,
    codec::{self, HEADER_LEN},
    message::{
        DialPolicy, DialRequest, Flight, Introduction, Notice, RefusalReason, Registered,
        Registration, Request, Response, Silent, Welcome,
    },
};
use quinn::{
    ApplicationClose, ClientConfig, Connection, ConnectionError, Endpoint, RecvStream,
    TransportConfig, VarInt, crypto::rustls::QuicClientConfig,
};

/// Far beyond what anything here takes; reaching it is a failure.
const BOUND: Duration = Duration::from_secs(10);

pub(crate) async fn bounded<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(BOUND, future)
        .await
        .expect("this should have happened by now")
}

pub(crate) struct Client {
    pub(crate) id: PeerId,
    pub(crate) endpoint: Endpoint,
    pub(crate) connection: Connection,
}

impl Client {
    pub(crate) async fn connect(server: &RunningCoordinator) -> Self {
        Self::connect_as(&SecretKey::generate().unwrap(), server).await
    }

    pub(crate) async fn connect_as(key: &SecretKey, server: &RunningCoordinator) -> Self {
        Self::connect_via(key, server, server.local_addr()).await
    }

    /// Connects to the server by way of another address.
    pub(crate) async fn connect_via(
        key: &SecretKey,
        server: &RunningCoordinator,
        to: SocketAddr,
    ) -> Self {
        Self::open(key, server, to, TransportConfig::default()).await
    }

    /// Connects as a client that has room for the welcome alone and reads nothing.
    pub(crate) async fn connect_deaf(server: &RunningCoordinator) -> Self {
        let key = SecretKey::generate().unwrap();
        let mut transport = TransportConfig::default();
        transport.max_concurrent_uni_streams(VarInt::from_u32(1));
        Self::open(&key, server, server.local_addr(), transport).await
    }

    async fn open(
        key: &SecretKey,
        server: &RunningCoordinator,
        to: SocketAddr,
        transport: TransportConfig,
    ) -> Self {
        let tls = client_config(key, server.server_id(), COORDINATION_ALPN).unwrap();
        let mut config = quic_config(tls);
        config.transport_config(Arc::new(transport));
        let (endpoint, connection) = connect_with(config, to).await;
        Self {
            id: key.peer_id(),
            endpoint,
            connection: connection.unwrap(),
        }
    }

    pub(crate) fn seen(&self) -> SocketAddr {
        self.endpoint.local_addr().unwrap()
    }

    /// Returns the next notice that means something.
    pub(crate) async fn notice(&self) -> Notice {
        loop {
            let mut stream = bounded(self.connection.accept_uni()).await.unwrap();
            match codec::decode(&read_body(&mut stream).await).unwrap() {
                Notice::Unknown(unknown) => assert!(Grease::is_reserved(unknown.kind)),
                notice => return notice,
            }
        }
    }

    pub(crate) async fn welcome(&self) -> Welcome {
        match self.notice().await {
            Notice::Welcome(welcome) => welcome,
            other => panic!("{other:?}"),
        }
    }

    /// Reads notices up to the next introduction; the welcome may come at any place, since
    /// streams are independent.
    pub(crate) async fn introduction(&self) -> Introduction {
        loop {
            if let Notice::Introduction(introduction) = self.notice().await {
                return introduction;
            }
        }
    }

    /// Reads notices up to the next bytes of a handshake.
    pub(crate) async fn flight(&self) -> Flight {
        loop {
            if let Notice::Flight(flight) = self.notice().await {
                return flight;
            }
        }
    }

    /// Reads notices up to the word that a callee is silent.
    pub(crate) async fn silent(&self) -> Silent {
        loop {
            if let Notice::Silent(silent) = self.notice().await {
                return silent;
            }
        }
    }

    pub(crate) async fn request(&self, request: &Request) -> Response {
        self.send(&codec::encode(request).unwrap()).await.unwrap()
    }

    /// Sends these bytes as a request; the error is why the connection ended.
    pub(crate) async fn send(&self, bytes: &[u8]) -> Result<Response, ConnectionError> {
        let (mut send, mut recv) = bounded(self.connection.open_bi()).await?;
        // A server may refuse a request before it has read all of it.
        drop(bounded(send.write_all(bytes)).await);
        drop(send.finish());
        let answer = bounded(recv.read_to_end(codec::MAX_BODY + HEADER_LEN)).await;
        match answer {
            Ok(frame) if !frame.is_empty() => {
                Ok(without_grease(codec::decode(&frame[HEADER_LEN..]).unwrap()))
            }
            Ok(_) | Err(_) => Err(bounded(self.connection.closed()).await),
        }
    }

    /// Shows that it has been invited, and waits until that has been read.
    pub(crate) async fn prove(&self, proof: [u8; 32]) {
        let request = codec::encode(&Request::Prove(proof)).unwrap();
        let (mut send, mut recv) = bounded(self.connection.open_bi()).await.unwrap();
        drop(bounded(send.write_all(&request)).await);
        drop(send.finish());
        let answer = bounded(recv.read_to_end(1)).await;
        assert!(answer.is_err() || answer == Ok(Vec::new()), "{answer:?}");
    }

    pub(crate) async fn register(&self, policy: DialPolicy) -> Registered {
        let registration = Registration {
            serial: 1,
            candidates: self.candidates(),
            ..Registration::new(policy)
        };
        match self.request(&Request::Register(registration)).await {
            Response::Registered(registered) => registered,
            other => panic!("{other:?}"),
        }
    }

    /// Candidates that are told apart by the port, which is the client's own.
    pub(crate) fn candidates(&self) -> Vec<Candidate> {
        vec![Candidate::host(self.seen(), PunchPort::PRIMARY)]
    }

    pub(crate) async fn dial(&self, callee: PeerId) -> Result<Introduction, RefusalReason> {
        self.dial_with(callee, Vec::new()).await
    }

    /// Dials with the first bytes of a handshake.
    pub(crate) async fn dial_with(
        &self,
        callee: PeerId,
        handshake: Vec<u8>,
    ) -> Result<Introduction, RefusalReason> {
        let request = DialRequest {
            candidates: self.candidates(),
            handshake,
            ..DialRequest::new(callee)
        };
        match self.request(&Request::Dial(request)).await {
            Response::Introduced(introduction) => Ok(introduction),
            Response::Refused(refusal) => Err(refusal.reason),
            other @ (Response::Registered(_)
            | Response::Settled
            | Response::Relayed
            | Response::Crossed(_)
            | Response::Noted
            | Response::Found(_)
            | Response::Unknown(_)) => {
                panic!("{other:?}")
            }
        }
    }

    /// Dials until the callee is gone: its end takes its time to become known.
    pub(crate) async fn dial_until_offline(&self, callee: PeerId) {
        bounded(async { while self.dial(callee).await != Err(RefusalReason::Unavailable) {} })
            .await;
    }

    /// Waits until the server closes the connection; returns code and reason.
    pub(crate) async fn closed(&self) -> (u64, String) {
        close_of(bounded(self.connection.closed()).await)
    }
}

/// Takes off what means nothing.
fn without_grease(mut response: Response) -> Response {
    let extensions = match &mut response {
        Response::Registered(it) => &mut it.extensions,
        Response::Introduced(it) => &mut it.extensions,
        Response::Refused(it) => &mut it.extensions,
        Response::Found(it) => &mut it.extensions,
        Response::Settled
        | Response::Relayed
        | Response::Crossed(_)
        | Response::Noted
        | Response::Unknown(_) => return response,
    };
    extensions.0.retain(|it| !Grease::is_reserved(it.kind));
    response
}

fn close_of(error: ConnectionError) -> (u64, String) {
    match error {
        ConnectionError::ApplicationClosed(ApplicationClose { error_code, reason }) => (
            error_code.into_inner(),
            String::from_utf8(reason.to_vec()).unwrap(),
        ),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn quic_config(tls: rustls::ClientConfig) -> ClientConfig {
    ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()))
}

pub(crate) async fn connect_with(
    config: ClientConfig,
    to: SocketAddr,
) -> (Endpoint, Result<Connection, ConnectionError>) {
    let endpoint = Endpoint::client(SocketAddr::new(to.ip(), 0)).unwrap();
    let connecting = endpoint.connect_with(config, to, "p2pconnect").unwrap();
    let connection = bounded(connecting).await;
    (endpoint, connection)
}

async fn read_body(stream: &mut RecvStream) -> Vec<u8> {
    let frame = bounded(stream.read_to_end(codec::MAX_BODY + HEADER_LEN))
        .await
        .unwrap();
    let (header, body) = frame.split_first_chunk::<HEADER_LEN>().unwrap();
    assert_eq!(codec::body_len(*header), Ok(body.len()));
    body.to_vec()
}
