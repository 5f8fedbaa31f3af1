//! The Models that are to be looked at, each once, in the order in which that was noticed.
//!
//! Where very many are to be looked at, as at the start, or when something changes that they share, they are a
//! backlog: what happens to a Model goes before, and of the backlog only some are under way at a time. kube's
//! scheduler has no order: it takes whichever comes first in a hash table, so that one may wait for as long as there
//! are others.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::{Stream, stream};
use tokio::sync::Notify;

use crate::metrics::{Load, Metrics, Pass};
use crate::object_ref::ObjectRef;
use crate::reconcile::Next;

/// More Models than this that one change concerns are a backlog.
const MANY: usize = 64;
/// The part of what may be under way that is the backlog's, and that it always gets: what happens finds room at
/// once, also at the API server, which takes longer for each the more of them there are.
const BACKLOG: usize = 3;

/// Why a Model is to be looked at. The first one goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Cause {
    /// Something happened to it.
    Event,
    /// Something that concerns many.
    Backlog,
}

/// The Models that are to be looked at. It is closed until reconciling begins with all of them: while caches are
/// filled, and while another operator works, nobody would take what comes.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    state: Arc<Mutex<State>>,
    /// Something came, or there is room.
    news: Arc<Notify>,
    open: Arc<AtomicBool>,
    metrics: Arc<Metrics>,
}

/// A Model is in one of these.
#[derive(Debug, Default)]
struct State {
    /// Those that wait.
    waiting: HashMap<ObjectRef, Waiting>,
    /// Those that are being looked at.
    under_way: HashMap<ObjectRef, UnderWay>,
    /// Those that are to be looked at later.
    later: HashMap<ObjectRef, (Instant, Cause)>,
    /// The order of those that wait.
    events: VecDeque<ObjectRef>,
    backlog: VecDeque<ObjectRef>,
    /// The order of those for later.
    due: BTreeSet<(Instant, ObjectRef)>,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    cause: Cause,
    since: Instant,
}

#[derive(Debug)]
struct UnderWay {
    cause: Cause,
    since: Instant,
    /// It is to be looked at once more.
    again: Option<Waiting>,
}

