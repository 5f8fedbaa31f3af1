//! What watches say.

use std::fmt::Debug;
use std::time::{Duration, Instant};

use futures::future::ready;
use futures::{Stream, StreamExt};
use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

/// How many objects a list brings at a time, where the API server does not stream it. kube's own 500 of every kind at
/// once would be more than all that is kept of a thousand Models.
const PAGE: u32 = 100;
/// A watch that expires later than this after it did before is begun anew at once.
const EXPIRES: Duration = Duration::from_secs(30);

/// What a watch says. It begins with a list that is streamed, which takes half of the API server's time and none of
/// the memory that pages take; in pages where the API server does not do that, which depends on its version.
/// <https://kubernetes.io/docs/reference/using-api/api-concepts/#streaming-lists>
pub(super) fn events<K>(
    api: Api<K>,
    config: watcher::Config,
) -> impl Stream<Item = watcher::Result<Event<K>>> + Send
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let config = config.page_size(PAGE);
    let streamed = watcher::watcher(api.clone(), config.clone().streaming_lists());
    let streamed = streamed.take_while(|event| ready(!is_no_stream(event)));
    streamed.chain(watcher::watcher(api, config))
}

/// The same, with nothing where the watch expired. That is an answer of an API server that is there, as after it was
/// not: what delays the next attempt then begins anew. One that expires again and again is a failure like others,
/// since lists may be what the API server is busy with.
pub(super) fn begun_anew<T>(
    events: impl Stream<Item = watcher::Result<T>> + Send,
) -> impl Stream<Item = watcher::Result<Option<T>>> + Send {
    let mut before: Option<Instant> = None;
    events.map(move |event| match event {
        Err(watcher::Error::WatchError(status))
            if status.code == 410
                && before
                    .replace(Instant::now())
                    .is_none_or(|before| before.elapsed() > EXPIRES) =>
        {
            Ok(None)
        }
        event => event.map(Some),
    })
}

fn is_no_stream<K>(event: &watcher::Result<Event<K>>) -> bool {
    match event {
        Err(watcher::Error::WatchStartFailed(kube::Error::Api(status))) => status.is_invalid(),
        _ => false,
    }
}

/// An event of something else.
pub(super) fn map<K, C>(event: Event<K>, f: impl FnOnce(K) -> C) -> Event<C> {
    match event {
        Event::Apply(object) => Event::Apply(f(object)),
        Event::Delete(object) => Event::Delete(f(object)),
        Event::Init => Event::Init,
        Event::InitApply(object) => Event::InitApply(f(object)),
        Event::InitDone => Event::InitDone,
    }
}

pub(super) fn split<A, B>(event: Event<(A, B)>) -> (Event<A>, Event<B>) {
    match event {
        Event::Apply((a, b)) => (Event::Apply(a), Event::Apply(b)),
        Event::Delete((a, b)) => (Event::Delete(a), Event::Delete(b)),
        Event::Init => (Event::Init, Event::Init),
        Event::InitApply((a, b)) => (Event::InitApply(a), Event::InitApply(b)),
        Event::InitDone => (Event::InitDone, Event::InitDone),
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use http::{Request, Response};
    use k8s_openapi::api::core::v1::Pod;
    use kube::Client;
    use kube::client::Body;
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn a_watch_that_expires_is_begun_anew_at_once_but_not_again_and_again() {
        let failed = |code, reason: &str| {
            let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason,
                "message": "no"});
            Err(watcher::Error::WatchError(
                serde_json::from_value(status).unwrap(),
            ))
        };
        let events = [
            failed(500, "InternalError"),
            failed(410, "Expired"),
            Ok("event"),
            failed(410, "Expired"),
        ];
        let told: Vec<_> = begun_anew(stream::iter(events)).collect().await;
        let [Err(_), Ok(None), Ok(Some("event")), Err(_)] = told.as_slice() else {
            panic!("{told:?}");
        };
    }

    #[tokio::test]
    async fn a_list_comes_in_pages_where_it_is_not_streamed() {
        let answers = tower::service_fn(async |request: Request<Body>| {
            let query = request.uri().query().unwrap_or_default();
            let streamed = query.contains("sendInitialEvents=true");
            let answer = if streamed {
                json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": 422, "reason": "Invalid",
                    "message": "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled"})
            } else {
                assert!(query.contains("limit=100"), "{query}");
                json!({"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "7"},
                    "items": [{"metadata": {"name": "demo", "namespace": "default"}}]})
            };
            let status = if streamed { 422 } else { 200 };
            let body = Body::from(answer.to_string().into_bytes());
            Ok::<_, kube::Error>(Response::builder().status(status).body(body).unwrap())
        });
        let api: Api<Pod> = Api::all(Client::new(answers, "default"));
        let config = watcher::Config::default();
        let first: Vec<_> = events(api, config).take(3).collect().await;
        let first: Vec<_> = first.into_iter().map(Result::unwrap).collect();
        let [Event::Init, Event::InitApply(pod), Event::InitDone] = first.as_slice() else {
            panic!("{first:?}");
        };
        assert_eq!(pod.metadata.name.as_deref(), Some("demo"));
    }
}
