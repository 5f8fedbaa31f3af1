//! Requests through the Gateways at an interval, for the condition `Reachable`. Apart from the reconciles,
//! which read only what the last one brought.

use std::collections::{BTreeMap, HashMap};
use std::error::Error as StdError;
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt;
use kthena_bridge_core::config::ReachableConfig;
use kthena_bridge_core::reachable::{self, Outcome, Target};
use kthena_bridge_core::report::Verdict;
use reqwest::header::{HOST, HeaderMap, HeaderName, HeaderValue};
use tokio::sync::Notify;

use crate::object_ref::ObjectRef;
use crate::queue::Queue;
use crate::retry::jittered;

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(5);
/// How many Models are asked at the same time.
const AT_ONCE: usize = 8;

/// Sends requests, and knows what became of them.
#[derive(Debug)]
pub(crate) struct Prober {
    interval: Duration,
    queue: Queue,
    state: Mutex<State>,
    sooner: Notify,
}

#[derive(Debug, Default)]
struct State {
    models: HashMap<ObjectRef, Entry>,
    /// When which is due; the number makes the keys differ.
    due: BTreeMap<(Instant, u64), ObjectRef>,
    count: u64,
}

#[derive(Debug)]
struct Entry {
    targets: Vec<Target>,
    verdict: Verdict,
    due: (Instant, u64),
}

impl State {
    fn schedule(&mut self, model: &ObjectRef, at: Instant) -> (Instant, u64) {
        self.count += 1;
        let key = (at, self.count);
        self.due.insert(key, model.clone());
        key
    }
}

impl Prober {
    /// Nothing where no requests are to be sent.
    pub(crate) fn new(config: &ReachableConfig, queue: Queue) -> Option<Self> {
        config.enabled.then(|| Self {
            interval: Duration::from_secs(config.interval_seconds.get().into()),
            queue,
            state: Mutex::default(),
            sooner: Notify::new(),
        })
    }

    /// What is known of a Model. Where it is asked for at other places than before, that is nothing yet.
    pub(crate) fn verdict(&self, model: &ObjectRef, targets: Vec<Target>) -> Verdict {
        let mut state = self.lock();
        if let Some(entry) = state
            .models
            .get(model)
            .filter(|entry| entry.targets == targets)
        {
            return entry.verdict.clone();
        }
        if let Some(old) = state.models.remove(model) {
            state.due.remove(&old.due);
        }
        let mut verdict = reachable::verdict(&[]);
        if !targets.is_empty() {
            "no request was sent yet".clone_into(&mut verdict.message);
            let due = state.schedule(model, Instant::now());
            let entry = Entry {
                targets,
                verdict: verdict.clone(),
                due,
            };
            state.models.insert(model.clone(), entry);
            self.sooner.notify_one();
        }
        verdict
    }

    /// Asks for a Model no more.
    pub(crate) fn forget(&self, model: &ObjectRef) {
        let mut state = self.lock();
        if let Some(entry) = state.models.remove(model) {
            state.due.remove(&entry.due);
        }
    }

    /// Sends what is due. Never ends.
    pub(crate) async fn run(&self) {
        // Another part of the process may have done it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        loop {
            let due = self.take_due();
            if due.is_empty() {
                let next = self.lock().due.first_key_value().map(|((at, _), _)| *at);
                let wait = next.map_or(self.interval, |at| {
                    at.saturating_duration_since(Instant::now())
                });
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    () = self.sooner.notified() => {}
                }
                continue;
            }
            futures::stream::iter(due)
                .for_each_concurrent(AT_ONCE, async |(model, targets)| {
                    let outcomes =
                        futures::future::join_all(targets.into_iter().map(async |target| {
                            let outcome = ask(&target).await;
                            (target, outcome)
                        }));
                    self.record(&model, &outcomes.await);
                })
                .await;
        }
    }

    /// Takes the Models that are due, and schedules them anew.
    fn take_due(&self) -> Vec<(ObjectRef, Vec<Target>)> {
        let now = Instant::now();
        let mut state = self.lock();
        let mut due = Vec::new();
        while let Some(first) = state.due.first_entry().filter(|first| first.key().0 <= now) {
            let model = first.remove();
            let next = state.schedule(&model, now + jittered(self.interval));
            if let Some(entry) = state.models.get_mut(&model) {
                entry.due = next;
                due.push((model, entry.targets.clone()));
            }
        }
        due
    }

    fn record(&self, model: &ObjectRef, outcomes: &[(Target, Outcome)]) {
        let verdict = reachable::verdict(outcomes);
        let mut state = self.lock();
        let still = |entry: &&mut Entry| {
            entry
                .targets
                .iter()
                .eq(outcomes.iter().map(|(target, _)| target))
        };
        if let Some(entry) = state.models.get_mut(model).filter(still)
            && entry.verdict != verdict
        {
            entry.verdict = verdict;
            self.queue.look_at(model.clone());
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn ask(target: &Target) -> Outcome {
    match request(target).await {
        Ok(status) => Outcome::Answered(status),
        Err(Failure::Address(error)) => Outcome::Failed(format!("{}: {error}", target.address)),
        Err(Failure::Request(error)) if error.is_timeout() && !error.is_connect() => {
            Outcome::Silent
        }
        Err(Failure::Request(error)) => failure(&error),
    }
}

/// A client of its own for each request: connections are not kept, and the host, which need not be known
/// here, is not looked up but taken to be at the Gateway's address.
async fn request(target: &Target) -> Result<u16, Failure> {
    let addresses = tokio::net::lookup_host((target.address.as_str(), target.port)).await;
    let addresses: Vec<SocketAddr> = addresses.map_err(Failure::Address)?.collect();
    let mut client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(LIMIT / 2)
        .timeout(LIMIT)
        .resolve_to_addrs(&target.host, &addresses);
    if !target.tls {
        // Where there are no certificates of authorities, a client that wants them cannot be made.
        let nothing_to_trust = rustls::RootCertStore::empty();
        let tls = rustls::ClientConfig::builder()
            .with_root_certificates(nothing_to_trust)
            .with_no_client_auth();
        client = client.tls_backend_preconfigured(tls);
    }
    let headers: HeaderMap = target
        .headers
        .iter()
        .filter_map(|(name, value)| {
            Some((
                name.parse::<HeaderName>().ok()?,
                value.parse::<HeaderValue>().ok()?,
            ))
        })
        .collect();
    let scheme = if target.tls { "https" } else { "http" };
    let url = format!("{scheme}://{}:{}{}", target.host, target.port, target.path);
    let client = client.build().map_err(Failure::Request)?;
    let answer = client
        .get(url)
        .headers(headers)
        .header(HOST, &target.host)
        .send()
        .await;
    Ok(answer.map_err(Failure::Request)?.status().as_u16())
}

/// Why there is no answer.
enum Failure {
    /// The Gateway's address has no meaning here.
    Address(std::io::Error),
    Request(reqwest::Error),
}

/// The innermost cause, which says most, and holds no port of ours that would differ each time.
fn failure(error: &reqwest::Error) -> Outcome {
    let mut cause: &dyn StdError = error;
    loop {
        if let Some(tls) = cause.downcast_ref::<rustls::Error>() {
            return Outcome::NotTrusted(tls.to_string());
        }
        let inner = cause
            .downcast_ref::<std::io::Error>()
            .and_then(std::io::Error::get_ref);
        let inner = inner.map(|inner| inner as &dyn StdError);
        match inner.or_else(|| cause.source()) {
            Some(inner) => cause = inner,
            None => return Outcome::Failed(cause.to_string()),
        }
    }
}
