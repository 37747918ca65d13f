//! The coordinator and its STUN servers, which end and start anew with the same keys.

use std::net::{IpAddr, SocketAddr};

use netns_lab_programs::Programs;
use p2pconnect::CoordinatorAddr;
use p2pconnect_coordinator::{RendezvousPorts, RunningCoordinator};
use p2pconnect_proto::TokenKey;
use p2pconnect_stun::{DEFAULT_PORT as STUN_PORT, StunServer, StunServerConfig, StunServerHandle};

use crate::ground::{Ground, SERVER, key};

/// The port of the coordinator.
const PORT: u16 = 4433;

/// The server of a world.
#[derive(Debug)]
pub(crate) struct Server {
    programs: Programs,
    seed: u64,
    ip: IpAddr,
    /// How many times it has been started.
    starts: u64,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    coordinator: RunningCoordinator,
    _alternates: Vec<StunServerHandle>,
    stun: Option<StunServerHandle>,
    config: StunServerConfig,
}

impl Server {
    /// Returns a server that does not run yet.
    pub(crate) fn new(ground: &Ground, seed: u64) -> Self {
        Self {
            programs: ground.programs.clone(),
            seed,
            ip: ground.server_ip(),
            starts: 0,
            running: None,
        }
    }

    /// Returns where peers find the coordinator.
    pub(crate) fn address(&self) -> CoordinatorAddr {
        CoordinatorAddr::at(key(self.seed, None).peer_id(), (self.ip, PORT).into())
    }

    /// Starts the coordinator and its STUN servers, and returns whether their ports were free.
    pub(crate) fn start(&mut self) -> bool {
        let token_key = TokenKey::from_bytes([7; 32]);
        let mut stun_config = StunServerConfig::default();
        stun_config.host = self.programs.host(SERVER, self.starts);
        stun_config.token_key = Some(token_key.clone());
        let listen = (self.ip, PORT).into();
        let ports = RendezvousPorts::bind(listen, &[self.stun()], stun_config.clone(), token_key);
        // Without the second port, peers do not learn whether each destination sees another port.
        let Some(ports) = ports.ok().filter(|it| it.no_alternates().is_none()) else {
            return false;
        };
        let config = ports.config(key(self.seed, None));
        stun_config.witness = config.witness.clone();
        let rendezvous = ports.coordinate(config).expect("the configuration is good");
        self.starts += 1;
        let alternates = rendezvous.alternates.into_iter();
        self.running = Some(Running {
            coordinator: rendezvous.coordinator.start(),
            _alternates: alternates.map(StunServer::spawn).collect(),
            stun: Some(rendezvous.stun.spawn()),
            config: stun_config,
        });
        true
    }

    /// Ends it. If politely, the coordinator says goodbye, which takes a moment.
    pub(crate) fn stop(&mut self, is_polite: bool) {
        let Some(running) = self.running.take() else {
            return;
        };
        if is_polite {
            tokio::spawn(running.coordinator.shutdown());
        }
    }

    pub(crate) fn stop_stun(&mut self) {
        if let Some(running) = &mut self.running {
            running.stun = None;
        }
    }

    /// Starts the STUN server if it does not run, and returns whether its port was free.
    pub(crate) fn start_stun(&mut self) -> bool {
        let address = self.stun();
        let Some(running) = self.running.as_mut().filter(|it| it.stun.is_none()) else {
            return true;
        };
        match StunServer::bind(&[address], running.config.clone()) {
            Ok(stun) => {
                running.stun = Some(stun.spawn());
                true
            }
            Err(_) => false,
        }
    }

    fn stun(&self) -> SocketAddr {
        SocketAddr::new(self.ip, STUN_PORT)
    }

    /// Returns the coordinator while it runs.
    pub(crate) fn coordinator(&self) -> Option<&RunningCoordinator> {
        self.running.as_ref().map(|it| &it.coordinator)
    }
}
