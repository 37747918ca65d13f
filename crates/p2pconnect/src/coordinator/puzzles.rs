//! Solves the puzzles of a coordinator that many come to at once.

use std::sync::Arc;

use p2pconnect_proto::{PeerId, Puzzle, Solution};
use tokio::{sync::Mutex, task::spawn_blocking};

/// Solves one puzzle at a time, and knows the last one: a peer that comes again soon is given the
/// same.
#[derive(Debug, Default)]
pub(super) struct Puzzles(Mutex<Option<(Puzzle, Solution)>>);

impl Puzzles {
    /// Solves a puzzle for a peer, which takes up one processor. Dropping the future ends that.
    pub(super) async fn solve(&self, puzzle: Puzzle, peer: PeerId) -> Option<Solution> {
        let mut last = self.0.lock().await;
        if let Some((known, solution)) = *last
            && known == puzzle
        {
            return Some(solution);
        }
        let wanted = Arc::new(());
        let is_wanted = Arc::downgrade(&wanted);
        let solving = spawn_blocking(move || puzzle.solve(&peer, || is_wanted.strong_count() > 0));
        let solution = solving.await.ok().flatten()?;
        drop(wanted);
        *last = Some((puzzle, solution));
        Some(solution)
    }
}
