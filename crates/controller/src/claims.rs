//! Who has which requests, and who waits for them.
//!
//! A claim is taken before the route is written, under a lock, so that of two Models that want the same
//! only one writes: an older one waits while the route of a younger one is being written. Who waits for a claim is
//! looked at again when it changes hands.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kthena_bridge_core::claims::{self, Claim, Conflict};
use kthena_bridge_core::observe::Route;

use crate::interest::Interests;
use crate::namespaced_name::NamespacedName;
use crate::object_ref::ObjectRef;
use crate::observe::{Caches, Change};
use crate::queue::Queue;

/// Who has which requests, and who waits for them.
#[derive(Debug)]
pub(crate) struct Claims {
    caches: Arc<Caches>,
    queue: Queue,
    /// The Models that have a claim, or want it.
    contenders: Interests<Claim>,
    /// The routes that are being written, each with whether somebody waits for what becomes of it.
    being_written: Mutex<HashMap<NamespacedName, bool>>,
}

/// The route that a Model may write now. While this is there, nobody else gets what it asks for.
#[derive(Debug)]
pub(crate) struct Writing {
    claims: Arc<Claims>,
    model: ObjectRef,
    route: NamespacedName,
}

impl Drop for Writing {
    fn drop(&mut self) {
        let waited_for = self.claims.being_written().remove(&self.route);
        let caches = &self.claims.caches;
        if waited_for == Some(true)
            && let Some(claimed) = caches.claimed.named(&self.route)
        {
            // It may not have come to be written.
            let change = Change {
                old: Some(claimed),
                new: None,
            };
            self.claims.tell(Some(&change), Some(&self.model));
        }
    }
}

impl Claims {
    pub(crate) fn new(caches: Arc<Caches>, queue: Queue) -> Self {
        Self {
            caches,
            queue,
            contenders: Interests::default(),
            being_written: Mutex::default(),
        }
    }

    /// Takes what a route asks for; `live` is the route as it is.
    pub(crate) fn take(
        self: &Arc<Self>,
        model: &ObjectRef,
        wanted: Route,
        live: Option<&Route>,
    ) -> Result<Writing, Box<Conflict>> {
        let mut topics: HashSet<Claim> = claims::contended(&wanted, &*self.caches)
            .into_iter()
            .collect();
        // Before anything is looked at, so that no change is missed between.
        self.contenders.set(model, &topics);
        let route = name_of(&wanted);
        let mut being_written = self.being_written();
        let is_being_written = |rival: &Route| being_written.contains_key(&name_of(rival));
        let checked = claims::check(&wanted, live, &*self.caches, is_being_written);
        let change = match &checked {
            Ok(()) => {
                being_written.insert(route.clone(), false);
                self.caches.claimed.written(wanted)
            }
            Err(conflict) => {
                if let Some(waited_for) = being_written.get_mut(&name_of(&conflict.holder)) {
                    *waited_for = true;
                }
                self.caches.claimed.gone(wanted.namespace(), wanted.name())
            }
        };
        drop(being_written);
        if let Err(conflict) = &checked {
            topics.insert(conflict.held.clone());
            self.contenders.set(model, &topics);
        }
        self.tell(change.as_ref(), Some(model));
        checked.map(|()| Writing {
            claims: Arc::clone(self),
            model: model.clone(),
            route,
        })
    }

    /// Gives up what the route `namespace`/`name` of a Model asked for.
    pub(crate) fn release(&self, model: &ObjectRef, name: &str) {
        // Else it may be another one's of the same name by now.
        if !self.contenders.forget(model) {
            return;
        }
        self.changed(self.caches.claimed.gone(model.namespace(), name).as_ref());
    }

    /// Has those looked at whom a change of a route concerns.
    pub(crate) fn changed(&self, change: Option<&Change<Route>>) {
        self.tell(change, None);
    }

    fn tell(&self, change: Option<&Change<Route>>, by: Option<&ObjectRef>) {
        let routes = change.iter().flat_map(|change| change.both());
        let changed: HashSet<Claim> = routes
            .flat_map(|route| claims::of(route, &*self.caches))
            .collect();
        let concerned = changed.iter().flat_map(|claim| self.contenders.of(claim));
        for model in concerned.filter(|model| Some(model) != by) {
            self.queue.look_at(model);
        }
    }

    fn being_written(&self) -> MutexGuard<'_, HashMap<NamespacedName, bool>> {
        let being_written = self.being_written.lock();
        being_written.unwrap_or_else(PoisonError::into_inner)
    }
}

fn name_of(route: &Route) -> NamespacedName {
    NamespacedName::new(route.namespace(), route.name())
}
