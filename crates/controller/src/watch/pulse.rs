//! When each watch last showed that it lives, for `/livez` and the metrics.
//!
//! An idle watch brings no event for hours, and kube's watcher keeps to itself what it goes on with meanwhile:
//! the API server's bookmarks, about one a minute, and a new request when it ends a watch, after 290 s. Both
//! are seen in what its client receives.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http_body_util::BodyExt as _;
use kube::Client;
use kube::client::Body;

use crate::observe::Scope;

/// How long a watch may be without any sign before only a restart helps. Everything that it waits for ends by
/// itself before: the answer to a request after [`ANSWER`], what an answer goes on with after [`SILENCE`],
/// kube's watcher waits 295 s for an event and 16 s after a failure. A sign is also a failure: an API server
/// that is gone, a right that is missing and a kind that is not installed are nothing that a restart mends.
///
/// [`ANSWER`]: crate::run::ANSWER
/// [`SILENCE`]: crate::run::SILENCE
const WEDGED: Duration = Duration::from_mins(10);

/// When a watch last showed that it lives.
#[derive(Debug)]
pub(super) struct Pulse(Mutex<Signs>);

#[derive(Clone, Copy, Debug)]
struct Signs {
    /// When something came from the API server, or since when that is waited for.
    heard: Instant,
    /// When something came, or was given up.
    alive: Instant,
}

impl Signs {
    fn begin() -> Self {
        let now = Instant::now();
        Self {
            heard: now,
            alive: now,
        }
    }
}

impl Pulse {
    /// Something came.
    pub(super) fn heard(&self) {
        *self.lock() = Signs::begin();
    }

    /// A request, or what goes on with its answer, failed.
    pub(super) fn failed(&self) {
        self.lock().alive = Instant::now();
    }

