//! The operator: watches, reconciles and serves until it is told to stop.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{FutureExt, StreamExt};
use kube::Client;
use kube::client::{Body, ClientBuilder};
use kube::runtime::utils::CancelableJoinHandle;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tower::BoxError;
use tower::filter::FilterLayer;
use tower::timeout::TimeoutLayer;
use tracing::Instrument;

use crate::configuration::{self, Configuration};
use crate::context::Context;
use crate::decide::decide;
use crate::error::{Class, Error};
use crate::event::Events;
use crate::health;
use crate::leader::{Elector, LeaderElection, Leadership};
use crate::metrics::{Metrics, Pass};
use crate::object_ref::ObjectRef;
use crate::queue::Queue;
use crate::reconcile::{Next, reconcile};
use crate::watch::Watches;

/// How the operator is run.
#[derive(Debug)]
pub struct Options {
    /// Its configuration.
    pub configuration: Configuration,
    /// Where that is read again.
    pub file: Option<PathBuf>,
    /// Where health and metrics are served.
    pub listen: SocketAddr,
    /// How many Models are reconciled at the same time.
    pub concurrency: u16,
    /// The Lease to hold while working; nothing where there is only ever one operator.
    pub leader_election: Option<LeaderElection>,
}

/// How long an answer may take to begin. Reconciles wait less than that; this is for the watches, whose first
/// request is a list, which kube's watcher waits for without an end.
pub(crate) const ANSWER: Duration = Duration::from_secs(30);

/// How long an answer that has begun may be silent: longer than a watch, which the API server ends after
/// 290 s, as kube asks it to, however quiet it is, and in which it says about every minute that nothing has
/// changed.
pub(crate) const SILENCE: Duration = Duration::from_mins(5);

/// How long the API server is waited for.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// Until an answer begins.
    answer: Duration,
    /// Until it goes on.
    silence: Duration,
}

const LIMITS: Limits = Limits {
    answer: ANSWER,
    silence: SILENCE,
};

/// How the API server is talked to: every failure comes back to the caller, who knows how to retry, no
/// write begins but while it is this process that may, and nothing is waited for without an end.
fn client(
    mut config: kube::Config,
    leadership: Arc<Leadership>,
    limits: Limits,
    metrics: &Metrics,
) -> Result<Client, Error> {
    config.default_retry = false;
    config.connect_timeout = Some(Duration::from_secs(5));
    config.read_timeout = Some(limits.silence);
    // Otherwise a request has what is left since its connection was used before.
    config.reset_reader_on_write = true;
    let host = config.cluster_url.authority().map(ToString::to_string);
    let counting = metrics.requests_to(&host.unwrap_or_default());
    let check = move |request: http::Request<Body>| {
        if request.method().is_safe() || leadership.is_held() {
            Ok::<_, BoxError>(request)
        } else {
            Err("another operator may be working, since the Lease was not renewed in time".into())
        }
    };
    let builder = ClientBuilder::try_from(config).map_err(|e| Error::Client(Box::new(e)))?;
    let builder = builder.with_layer(&TimeoutLayer::new(limits.answer));
    let builder = builder.with_layer(&counting);
    Ok(builder.with_layer(&FilterLayer::new(check)).build())
}

/// Runs the operator until `stop` is done; reconciles that are under way are finished first.
///
/// # Errors
/// When the address cannot be listened on, the cluster cannot be talked to, or the Lease is lost.
pub async fn run(
    cluster: kube::Config,
    options: Options,
    stop: impl Future<Output = ()>,
) -> Result<(), Error> {
    let metrics = Arc::<Metrics>::default();
    let (leadership, elector) = elect(&cluster, options.leader_election, &metrics)?;
    let client = client(cluster, leadership, LIMITS, &metrics)?;
    let listener = TcpListener::bind(options.listen)
        .await
        .map_err(|source| Error::Listen {
            address: options.listen,
            source,
        })?;
    let (events, publish_events) = Events::new(client.clone());
    let queue = Queue::new(Arc::clone(&metrics));
    let cx = Arc::new(Context::new(
        &client,
        options.configuration,
        events,
        queue,
        metrics,
    ));
    let watches = Arc::new(Watches::new(Arc::clone(&cx), client));
    let stop = stop.shared();
    let started = Instant::now();
    let reconciling = async {
        // What is not known yet would look as if it were not there.
        tokio::select! {
            () = watches.wait_until_synced() => {}
            () = stop.clone() => return Ok(()),
        }
        let not_installed = watches.missing().join(",");
        tracing::info!(took = ?started.elapsed(), %not_installed, "everything is known");
        let work = work(&cx, options.concurrency, stop.clone());
        let Some(elector) = &elector else {
            work.await;
            return Ok(());
        };
        let lease = tokio::select! {
            lease = elector.acquire() => lease,
            () = stop.clone() => return Ok(()),
        };
        tokio::select! {
            () = work => {}
            lost = elector.keep(lease) => return Err(lost),
        }
        elector.release().await;
        Ok(())
    };
    let probing = async {
        match &cx.prober {
            Some(prober) => prober.run().await,
            None => std::future::pending().await,
        }
    };
    let following = async {
        match &options.file {
            Some(file) => configuration::follow(file, &cx.configuration, &cx.metrics).await,
            None => std::future::pending().await,
        }
    };
    let taking_over = async {
        let mut changes = cx.configuration.subscribe();
        // The sender is part of the context.
        while changes.changed().await.is_ok() {
            watches.look_at_all();
        }
    };
    // Everything else ends when the reconciles that were under way have.
    let ended = tokio::select! {
        ended = reconciling => ended,
        () = Arc::clone(&watches).run() => Ok(()),
        () = publish_events => Ok(()),
        () = probing => Ok(()),
        () = following => Ok(()),
        () = taking_over => Ok(()),
        () = health::serve(listener, Arc::clone(&cx), Arc::clone(&watches)) => Ok(()),
    };
    watches.stop();
    tracing::info!("stopped");
    ended
}

