//! The Models that are to be looked at.

use futures::channel::mpsc::{self, UnboundedReceiver, UnboundedSender};
use kthena_bridge_api::kthena::ModelBooster;
use kube::runtime::reflector::ObjectRef;

/// Where the Models go that are to be looked at.
#[derive(Clone, Debug)]
pub(crate) struct Queue(UnboundedSender<ObjectRef<ModelBooster>>);

impl Queue {
    /// A queue, and its other end.
    pub(crate) fn new() -> (Self, UnboundedReceiver<ObjectRef<ModelBooster>>) {
        let (queue, models) = mpsc::unbounded();
        (Self(queue), models)
    }

    /// Has a Model looked at.
    pub(crate) fn look_at(&self, model: ObjectRef<ModelBooster>) {
        // It fails when the operator is about to end.
        let _ = self.0.unbounded_send(model);
    }
}
