//! The sans-IO agent that makes one TCP connection between two peers behind NATs.
//!
//! The agent decides; a driver with sockets does. Both peers run one agent for each introduction.
//! The loop of a driver:
//!
//! 1. make a [`PunchAgent`] at the common start moment,
//! 2. drain [`poll_action`](PunchAgent::poll_action) and carry the actions out,
//! 3. drain [`poll_event`](PunchAgent::poll_event),
//! 4. wait for [`poll_timeout`](PunchAgent::poll_timeout), the result of an action or an accepted
//!    connection, whichever comes first, and hand it to
//!    [`handle_timeout`](PunchAgent::handle_timeout), [`handle_input`](PunchAgent::handle_input)
//!    or [`handle_accepted`](PunchAgent::handle_accepted),
//! 5. go on with 2.
//!
//! Time and randomness are arguments: the same inputs and seed give the same run.
//!
//! # The schedule
//!
//! Both sides form the same pairs and start them at the same moments, counted from the common
//! start; a *hedge* is 100 ms or 1.5 round-trip times, whichever is longer, and each of them is
//! later by up to half a round trip, at random. A side whose NAT drops a stranger's SYN gives one
//! whose NAT answers it up to 5 ms of lead.
//!
//! | moment | pairs (punch port of the controlling side, of the controlled side) |
//! |---|---|
//! | 0 | primary, primary; of every kind of candidate at once |
//! | 1 hedge | spare, spare |
//! | 2 hedges | primary, spare |
//! | 3 hedges | spare, primary |
//!
//! Where a NAT's mapping depends on the destination, what servers have seen is of no use to the
//! peer. Then each side makes a *plan* from the two NAT reports, which fits the other's, and its
//! attempts go out before the pairs of the table. On a side whose mapping varies they use local
//! ports that nothing was sent from.
//!
//! | this side, the other side | plan |
//! |---|---|
//! | fixed mapping, ports that can be predicted | one after the other (ports preserved), or four at once to a window of eight (sequential) |
//! | both predicted | the i-th port of one to the i-th of the other |
//! | fixed mapping, filtering by port; random ports | guess: 640 holes from one port; from other ports as many connections as miss all of them once in a hundred times, 462 of 64,512; after a hedge as many more |
//! | predicted ports, filtering by address; random or unknown ports | four from predicted ports to a port of the other's that is in use; the other connects to these |
//! | random or predicted ports, random ports, at most 1,024 each | all ports of each to the one that the other has named, which is among those in use then |
//! | the same, more than 1,024 on one side | none |
//!
//! Where one side lets in whoever comes, or the fixed side whomever it has sent to, no ports are
//! guessed, and they are predicted only if one mapping is fixed: the pairs of the table do. A side
//! with a varying mapping that lets in whoever comes leaves the dialling to its peer at first: for
//! 500 ms or six round trips, whichever is longer.
//!
//! A hedge waits while a connection that seems to be the peer's is being verified, for 250 ms or
//! two round trips at most. When ICMP answers to the first SYNs show that the peer starts late, the
//! hedges on this side start as much later, so that at least these SYNs cross: the first by 0.1 s
//! at most, the next by 0.4 s, the last by 1.6 s.
//!
//! An attempt that hears nothing stays in SYN-SENT until the end. Only the last pair of the table
//! is for listening: one side leaves that to its peer, from the start where its NAT lets in
//! whomever it has sent to, else after 3 s of silence. After a RST a pair is dialled again within
//! 10 ms, later within 40 ms, at random. After ICMP it is dialled again at once, 20 times, because
//! the NAT on this side still lets the peer's SYN in, and a SYN that finds no socket in SYN-SENT
//! spoils the pair for two minutes. When the kernel says that the connection exists already, the
//! listener is given time to hand it out.
//!
//! # What the controlled side does not show
//!
//! Whoever dials may name addresses in the controlled side's own network, and sees what that side
//! sends to him. So attempts to private addresses and to public ones have budgets, pauses and room
//! of their own on that side, and it gives nothing up as hopeless: the dialler does. If the dialler
//! does not say so, the agent of the controlled side ends when the last attempt has had its time, 7
//! s or ten round trips after the start.
//!
//! # Deviations from RFC 8445
//!
//! There are no connectivity checks by STUN and no Ta between them: a SYN is the check, and the
//! first of all kinds of pairs go out together. Nomination is the controlling side's choice of the
//! first connection that it verified.

#![forbid(unsafe_code)]
#![warn(clippy::wildcard_enum_match_arm)]

mod action;
mod agenda;
mod agent;
pub mod behaviour;
mod check;
mod checklist;
mod config;
mod event;
mod input;
mod introduced;
mod nomination;
mod pair;
mod plan;
mod report;
mod schedule;

pub use action::{Action, Purpose};
pub use agent::{PunchAgent, Stats};
pub use check::{Base, CandidatePair, CheckId};
pub use config::PunchConfig;
pub use event::{Event, How};
pub use input::{ConnectFailure, Input, Opened, VerifyFailure};
pub use introduced::Introduced;
pub use plan::{UNUSED_PORTS, discovery_time, guessed_ports, is_contended, spare_ports};
pub use report::{OtherIntroductions, PairOutcome, PairReport, PunchReport, Verdict};
