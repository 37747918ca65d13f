//! The task that holds a mapping: asks again, reconnects, and tells of changes.

use std::{collections::VecDeque, future, net::SocketAddr, sync::Arc};

use stun_types::message::TransactionId;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep, sleep_until},
};
use tracing::debug;

use super::{MappingConfig, MappingState, backoff::Backoff};
use crate::{
    MappingError,
    binding::{BindingAnswer, Response},
    connection::{Connection, Ends},
    rhythm::next_keepalive,
};

/// The most requests that wait for an answer at once. By default there is one every 15 s and
/// each waits 5 s; more come only from calls of `refresh`.
const MAX_IN_FLIGHT: usize = 4;

/// The task behind a `HeldMapping`.
#[derive(Debug)]
pub(super) struct Keeper {
    local: SocketAddr,
    config: MappingConfig,
    state: watch::Sender<MappingState>,
    refresh: Arc<Notify>,
    backoff: Backoff,
}

impl Keeper {
    pub(super) fn new(
        local: SocketAddr,
        config: MappingConfig,
        state: watch::Sender<MappingState>,
        refresh: Arc<Notify>,
    ) -> Self {
        let backoff = Backoff::new(
            config.min_reconnect_delay,
            config.max_reconnect_delay,
            config.stable_after,
        );
        Self {
            local,
            config,
            state,
            refresh,
            backoff,
        }
    }

    pub(super) async fn run(mut self, mut connection: Connection) {
        loop {
            let since = Instant::now();
            let error = self.hold(&mut connection).await;
            // Frees the pair of addresses before the next connection wants the same one.
            drop(connection);
            self.backoff.lost_after(since.elapsed());
            self.publish_loss(error);
            connection = self.reconnect().await;
        }
    }

    /// Asks on `connection` for as long as it lasts and returns why it did not last longer.
    async fn hold(&self, connection: &mut Connection) -> MappingError {
        let mut in_flight = VecDeque::with_capacity(MAX_IN_FLIGHT);
        let mut next_request = next_keepalive(&self.config.host, self.config.refresh_interval);
        loop {
            let asking = in_flight.len() < MAX_IN_FLIGHT;
            let deadline = in_flight.front().map(|(_, deadline)| *deadline);
            tokio::select! {
                response = connection.receive() => {
                    let result = response.and_then(|response| settle(&mut in_flight, response));
                    match result {
                        Ok(Some(answer)) => self.publish_answer(answer, None),
                        Ok(None) => {}
                        Err(error) => return error,
                    }
                    continue;
                }
                () = expired(deadline) => return MappingError::NoAnswer,
                () = sleep_until(next_request), if asking => {}
                () = self.refresh.notified(), if asking => {}
            }
            next_request = next_keepalive(&self.config.host, self.config.refresh_interval);
            match connection.send(self.config.request_timeout).await {
                Ok(transaction) => {
                    let deadline = Instant::now() + self.config.request_timeout;
                    in_flight.push_back((transaction, deadline));
                }
                Err(error) => return error,
            }
        }
    }

    async fn reconnect(&mut self) -> Connection {
        loop {
            let random = self.config.host.random_fraction();
            // Whoever asks knows more, for example that the server is there again.
            tokio::select! {
                () = sleep(self.backoff.next_delay(random)) => {}
                () = self.refresh.notified() => {}
            }
            // This machine may be in another network by now, where nobody should know it by this.
            self.config.commitment = self
                .config
                .commitment
                .map(|it| it.renewed(&self.config.host));
            match self.open().await {
                Ok((connection, answer)) => {
                    self.publish_answer(answer, Some(connection.local()));
                    return connection;
                }
                Err(error) => self.publish_loss(error),
            }
        }
    }

    async fn open(&self) -> Result<(Connection, BindingAnswer), MappingError> {
        let server = self.state.borrow().mapping.server;
        let local = self.local;
        let mut connection = Connection::open_as(Ends { local, server }, &self.config).await?;
        let answer = connection.ask(self.config.request_timeout).await?;
        Ok((connection, answer))
    }

    fn publish_answer(&self, answer: BindingAnswer, reconnected_from: Option<SocketAddr>) {
        self.state.send_modify(|state| {
            if state.mapping.mapped != answer.mapped {
                debug!(old = %state.mapping.mapped, new = %answer.mapped, "mapping changed");
            }
            state.mapping.mapped = answer.mapped;
            state.mapping.token = answer.token;
            if let Some(local) = reconnected_from {
                state.mapping.local = local;
                state.reconnects += 1;
            }
            state.lost = None;
        });
    }

    fn publish_loss(&self, error: MappingError) {
        debug!(%error, "no connection to the stun server");
        self.state.send_modify(|state| state.lost = Some(error));
    }
}

/// Takes the request that `response` answers off the list. `None` if it answers none: a late or
/// made-up one.
fn settle(
    in_flight: &mut VecDeque<(TransactionId, Instant)>,
    response: Response,
) -> Result<Option<BindingAnswer>, MappingError> {
    let Some(index) = in_flight
        .iter()
        .position(|(transaction, _)| *transaction == response.transaction)
    else {
        return Ok(None);
    };
    in_flight.remove(index);
    response.result.map(Some)
}

async fn expired(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => future::pending().await,
    }
}
