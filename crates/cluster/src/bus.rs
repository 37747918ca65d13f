//! The bus itself: one connection to whichever server is there.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_nats::{Client, ConnectOptions, Event, Request, RequestErrorKind, connection::State};
use p2pconnect_coordinator::nodes::{Bus, BusFuture, Incoming, Listening, Unanswered};
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::{sleep, timeout},
};
use tracing::{info, warn};

use crate::{NatsOptions, OptionsError, backoff, listening};

/// After what time others are asked to come back while no server is there.
const COME_BACK: Duration = Duration::from_secs(2);

/// How long it may take until a server hears something from here, where one is there.
const SENDING: Duration = Duration::from_secs(1);

/// How often it is seen whether the library has given a connection up, as it does where a server
/// does not let it in.
const LOOKING: Duration = Duration::from_secs(2);

/// How long it takes to find that out.
const TRYING: Duration = Duration::from_millis(100);

/// Carries messages between coordinators by way of NATS.
#[derive(Debug)]
pub struct NatsBus {
    clients: watch::Receiver<Client>,
    heard: Arc<Heard>,
    keeper: JoinHandle<()>,
}

/// What the library has said of its connection.
#[derive(Debug, Default)]
struct Heard {
    connected: AtomicU64,
}

impl NatsBus {
    /// Connects to one of the servers, which need not be there yet. Must be called within a Tokio
    /// runtime.
    ///
    /// # Errors
    ///
    /// [`OptionsError`] when the library makes nothing of the options.
    pub async fn connect(options: NatsOptions) -> Result<Self, OptionsError> {
        let heard = Arc::new(Heard::default());
        let first = client(&options, &heard).await?;
        let (sender, clients) = watch::channel(first);
        let keeper = tokio::spawn(keep(options, Arc::clone(&heard), sender));
        Ok(Self {
            clients,
            heard,
            keeper,
        })
    }

    fn client(&self) -> Client {
        self.clients.borrow().clone()
    }
}

impl Drop for NatsBus {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

impl Bus for NatsBus {
    fn away(&self) -> Option<Duration> {
        let state = self.clients.borrow().connection_state();
        (state != State::Connected).then_some(COME_BACK)
    }

    fn returns(&self) -> u64 {
        self.heard.connected.load(Ordering::Relaxed)
    }

    fn listen(&self, subject: String, sink: mpsc::Sender<Incoming>) -> BusFuture<'_, Listening> {
        let (listens, heard) = oneshot::channel();
        let task = listening::listen(self.clients.clone(), subject, sink, listens);
        let task = tokio::spawn(task);
        let listening = Listening::until_dropped(move || task.abort());
        Box::pin(async move {
            if self.away().is_none() {
                // It goes on to try where that takes longer.
                drop(timeout(SENDING, heard).await);
            }
            listening
        })
    }

    fn publish(&self, subject: String, bytes: Vec<u8>) -> BusFuture<'_, ()> {
        Box::pin(async move {
            if self.away().is_some() {
                return;
            }
            let client = self.client();
            let publishing = client.publish(subject, bytes.into());
            if !matches!(timeout(SENDING, publishing).await, Ok(Ok(()))) {
                warn!("what other coordinators are told is lost: NATS takes nothing");
            }
        })
    }

    fn request(
        &self,
        subject: String,
        bytes: Vec<u8>,
        patience: Duration,
    ) -> BusFuture<'_, Result<Vec<u8>, Unanswered>> {
        Box::pin(async move {
            if self.away().is_some() {
                return Err(Unanswered::Away);
            }
            let client = self.client();
            let request = Request::new().payload(bytes.into()).timeout(Some(patience));
            // The library's bound begins when the request is on its way.
            let asked = timeout(2 * patience, client.send_request(subject, request));
            match asked.await {
                Ok(Ok(answer)) => Ok(answer.payload.to_vec()),
                Ok(Err(error)) => Err(match error.kind() {
                    RequestErrorKind::NoResponders => Unanswered::NobodyThere,
                    RequestErrorKind::TimedOut => Unanswered::TimedOut,
                    RequestErrorKind::InvalidSubject
                    | RequestErrorKind::MaxPayloadExceeded
                    | RequestErrorKind::Other => Unanswered::Away,
                }),
                Err(_) => Err(Unanswered::TimedOut),
            }
        })
    }
}

/// Connects anew whenever the library has given up.
async fn keep(options: NatsOptions, heard: Arc<Heard>, clients: watch::Sender<Client>) {
    let mut attempt = 1;
    loop {
        sleep(LOOKING).await;
        let current = clients.borrow().clone();
        if current.connection_state() == State::Connected {
            attempt = 1;
            continue;
        }
        // One that still tries takes what is to be sent, and sends it later.
        let trying = timeout(TRYING, current.flush()).await;
        if !matches!(trying, Ok(Err(_))) {
            continue;
        }
        warn!("NATS has not let this coordinator in; it tries again");
        attempt += 1;
        sleep(backoff::before(attempt)).await;
        match client(&options, &heard).await {
            Ok(client) => drop(clients.send_replace(client)),
            Err(error) => warn!(%error, "cannot connect to NATS"),
        }
    }
}

async fn client(options: &NatsOptions, heard: &Arc<Heard>) -> Result<Client, OptionsError> {
    let heard = Arc::clone(heard);
    let servers = options.servers();
    let connecting: ConnectOptions = options.connect_options()?.event_callback(move |event| {
        heard.note(&event, &servers);
        std::future::ready(())
    });
    let addresses = options.addresses();
    let client = connecting.connect(addresses).await;
    // It connects later, and says no more than that the options are wrong.
    client.map_err(|_| OptionsError::NoAddress)
}

impl Heard {
    fn note(&self, event: &Event, servers: &[String]) {
        match event {
            Event::Connected => {
                self.connected.fetch_add(1, Ordering::Relaxed);
                info!("connected to NATS; peers of other coordinators can be dialled");
            }
            Event::Disconnected => {
                warn!(
                    ?servers,
                    "NATS is away; peers of other coordinators cannot be dialled"
                );
            }
            Event::SlowConsumer(_) => warn!("there is no time for what NATS brings"),
            Event::LameDuckMode | Event::Draining | Event::Closed => {
                info!(%event, "NATS ends this connection");
            }
            Event::ServerError(error) => warn!(%error, "a server of NATS refuses something"),
            Event::ClientError(error) => warn!(%error, "cannot use a server of NATS"),
        }
    }
}
