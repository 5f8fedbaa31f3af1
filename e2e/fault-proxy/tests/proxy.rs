//! The proxy between a client and a small server that counts what reaches it.

#![expect(
    clippy::unwrap_used,
    reason = "the helpers of tests, which Clippy does not see as tests"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body as Answer;
use axum::http::{StatusCode, Uri};
use axum::response::IntoResponse as _;
use axum::routing::{get, post};
use fault_proxy::{Action, Fault, Proxy, Refusal, Selector, Verb, WatchFault};
use futures::{StreamExt as _, stream};
use http_body_util::{BodyDataStream, BodyExt as _};
use kube::Client;
use kube::client::Body;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::time::timeout;

const THINGS: &str = "/apis/g.io/v1/namespaces/a/things";
const LIMIT: Duration = Duration::from_secs(10);
/// How long nothing has to happen to be taken for never.
const SILENCE: Duration = Duration::from_millis(200);

/// A server, a proxy before it, and a client of the proxy.
struct Bench {
    created: Arc<AtomicU32>,
    /// Has one more event come.
    more: Arc<Notify>,
    proxy: Proxy,
    client: Client,
}

async fn bench() -> Bench {
    let created = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&created);
    let create = async move |body: String| {
        counter.fetch_add(1, Ordering::SeqCst);
        (StatusCode::CREATED, [("x-from", "server")], body)
    };
    let more = Arc::new(Notify::new());
    let asked = Arc::clone(&more);
    let read = async move |uri: Uri| {
        if uri
            .query()
            .is_some_and(|query| query.contains("watch=true"))
        {
            // Three events, one more when it is asked for, and then it stays open.
            let later = Arc::clone(&asked);
            let later = stream::once(async move {
                later.notified().await;
                Ok("{\"type\":\"ADDED\",\"n\":4}\n".to_owned())
            })
            .chain(stream::pending());
            let events = (1..=3)
                .map(|n| Ok::<_, std::io::Error>(format!("{{\"type\":\"ADDED\",\"n\":{n}}}\n")));
            return Answer::from_stream(stream::iter(events).chain(later)).into_response();
        }
        uri.to_string().into_response()
    };
    let app = Router::new().route(THINGS, get(read).merge(post(create)));
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await.unwrap() });
    let proxy = Proxy::start(client(&url)).await.unwrap();
    let client = client(&proxy.url());
    Bench {
        created,
        more,
        proxy,
        client,
    }
}

fn client(url: &str) -> Client {
    let mut config = kube::Config::new(url.parse().unwrap());
    config.default_retry = false;
    Client::try_from(config).unwrap()
}

