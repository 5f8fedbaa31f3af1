//! Objects that go as soon as they are made.
//!
//! What somebody removes is made again at once. Where it goes again at once, whoever removes it goes on: the
//! garbage collector, which knows before our watch does that the Model is gone, or a rival. Making it once
//! more then waits, with the growing delay of a failure, instead of racing.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kthena_bridge_api::child::ChildKind;

/// What was made in this time was made a moment ago.
const MOMENT: Duration = Duration::from_secs(10);
/// How often an object is made in a moment without waiting: first, and again when it was removed.
const TIMES: usize = 2;

/// The uid of the owner, and the kind and the name of an object.
type Key = (String, ChildKind, String);

/// What was made a moment ago.
#[derive(Debug, Default)]
pub(crate) struct Remade {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The first one first.
    made: VecDeque<(Instant, Key)>,
    times: HashMap<Key, usize>,
}

impl Remade {
    /// Whether an object was made, and removed, so often that making it once more has to wait.
    pub(crate) fn has_to_wait(
        &self,
        owner: &str,
        kind: ChildKind,
        name: &str,
        now: Instant,
    ) -> bool {
        let mut state = self.lock();
        state.forget_before(now);
        let key = (owner.to_owned(), kind, name.to_owned());
        state.times.get(&key).is_some_and(|times| *times >= TIMES)
    }

    /// Notes that an object was made.
    pub(crate) fn made(&self, owner: &str, kind: ChildKind, name: &str, now: Instant) {
        let mut state = self.lock();
        state.forget_before(now);
        let key = (owner.to_owned(), kind, name.to_owned());
        *state.times.entry(key.clone()).or_default() += 1;
        state.made.push_back((now, key));
    }

    /// Notes that it was removed by ourselves: nobody is to be waited for.
    pub(crate) fn removed(&self, owner: &str, kind: ChildKind, name: &str) {
        let mut state = self.lock();
        let key = (owner.to_owned(), kind, name.to_owned());
        if state.times.remove(&key).is_some() {
            state.made.retain(|(_, made)| *made != key);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn forget_before(&mut self, now: Instant) {
        let is_old = |made: &mut (Instant, Key)| now.duration_since(made.0) > MOMENT;
        while let Some((_, key)) = self.made.pop_front_if(is_old) {
            if let Some(times) = self.times.get_mut(&key) {
                *times -= 1;
                if *times == 0 {
                    self.times.remove(&key);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: ChildKind = ChildKind::Service;

    fn makes(remade: &Remade, owner: &str, now: Instant) -> bool {
        let may = !remade.has_to_wait(owner, KIND, "demo-epp", now);
        if may {
            remade.made(owner, KIND, "demo-epp", now);
        }
        may
    }

    #[test]
    fn what_goes_twice_in_a_moment_waits() {
        let (remade, now) = (Remade::default(), Instant::now());
        assert!(makes(&remade, "uid", now));
        assert!(makes(&remade, "uid", now), "it is repaired at once");
        assert!(!makes(&remade, "uid", now));
        assert!(
            makes(&remade, "another", now),
            "a Model of the same name made anew"
        );
        let later = now + MOMENT + Duration::from_secs(1);
        assert!(makes(&remade, "uid", later));
        let state = remade.lock();
        assert_eq!(
            (state.made.len(), state.times.len()),
            (1, 1),
            "nothing old is kept"
        );
    }

    #[test]
    fn what_we_remove_ourselves_does_not_count() {
        let (remade, now) = (Remade::default(), Instant::now());
        for _ in 0..5 {
            assert!(makes(&remade, "uid", now));
            remade.removed("uid", KIND, "demo-epp");
        }
    }
}
