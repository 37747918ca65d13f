//! One connection to a coordinator: requests and their answers, whether it is alive, and why
//! it has ended.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use p2pconnect_link::{self as transport, End, RecvStream};
use p2pconnect_proto::{
    close::{self, Close},
    codec::{self, DecodeError},
    message::{Flight, RefusalReason, Request, Response},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};

use crate::CoordinatorError;

/// How long a coordinator may take to answer a request.
///
/// An introduction is held back by up to 1.5 seconds for the sake of the common start.
pub(super) const REQUEST_LIMIT: Duration = Duration::from_secs(5);

/// How long a request may wait until those before it are answered: a few of the longest waits for
/// a common start.
const STREAM_LIMIT: Duration = Duration::from_secs(15);

/// How long a coordinator that may have gone has to show that it is there.
///
/// What is not acknowledged is repeated several times in this time, so two or three losses pass.
const CHECK_LIMIT: Duration = Duration::from_secs(1);

/// The same in round trips, where that is longer: the packet, its repetition and the answer.
const CHECK_ROUND_TRIPS: u32 = 4;

/// How often it is looked whether something has come meanwhile.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);

/// How many answers may wait at a time until the notices before them are read; others wait for a
/// place.
const MAX_ASKING: usize = 8;

/// A connection to a coordinator. Clones are the same connection.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    connection: transport::Link,
    /// Why this side has closed it, unless the application has.
    closed_for: Arc<OnceLock<OwnClose>>,
    reader: mpsc::Sender<CatchUp>,
}

/// What whoever reads the notices drops as soon as none that has come is left.
pub(super) type CatchUp = oneshot::Sender<()>;

/// Why this side closes a connection.
#[derive(Debug, Clone)]
pub(super) enum OwnClose {
    /// Nothing has come from the coordinator for so long although something should have.
    Silence(Duration),
    /// A notice, or the answer to a request, was no message.
    Malformed(DecodeError),
    /// An answer was not to what was asked.
    Unfit,
}

impl Link {
    /// Returns a connection, and where whoever reads its notices is asked to catch up.
    pub(super) fn new(connection: transport::Link) -> (Self, mpsc::Receiver<CatchUp>) {
        let (reader, asked) = mpsc::channel(MAX_ASKING);
        let link = Self {
            connection,
            closed_for: Arc::default(),
            reader,
        };
        (link, asked)
    }

    /// Waits for the next stream of the coordinator's. Cancel safe.
    pub(super) async fn accept_uni(&self) -> Result<RecvStream, End> {
        self.connection.accept_uni().await
    }

    /// Closes the connection and notes why, since the connection only remembers by whom.
    pub(super) fn close_for(&self, why: OwnClose) {
        let (code, words) = match &why {
            OwnClose::Silence(_) => (close::TIMED_OUT, "no answer"),
            OwnClose::Malformed(_) => (close::PROTOCOL_VIOLATION, "malformed message"),
            OwnClose::Unfit => (close::PROTOCOL_VIOLATION, "an answer to another request"),
        };
        // The first reason is the one that counts.
        if self.closed_for.set(why).is_ok() {
            self.connection.close(code, words);
        }
    }

    /// Tells whether it runs over TCP.
    pub(super) const fn is_by_tcp(&self) -> bool {
        self.connection.is_by_tcp()
    }

    /// Closes the connection because nothing more is wanted.
    pub(super) fn goodbye(&self) {
        self.connection.close(close::DONE, "done");
    }

    /// Waits until the coordinator knows that this side has closed the connection. Cancel safe.
    pub(super) async fn let_go(&self) {
        self.connection.let_go().await;
    }

    /// Sends a sign of life, which the coordinator answers, and closes the connection if nothing at
    /// all comes for a second (four round trips, where these are longer).
    ///
    /// A coordinator that was started anew answers with a reset, which ends the connection at once.
    ///
    /// Cancel safe.
    pub(super) async fn check(&self) {
        let heard_before = self.heard();
        self.connection.send_sign_of_life();
        let limit = CHECK_LIMIT.max(self.connection.rtt() * CHECK_ROUND_TRIPS);
        let hearing = async {
            while self.heard() == heard_before && self.connection.close_reason().is_none() {
                sleep(CHECK_INTERVAL).await;
            }
        };
        if timeout(limit, hearing).await.is_err() {
            self.close_for(OwnClose::Silence(limit));
        }
    }

    /// Waits until the connection has ended, and says why. Cancel safe.
    pub(super) async fn lost(&self) -> CoordinatorError {
        self.connection.closed().await;
        self.closed_reason()
    }

    /// Says why the connection has ended.
    pub(super) fn closed_reason(&self) -> CoordinatorError {
        self.connection
            .close_reason()
            .map_or(CoordinatorError::Answer, |end| self.told(end))
    }

    fn told(&self, end: End) -> CoordinatorError {
        let reason = match end {
            End::Closed {
                code,
                words: reason,
            } => {
                let Close { code, retry_after } = code.close();
                return match code {
                    close::REPLACED => CoordinatorError::Replaced,
                    close::GOING_AWAY => CoordinatorError::GoingAway { retry_after },
                    close::OVERLOADED => CoordinatorError::Overloaded { retry_after },
                    close::NOT_SERVED => CoordinatorError::NotServed { reason },
                    close::PROTOCOL_VIOLATION => CoordinatorError::Violation { reason },
                    _ => CoordinatorError::Closed {
                        reason,
                        retry_after,
                    },
                };
            }
            End::ClosedHere => match self.closed_for.get() {
                Some(OwnClose::Silence(limit)) => return CoordinatorError::Silent(*limit),
                Some(OwnClose::Malformed(error)) => {
                    return CoordinatorError::Message(error.clone());
                }
                Some(OwnClose::Unfit) => return CoordinatorError::Answer,
                None => "this endpoint is closed".to_owned(),
            },
            end @ (End::Silence | End::Reset | End::Failed(_)) => end.to_string(),
        };
        CoordinatorError::Lost { reason }
    }