impl Bench {
    async fn send(&self, method: &str, path: &str) -> Result<http::Response<Body>, String> {
        let request = http::Request::builder().method(method).uri(path);
        let request = request
            .body(Body::from(br#"{"metadata":{"name":"x"}}"#.to_vec()))
            .unwrap();
        self.client.send(request).await.map_err(|e| e.to_string())
    }

    /// Status and body of an answer to a create.
    async fn create(&self) -> Result<(u16, String), String> {
        let answer = self.send("POST", THINGS).await?;
        let code = answer.status().as_u16();
        let body = answer
            .into_body()
            .collect()
            .await
            .map_err(|e| e.to_string())?;
        Ok((code, String::from_utf8(body.to_bytes().to_vec()).unwrap()))
    }

    fn created(&self) -> u32 {
        self.created.load(Ordering::SeqCst)
    }

    /// A watch that begins.
    async fn open(&self) -> Body {
        let path = format!("{THINGS}?watch=true");
        let answer = timeout(LIMIT, self.send("GET", &path)).await.unwrap();
        answer.unwrap().into_body()
    }

    /// The events of a watch.
    async fn watch(&self) -> (String, &'static str) {
        events(self.open().await).await.0
    }
}

/// What is left of a watch.
type Pieces = std::pin::Pin<Box<BodyDataStream<Body>>>;

/// The events that come until it is silent, and whether it has ended by then.
async fn events(body: Body) -> ((String, &'static str), Pieces) {
    let mut pieces = Box::pin(body.into_data_stream());
    let mut told = String::new();
    loop {
        match timeout(SILENCE, pieces.next()).await {
            Ok(Some(Ok(piece))) => told.push_str(std::str::from_utf8(&piece).unwrap()),
            Ok(Some(Err(_))) => return ((told, "broken"), pieces),
            Ok(None) => return ((told, "ended"), pieces),
            Err(_) => return ((told, "silent"), pieces),
        }
    }
}

fn at_write(k: u32, what: Action) -> Vec<Fault> {
    vec![Fault {
        at: Selector::write(k),
        what,
    }]
}

fn of_watch(fault: WatchFault) -> Vec<Fault> {
    vec![Fault {
        at: Selector::of(Verb::Watch, "things"),
        what: Action::Watch(fault),
    }]
}

#[tokio::test]
async fn what_no_plan_is_for_passes_untouched() {
    let bench = bench().await;
    let answer = bench.send("POST", THINGS).await.unwrap();
    assert_eq!(
        (answer.status(), &answer.headers()["x-from"]),
        (StatusCode::CREATED, &"server".parse().unwrap())
    );
    let answer = bench
        .send("GET", &format!("{THINGS}?limit=5"))
        .await
        .unwrap();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, format!("{THINGS}?limit=5").as_bytes());
    let (told, how) = bench.watch().await;
    assert_eq!((told.lines().count(), how), (3, "silent"));
    let seen: Vec<String> = bench
        .proxy
        .seen(0)
        .iter()
        .map(|s| format!("{} {:?}", s.request, s.code))
        .collect();
    assert_eq!(
        seen,
        [
            "create things/x Some(201)",
            "list things/ Some(200)",
            "watch things/ Some(200)"
        ]
    );
}

#[tokio::test]
async fn the_client_is_killed_before_or_after_the_write_that_was_named() {
    for (what, done) in [(Action::CrashBefore, 1), (Action::CrashAfter, 2)] {
        let bench = bench().await;
        bench.proxy.begin(at_write(2, what));
        bench.create().await.unwrap();
        timeout(SILENCE, bench.proxy.crashed()).await.unwrap_err();
        timeout(SILENCE, bench.create()).await.unwrap_err();
        timeout(LIMIT, bench.proxy.crashed()).await.unwrap();
        assert_eq!(bench.created(), done);
        timeout(SILENCE, bench.create()).await.unwrap_err();
        assert_eq!(
            bench.created(),
            done,
            "nothing is passed on while it is killed"
        );
        bench.proxy.reopen();
        bench.create().await.unwrap();
        assert_eq!(bench.created(), done + 1);
    }
}

#[tokio::test]
async fn an_answer_is_lost_or_cut_short_after_the_write_was_done() {
    let bench = bench().await;
    bench.proxy.begin(at_write(1, Action::Lose));
    bench.create().await.unwrap_err();
    bench.proxy.begin(at_write(1, Action::Truncate(5)));
    bench.create().await.unwrap_err();
    assert_eq!(bench.created(), 2);
    assert!(bench.proxy.seen(0).iter().all(fault_proxy::Seen::wrote));
    assert_eq!(bench.create().await.unwrap().0, 201);
}

#[tokio::test]
async fn a_request_is_refused_reset_or_not_answered() {
    let bench = bench().await;
    for code in [409, 410, 429, 500, 503, 504] {
        bench
            .proxy
            .begin(at_write(1, Action::Refuse(Refusal::with(code))));
        let answer = bench.send("POST", THINGS).await.unwrap();
        assert_eq!(answer.status(), code);
        assert_eq!(answer.headers().contains_key("retry-after"), code == 429);
    }
    bench.proxy.begin(at_write(1, Action::Reset));
    let error = bench.create().await.unwrap_err();
    assert!(
        error.contains("reset") || error.contains("SendRequest"),
        "{error}"
    );
    bench.proxy.begin(at_write(1, Action::Hang));
    timeout(SILENCE, bench.create()).await.unwrap_err();
    assert_eq!(bench.created(), 0);
    bench.proxy.begin(at_write(1, Action::Delay(SILENCE)));
    timeout(SILENCE / 2, bench.create()).await.unwrap_err();
    assert_eq!(bench.create().await.unwrap().0, 201);
}

#[tokio::test]
async fn a_watch_is_cut_ended_or_told_that_it_is_too_old() {
    let bench = bench().await;
    for (fault, lines, how) in [
        (WatchFault::Cut(1), 1, "broken"),
        (WatchFault::End(2), 2, "ended"),
        (WatchFault::End(0), 0, "ended"),
        (WatchFault::Gone(1), 2, "ended"),
    ] {
        bench.proxy.begin(of_watch(fault));
        let (told, ended) = bench.watch().await;
        assert_eq!(
            (told.lines().count(), ended),
            (lines, how),
            "{fault:?}: {told}"
        );
        assert_eq!(told.contains("\"code\":410"), fault == WatchFault::Gone(1));
    }
}

#[tokio::test]
async fn a_watch_falls_silent_and_goes_on() {
    let bench = bench().await;
    bench.proxy.begin(of_watch(WatchFault::Freeze(1)));
    let ((told, how), mut pieces) = events(bench.open().await).await;
    assert_eq!((told.lines().count(), how), (1, "silent"));
    bench.proxy.thaw();
    let piece = timeout(LIMIT, pieces.next()).await.unwrap();
    assert!(piece.unwrap().is_ok());
}

#[tokio::test]
async fn a_watch_falls_silent_and_what_happened_meanwhile_is_not_told() {
    let bench = bench().await;
    bench.proxy.begin(of_watch(WatchFault::Miss(1)));
    let ((told, how), mut pieces) = events(bench.open().await).await;
    assert_eq!((told.lines().count(), how), (1, "silent"));
    bench.proxy.thaw();
    let piece = timeout(LIMIT, pieces.next()).await.unwrap();
    let piece = String::from_utf8(piece.unwrap().unwrap().to_vec()).unwrap();
    assert!(piece.contains("\"code\":410"), "{piece}");
    assert!(timeout(LIMIT, pieces.next()).await.unwrap().is_none());
    let (told, _) = bench.watch().await;
    assert_eq!(told.lines().count(), 3, "the plan is over: {told}");
}

#[tokio::test]
async fn a_plan_ends_what_the_one_before_did_to_a_watch() {
    let bench = bench().await;
    bench.proxy.begin(of_watch(WatchFault::Freeze(0)));
    let watch = bench.open().await;
    bench.proxy.thaw();
    let mut pieces = Box::pin(watch.into_data_stream());
    for _ in 1..=3 {
        timeout(LIMIT, pieces.next()).await.unwrap();
    }
    bench.proxy.begin(Vec::new());
    bench.more.notify_one();
    assert!(timeout(LIMIT, pieces.next()).await.unwrap().is_some());
}

#[tokio::test]
async fn a_plan_is_for_the_watches_that_are_open_already() {
    let bench = bench().await;
    let ((told, how), mut pieces) = events(bench.open().await).await;
    assert_eq!((told.lines().count(), how), (3, "silent"));
    bench.proxy.begin(of_watch(WatchFault::End(0)));
    assert!(timeout(LIMIT, pieces.next()).await.unwrap().is_none());
    assert_eq!(bench.proxy.tampered(), 1);
}
