//! What becomes of coordinators that come, go and end.

use super::*;

const MS: Duration = Duration::from_millis(1);

/// A choice, and the time.
struct Scene {
    choice: Choice,
    now: Instant,
}

impl Scene {
    fn new(own: usize) -> Self {
        Self {
            choice: Choice::new(own),
            now: Instant::now(),
        }
    }

    /// Connections to those with a time are made, each of which takes so long.
    fn up<const N: usize>(handshakes: [u32; N]) -> Self {
        let mut scene = Self::new(N);
        for (index, handshake) in handshakes.into_iter().enumerate() {
            scene.choice.is_up(index, MS * handshake, scene.now);
        }
        scene
    }

    fn after(&mut self, time: Duration) -> Decision {
        self.now += time;
        self.choice.decide(self.now)
    }

    fn order(&mut self) -> Vec<usize> {
        self.after(Duration::ZERO).order
    }

    fn wanted(&mut self) -> Vec<usize> {
        let wanted = self.after(Duration::ZERO).wanted.into_iter().enumerate();
        wanted
            .filter_map(|(index, it)| it.then_some(index))
            .collect()
    }
}

#[test]
fn one_coordinator_is_all_there_is() {
    let mut scene = Scene::new(1);
    let decision = scene.after(Duration::ZERO);
    assert_eq!(
        (decision.order.as_slice(), decision.wanted),
        (&[][..], vec![true])
    );
    assert!(decision.is_pending);
    scene.choice.is_up(0, MS, scene.now);
    let decision = scene.after(SETTLED);
    assert_eq!((decision.order, decision.wanted), (vec![0], vec![true]));
    assert!(!decision.is_pending && decision.again_at.is_none());
    scene.choice.leaves(0);
    scene.choice.fails(0);
    assert_eq!(scene.wanted(), [0], "there is no other");
}

#[test]
fn the_nearest_is_preferred_and_a_second_one_is_kept() {
    let mut scene = Scene::new(3);
    scene.choice.is_up(2, MS * 30, scene.now);
    assert_eq!(scene.order(), [2], "it was there first");
    scene.choice.is_up(0, MS * 90, scene.now);
    scene.choice.is_up(1, MS * 40, scene.now);
    assert_eq!(scene.order(), [2, 1, 0]);
    assert_eq!(scene.wanted(), [0, 1, 2], "none of them has lasted");
    assert_eq!(
        scene.after(Duration::ZERO).again_at,
        Some(scene.now + SETTLED)
    );
    scene.after(SETTLED);
    assert_eq!(scene.wanted(), [1, 2]);
}

#[test]
fn the_second_takes_over_at_once_and_a_third_is_called_in() {
    let mut scene = Scene::up([20, 40, 90]);
    scene.after(SETTLED);
    scene.choice.rests(2);
    assert_eq!(scene.wanted(), [0, 1]);
    scene.choice.fails(0);
    assert_eq!(scene.order(), [1]);
    assert_eq!(scene.wanted(), [0, 1, 2]);
    scene.choice.is_up(2, MS * 90, scene.now);
    assert_eq!(scene.order(), [1, 2]);
    // The nearest is back: it is preferred once it has lasted, and the farthest is let go.
    scene.choice.is_up(0, MS * 20, scene.now);
    assert_eq!(scene.order(), [1, 0, 2]);
    scene.after(SETTLED);
    assert_eq!(scene.order(), [0, 1, 2]);
    assert_eq!(scene.wanted(), [0, 1]);
}

#[test]
fn what_differs_by_chance_changes_nothing() {
    for (preferred, other, is_better) in [
        (40, 35, false),
        (40, 31, false),
        (40, 29, true),
        (200, 160, false),
        (200, 140, true),
    ] {
        let mut scene = Scene::new(2);
        scene.choice.is_up(0, MS * preferred, scene.now);
        scene.order();
        scene.choice.is_up(1, MS * other, scene.now);
        scene.after(SETTLED);
        assert_eq!(scene.order()[0] == 1, is_better, "{preferred} and {other}");
    }
}

#[test]
fn one_that_ends_is_asked_last_and_kept_to_its_end() {
    let mut scene = Scene::up([20, 40]);
    scene.after(SETTLED);
    scene.choice.leaves(0);
    assert_eq!(scene.order(), [1, 0]);
    assert_eq!(scene.wanted(), [0, 1]);
    scene.choice.fails(0);
    assert_eq!(scene.order(), [1]);
    // The next process in its place.
    scene.choice.is_up(0, MS * 20, scene.now);
    assert_eq!(scene.order(), [1, 0]);
    scene.after(SETTLED);
    assert_eq!(scene.order(), [0, 1]);
    // All of them end: the nearest has to do.
    scene.choice.leaves(0);
    scene.choice.leaves(1);
    assert_eq!(scene.order(), [0, 1]);
}

#[test]
fn what_another_coordinator_names_serves_while_none_of_the_users_does() {
    let mut scene = Scene::up([20]);
    scene.after(SETTLED);
    let guests = [(); 2].map(|()| scene.choice.add_guest());
    assert_eq!((guests, scene.wanted()), ([1, 2], vec![0]));
    scene.choice.leaves(0);
    assert_eq!(scene.wanted(), [0, 1], "one after the other");
    scene.choice.tries(1);
    assert!(scene.after(Duration::ZERO).is_pending);
    scene.choice.fails(1);
    assert_eq!(scene.wanted(), [0, 1, 2]);
    scene.choice.is_up(2, MS, scene.now);
    assert_eq!(scene.order(), [2, 0]);
    scene.choice.fails(0);
    scene.after(SETTLED);
    assert_eq!(scene.order(), [2]);
    assert_eq!(scene.wanted(), [0, 2]);
    // The user's own is back, however far it is.
    scene.choice.is_up(0, MS * 500, scene.now);
    assert_eq!(scene.order(), [2, 0]);
    scene.after(SETTLED);
    assert_eq!(scene.order(), [0, 2]);
    assert_eq!(scene.wanted(), [0]);
}

#[test]
fn one_that_comes_and_goes_is_not_preferred() {
    let mut scene = Scene::up([20, 40]);
    scene.after(SETTLED);
    for _ in 0..5 {
        scene.choice.fails(0);
        assert_eq!(scene.order(), [1]);
        scene.choice.is_up(0, MS * 20, scene.now);
        scene.after(SETTLED / 2);
        assert_eq!(scene.order(), [1, 0]);
    }
}
