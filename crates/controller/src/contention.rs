//! Objects that somebody else undoes as soon as they are written.
//!
//! What somebody removes or changes is made good at once. Where it is undone again at once, whoever does it goes
//! on: the garbage collector, which knows before our watch does that the Model is gone, or a rival. Writing it
//! once more then waits, with the growing delay of a failure, instead of racing.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use kthena_bridge_api::child::ChildKind;
use kthena_bridge_core::ownership::Digest;

/// What was written in this time was written a moment ago.
const MOMENT: Duration = Duration::from_secs(10);
/// How often an object is made in a moment without waiting: first, and again when it was removed.
const MADE: usize = 2;
/// How often it is changed to the same in a moment without waiting.
const CHANGED: usize = 5;

/// A write of an object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Written {
    /// The uid of its owner.
    pub(crate) owner: String,
    pub(crate) kind: ChildKind,
    pub(crate) name: String,
    /// What it was changed to; nothing when it was made.
    pub(crate) to: Option<Digest>,
}

impl Written {
    fn limit(&self) -> usize {
        if self.to.is_some() { CHANGED } else { MADE }
    }
}

/// What was written a moment ago.
#[derive(Debug, Default)]
pub(crate) struct Contention {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The first one first.
    written: VecDeque<(Instant, Written)>,
    times: HashMap<Written, usize>,
}

impl Contention {
    /// Whether an object was written, and that undone, so often that writing it once more has to wait.
    pub(crate) fn has_to_wait(&self, write: &Written, now: Instant) -> bool {
        let mut state = self.lock();
        state.forget_before(now);
        let times = state.times.get(write);
        times.is_some_and(|times| *times >= write.limit())
    }

    /// Notes that an object was written.
    pub(crate) fn written(&self, write: Written, now: Instant) {
        let mut state = self.lock();
        state.forget_before(now);
        *state.times.entry(write.clone()).or_default() += 1;
        state.written.push_back((now, write));
    }

    /// Notes that an object that was made was removed by ourselves: nobody is to be waited for.
    pub(crate) fn removed(&self, made: &Written) {
        let mut state = self.lock();
        if state.times.remove(made).is_some() {
            state.written.retain(|(_, written)| written != made);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn forget_before(&mut self, now: Instant) {
        let is_old = |written: &mut (Instant, Written)| now.duration_since(written.0) > MOMENT;
        while let Some((_, write)) = self.written.pop_front_if(is_old) {
            if let Some(times) = self.times.get_mut(&write) {
                *times -= 1;
                if *times == 0 {
                    self.times.remove(&write);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use kthena_bridge_core::ownership;
    use serde_json::json;

    use super::*;

    fn made(owner: &str) -> Written {
        Written {
            owner: owner.to_owned(),
            kind: ChildKind::Service,
            name: "demo-epp".to_owned(),
            to: None,
        }
    }

    fn changed(path: &str) -> Written {
        Written {
            to: Some(ownership::desired(&json!({"spec": path}))),
            ..made("uid")
        }
    }

    /// How often it is written without waiting.
    fn at_once(contention: &Contention, write: &Written, now: Instant) -> usize {
        let mut times = 0;
        while times < 100 && !contention.has_to_wait(write, now) {
            contention.written(write.clone(), now);
            times += 1;
        }
        times
    }

    #[test]
    fn what_is_undone_again_and_again_waits() {
        let (contention, now) = (Contention::default(), Instant::now());
        assert_eq!(
            at_once(&contention, &made("uid"), now),
            2,
            "it is repaired at once"
        );
        assert_eq!(
            at_once(&contention, &made("another"), now),
            2,
            "a Model of the same name made anew"
        );
        assert_eq!(at_once(&contention, &changed("/a"), now), 5);
        assert_eq!(at_once(&contention, &changed("/b"), now), 5, "another wish");
        let later = now + MOMENT + Duration::from_secs(1);
        assert_eq!(at_once(&contention, &made("uid"), later), 2);
        let state = contention.lock();
        assert_eq!(
            (state.written.len(), state.times.len()),
            (2, 1),
            "nothing old is kept"
        );
    }

    #[test]
    fn what_we_remove_ourselves_does_not_count() {
        let (contention, now) = (Contention::default(), Instant::now());
        for _ in 0..5 {
            assert_eq!(at_once(&contention, &made("uid"), now), 2);
            contention.removed(&made("uid"));
        }
    }
}
