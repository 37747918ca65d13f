//! Claims to mappings, which the coordinator has its own STUN server attest.

use std::net::{Ipv4Addr, SocketAddr};

use p2pconnect_proto::{
    Candidate, PunchPort,
    message::{
        DialPolicy, DialRequest, MAX_CLAIMS, ReflexiveClaim, RefusalReason, Request, Response,
    },
};
use p2pconnect_stun::{
    Commitment, HeldMapping, MappingConfig, StunServer, StunServerConfig, Witness,
};

use crate::{IPV4, client::Client, config, start};

const SALT: [u8; 16] = [5; 16];

fn dial(callee: &Client, salts: &[[u8; 16]]) -> Request {
    let claim = |salt: &[u8; 16]| ReflexiveClaim {
        punch_port: PunchPort::SPARE,
        salt: *salt,
    };
    Request::Dial(DialRequest {
        claims: salts.iter().map(claim).collect(),
        ..DialRequest::new(callee.id)
    })
}

#[tokio::test]
async fn the_coordinator_tells_what_its_own_stun_server_has_seen() {
    let witness = Witness::default();
    let mut stun = StunServerConfig::default();
    stun.witness = Some(witness.clone());
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let stun = StunServer::bind(&[any], stun).unwrap();
    let (stun_address, _stun) = (stun.local_addrs()[0], stun.spawn());
    let mut config = config(IPV4);
    config.witness = Some(witness);
    let server = start(config);
    let callee = Client::connect(&server).await;
    let dialler = Client::connect(&server).await;
    callee.register(DialPolicy::Anyone).await;

    let mut mapping = MappingConfig::default();
    mapping.commitment = Some(Commitment::new(SALT, &dialler.id));
    let held = HeldMapping::open(any, stun_address, mapping).await.unwrap();

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
