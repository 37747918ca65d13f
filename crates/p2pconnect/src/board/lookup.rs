//! Looks for the members of a topic, page by page.

use std::collections::BTreeSet;

use p2pconnect_proto::{
    PeerId,
    board::Topic,
    message::{Cookie, Found},
};
use tokio::sync::watch;

use super::posts::connected;
use crate::{CoordinatorError, coordinator::lines::Lines};

/// How many members are asked for at once. A coordinator has a limit of its own.
const PAGE: u16 = 64;

/// The most pages without anybody new that are taken from a coordinator for one of this side's.
const MAX_EMPTY_PAGES: usize = 64;

/// Looks for the peers that have announced themselves under a topic, page by page.
#[derive(Debug)]
pub struct Lookup {
    lines: watch::Receiver<Lines>,
    topic: Topic,
    /// Whoever has been told, and this endpoint.
    known: BTreeSet<PeerId>,
    cookie: Option<Cookie>,
    is_over: bool,
}

impl Lookup {
    pub(crate) fn new(lines: watch::Receiver<Lines>, topic: Topic, own_id: PeerId) -> Self {
        Self {
            lines,
            topic,
            known: [own_id].into(),
            cookie: None,
            is_over: false,
        }
    }

    /// Returns some peers, of which none has been on a page before; none once there are no more.
    ///
    /// The first page is a random sample: each peer is as likely to be on it as any other. All
    /// pages together have each peer that was there all the time. A page has some dozens of peers,
    /// and dialling all of them at once is no good idea: anybody who knows the topic can announce
    /// as many ids as a coordinator takes.
    ///
    /// While there is no connection to the coordinator, this waits for one.
    ///
    /// # Errors
    ///
    /// As [`Endpoint::announce`](crate::Endpoint::announce). Asking again goes on with the same
    /// page, best after the [time](CoordinatorError::retry_after) that a refusal gives.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: asking again goes on with the same page.
    pub async fn page(&mut self) -> Result<Vec<PeerId>, CoordinatorError> {
        for _ in 0..MAX_EMPTY_PAGES {
            if self.is_over {
                break;
            }
            let coordination = connected(&mut self.lines).await?;
            let found = coordination
                .look_up(self.topic.key(), PAGE, self.cookie)
                .await?;
            let Found {
                members, cookie, ..
            } = found;
            self.is_over = cookie.is_none();
            self.cookie = cookie;
            // Whoever keeps the board may have made members up.
            let members = members.into_iter().filter(|it| self.topic.has(it));
            let peers = members.map(|it| it.peer);
            let new: Vec<_> = peers.filter(|peer| self.known.insert(*peer)).collect();
            if !new.is_empty() {
                return Ok(new);
            }
        }
        Ok(Vec::new())
    }
}
