//! The Models that are to be looked at, each once, in the order in which that was noticed.
//!
//! kube's scheduler takes whichever of those that wait comes first in a hash table, so that one may wait for as
//! long as there are others. It is therefore given no more than it has room for. Where very many are to be looked
//! at, as at the start, or when something changes that they share, they are a backlog: what happens to a Model
//! goes before, and of the backlog only some are under way at a time.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use futures::{Stream, stream};
use kthena_bridge_api::kthena::ModelBooster;
use kube::runtime::reflector::ObjectRef;
use tokio::sync::Notify;

use crate::metrics::Metrics;

type Model = ObjectRef<ModelBooster>;

/// More Models than this that one change concerns are a backlog.
const MANY: usize = 64;
/// The part of what may be under way that is the backlog's, and that it always gets: what happens finds room at
/// once, also at the API server, which takes longer for each the more of them there are.
const BACKLOG: usize = 4;

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

#[derive(Debug, Default)]
struct State {
    events: VecDeque<Model>,
    backlog: VecDeque<Model>,
    waiting: HashMap<Model, Cause>,
    under_way: HashMap<Model, UnderWay>,
}

#[derive(Debug)]
struct UnderWay {
    cause: Cause,
    /// Why it is to be looked at once more.
    again: Option<Cause>,
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
    pub(crate) fn look_at(&self, model: Model) {
        self.ask([model], Cause::Event);
    }

    /// Has these looked at, which one change concerns: where they are many, behind what happens meanwhile.
    pub(crate) fn look_at_each(&self, models: Vec<Model>) {
        let cause = if models.len() > MANY {
            Cause::Backlog
        } else {
            Cause::Event
        };
        self.ask(models, cause);
    }

    /// Has these looked at when there is nothing more urgent, in this order.
    pub(crate) fn look_at_later(&self, models: impl IntoIterator<Item = Model>) {
        self.ask(models, Cause::Backlog);
    }

    fn ask(&self, models: impl IntoIterator<Item = Model>, cause: Cause) {
        if !self.open.load(Ordering::Acquire) {
            return;
        }
        let now = Instant::now();
        let mut state = self.lock();
        for model in models {
            self.metrics.work.add(&model, now);
            state.ask(model, cause);
        }
        drop(state);
        self.news.notify_one();
    }

    /// Notes that a Model was looked at.
    pub(crate) fn finished(&self, model: &Model) {
        self.lock().finished(model);
        self.news.notify_one();
    }

    /// The Models as they are to be looked at, no more than `room` at a time. One stream may be taken.
    pub(crate) fn in_order(&self, room: usize) -> impl Stream<Item = Model> {
        stream::unfold(self.clone(), move |queue| async move {
            loop {
                let next = queue.lock().next(room);
                if let Some(model) = next {
                    return Some((model, queue));
                }
                queue.news.notified().await;
            }
        })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn ask(&mut self, model: Model, cause: Cause) {
        if let Some(under_way) = self.under_way.get_mut(&model) {
            let again = under_way.again.map_or(cause, |before| before.min(cause));
            under_way.again = Some(again);
            return;
        }
        if self.waiting.get(&model).is_some_and(|now| *now <= cause) {
            return;
        }
        self.waiting.insert(model.clone(), cause);
        self.lane(cause).push_back(model);
    }

    fn lane(&mut self, cause: Cause) -> &mut VecDeque<Model> {
        match cause {
            Cause::Event => &mut self.events,
            Cause::Backlog => &mut self.backlog,
        }
    }

    fn next(&mut self, room: usize) -> Option<Model> {
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
            && let Some(model) = self.take(Cause::Event)
        {
            return Some(model);
        }
        if all < room && backlog < share {
            return self.take(Cause::Backlog);
        }
        None
    }

    fn take(&mut self, cause: Cause) -> Option<Model> {
        while let Some(model) = self.lane(cause).pop_front() {
            // Else it was taken out of the backlog by an event.
            if self.waiting.get(&model) == Some(&cause) {
                self.waiting.remove(&model);
                let under_way = UnderWay { cause, again: None };
                self.under_way.insert(model.clone(), under_way);
                return Some(model);
            }
        }
        None
    }

    fn finished(&mut self, model: &Model) {
        let done = self.under_way.remove(model);
        if let Some(cause) = done.and_then(|done| done.again) {
            self.ask(model.clone(), cause);
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, StreamExt as _};

    use super::*;

    fn model(name: &str) -> Model {
        ObjectRef::new(name).within("default")
    }

    fn queue() -> Queue {
        let queue = Queue::new(Arc::default());
        queue.open();
        queue
    }

    fn next(requests: &mut (impl Stream<Item = Model> + Unpin)) -> Option<String> {
        requests.next().now_or_never().flatten().map(|m| m.name)
    }

    fn all(requests: &mut (impl Stream<Item = Model> + Unpin)) -> String {
        std::iter::from_fn(|| next(requests)).collect()
    }

    #[test]
    fn nothing_is_taken_before_reconciling_begins() {
        let queue = Queue::new(Arc::default());
        queue.look_at(model("a"));
        queue.open();
        assert_eq!(all(&mut Box::pin(queue.in_order(8))), "");
    }

    #[test]
    fn what_happens_comes_before_the_backlog_and_leaves_it_its_part() {
        let queue = queue();
        let mut requests = Box::pin(queue.in_order(8));
        queue.look_at_later(["a", "b", "c", "d"].map(model));
        assert_eq!(all(&mut requests), "ab", "a quarter");
        queue.look_at_each(["1", "2", "3", "4", "5", "6", "7"].map(model).into());
        assert_eq!(all(&mut requests), "123456", "eight are under way");
        queue.finished(&model("a"));
        assert_eq!(all(&mut requests), "c");
        queue.finished(&model("1"));
        assert_eq!(all(&mut requests), "7");
        queue.finished(&model("b"));
        queue.finished(&model("c"));
        assert_eq!(all(&mut requests), "d");
        queue.look_at(model("8"));
        assert_eq!(all(&mut requests), "8", "the backlog is empty");
    }

    #[test]
    fn each_waits_once_and_in_the_order_that_it_was_noticed_in() {
        let queue = queue();
        let mut requests = Box::pin(queue.in_order(1));
        queue.look_at_each(["a", "b", "a", "c", "b"].map(model).into());
        assert_eq!(all(&mut requests), "a");
        queue.look_at(model("a"));
        queue.look_at(model("a"));
        assert_eq!(all(&mut requests), "");
        for (done, then) in [("a", "b"), ("b", "c"), ("c", "a"), ("a", "")] {
            queue.finished(&model(done));
            assert_eq!(all(&mut requests), then);
        }
    }

    #[test]
    fn an_event_takes_a_model_out_of_the_backlog() {
        let queue = queue();
        let mut requests = Box::pin(queue.in_order(4));
        queue.look_at_later(["a", "b", "c"].map(model));
        queue.look_at(model("c"));
        assert_eq!(all(&mut requests), "ca");
        queue.finished(&model("a"));
        assert_eq!(all(&mut requests), "b");
        queue.finished(&model("b"));
        assert_eq!(all(&mut requests), "", "once");
    }

    #[test]
    fn many_at_once_are_a_backlog() {
        let names = |count: usize| (0..count).map(|n| model(&n.to_string())).collect();
        for (count, taken) in [(MANY, MANY), (MANY + 1, 100 / BACKLOG)] {
            let queue = queue();
            queue.look_at_each(names(count));
            let mut requests = Box::pin(queue.in_order(100));
            let found = std::iter::from_fn(|| next(&mut requests)).count();
            assert_eq!(found, taken);
        }
    }
}
