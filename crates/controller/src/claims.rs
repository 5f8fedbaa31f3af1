//! Who has which requests, and who waits for them.
//!
//! A claim is taken before the route is written, under a lock, so that of two Models that want the same
//! only one writes. Who waits for a claim is looked at again when it changes hands.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};

use kthena_bridge_core::claims::{self, Claim, Conflict};
use kthena_bridge_core::observe::Route;

use crate::interest::Interests;
use crate::namespaced_name::NamespacedName;
use crate::observe::{Caches, Change};
use crate::queue::Queue;

/// Who has which requests, and who waits for them.
#[derive(Debug)]
pub(crate) struct Claims {
    caches: Arc<Caches>,
    queue: Queue,
    /// The Models that have a claim, or want it.
    contenders: Interests<Claim>,
    taking: Mutex<()>,
}

impl Claims {
    pub(crate) fn new(caches: Arc<Caches>, queue: Queue) -> Self {
        Self {
            caches,
            queue,
            contenders: Interests::default(),
            taking: Mutex::default(),
        }
    }

    /// Takes what a route asks for; `live` is the route as it is.
    pub(crate) fn take(
        &self,
        model: &NamespacedName,
        wanted: Route,
        live: Option<&Route>,
    ) -> Result<(), Box<Conflict>> {
        let mut topics: HashSet<Claim> = claims::contended(&wanted, &*self.caches)
            .into_iter()
            .collect();
        // Before anything is looked at, so that no change is missed between.
        self.contenders.set(model, &topics);
        let taking = self.taking.lock().unwrap_or_else(PoisonError::into_inner);
        let checked = claims::check(&wanted, live, &*self.caches);
        let change = match &checked {
            Ok(()) => self.caches.claimed.written(wanted),
            Err(_) => self.caches.claimed.gone(wanted.namespace(), wanted.name()),
        };
        drop(taking);
        if let Err(conflict) = &checked {
            topics.insert(conflict.held.clone());
            self.contenders.set(model, &topics);
        }
        self.tell(change.as_ref(), Some(model));
        checked
    }

    /// Gives up what the route `namespace`/`name` of a Model asked for.
    pub(crate) fn release(&self, model: &NamespacedName, name: &str) {
        self.contenders.forget(model);
        self.changed(self.caches.claimed.gone(model.namespace(), name).as_ref());
    }

    /// Has those looked at whom a change of a route concerns.
    pub(crate) fn changed(&self, change: Option<&Change<Route>>) {
        self.tell(change, None);
    }

    fn tell(&self, change: Option<&Change<Route>>, by: Option<&NamespacedName>) {
        let routes = change.iter().flat_map(|change| change.both());
        let changed: HashSet<Claim> = routes
            .flat_map(|route| claims::of(route, &*self.caches))
            .collect();
        let concerned = changed.iter().flat_map(|claim| self.contenders.of(claim));
        for model in concerned.filter(|model| Some(model) != by) {
            self.queue.look_at(model);
        }
    }
}