    /// Says what is wrong where this is the answer, and none that is one to what was asked. One
    /// that answers something else closes the connection.
    pub(super) fn denied(&self, response: Response) -> CoordinatorError {
        match response {
            Response::Refused(refusal) => CoordinatorError::Refused(refusal.well_formed()),
            Response::Unknown(unknown) => CoordinatorError::UnknownAnswer(unknown.kind),
            Response::Registered(_)
            | Response::Introduced(_)
            | Response::Settled
            | Response::Relayed
            | Response::Crossed(_)
            | Response::Noted
            | Response::Found(_) => {
                self.close_for(OwnClose::Unfit);
                CoordinatorError::Answer
            }
        }
    }

    /// Passes bytes of a handshake on to the other side of an introduction.
    pub(crate) async fn relay(&self, flight: Flight) -> Result<(), CoordinatorError> {
        let response = self.request(&Request::Relay(flight)).await?;
        if response == Response::Relayed {
            return Ok(());
        }
        Err(self.denied(response))
    }

    /// Asks for something, and returns the answer.
    pub(super) async fn request(&self, request: &Request) -> Result<Response, CoordinatorError> {
        // The coordinator takes a few requests of a peer at a time; the others wait here.
        let heard_before = self.heard();
        let opening = timeout(STREAM_LIMIT, self.connection.open_bi()).await;
        let opened = opening.map_err(|_| self.unanswered(heard_before, STREAM_LIMIT))?;
        let (mut send, mut receive) = opened.map_err(|end| self.told(end))?;
        let heard_before = self.heard();
        let exchange = async {
            let frame = codec::encode(request)
                .map_err(|_| CoordinatorError::from(RefusalReason::TooLarge))?;
            send.write_all(&frame)
                .await
                .map_err(|_| self.closed_reason())?;
            // Finishing fails only on a stream that is already finished.
            send.finish().map_err(|_| self.closed_reason())?;
            match read_message(&mut receive).await {
                Ok(response) => {
                    // What is said of bytes that were passed on, and of an end, waits for nothing.
                    if !matches!(request, Request::Relay(_) | Request::Settled(_)) {
                        self.take_in_notices().await?;
                    }
                    response.ok_or_else(|| self.closed_reason())
                }
                Err(error) => {
                    self.close_for(OwnClose::Malformed(error.clone()));
                    Err(error.into())
                }
            }
        };
        match timeout(REQUEST_LIMIT, exchange).await {
            Ok(result) => result,
            Err(_) => {
                // Not even the transport answers: the coordinator may have been started anew, and
                // is asked sooner on another connection.
                if self.heard() == heard_before {
                    self.close_for(OwnClose::Silence(REQUEST_LIMIT));
                }
                Err(self.unanswered(heard_before, REQUEST_LIMIT))
            }
        }
    }

    /// Waits until the notices that have come are read: one that is no message counts before an
    /// answer that has come behind it.
    async fn take_in_notices(&self) -> Result<(), CoordinatorError> {
        let (asking, caught_up) = oneshot::channel();
        if self.reader.send(asking).await.is_ok() {
            // It is dropped, and nothing is said.
            drop(caught_up.await);
        }
        match self.closed_for.get() {
            Some(OwnClose::Malformed(error)) => Err(error.clone().into()),
            Some(OwnClose::Silence(_) | OwnClose::Unfit) | None => Ok(()),
        }
    }

    /// Says what is wrong where there is no answer for so long, by whether anything at all has come
    /// meanwhile.
    pub(super) fn unanswered(&self, heard_before: u64, limit: Duration) -> CoordinatorError {
        if self.heard() == heard_before {
            CoordinatorError::Silent(limit)
        } else {
            CoordinatorError::Unanswered(limit)
        }
    }

    /// Returns a number that grows with everything that comes from the coordinator.
    pub(super) fn heard(&self) -> u64 {
        self.connection.heard()
    }
}

/// Sends a request whose answer matters to nobody. Returns what waits for the answer, so that the
/// request is not given up.
pub(super) async fn tell(
    connection: &transport::Link,
    request: &Request,
) -> Option<impl Future<Output = ()> + Send + use<>> {
    let request = codec::encode(request).ok()?;
    let (mut send, mut receive) = connection.open_bi().await.ok()?;
    send.write_all(&request).await.ok()?;
    send.finish().ok()?;
    Some(async move {
        let answer = read_message::<Response>(&mut receive).await;
        tracing::trace!(?answer, "an answer that nobody has asked for");
    })
}

/// Reads one message, or `None` when the stream ends or breaks before it is whole.
pub(super) async fn read_message<M: codec::Wire>(
    stream: &mut RecvStream,
) -> Result<Option<M>, DecodeError> {
    let mut header = [0; codec::HEADER_LEN];
    if stream.read_full(&mut header).await != Ok(header.len()) {
        return Ok(None);
    }
    let mut body = vec![0; codec::body_len(header)?];
    if stream.read_full(&mut body).await != Ok(body.len()) {
        return Ok(None);
    }
    codec::decode(&body).map(Some)
}
