//! Our server as the `stun_codec` crate sees it, which shares no code with ours.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use bytecodec::{DecodeExt, EncodeExt};
use p2pconnect_stun::{StunServer, StunServerConfig, StunServerHandle};
use stun_codec::{
    Message, MessageClass, MessageDecoder, MessageEncoder, Method, TransactionId,
    rfc5389::{
        Attribute,
        attributes::{Fingerprint, Software, Username, XorMappedAddress},
        methods::BINDING,
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

/// Above anything that loopback needs on a loaded machine.
const LONG: Duration = Duration::from_secs(20);

/// The method of TURN (RFC 8656), which a STUN server does not know.
const ALLOCATE: u16 = 3;

type StunMessage = Message<Attribute>;

struct Client(TcpStream);

impl Client {
    async fn connect() -> (Self, StunServerHandle) {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut config = StunServerConfig::default();
        config.software = Some("p2pconnect".to_owned());
        let server = StunServer::bind(&[address], config).unwrap().spawn();
        let stream = TcpStream::connect(server.local_addrs()[0]).await.unwrap();
        (Self(stream), server)
    }

    async fn send(&mut self, message: StunMessage) {
        let bytes = MessageEncoder::new().encode_into_bytes(message).unwrap();
        self.0.write_all(&bytes).await.unwrap();
    }

    async fn receive(&mut self) -> StunMessage {
        let mut bytes = vec![0; 20];
        self.read_exact(&mut bytes).await;
        let length = usize::from(u16::from_be_bytes([bytes[2], bytes[3]]));
        bytes.resize(20 + length, 0);
        self.read_exact(&mut bytes[20..]).await;
        let mut decoder = MessageDecoder::<Attribute>::new();
        decoder.decode_from_bytes(&bytes).unwrap().unwrap()
    }

    async fn read_exact(&mut self, into: &mut [u8]) {
        let read = timeout(LONG, self.0.read_exact(into)).await;
        read.unwrap().unwrap();
    }
}

fn request(method: Method, id: u8) -> StunMessage {
    Message::new(MessageClass::Request, method, TransactionId::new([id; 12]))
}

#[tokio::test]
async fn pipelined_requests_are_answered_with_the_address() {
    let (mut client, _server) = Client::connect().await;
    for id in 0..10 {
        client.send(request(BINDING, id)).await;
    }
    for id in 0..10 {
        let response = client.receive().await;
        assert_eq!(response.class(), MessageClass::SuccessResponse);
        assert_eq!(response.method(), BINDING);
        assert_eq!(response.transaction_id(), TransactionId::new([id; 12]));
        let mapped = response.get_attribute::<XorMappedAddress>().unwrap();
        assert_eq!(mapped.address(), client.0.local_addr().unwrap());
        let software = response.get_attribute::<Software>().unwrap();
        assert_eq!(software.description(), "p2pconnect");
    }
}

#[tokio::test]
async fn fingerprint_is_checked_and_returned() {
    let (mut client, _server) = Client::connect().await;
    let mut message = request(BINDING, 1);
    let fingerprint = Fingerprint::new(&message).unwrap();
    message.add_attribute(fingerprint);
    client.send(message).await;
    // The decoder verifies it: RFC 5389 section 15.5.
    let response = client.receive().await;
    assert_eq!(response.class(), MessageClass::SuccessResponse);
    assert!(response.get_attribute::<Fingerprint>().is_some());
}

#[tokio::test]
async fn what_means_nothing_to_the_server_is_passed_over_and_the_connection_goes_on() {
    let (mut client, _server) = Client::connect().await;
    let mut message = request(BINDING, 1);
    message.add_attribute(Username::new("somebody".to_owned()).unwrap());
    client.send(message).await;
    let response = client.receive().await;
    assert_eq!(response.class(), MessageClass::SuccessResponse);

    client
        .send(request(Method::new(ALLOCATE).unwrap(), 2))
        .await;
    client.send(request(BINDING, 3)).await;
    let response = client.receive().await;
    assert_eq!(response.transaction_id(), TransactionId::new([3; 12]));
    assert_eq!(response.class(), MessageClass::SuccessResponse);
}
