//! Claims to mappings, which the coordinator has its own STUN server attest.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use p2pconnect_proto::{
    Candidate, PunchPort,
    message::{
        DialPolicy, DialRequest, MAX_CLAIMS, ReflexiveClaim, RefusalReason, Request, Response,
    },
};
use p2pconnect_stun::{
    Commitment, HeldMapping, MappingConfig, StunServer, StunServerConfig, StunServerHandle, Witness,
};

use crate::{IPV4, client::Client, config, start};

pub(crate) const SALT: [u8; 16] = [5; 16];

pub(crate) fn dial(callee: &Client, salts: &[[u8; 16]]) -> Request {
    let claim = |salt: &[u8; 16]| ReflexiveClaim {
        punch_port: PunchPort::SPARE,
        salt: *salt,
    };
    Request::Dial(DialRequest {
        claims: salts.iter().map(claim).collect(),
        ..DialRequest::new(callee.id)
    })
}

const ANY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// Starts a STUN server, and returns what it sees.
pub(crate) fn stun_server() -> (StunServerHandle, Witness) {
    let witness = Witness::default();
    let mut stun = StunServerConfig::default();
    stun.witness = Some(witness.clone());
    let stun = StunServer::bind(&[ANY], stun).unwrap();
    (stun.spawn(), witness)
}

/// Has a client hold a mapping by which it shows the commitment of [`SALT`].
pub(crate) async fn held_by(client: &Client, stun: &StunServerHandle) -> HeldMapping {
    let mut mapping = MappingConfig::default();
    mapping.commitment = Some(Commitment::new(SALT, &client.id));
    let held = HeldMapping::open(ANY, stun.local_addrs()[0], mapping);
    held.await.unwrap()
}

#[tokio::test]
async fn the_coordinator_tells_what_its_own_stun_server_has_seen() {
    let (stun, witness) = stun_server();
    let mut config = config(IPV4);
    config.witness = Some(witness);
    let server = start(config);
    let callee = Client::connect(&server).await;
    let dialler = Client::connect(&server).await;
    callee.register(DialPolicy::Anyone).await;

    let held = held_by(&dialler, &stun).await;

    // A salt that nobody has committed to, and another peer's, tell nothing.
    for (client, salts, told) in [(&dialler, [[6; 16], SALT], 1), (&callee, [SALT, SALT], 0)] {
        if told == 0 {
            dialler.register(DialPolicy::Anyone).await;
        }
        let other = if told == 0 { &dialler } else { &callee };
        let answer = client.request(&dial(other, &salts)).await;
        let Response::Introduced(to_dialler) = answer else {
            panic!("{answer:?}");
        };
        assert_eq!(usize::from(to_dialler.witnessed), told);
        let mapped = held.current().mapped;
        let candidate = Candidate::server_reflexive(mapped, PunchPort::SPARE, None);
        let introduction = other.introduction().await;
        assert_eq!(introduction.candidates, vec![candidate; told]);
        assert_eq!(introduction.witnessed, 0);
        let over = other.request(&Request::Settled(client.id)).await;
        assert_eq!(over, Response::Settled);
    }
}

#[tokio::test]
async fn too_many_claims_are_refused() {
    let server = start(config(IPV4));
    let callee = Client::connect(&server).await;
    let dialler = Client::connect(&server).await;
    callee.register(DialPolicy::Anyone).await;
    let salts = [SALT; MAX_CLAIMS + 1];
    let answer = dialler.request(&dial(&callee, &salts)).await;
    assert_eq!(answer, Response::Refused(RefusalReason::TooLarge.into()));
}