    fn lock(&self) -> MutexGuard<'_, Signs> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The watches, by kind and scope.
#[derive(Debug, Default)]
pub(super) struct Pulses(Mutex<HashMap<&'static str, HashMap<Scope, Arc<Pulse>>>>);

impl Pulses {
    /// That of a watch, from its beginning on.
    pub(super) fn of(&self, kind: &'static str, scope: &str) -> Arc<Pulse> {
        let mut pulses = self.lock();
        let of_kind = pulses.entry(kind).or_default();
        let begun = || Arc::new(Pulse(Mutex::new(Signs::begin())));
        let pulse = of_kind.entry(scope.to_owned()).or_insert_with(begun);
        Arc::clone(pulse)
    }

    /// The watches of a kind ended, or begin anew.
    pub(super) fn forget(&self, kind: &str) {
        self.lock().remove(kind);
    }

    /// How a kind is, which is how the worst of its watches is.
    pub(super) fn vital(&self, kind: &'static str, listed: bool, ended: bool) -> Vital {
        let pulses = self.lock();
        let signs = pulses.get(kind).into_iter().flat_map(HashMap::values);
        let none = Signs::begin();
        let worst = signs.map(|pulse| *pulse.lock()).reduce(|a, b| Signs {
            heard: a.heard.min(b.heard),
            alive: a.alive.min(b.alive),
        });
        let Signs { heard, alive } = worst.unwrap_or(none);
        Vital {
            kind,
            listed,
            ended,
            heard,
            alive,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<&'static str, HashMap<Scope, Arc<Pulse>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How the watches of a kind are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Vital {
    /// Which kind.
    pub(crate) kind: &'static str,
    /// Whether all that there is of it was seen.
    pub(crate) listed: bool,
    /// Whether nothing watches it any longer.
    pub(crate) ended: bool,
    /// When something came last.
    pub(crate) heard: Instant,
    /// When something came last, or was given up.
    pub(crate) alive: Instant,
}

impl Vital {
    /// What is wrong with it that only a restart mends.
    pub(crate) fn wedged(&self, now: Instant) -> Option<String> {
        let kind = self.kind;
        if self.ended {
            return Some(format!("the watch of {kind} has ended"));
        }
        let silent = now.saturating_duration_since(self.alive);
        (silent > WEDGED).then(|| {
            let seconds = silent.as_secs();
            format!("the watch of {kind} has neither brought anything nor failed for {seconds} s")
        })
    }
}

/// A client that has everything noted that it receives. A list that is streamed begins with what is so now: kube's
/// watcher would take whatever the API server remembers, which may be of any age.
/// <https://kubernetes.io/docs/reference/using-api/api-concepts/#streaming-lists>
pub(super) fn felt(client: &Client, pulse: &Arc<Pulse>) -> Client {
    let (inner, noting) = (client.clone(), Arc::clone(pulse));
    let service = tower::service_fn(move |mut request: http::Request<Body>| {
        let uri = request.uri().to_string();
        if uri.contains("sendInitialEvents=true")
            && let Ok(latest) = uri.replace("&resourceVersion=0", "").parse()
        {
            *request.uri_mut() = latest;
        }
        let (client, pulse) = (inner.clone(), Arc::clone(&noting));
        async move {
            let answer = client.send(request).await?;
            let accepted = answer.status().is_success();
            if accepted {
                pulse.heard();
            }
            Ok::<_, kube::Error>(answer.map(|body| {
                body.map_frame(move |frame| {
                    if accepted {
                        pulse.heard();
                    }
                    frame
                })
            }))
        }
    });
    Client::new(service, client.default_namespace())
}

#[cfg(test)]
mod tests {
    use http::{Request, Response};

    use super::*;

    fn vital(ended: bool, silent: Duration) -> (Vital, Instant) {
        let begun = Instant::now();
        let now = begun + Duration::from_hours(1);
        let vital = Vital {
            kind: "Pod",
            listed: false,
            ended,
            heard: begun,
            alive: now.checked_sub(silent).unwrap(),
        };
        (vital, now)
    }

    #[test]
    fn a_watch_that_ended_or_is_stuck_is_wedged() {
        let (ended, now) = vital(true, Duration::ZERO);
        assert_eq!(ended.wedged(now).unwrap(), "the watch of Pod has ended");
        let (stuck, now) = vital(false, Duration::from_secs(601));
        let why = "the watch of Pod has neither brought anything nor failed for 601 s";
        assert_eq!(stuck.wedged(now).unwrap(), why);
    }

    #[test]
    fn a_watch_that_fails_or_is_idle_is_not_wedged() {
        // It fails again and again, and was not heard of for long.
        let (failing, now) = vital(false, Duration::from_secs(16));
        assert_eq!(failing.wedged(now), None);
        // The longest that kube's watcher, a request and the pause after a failure take together.
        let longest = crate::run::ANSWER + crate::run::SILENCE + Duration::from_secs(295 + 15);
        let (slow, now) = vital(false, longest.min(WEDGED));
        assert_eq!(slow.wedged(now), None);
        // The clock does not go on while it is looked at.
        let (early, now) = vital(false, Duration::ZERO);
        assert_eq!(early.wedged(now.checked_sub(WEDGED).unwrap()), None);
    }

    #[tokio::test]
    async fn what_a_client_receives_is_a_sign() {
        let answers = tower::service_fn(async |request: Request<Body>| {
            let forbidden = request.uri().path() == "/forbidden";
            let answer = Response::builder().status(if forbidden { 403 } else { 200 });
            Ok::<_, kube::Error>(answer.body(Body::from(b"a bookmark".to_vec())).unwrap())
        });
        let pulses = Pulses::default();
        let pulse = pulses.of("Pod", "");
        let client = felt(&Client::new(answers, "default"), &pulse);
        let ask = |path| client.send(Request::get(path).body(Body::empty()).unwrap());
        let wait = || std::thread::sleep(Duration::from_millis(2));
        let begun = *pulse.lock();
        wait();
        let refused = ask("/forbidden").await.unwrap();
        refused.into_body().collect().await.unwrap();
        pulse.failed();
        let failed = *pulse.lock();
        assert_eq!(failed.heard, begun.heard);
        assert!(failed.alive > begun.alive);
        wait();
        let answer = ask("/").await.unwrap();
        let answered = *pulse.lock();
        assert!(answered.heard > failed.alive);
        wait();
        answer.into_body().collect().await.unwrap();
        assert!(pulse.lock().heard > answered.heard);
    }

    #[tokio::test]
    async fn a_streamed_list_is_not_of_any_age() {
        let answers = tower::service_fn(async |request: Request<Body>| {
            let query = request.uri().query().unwrap_or_default().to_owned();
            Ok::<_, kube::Error>(Response::new(Body::from(query.into_bytes())))
        });
        let pulse = Pulses::default().of("Pod", "");
        let client = felt(&Client::new(answers, "default"), &pulse);
        for (asked, sent) in [
            (
                "watch=true&resourceVersion=0",
                "watch=true&resourceVersion=0",
            ),
            (
                "sendInitialEvents=true&resourceVersion=0",
                "sendInitialEvents=true",
            ),
        ] {
            let request = Request::get(format!("/api/v1/pods?{asked}"));
            let answer = client.send(request.body(Body::empty()).unwrap()).await;
            let body = answer.unwrap().into_body().collect().await.unwrap();
            assert_eq!(body.to_bytes(), sent);
        }
    }

    #[test]
    fn a_kind_is_as_old_as_its_oldest_watch() {
        let pulses = Pulses::default();
        let (one, two) = (pulses.of("Pod", "one"), pulses.of("Pod", "two"));
        std::thread::sleep(Duration::from_millis(2));
        two.heard();
        let (vital, oldest) = (pulses.vital("Pod", true, false), *one.lock());
        assert_eq!((vital.heard, vital.alive), (oldest.heard, oldest.alive));
        pulses.forget("Pod");
        assert!(pulses.vital("Pod", true, false).heard > two.lock().heard);
    }
}
