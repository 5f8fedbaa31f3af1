//! What every reconcile shares.

use std::sync::Arc;

use kthena_bridge_core::Config;
use kthena_bridge_core::names::Names;
use kube::Client;

use crate::apply::Writer;
use crate::claims::Claims;
use crate::configuration::Configuration;
use crate::event::Events;
use crate::interest::Interests;
use crate::metrics::Metrics;
use crate::object_ref::ObjectRef;
use crate::observe::Caches;
use crate::queue::Queue;
use crate::reachable::Prober;
use crate::retry::Retries;
use crate::status::Publisher;

/// What every reconcile shares.
pub(crate) struct Context {
    /// The operator's configuration, which may change.
    pub(crate) configuration: Configuration,
    /// Everything that is observed.
    pub(crate) caches: Arc<Caches>,
    /// Which Models look at what.
    pub(crate) interests: Interests,
    /// Who has which requests.
    pub(crate) claims: Arc<Claims>,
    /// The Models that are to be looked at.
    pub(crate) queue: Queue,
    /// Writes objects.
    pub(crate) writer: Writer,
    /// Writes conditions.
    pub(crate) publisher: Publisher,
    /// Publishes Events.
    pub(crate) events: Events,
    /// Sends requests through the Gateways, where that is configured.
    pub(crate) prober: Option<Prober>,
    /// What failed.
    pub(crate) retries: Retries,
    /// Whether any Model has an endpoint picker of somebody else: only then are endpoints looked at.
    endpoints: tokio::sync::watch::Sender<bool>,
    /// What is counted.
    pub(crate) metrics: Arc<Metrics>,
}

impl Context {
    pub(crate) fn new(
        client: &Client,
        configuration: Configuration,
        events: Events,
        queue: Queue,
        metrics: Arc<Metrics>,
    ) -> Self {
        let config = Arc::clone(&configuration.borrow());
        let caches = Arc::new(Caches::new(&config));
        let prober = Prober::new(&config.reachable, queue.clone());
        let claims = Arc::new(Claims::new(Arc::clone(&caches), queue.clone()));
        Self {
            writer: Writer::new(
                client.clone(),
                Arc::clone(&caches),
                Arc::clone(&claims),
                Arc::clone(&metrics),
            ),
            publisher: Publisher::new(client.clone(), Arc::clone(&metrics)),
            interests: Interests::default(),
            retries: Retries::default(),
            endpoints: tokio::sync::watch::Sender::new(false),
            configuration,
            caches,
            claims,
            prober,
            queue,
            events,
            metrics,
        }
    }

    /// The operator's configuration as it is now.
    pub(crate) fn config(&self) -> Arc<Config> {
        Arc::clone(&self.configuration.borrow())
    }

    /// Forgets a Model that is gone.
    pub(crate) fn forget(&self, model: &ObjectRef) {
        self.publisher.forget(model);
        self.metrics.models.forget(model);
        self.lay_off(model);
    }

    /// Gives up what a Model that is not exposed asked for.
    pub(crate) fn lay_off(&self, model: &ObjectRef) {
        self.claims.release(model, &Names::of(model.name()).model);
        self.interests.forget(model);
        self.retries.forget(model);
        if let Some(prober) = &self.prober {
            prober.forget(model);
        }
    }

    /// From now on, the endpoints of Services are looked at.
    pub(crate) fn look_at_endpoints(&self) {
        self.endpoints
            .send_if_modified(|on| !std::mem::replace(on, true));
    }

    pub(crate) fn looks_at_endpoints(&self) -> bool {
        *self.endpoints.borrow()
    }

    pub(crate) async fn until_endpoints_are_looked_at(&self) {
        // The sender is part of `self`.
        let _ = self.endpoints.subscribe().wait_for(|on| *on).await;
    }
}