fn elect(
    cluster: &kube::Config,
    election: Option<LeaderElection>,
    metrics: &Metrics,
) -> Result<(Arc<Leadership>, Option<Elector>), Error> {
    let Some(election) = election else {
        return Ok((Arc::new(Leadership::without_lease()), None));
    };
    let leadership = Arc::new(Leadership::not_yet());
    // The Lease itself is written while it is not held.
    let without_lease = Arc::new(Leadership::without_lease());
    let client = client(cluster.clone(), without_lease, LIMITS, metrics)?;
    let elector = Elector::new(client, election, Arc::clone(&leadership));
    Ok((leadership, Some(elector)))
}

/// Reconciles every Model, and then each of which it is told, until `stop` is done.
async fn work(cx: &Arc<Context>, concurrency: u16, stop: impl Future<Output = ()>) {
    tracing::info!("reconciling");
    cx.metrics.leads();
    cx.metrics.work.concurrency(concurrency);
    // Before the Models are gone through, which takes a while: what happens meanwhile goes before the rest.
    cx.queue.open();
    take_in_order(cx);
    let models = cx.queue.in_order(usize::from(concurrency));
    models
        .take_until(stop)
        .for_each_concurrent(None, async |(model, seen)| {
            let span = tracing::info_span!("reconcile", %model);
            let pass = pass(model.clone(), seen, Arc::clone(cx)).instrument(span);
            // In a task of its own, which ends when nobody waits for it any more.
            let (pass, next) = CancelableJoinHandle::spawn(pass, &Handle::current()).await;
            cx.queue.finished(&model, pass, next);
        })
        .await;
}

/// Begins with all that asks for an exposure. Of those that want the same and have no route yet, the oldest goes first,
/// whichever is reconciled first.
fn take_in_order(cx: &Context) {
    let caches = &cx.caches;
    let mut objects = caches.sources();
    objects.sort_by_cached_key(|object| {
        let created = caches
            .source(object)?
            .metadata()
            .creation_timestamp
            .as_ref()?
            .0;
        Some((created, object.clone()))
    });
    for source in objects.iter().filter_map(|object| caches.source(object)) {
        decide(&source, cx);
    }
    cx.queue.look_at_later(objects);
}

/// A pass over what asks for an exposure, and when the next one is.
async fn pass(object: ObjectRef, seen: Instant, cx: Arc<Context>) -> (Pass, Next) {
    let Some(source) = cx.caches.source(&object) else {
        cx.forget(&object);
        return (Pass::Success, Next::Event);
    };
    match reconcile(source, seen, Arc::clone(&cx)).await {
        Ok(next @ (Next::Event | Next::Resync)) => (Pass::Success, next),
        Ok(next @ Next::After(_)) => (Pass::RequeueAfter, next),
        Err(error) => {
            let class = error.class();
            if class == Class::Conflict {
                tracing::debug!(%error, "somebody else wrote at the same time");
            } else {
                tracing::warn!(%error, "not everything could be written; it is tried again");
            }
            let delay = cx.retries.failed(&object, class);
            (Pass::Error(class), Next::After(delay))
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    #[tokio::test]
    async fn an_answer_that_does_not_begin_is_not_waited_for_for_ever() {
        let silent = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", silent.local_addr().unwrap());
        let config = kube::Config::new(url.parse().unwrap());
        let leadership = Arc::new(Leadership::without_lease());
        let limits = Limits {
            answer: Duration::from_millis(50),
            ..LIMITS
        };
        let client = client(config, leadership, limits, &Metrics::default()).unwrap();
        let asked = tokio::time::timeout(Duration::from_secs(10), client.list_api_groups()).await;
        asked.expect("the client gives up by itself").unwrap_err();
    }

    #[tokio::test]
    async fn an_answer_that_does_not_go_on_is_not_waited_for_for_ever() {
        let server = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let url = format!("http://{}", server.local_addr().unwrap());
        let stalling = tokio::spawn(async move {
            let (mut connection, _) = server.accept().await.unwrap();
            let begun = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{";
            connection.write_all(begun).await.unwrap();
            std::future::pending::<()>().await;
        });
        let leadership = Arc::new(Leadership::without_lease());
        let limits = Limits {
            silence: Duration::from_millis(50),
            ..LIMITS
        };
        let config = kube::Config::new(url.parse().unwrap());
        let client = client(config, leadership, limits, &Metrics::default()).unwrap();
        let asked = tokio::time::timeout(Duration::from_secs(10), client.list_api_groups()).await;
        asked.expect("the client gives up by itself").unwrap_err();
        stalling.abort();
    }
}
