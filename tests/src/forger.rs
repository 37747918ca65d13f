//! Datagrams that cost their sender nothing: each begins a QUIC connection and ends it.

use std::sync::Arc;

use p2pconnect_identity::{SecretKey, client_config};
use p2pconnect_proto::COORDINATION_ALPN;
use rustls::{
    CipherSuite, Side,
    crypto::ring::cipher_suite::TLS13_AES_128_GCM_SHA256,
    pki_types::ServerName,
    quic::{ClientConnection, Version},
};

/// The length that the first datagram of a connection must have (RFC 9000 section 14.1).
pub const DATAGRAM: usize = 1200;

/// A frame that ends the connection, CONNECTION_CLOSE with no error and no reason.
const CLOSE: [u8; 4] = [0x1c, 0, 0, 0];

/// Makes datagrams, each of which a server takes for a new client.
#[derive(Debug)]
pub struct Forger {
    hello: Vec<u8>,
    count: u64,
}

impl Forger {
    /// Prepares a ClientHello for all of them.
    #[expect(clippy::new_without_default, reason = "it makes a key")]
    pub fn new() -> Self {
        let key = SecretKey::generate().unwrap();
        let tls = client_config(&key, key.peer_id(), COORDINATION_ALPN).unwrap();
        let name = ServerName::try_from("p2pconnect").unwrap();
        // Transport parameters: our connection id, which is empty.
        let parameters = vec![0x0f, 0];
        let mut client =
            ClientConnection::new(Arc::new(tls), Version::V1, name, parameters).unwrap();
        let mut hello = Vec::new();
        assert!(client.write_hs(&mut hello).is_none());
        Self { hello, count: 0 }
    }

    /// Returns an Initial packet (RFC 9000 section 17.2.2) with a whole ClientHello and a frame
    /// that closes the connection.
    pub fn datagram(&mut self) -> Vec<u8> {
        const PACKET_NUMBER: usize = 4;
        const TAG: usize = 16;

        self.count += 1;
        let id = self.count.to_be_bytes();
        let mut packet = vec![0xc3, 0, 0, 0, 1, 8];
        packet.extend(id);
        // No source connection id, no token, and the length of what follows as two bytes.
        packet.extend([0, 0]);
        let rest = u16::try_from(DATAGRAM - packet.len() - 2).unwrap();
        packet.extend((0x4000 | rest).to_be_bytes());
        let number_at = packet.len();
        packet.extend([0; PACKET_NUMBER]);
        let header = packet.clone();

        let length = u16::try_from(self.hello.len()).unwrap();
        let mut payload = vec![0x06, 0];
        payload.extend((0x4000 | length).to_be_bytes());
        payload.extend(&self.hello);
        payload.extend(CLOSE);
        payload.resize(DATAGRAM - header.len() - TAG, 0);

        let suite = TLS13_AES_128_GCM_SHA256.tls13().unwrap();
        assert_eq!(suite.common.suite, CipherSuite::TLS13_AES_128_GCM_SHA256);
        let keys = suite
            .quic_suite()
            .unwrap()
            .keys(&id, Side::Client, Version::V1);
        let tag = keys.local.packet.encrypt_in_place(0, &header, &mut payload);
        packet.extend(payload);
        packet.extend(tag.unwrap().as_ref());
        let (head, sample) = packet.split_at_mut(number_at + PACKET_NUMBER);
        let (first, number) = head.split_at_mut(number_at);
        let protection = &keys.local.header;
        let sample = &sample[..protection.sample_len()];
        protection
            .encrypt_in_place(sample, &mut first[0], number)
            .unwrap();
        packet
    }
}
