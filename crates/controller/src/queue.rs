//! The Models that are to be looked at.
//!
//! There are two ways in. What happens to a Model is looked at as soon as there is room. Where very many are to be
//! looked at, as at the start, or when something changes that they share, they wait in a backlog, of which only
//! some are under way at a time: kube's scheduler takes whatever it has in any order, so that a Model that is
//! annotated meanwhile would come after thousands.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use futures::channel::mpsc::{self, UnboundedReceiver, UnboundedSender};
use futures::stream::PollNext;
use futures::{Stream, StreamExt, stream};
use kthena_bridge_api::kthena::ModelBooster;
use kube::runtime::reflector::ObjectRef;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::metrics::Metrics;

type Model = ObjectRef<ModelBooster>;

/// More Models than this that one change concerns are a backlog.
const MANY: usize = 64;

/// Where the Models go that are to be looked at. It is closed until reconciling begins with all of them:
/// while caches are filled, and while another operator works, nobody would take what comes.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    models: UnboundedSender<Model>,
    backlog: UnboundedSender<Model>,
    under_way: Arc<Mutex<HashMap<Model, OwnedSemaphorePermit>>>,
    open: Arc<AtomicBool>,
    metrics: Arc<Metrics>,
}

/// The other end of a [`Queue`].
#[derive(Debug)]
pub(crate) struct Requests {
    models: UnboundedReceiver<Model>,
    backlog: UnboundedReceiver<Model>,
    under_way: Arc<Mutex<HashMap<Model, OwnedSemaphorePermit>>>,
}

impl Queue {
    /// A queue, and its other end.
    pub(crate) fn new(metrics: Arc<Metrics>) -> (Self, Requests) {
        let (models, urgent) = mpsc::unbounded();
        let (backlog, waiting) = mpsc::unbounded();
        let under_way = Arc::<Mutex<HashMap<_, _>>>::default();
        let queue = Self {
            models,
            backlog,
            under_way: Arc::clone(&under_way),
            open: Arc::default(),
            metrics,
        };
        let requests = Requests {
            models: urgent,
            backlog: waiting,
            under_way,
        };
        (queue, requests)
    }

    /// From now on Models are taken.
    pub(crate) fn open(&self) {
        self.open.store(true, Ordering::Release);
    }

    /// Has a Model looked at.
    pub(crate) fn look_at(&self, model: Model) {
        if self.open.load(Ordering::Acquire) {
            self.metrics.work.add(&model, Instant::now());
            // It fails when the operator is about to end.
            let _ = self.models.unbounded_send(model);
        }
    }

    /// Has these looked at, which one change concerns: where they are many, behind what happens meanwhile.
    pub(crate) fn look_at_each(&self, models: Vec<Model>) {
        if models.len() > MANY {
            self.look_at_later(models);
        } else {
            for model in models {
                self.look_at(model);
            }
        }
    }

    /// Has these looked at when there is nothing more urgent, in this order.
    pub(crate) fn look_at_later(&self, models: Vec<Model>) {
        if self.open.load(Ordering::Acquire) {
            for model in models {
                self.metrics.work.add(&model, Instant::now());
                // As above.
                let _ = self.backlog.unbounded_send(model);
            }
        }
    }

    /// Notes that a Model was looked at.
    pub(crate) fn finished(&self, model: &Model) {
        let mut under_way = self
            .under_way
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        under_way.remove(model);
    }
}

impl Requests {
    /// The Models as they are to be looked at; of the backlog no more than `share` at a time.
    pub(crate) fn in_order(self, share: usize) -> impl Stream<Item = Model> {
        let room = Arc::new(Semaphore::new(share.max(1)));
        let under_way = self.under_way;
        let backlog = self.backlog.then(move |model| {
            let (room, under_way) = (Arc::clone(&room), Arc::clone(&under_way));
            async move {
                // Nobody closes it.
                if let Ok(permit) = room.acquire_owned().await {
                    let mut under_way = under_way.lock().unwrap_or_else(PoisonError::into_inner);
                    under_way.insert(model.clone(), permit);
                }
                model
            }
        });
        stream::select_with_strategy(self.models, backlog, |(): &mut ()| PollNext::Left)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn model(name: &str) -> Model {
        ObjectRef::new(name).within("default")
    }

    fn next(requests: &mut (impl Stream<Item = Model> + Unpin)) -> Option<String> {
        requests.next().now_or_never().flatten().map(|m| m.name)
    }

    #[test]
    fn what_happens_comes_before_the_backlog() {
        let (queue, requests) = Queue::new(Arc::default());
        queue.look_at(model("too-early"));
        queue.open();
        queue.look_at_later(["a", "b", "c", "d"].map(model).into());
        let mut requests = Box::pin(requests.in_order(2));
        assert_eq!(next(&mut requests).as_deref(), Some("a"));
        queue.look_at(model("annotated"));
        assert_eq!(next(&mut requests).as_deref(), Some("annotated"));
        assert_eq!(next(&mut requests).as_deref(), Some("b"));
        assert_eq!(next(&mut requests), None, "two are under way");
        queue.finished(&model("annotated"));
        assert_eq!(next(&mut requests), None, "it was not of the backlog");
        queue.finished(&model("a"));
        assert_eq!(next(&mut requests).as_deref(), Some("c"));
        queue.finished(&model("b"));
        queue.finished(&model("c"));
        assert_eq!(next(&mut requests).as_deref(), Some("d"));
    }

    #[test]
    fn many_at_once_are_a_backlog() {
        let (queue, requests) = Queue::new(Arc::default());
        queue.open();
        let names = |count: usize| (0..count).map(|n| model(&n.to_string())).collect();
        queue.look_at_each(names(MANY + 1));
        let mut requests = Box::pin(requests.in_order(1));
        assert!(next(&mut requests).is_some());
        assert_eq!(next(&mut requests), None);
        queue.look_at_each(names(MANY));
        for _ in 0..MANY {
            assert!(next(&mut requests).is_some());
        }
    }

    #[test]
    fn what_waits_twice_is_under_way_once() {
        let (queue, requests) = Queue::new(Arc::default());
        queue.open();
        queue.look_at_later(["a", "a", "b"].map(model).into());
        let mut requests = Box::pin(requests.in_order(1));
        assert_eq!(next(&mut requests).as_deref(), Some("a"));
        queue.finished(&model("a"));
        assert_eq!(next(&mut requests).as_deref(), Some("a"));
        queue.finished(&model("a"));
        assert_eq!(next(&mut requests).as_deref(), Some("b"));
    }
}
