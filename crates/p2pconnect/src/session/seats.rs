//! A bounded number of seats for connections of which nothing is known yet.

use std::{collections::VecDeque, convert::Infallible, sync::Mutex};

use tokio::sync::oneshot;

use crate::sync::lock;

/// A number of seats. Whoever comes when all are taken gets the seat of the one who has been there
/// longest: somebody who only sits there keeps nobody out.
#[derive(Debug)]
pub(crate) struct Seats {
    count: usize,
    /// Dropping one has its seat given up.
    taken: Mutex<VecDeque<oneshot::Sender<Infallible>>>,
}

/// A seat, for as long as this exists or until somebody else gets it.
#[derive(Debug)]
pub(crate) struct Seat(oneshot::Receiver<Infallible>);

impl Seats {
    pub(crate) const fn new(count: usize) -> Self {
        Self {
            count,
            taken: Mutex::new(VecDeque::new()),
        }
    }

    pub(crate) fn enter(&self) -> Seat {
        let (occupant, seat) = oneshot::channel();
        self.with(|taken| {
            taken.push_back(occupant);
            if taken.len() > self.count {
                taken.pop_front();
            }
        });
        Seat(seat)
    }

    /// Returns how many seats are taken.
    pub(crate) fn taken(&self) -> usize {
        self.with(|taken| taken.len())
    }

    fn with<T>(
        &self,
        use_taken: impl FnOnce(&mut VecDeque<oneshot::Sender<Infallible>>) -> T,
    ) -> T {
        let mut taken = lock(&self.taken);
        taken.retain(|it| !it.is_closed());
        use_taken(&mut taken)
    }
}

impl Seat {
    /// Waits until somebody else gets the seat.
    pub(crate) async fn given_up(self) {
        // Nothing is ever sent.
        drop(self.0.await);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_one_who_has_been_there_longest_makes_room() {
        let seats = Seats::new(2);
        let (first, second) = (seats.enter(), seats.enter());
        drop(second);
        let third = seats.enter();
        assert_eq!(seats.taken(), 2);
        let fourth = seats.enter();
        first.given_up().await;
        assert_eq!(seats.taken(), 2);
        drop((third, fourth));
        assert_eq!(seats.taken(), 0);
    }
}
