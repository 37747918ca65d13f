//! A bus between coordinators of one process.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::mpsc,
    time::{sleep, timeout},
};

use super::{Bus, BusFuture, Incoming, Listening, Unanswered};

/// Carries messages between coordinators of one process. Each of them has a clone.
///
/// It delivers each message after the delay that it is made with, which tests measure by.
#[derive(Debug, Clone, Default)]
pub struct MemoryBus {
    shared: Arc<Shared>,
    delay: Duration,
}

#[derive(Debug, Default)]
struct Shared {
    listeners: Mutex<Listeners>,
    is_away: AtomicBool,
    returns: AtomicU64,
}

#[derive(Debug, Default)]
struct Listeners {
    by_subject: BTreeMap<String, BTreeMap<u64, mpsc::Sender<Incoming>>>,
    /// How many there have been.
    count: u64,
}

impl MemoryBus {
    /// Returns a bus that takes so long to deliver a message.
    #[must_use]
    pub fn with_delay(delay: Duration) -> Self {
        Self {
            delay,
            ..Self::default()
        }
    }

    /// Loses everything from now on, or no more.
    pub fn set_away(&self, is_away: bool) {
        let was_away = self.shared.is_away.swap(is_away, Ordering::Relaxed);
        if was_away && !is_away {
            self.shared.returns.fetch_add(1, Ordering::Relaxed);
        }
    }

    async fn deliver(&self, incoming: Incoming) -> bool {
        if !self.delay.is_zero() {
            sleep(self.delay).await;
        }
        if self.away().is_some() {
            return true;
        }
        let listeners: Vec<_> = {
            let all = self.shared.listeners();
            let of = all.by_subject.get(&incoming.subject);
            of.into_iter().flat_map(BTreeMap::values).cloned().collect()
        };
        for listener in &listeners {
            // One that has no room loses it.
            drop(listener.try_send(incoming.clone()));
        }
        !listeners.is_empty()
    }
}

impl Bus for MemoryBus {
    fn away(&self) -> Option<Duration> {
        let is_away = self.shared.is_away.load(Ordering::Relaxed);
        is_away.then_some(Duration::from_secs(1))
    }

    fn returns(&self) -> u64 {
        self.shared.returns.load(Ordering::Relaxed)
    }

    fn listen(&self, subject: String, sink: mpsc::Sender<Incoming>) -> BusFuture<'_, Listening> {
        let listening = self.shared.listen(subject, sink);
        Box::pin(async move { listening })
    }

    fn publish(&self, subject: String, bytes: Vec<u8>) -> BusFuture<'_, ()> {
        let incoming = Incoming {
            subject,
            bytes,
            reply: None,
        };
        Box::pin(async move {
            self.deliver(incoming).await;
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
            let (sink, mut answers) = mpsc::channel(1);
            let inbox = self.shared.listeners().next_inbox();
            let _listening = self.shared.listen(inbox.clone(), sink);
            let incoming = Incoming {
                subject,
                bytes,
                reply: Some(inbox),
            };
            if !self.deliver(incoming).await {
                return Err(Unanswered::NobodyThere);
            }
            let answer = timeout(patience, answers.recv()).await;
            let answer = answer.ok().flatten().ok_or(Unanswered::TimedOut)?;
            Ok(answer.bytes)
        })
    }
}

impl Shared {
    fn listeners(&self) -> MutexGuard<'_, Listeners> {
        let listeners = self.listeners.lock();
        listeners.unwrap_or_else(PoisonError::into_inner)
    }

    fn listen(self: &Arc<Self>, subject: String, sink: mpsc::Sender<Incoming>) -> Listening {
        let mut listeners = self.listeners();
        listeners.count += 1;
        let number = listeners.count;
        let of = listeners.by_subject.entry(subject.clone()).or_default();
        of.insert(number, sink);
        drop(listeners);
        let shared = Arc::clone(self);
        Listening::until_dropped(move || shared.listeners().remove(&subject, number))
    }
}

impl Listeners {
    fn next_inbox(&mut self) -> String {
        self.count += 1;
        format!("inbox.{}", self.count)
    }

    fn remove(&mut self, subject: &str, number: u64) {
        if let Some(of) = self.by_subject.get_mut(subject) {
            of.remove(&number);
            if of.is_empty() {
                self.by_subject.remove(subject);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(30);

    fn ask(bus: &MemoryBus) -> impl Future<Output = Result<Vec<u8>, Unanswered>> {
        bus.request("here".to_owned(), vec![1], PATIENCE)
    }

    #[tokio::test(start_paused = true)]
    async fn who_listens_answers_and_nobody_does_once_that_has_ended() {
        let bus = MemoryBus::with_delay(Duration::from_millis(10));
        assert_eq!(ask(&bus).await, Err(Unanswered::NobodyThere));
        let (sink, mut came) = mpsc::channel(1);
        let listening = bus.listen("here".to_owned(), sink).await;
        let answer = async {
            let incoming = came.recv().await;
            let reply = incoming.and_then(|it| it.reply);
            bus.publish(reply.unwrap_or_default(), vec![2]).await;
        };
        assert_eq!(tokio::join!(ask(&bus), answer).0, Ok(vec![2]));
        assert_eq!(ask(&bus).await, Err(Unanswered::TimedOut));
        bus.set_away(true);
        assert_eq!(ask(&bus).await, Err(Unanswered::Away));
        bus.set_away(false);
        drop(listening);
        assert_eq!(ask(&bus).await, Err(Unanswered::NobodyThere));
        assert!(bus.shared.listeners().by_subject.is_empty());
    }
}
