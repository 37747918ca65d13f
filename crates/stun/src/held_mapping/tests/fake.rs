//! A STUN server that does what the test says.

use stun_types::{
    attribute::XorMappedAddress,
    message::{Message, MessageWriteVec},
    prelude::{MessageWrite, MessageWriteExt},
};

use super::*;

pub(super) struct FakeServer {
    listener: TcpListener,
    /// Keeps the port from everybody else while nothing listens on it.
    port: TcpSocket,
}

impl FakeServer {
    pub(super) fn start() -> Self {
        Self::listen(
            Host::default()
                .tcp_socket(any_port(), Sharing::Shared)
                .unwrap(),
        )
    }

    fn listen(port: TcpSocket) -> Self {
        let listener = Host::default()
            .shared_listener(port.local_addr().unwrap(), 8)
            .unwrap();
        Self { listener, port }
    }

    /// Stops listening, so that connections are refused.
    pub(super) fn stop(self) -> TcpSocket {
        self.port
    }

    /// Listens again where an earlier server was.
    pub(super) fn restart(port: TcpSocket) -> Self {
        Self::listen(port)
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    pub(super) async fn accept(&self) -> MessageReader<TcpStream> {
        let (stream, _) = timeout(LONG, self.listener.accept())
            .await
            .unwrap()
            .unwrap();
        MessageReader::new(stream)
    }

    pub(super) async fn accept_and_answer(&self, mapped: SocketAddr) -> MessageReader<TcpStream> {
        let mut connection = self.accept().await;
        let request = read(&mut connection).await;
        answer(&mut connection, &request, mapped).await;
        connection
    }
}

pub(super) async fn read(connection: &mut MessageReader<TcpStream>) -> Vec<u8> {
    timeout(LONG, connection.next())
        .await
        .unwrap()
        .unwrap()
        .unwrap()
}

pub(super) async fn answer(
    connection: &mut MessageReader<TcpStream>,
    request: &[u8],
    mapped: SocketAddr,
) {
    let request = parse(request).unwrap();
    let mut response = Message::builder_success(&request, MessageWriteVec::new());
    response
        .add_attribute(&XorMappedAddress::new(mapped, request.transaction_id()))
        .unwrap();
    let bytes = response.finish();
    connection.get_mut().write_all(&bytes).await.unwrap();
}

pub(super) fn peer(connection: &MessageReader<TcpStream>) -> SocketAddr {
    connection.get_ref().peer_addr().unwrap()
}

pub(super) fn close(connection: MessageReader<TcpStream>, reset: bool) {
    if reset {
        connection.get_ref().reset_on_close().unwrap();
    } else {
        connection.get_ref().deliver_on_close().unwrap();
    }
    drop(connection);
}
