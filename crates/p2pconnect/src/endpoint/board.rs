//! What an endpoint does on the coordinator's bulletin board.

use p2pconnect_proto::board::Topic;

use crate::{Announcement, CoordinatorError, Endpoint, Lookup, Watch, board::Kind};

impl Endpoint {
    /// Puts this endpoint on the coordinator's board, under a topic, so that others who know the
    /// topic find its peer id. It stays there until what is returned is dropped, or the connection
    /// to the coordinator ends, and comes back with the next connection.
    ///
    /// They dial it by its id, as any peer, if its policy admits them. An endpoint that was built
    /// without a policy cannot be dialled, and need not be announced.
    ///
    /// While there is no connection to the coordinator, this waits for one.
    ///
    /// # Errors
    ///
    /// [`CoordinatorError::NoBoard`] if the coordinator keeps no board, and
    /// [`CoordinatorError::Refused`] if there is no room for another entry.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future withdraws the endpoint again.
    pub async fn announce(&self, topic: &Topic) -> Result<Announcement, CoordinatorError> {
        let hold = self.board.hold(Kind::Announcement, topic);
        hold.settled().await?;
        Ok(Announcement::new(hold))
    }

    /// Looks for the peers that have announced themselves under a topic; this endpoint itself is
    /// left out.
    ///
    /// Nothing is asked before the first [page](Lookup::page).
    #[must_use]
    pub fn lookup(&self, topic: &Topic) -> Lookup {
        Lookup::new(self.board.lines(), topic.clone(), self.peer_id())
    }

    /// Has the coordinator tell who comes and goes under a topic.
    ///
    /// While there is no connection to the coordinator, this waits for one.
    ///
    /// # Errors
    ///
    /// As [`announce`](Self::announce).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future ends the watch.
    pub async fn watch(&self, topic: &Topic) -> Result<Watch, CoordinatorError> {
        let hold = self.board.hold(Kind::Watch, topic);
        hold.settled().await?;
        Ok(Watch::new(hold, topic.clone(), self.peer_id()))
    }
}
