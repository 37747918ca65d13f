//! Listens at one subject, by whatever connection there is.

use std::{future::poll_fn, pin::Pin};

use async_nats::{Client, Message, Subscriber};
use futures_core::Stream as _;
use p2pconnect_coordinator::nodes::Incoming;
use tokio::sync::{mpsc, oneshot, watch};
use tracing::debug;

/// Hands on what comes to a subject, for as long as the future is polled. Says once that others are
/// heard.
pub(crate) async fn listen(
    mut clients: watch::Receiver<Client>,
    subject: String,
    sink: mpsc::Sender<Incoming>,
    listens: oneshot::Sender<()>,
) {
    let mut listens = Some(listens);
    loop {
        let client = clients.borrow_and_update().clone();
        match client.subscribe(subject.clone()).await {
            Ok(subscriber) => {
                let is_sent = client.flush().await.is_ok();
                if let Some(listens) = listens.take_if(|_| is_sent)
                    && listens.send(()).is_err()
                {
                    debug!("whoever has waited for this has gone");
                }
                hand_on(subscriber, &sink).await;
            }
            Err(error) => debug!(%error, "cannot listen by this connection"),
        }
        // The library has given the connection up, and there will be another one.
        if clients.changed().await.is_err() {
            return;
        }
    }
}

async fn hand_on(mut subscriber: Subscriber, sink: &mpsc::Sender<Incoming>) {
    loop {
        let next = poll_fn(|cx| Pin::new(&mut subscriber).poll_next(cx));
        let Some(message) = next.await else {
            return;
        };
        if sink.try_send(incoming(message)).is_err() {
            debug!("there is no room for what comes from other coordinators");
        }
    }
}

fn incoming(message: Message) -> Incoming {
    Incoming {
        subject: message.subject.to_string(),
        bytes: message.payload.to_vec(),
        reply: message.reply.map(|it| it.to_string()),
    }
}