impl Queue {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            state: Arc::default(),
            news: Arc::default(),
            open: Arc::default(),
            metrics,
        }
    }

    /// From now on Models are taken.
    pub(crate) fn open(&self) {
        self.open.store(true, Ordering::Release);
    }

    /// Has a Model looked at.
    pub(crate) fn look_at(&self, model: ObjectRef) {
        self.ask([model], Cause::Event);
    }

    /// Has these looked at, which one change concerns: where they are many, behind what happens meanwhile.
    pub(crate) fn look_at_each(&self, models: Vec<ObjectRef>) {
        let cause = if models.len() > MANY {
            Cause::Backlog
        } else {
            Cause::Event
        };
        self.ask(models, cause);
    }

    /// Has these looked at when there is nothing more urgent, in this order.
    pub(crate) fn look_at_later(&self, models: impl IntoIterator<Item = ObjectRef>) {
        self.ask(models, Cause::Backlog);
    }

    fn ask(&self, models: impl IntoIterator<Item = ObjectRef>, cause: Cause) {
        if !self.open.load(Ordering::Acquire) {
            return;
        }
        let since = Instant::now();
        let mut state = self.lock();
        let came = models
            .into_iter()
            .filter(|model| state.ask(model, Waiting { cause, since }))
            .count();
        drop(state);
        self.metrics.work.added(came);
        self.news.notify_one();
    }

    /// Notes how a pass over a Model ended, and when the next one is.
    pub(crate) fn finished(&self, model: &ObjectRef, pass: Pass, next: Next) {
        let now = Instant::now();
        let again = next.delay().map(|delay| {
            let cause = if next == Next::Resync {
                Cause::Backlog
            } else {
                Cause::Event
            };
            (now + delay, cause)
        });
        let took = self.lock().finished(model, again, now);
        self.metrics.work.passed(pass, took);
        self.news.notify_one();
    }

    /// The Models as they are to be looked at, no more than `room` at a time, each with the time since when that is
    /// so. One stream may be taken.
    pub(crate) fn in_order(&self, room: usize) -> impl Stream<Item = (ObjectRef, Instant)> {
        stream::unfold(self.clone(), move |queue| async move {
            loop {
                let due = match queue.next(room) {
                    Ok(next) => return Some((next, queue)),
                    Err(due) => due,
                };
                let until_due = async {
                    match due {
                        Some(at) => tokio::time::sleep_until(at.into()).await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    () = queue.news.notified() => {}
                    () = until_due => {}
                }
            }
        })
    }

    /// The next one; else, when the first of those for later is due.
    fn next(&self, room: usize) -> Result<(ObjectRef, Instant), Option<Instant>> {
        let now = Instant::now();
        let mut state = self.lock();
        let came = state.fall_due(now);
        let next = state.next(room, now);
        let due = state.due.first().map(|(at, _)| *at);
        drop(state);
        self.metrics.work.added(came);
        let (model, since) = next.ok_or(due)?;
        let waited = now.saturating_duration_since(since);
        self.metrics.work.taken(waited);
        Ok((model, since))
    }

    /// How much there is to do.
    pub(crate) fn load(&self) -> Load {
        let now = Instant::now();
        let state = self.lock();
        let running = state.under_way.values();
        Load {
            waiting: state.waiting.len(),
            running: running
                .map(|one| now.saturating_duration_since(one.since))
                .collect(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Has a Model looked at. Tells whether it came into the queue, in which it was not.
    fn ask(&mut self, model: &ObjectRef, asked: Waiting) -> bool {
        if let Some(under_way) = self.under_way.get_mut(model) {
            let again = &mut under_way.again;
            let came = again.is_none();
            let again = again.get_or_insert(asked);
            again.cause = again.cause.min(asked.cause);
            return came;
        }
        if let Some((at, _)) = self.later.remove(model) {
            self.due.remove(&(at, model.clone()));
        }
        let before = self.waiting.get(model).copied();
        if before.is_some_and(|before| before.cause <= asked.cause) {
            return false;
        }
        let since = before.map_or(asked.since, |before| before.since);
        let waiting = Waiting { since, ..asked };
        self.waiting.insert(model.clone(), waiting);
        self.lane(asked.cause).push_back(model.clone());
        before.is_none()
    }

    fn lane(&mut self, cause: Cause) -> &mut VecDeque<ObjectRef> {
        match cause {
            Cause::Event => &mut self.events,
            Cause::Backlog => &mut self.backlog,
        }
    }

    /// Has those looked at whose time has come, and tells how many those are.
    fn fall_due(&mut self, now: Instant) -> usize {
        let mut came = 0;
        while let Some((since, model)) = self.due.pop_first() {
            if since > now {
                self.due.insert((since, model));
                break;
            }
            if let Some((_, cause)) = self.later.remove(&model) {
                came += usize::from(self.ask(&model, Waiting { cause, since }));
            }
        }
        came
    }

    fn next(&mut self, room: usize, now: Instant) -> Option<(ObjectRef, Instant)> {
        let share = (room / BACKLOG).max(1);
        let all = self.under_way.len();
        let is_backlog = |one: &&UnderWay| one.cause == Cause::Backlog;
        let backlog = self.under_way.values().filter(is_backlog).count();
        let kept = if self.backlog.is_empty() {
            0
        } else {
            share.saturating_sub(backlog)
        };
        if all + kept < room
            && let Some(next) = self.take(Cause::Event, now)
        {
            return Some(next);
        }
        if all < room && backlog < share {
            return self.take(Cause::Backlog, now);
        }
        None
    }

    fn take(&mut self, cause: Cause, now: Instant) -> Option<(ObjectRef, Instant)> {
        while let Some(model) = self.lane(cause).pop_front() {
            // Else it was taken out of the backlog by an event.
            let is = |waiting: &Waiting| waiting.cause == cause;
            if self.waiting.get(&model).is_some_and(is) {
                let waited = self.waiting.remove(&model)?;
                let under_way = UnderWay {
                    cause,
                    since: now,
                    again: None,
                };
                self.under_way.insert(model.clone(), under_way);
                return Some((model, waited.since));
            }
        }
        None
    }

    /// Tells how long it took.
    fn finished(
        &mut self,
        model: &ObjectRef,
        again: Option<(Instant, Cause)>,
        now: Instant,
    ) -> Duration {
        let Some(done) = self.under_way.remove(model) else {
            return Duration::ZERO;
        };
        if let Some(asked) = done.again {
            // What is asked for already will say itself when it is to be looked at later.
            self.ask(model, asked);
        } else if let Some((at, cause)) = again {
            self.later.insert(model.clone(), (at, cause));
            self.due.insert((at, model.clone()));
        }
        now.saturating_duration_since(done.since)
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, StreamExt as _};

    use super::*;

    fn model(name: &str) -> ObjectRef {
        ObjectRef::model("default", name)
    }

    fn queue() -> Queue {
        let queue = Queue::new(Arc::default());
        queue.open();
        queue
    }

    fn done(queue: &Queue, name: &str) {
        queue.finished(&model(name), Pass::Success, Next::Event);
    }

    type Requests<'a> = &'a mut (dyn Stream<Item = (ObjectRef, Instant)> + Unpin);

    fn next(requests: Requests<'_>) -> Option<String> {
        let next = requests.next().now_or_never().flatten();
        next.map(|(model, _)| model.name().to_owned())
    }

    fn all(requests: Requests<'_>) -> String {
        std::iter::from_fn(|| next(requests)).collect()
    }

    #[tokio::test]
    async fn nothing_is_taken_before_reconciling_begins() {
        let queue = Queue::new(Arc::default());
        queue.look_at(model("a"));
        queue.open();
        assert_eq!(all(&mut Box::pin(queue.in_order(8))), "");
    }

    #[tokio::test]
    async fn what_happens_comes_before_the_backlog_and_leaves_it_its_part() {
        let queue = queue();
        let mut requests = Box::pin(queue.in_order(8));
        queue.look_at_later(["a", "b", "c", "d"].map(model));
        assert_eq!(all(&mut requests), "ab", "a third");
        queue.look_at_each(["1", "2", "3", "4", "5", "6", "7"].map(model).into());
        assert_eq!(all(&mut requests), "123456", "eight are under way");
        done(&queue, "a");
        assert_eq!(all(&mut requests), "c");
        done(&queue, "1");
        assert_eq!(all(&mut requests), "7");
        done(&queue, "b");
        done(&queue, "c");
        assert_eq!(all(&mut requests), "d");
        queue.look_at(model("8"));
        assert_eq!(all(&mut requests), "8", "the backlog is empty");
    }

    #[tokio::test]
    async fn each_waits_once_and_in_the_order_that_it_was_noticed_in() {
        let queue = queue();
        let mut requests = Box::pin(queue.in_order(1));
        queue.look_at_each(["a", "b", "a", "c", "b"].map(model).into());
        assert_eq!(all(&mut requests), "a");
        queue.look_at(model("a"));
        queue.look_at(model("a"));
        assert_eq!(all(&mut requests), "");
        for (ended, then) in [("a", "b"), ("b", "c"), ("c", "a"), ("a", "")] {
            done(&queue, ended);
            assert_eq!(all(&mut requests), then);
        }
    }

    #[tokio::test]
    async fn an_event_takes_a_model_out_of_the_backlog() {
        let queue = queue();
        let mut requests = Box::pin(queue.in_order(4));
        queue.look_at_later(["a", "b", "c"].map(model));
        queue.look_at(model("c"));
        assert_eq!(all(&mut requests), "ca");
        done(&queue, "a");
        assert_eq!(all(&mut requests), "b");
        done(&queue, "b");
        assert_eq!(all(&mut requests), "", "once");
    }

    #[tokio::test]
    async fn what_happens_at_the_start_does_not_wait_behind_all_others() {
        let queue = queue();
        queue.look_at(model("d"));
        queue.look_at_later(["a", "b", "c", "d"].map(model));
        assert_eq!(all(&mut Box::pin(queue.in_order(3))), "da");
    }

    #[tokio::test]
    async fn many_at_once_are_a_backlog() {
        let names = |count: usize| (0..count).map(|n| model(&n.to_string())).collect();
        for (count, taken) in [(MANY, MANY), (MANY + 1, 100 / BACKLOG)] {
            let queue = queue();
            queue.look_at_each(names(count));
            let mut requests = Box::pin(queue.in_order(100));
            let found = std::iter::from_fn(|| next(&mut requests)).count();
            assert_eq!(found, taken);
        }
    }

    #[tokio::test]
    async fn what_is_for_later_is_taken_when_its_time_has_come_or_something_happens() {
        let queue = queue();
        let mut requests = Box::pin(queue.in_order(4));
        queue.look_at_each(["a", "b"].map(model).into());
        assert_eq!(all(&mut requests), "ab");
        let hour = Next::After(Duration::from_hours(1));
        let soon = Next::After(Duration::from_millis(1));
        queue.finished(&model("a"), Pass::RequeueAfter, hour);
        queue.finished(&model("b"), Pass::RequeueAfter, soon);
        assert_eq!(queue.load().waiting, 0);
        let (taken, since) = requests.next().await.unwrap();
        assert_eq!(taken, model("b"));
        assert!(since <= Instant::now());
        queue.look_at(model("a"));
        assert_eq!(all(&mut requests), "a");
        done(&queue, "a");
        done(&queue, "b");
        let state = queue.lock();
        assert!(state.later.is_empty() && state.due.is_empty(), "{state:?}");
    }

    #[tokio::test]
    async fn what_happens_during_a_pass_comes_before_what_it_asks_for() {
        let queue = queue();
        let mut requests = Box::pin(queue.in_order(4));
        queue.look_at(model("a"));
        assert_eq!(all(&mut requests), "a");
        queue.look_at(model("a"));
        let hour = Next::After(Duration::from_hours(1));
        queue.finished(&model("a"), Pass::RequeueAfter, hour);
        assert_eq!(all(&mut requests), "a");
        let load = queue.load();
        assert_eq!((load.waiting, load.running.len()), (0, 1));
    }
}
