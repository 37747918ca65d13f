use std::{net::SocketAddr, sync::Arc};

use p2pconnect_identity::SecretKey;
use p2pconnect_proto::{CoordinatorAddr, message::DialPolicy};
use p2pconnect_punch::PunchConfig;
use p2pconnect_stun::DEFAULT_PORT;
use tokio::{
    sync::{Mutex, mpsc, watch},
    task::JoinSet,
};

use crate::{
    BindError, CoordinatorError, Endpoint, Status,
    coordination::Dialer,
    endpoint::Inner,
    inbound::Inbound,
    mappings::{Failure, Mappings},
    online::{Keeper, Line, Listening},
    punch_ports::PunchPorts,
    status::Observer,
    task::AbortOnDrop,
};

/// Connections that may wait for [`Endpoint::accept`]; further ones are dropped.
const MAX_WAITING_CONNECTIONS: usize = 16;

/// Builds an [`Endpoint`].
///
/// # Defaults
///
/// - secret key: a new one, so the peer id is another each time
/// - coordinator: none; it must be set
/// - policy: none, which means that the endpoint dials and cannot be dialled
/// - observer: none
#[derive(Debug)]
#[must_use]
pub struct Builder {
    key: Option<SecretKey>,
    coordinator: Option<CoordinatorAddr>,
    policy: Option<DialPolicy>,
    observer: Observer,
}

impl Builder {
    pub(crate) const fn new() -> Self {
        Self {
            key: None,
            coordinator: None,
            policy: None,
            observer: Observer::none(),
        }
    }

    /// Sets the key whose public half is this endpoint's peer id.
    pub fn secret_key(mut self, key: SecretKey) -> Self {
        self.key = Some(key);
        self
    }

    /// Sets the coordinator to meet other peers at.
    pub fn coordinator(mut self, coordinator: CoordinatorAddr) -> Self {
        self.coordinator = Some(coordinator);
        self
    }

    /// Lets others dial this endpoint: only those that `policy` admits. Nobody else is told its
    /// addresses.
    pub fn allow(mut self, policy: DialPolicy) -> Self {
        self.policy = Some(policy);
        self
    }

    /// Has every [`Status`] told to `observe`, which must return quickly.
    pub fn observer(mut self, observe: impl Fn(Status) + Send + Sync + 'static) -> Self {
        self.observer = Observer::new(observe);
        self
    }

    /// Starts the endpoint: binds its punch ports, learns its mappings, connects to the coordinator
    /// and, if others may dial it, registers there.
    ///
    /// Takes two round trips to the coordinator, and a third to register.
    ///
    /// # Errors
    ///
    /// [`BindError`], within about ten seconds.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future undoes everything.
    pub async fn bind(self) -> Result<Endpoint, BindError> {
        let address = self.coordinator.ok_or(BindError::NoCoordinator)?;
        let key = match self.key {
            Some(key) => key,
            None => SecretKey::generate()?,
        };
        let dialer = Dialer::new(&key, address)?;
        let (ports, listeners) = PunchPorts::open().map_err(BindError::Ports)?;
        let inbound = Arc::new(Inbound::new());
        let mut tasks: Vec<_> = listeners
            .into_iter()
            .map(|listener| AbortOnDrop::spawn(Arc::clone(&inbound).accept_from(listener)))
            .collect();
        let mappings = Mappings::new(ports.clone(), &key.peer_id(), self.observer.clone());
        let addresses = dialer.resolve().await?;
        let line = go_online(&dialer, &addresses, &mappings).await?;

        let punch = PunchConfig::default();
        let inner = Arc::new(Inner {
            key,
            observer: self.observer,
            ports,
            mappings,
            inbound,
            punch,
        });
        let (listening, incoming) = self.policy.map(listening).unzip();
        if let Some(Listening { policy, .. }) = &listening {
            inner.register(&line.0, policy).await?;
            inner.observer.tell(Status::Registered);
        }
        let (current, coordination) = watch::channel(Some(Arc::clone(&line.0)));
        let sessions = JoinSet::new();
        let keeper = Keeper {
            inner: Arc::clone(&inner),
            dialer,
            addresses,
            current,
            listening,
            sessions,
        };
        tasks.push(AbortOnDrop::spawn(keeper.run(line)));
        Ok(Endpoint::new(
            inner,
            coordination,
            incoming.map(Mutex::new),
            tasks,
        ))
    }
}

fn listening(policy: DialPolicy) -> (Listening, mpsc::Receiver<crate::Connection>) {
    let (connections, incoming) = mpsc::channel(MAX_WAITING_CONNECTIONS);
    (
        Listening {
            policy,
            connections,
        },
        incoming,
    )
}

/// Connects to the coordinator and learns the mappings, both at once.
///
/// The STUN server is first looked for where `serve` puts it by default, beside the coordinator,
/// because asking the coordinator first would cost a round trip.
async fn go_online(
    dialer: &Dialer,
    addresses: &[SocketAddr],
    mappings: &Mappings,
) -> Result<Line, BindError> {
    let meeting = async {
        let (coordination, introductions) = dialer.connect(addresses).await?;
        let welcome = coordination.welcome().await?;
        for &server in &welcome.stun_servers {
            mappings.start(server);
        }
        mappings.complete(welcome.stun_alternates);
        Ok::<_, CoordinatorError>((Arc::new(coordination), introductions))
    };
    if let Some(first) = addresses.first() {
        mappings.start(SocketAddr::new(first.ip(), DEFAULT_PORT));
    }
    let mapped = async { Ok::<_, CoordinatorError>(mappings.first().await) };
    // A coordinator that cannot be reached ends the wait for a STUN server beside it.
    let (line, mapped) = tokio::try_join!(meeting, mapped)?;
    mapped.map_err(|Failure { server, error }| BindError::Stun {
        server,
        source: error,
    })?;
    Ok(line)
}
