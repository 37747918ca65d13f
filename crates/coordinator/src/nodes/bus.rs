//! What carries messages between nodes, whatever it is.

use std::{fmt, pin::Pin, time::Duration};

use tokio::sync::mpsc;

/// A future of a [`Bus`].
pub type BusFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Carries messages to whoever listens at a subject.
///
/// It keeps nothing: what nobody listens for is lost, and so is what is under way while it is away.
/// It may repeat messages, or change their order. What it brings need not be of a node.
pub trait Bus: fmt::Debug + Send + Sync {
    /// Returns after what time it may be there again, if it is away now.
    fn away(&self) -> Option<Duration>;

    /// Returns how often it has been there again after it was away: what others have said
    /// meanwhile has not come.
    fn returns(&self) -> u64;

    /// Takes in what comes to a subject from now on, until what is returned is dropped. What `sink`
    /// has no room for is lost.
    ///
    /// Returns as soon as others are heard, or after a second; at once if it is away, and listens
    /// as soon as it is there again.
    fn listen(&self, subject: String, sink: mpsc::Sender<Incoming>) -> BusFuture<'_, Listening>;

    /// Sends something to all who listen at a subject, or to whoever waits for an answer there. It
    /// may be lost.
    fn publish(&self, subject: String, bytes: Vec<u8>) -> BusFuture<'_, ()>;

    /// Sends something to all who listen at a subject, and returns the first answer within this
    /// time.
    fn request(
        &self,
        subject: String,
        bytes: Vec<u8>,
        patience: Duration,
    ) -> BusFuture<'_, Result<Vec<u8>, Unanswered>>;
}

/// What has come to a subject.
#[derive(Debug, Clone)]
pub struct Incoming {
    /// The subject.
    pub subject: String,
    /// What has come.
    pub bytes: Vec<u8>,
    /// The subject to answer to.
    pub reply: Option<String>,
}

/// Why there is no answer to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// Nobody listens there.
    #[error("nobody listens")]
    NobodyThere,
    /// Nobody has answered in time.
    #[error("nobody has answered in time")]
    TimedOut,
    /// The bus is away.
    #[error("what connects the coordinators is away")]
    Away,
}

/// Listens at a subject for as long as it is kept.
pub struct Listening(Option<Box<dyn FnOnce() + Send + Sync>>);

impl Listening {
    /// Returns what ends listening by this function when it is dropped.
    #[must_use]
    pub fn until_dropped(end: impl FnOnce() + Send + Sync + 'static) -> Self {
        Self(Some(Box::new(end)))
    }
}

impl fmt::Debug for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listening")
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if let Some(end) = self.0.take() {
            end();
        }
    }
}
