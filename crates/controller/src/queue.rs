//! The Models that are to be looked at.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use futures::channel::mpsc::{self, UnboundedReceiver, UnboundedSender};
use kthena_bridge_api::kthena::ModelBooster;
use kube::runtime::reflector::ObjectRef;

use crate::metrics::Metrics;

/// Where the Models go that are to be looked at. It is closed until reconciling begins with all of them:
/// while caches are filled, and while another operator works, nobody would take what comes.
#[derive(Clone, Debug)]
pub(crate) struct Queue {
    models: UnboundedSender<ObjectRef<ModelBooster>>,
    open: Arc<AtomicBool>,
    metrics: Arc<Metrics>,
}

impl Queue {
    /// A queue, and its other end.
    pub(crate) fn new(metrics: Arc<Metrics>) -> (Self, UnboundedReceiver<ObjectRef<ModelBooster>>) {
        let (queue, models) = mpsc::unbounded();
        let queue = Self {
            models: queue,
            open: Arc::default(),
            metrics,
        };
        (queue, models)
    }

    /// From now on Models are taken.
    pub(crate) fn open(&self) {
        self.open.store(true, Ordering::Release);
    }

    /// Has a Model looked at.
    pub(crate) fn look_at(&self, model: ObjectRef<ModelBooster>) {
        if self.open.load(Ordering::Acquire) {
            self.metrics.work.add(&model, Instant::now());
            // It fails when the operator is about to end.
            let _ = self.models.unbounded_send(model);
        }
    }
}
